"""The page of a check: what was found, what to do, light over time, and suspects with heat maps."""

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from metricad.check import summary
from metricad.check.facts import ImageFacts
from metricad.check.findings import Findings, Shown
from metricad.reporting import figures, report
from metricad.reporting.document import Cell, Document, Picture, Section, Table
from metricad.reporting.summary import plain
from metricad.scoring.suspects import APART, DOUBTFUL

_ACROSS = 3  # images in a row of the contact sheet; readable on a phone
_ROWS = 3  # rows of images in one picture
_MOST = 40  # groups of duplicates in the table
_HOW_TO_READ = (
    "Each image is scored by a model that has not seen it. The distance is how far the score is above the "
    "median of all good images, in units of their spread (that of the upper half). Images that are "
    f"{DOUBTFUL:g} away or more are doubtful. They are scored again by a model that has seen none of these, "
    f"and are suspects if they are at least {APART:g} away then; with few images both are a little more. "
    "Below each image is where it differs from the others. A suspect is not always a defect: it may be good, "
    "but rare. Weak and frequent defects are no suspects, but may be doubtful."
)


def write(found: Findings, sheet: Sequence[Shown], out: str | os.PathLike[str], *, name: str) -> list[Path]:
    """Write the page of a check into a folder.

    Parameters
    ----------
    found : Findings
    sheet : sequence of Shown
        Images of the contact sheet.
    out : path
    name : str
        What was checked.

    Returns
    -------
    list of Path
        Written files: ``check.md``, ``.html``, ``.json``, ``.csv`` with a line for each image, and the
        pictures of the first.
    """
    content = json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n"
    return report.write_document(
        build(found, sheet, name=name),
        out,
        name="check",
        numbers=_to_csv(found),
        others={"check.json": content},
    )


def build(found: Findings, sheet: Sequence[Shown], *, name: str) -> Document:
    """Build the page; parameters as in `write`."""
    lines = [[Cell(subject), Cell(plain(said))] for subject, said in summary.rows(found)]
    sections = [
        Section("What to do", [f"{n}. {plain(step)}" for n, step in enumerate(summary.advice(found), 1)]),
        Section("What was found", [Table("", ["subject", "found"], lines)]),
    ]
    if sheet:
        sections.append(Section(_title(found, sheet), [_HOW_TO_READ, *_contact_sheet(sheet)]))
    if len(found.readable) > 1:
        sections.append(Section("Light over time", [_light(found)]))
    if groups := found.sets(found.near):
        sections.append(Section("Duplicates", [_duplicates(found, groups)]))
    if found.unreadable or found.others:
        sections.append(Section("Files that were left out", [_left_out(found)]))
    return Document(f"Check of {name}", [], sections)


def _title(found: Findings, sheet: Sequence[Shown]) -> str:
    doubtful = found.suspects.doubtful if found.suspects else []
    if sheet[0].is_suspect:
        return "Suspects and doubtful images" if doubtful else "Suspects"
    kind = "Doubtful images" if doubtful else "The most unusual images"
    return f"{kind}, none of them a suspect"


def draw_light(found: Findings) -> Figure:
    """Draw brightness, contrast and sharpness of the readable good images in order of their names."""
    with rc_context(figures.LOOK):
        figure = Figure(figsize=(figures.WIDTH, 4.6), layout="constrained")
        panels = figure.subplots(len(found.courses), 1, sharex=True)
        for course, panel in zip(found.courses, panels, strict=True):
            number = np.arange(1, len(course.values) + 1)
            panel.plot(number, course.values, ".", markersize=3, color=figures.GOOD)
            apart = np.array(course.apart, int)
            panel.plot(
                number[apart], course.values[apart], "o", markersize=7, fillstyle="none", color=figures.DEFECT
            )
            said = course.quantity if course.drift is None else f"{course.quantity}, drifts"
            panel.set_title(said, loc="left")
        panels[-1].set_xlabel("number of the good image, in order of names")
    return figure


def draw_sheet(sheet: Sequence[Shown], *, high: float) -> Figure:
    """Draw images in rows, with their heat maps below; `high` is the map value of the last color."""
    with rc_context(figures.LOOK):
        rows = -(-len(sheet) // _ACROSS)
        figure = Figure(figsize=(figures.WIDTH, 4.4 * rows), layout="constrained")
        panels = figure.subplots(2 * rows, _ACROSS, squeeze=False)
        for panel in panels.flat:
            panel.set_axis_off()
        for k, shown in enumerate(sheet):
            row, column = divmod(k, _ACROSS)
            above, below = panels[2 * row, column], panels[2 * row + 1, column]
            above.imshow((shown.image + 1) / 2, cmap="gray", vmin=0, vmax=1)
            below.imshow(shown.anomaly_map, cmap="viridis", vmin=0, vmax=high)
            above.set_title(_short(shown.path), fontsize=9, parse_math=False)
            kind = "suspect, " if shown.is_suspect else ""
            below.set_title(f"{kind}distance {shown.distance:.1f}", fontsize=9)
    return figure


def _contact_sheet(sheet: Sequence[Shown]) -> list[Picture]:
    # One color range for all; a single very strong defect must not leave the others without color.
    high = max(float(np.median([shown.anomaly_map.max() for shown in sheet])), 1.0)
    step = _ACROSS * _ROWS
    return [
        Picture(
            f"suspects-{number + 1}.jpg",
            figures.to_jpeg(draw_sheet(sheet[number * step : (number + 1) * step], high=high)),
            f"Good images that look unlike the rest, and where: {_listed(sheet[number * step :][:step])}",
            f"In order of their distance: {_listed(sheet[number * step :][:step])}.",
        )
        for number in range(-(-len(sheet) // step))
    ]


def _listed(sheet: Sequence[Shown]) -> str:
    return ", ".join(plain(Path(shown.path).name) for shown in sheet)


def _short(path: str) -> str:
    name = plain(Path(path).name)
    return name if len(name) <= 20 else f"…{name[-19:]}"


def _light(found: Findings) -> Picture:
    return Picture(
        "light.png",
        figures.to_png(draw_light(found)),
        "Brightness, contrast and sharpness of each good image; the table above has their ranges",
        "Brightness and contrast as shares of white; sharpness is the Laplacian as a share of the contrast. "
        "Circles: far from the others.",
    )


def _duplicates(found: Findings, groups: Sequence[Sequence[int]]) -> Table:
    leaks = set(found.leaks)
    rows = []
    for number, group in enumerate(groups[:_MOST]):
        is_exact = len({int(found.exact[k]) for k in group}) == 1
        names = [plain(Path(found.name(k)).name) + (" (test)" if k >= len(found.good) else "") for k in group]
        leak = "test and good" if leaks & set(group) else ""
        rows.append(
            [
                Cell(f"group {number + 1}", number + 1),
                Cell("exact" if is_exact else "near"),
                Cell(str(len(group)), len(group)),
                Cell(leak, mark="warning" if leak else ""),
                Cell(", ".join(names)),
            ]
        )
    more = f" The first {_MOST} of {len(groups)} groups; check.json has all." if len(groups) > _MOST else ""
    caption = "Images with the same pixels (exact), or of the same part in the same place (near)."
    return Table(caption + more, ["group", "kind", "images", "leak", "files"], rows)


def _left_out(found: Findings) -> Table:
    rows = [[Cell(plain(image.path)), Cell(plain(image.problem or ""))] for image in found.unreadable]
    rows += [[Cell(plain(path)), Cell("another kind; save it as PNG or TIFF")] for path in found.others]
    return Table("", ["file", "why"], rows)


def _to_csv(found: Findings) -> str:
    """Write one line for each image: its facts, and the groups of duplicates."""
    names = [each.name for each in fields(ImageFacts)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["set", *names, "exact_group", "near_group"])
    for number, image in enumerate((*found.good, *found.test)):
        values = [plain(value) if isinstance(value, str) else value for value in asdict(image).values()]
        kind = "good" if number < len(found.good) else "test"
        writer.writerow([kind, *values, int(found.exact[number]), int(found.near[number])])
    return buffer.getvalue()
