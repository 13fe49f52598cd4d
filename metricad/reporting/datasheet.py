"""The datasheet of a part: which defects its inspector detects, as Markdown, a web page and CSV."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from metricad.evaluation.detectability import GRAY, MARGIN, Chart, Setting
from metricad.reporting import detectability_summary, figures, report
from metricad.reporting.detectability_summary import FOUND, NAMES, percent
from metricad.reporting.document import Cell, Document, Picture, Section, Table
from metricad.versions import versions

_SHARES = "Blues"
_DARK = 0.55  # from this share on, numbers are white, because the color is too dark for black
_BOX = 6  # pixels between a defect and the box around it
_HOW_TO_READ = (
    "The defects are synthetic and were added to images of good parts, with known size and contrast. Real "
    "defects differ: the figures show what the inspector can detect, not what will occur. The size is the "
    "width of a scratch, crack or gap, and the diameter of all others. The contrast of scratches, cracks, "
    "spots and stains is their change of gray as a share of the range from black to white. The strength of "
    "the others is the degree to which they replace the surface. A defect is found if the score of the image "
    "is above the threshold. It is found in the right place if the peak of the map is also at most "
    f"{MARGIN} rows and columns from the defect. Intervals (Wilson) assume that all defects are on different "
    "images, but each good image was used for several."
)


def write(
    chart: Chart, out: str | os.PathLike[str], *, name: str, facts: Mapping[str, str] | None = None
) -> list[Path]:
    """Write the datasheet with the detectability of all defects into a folder.

    Parameters
    ----------
    chart : Chart
    out : path
    name : str
        Name of the part.
    facts : mapping of str to str, optional
        More facts about how it was made.

    Returns
    -------
    list of Path
        Written files: ``detectability.md``, ``.html``, ``.csv``, and the pictures of the first.
    """
    document = build(chart, name=name, facts=facts or {})
    return report.write_document(
        document, out, name="detectability", numbers=detectability_summary.to_csv(chart)
    )


def build(chart: Chart, *, name: str, facts: Mapping[str, str]) -> Document:
    """Build the datasheet; parameters as in `write`."""
    blocks: list[str | Table] = [_summary(chart), _detection_limits(chart), _HOW_TO_READ]
    sections = [Section("All sizes and contrasts", [_heat(chart)])]
    if chart.examples:
        sections.append(Section("What the defects look like", [_examples(chart)]))
    sections.append(Section("All counts", list(_counts(chart))))
    made = [[Cell(key), Cell(value)] for key, value in {**facts, **versions()}.items()]
    sections.append(Section("Provenance", [Table("How it was made", ["what", "value"], made)]))
    return Document(f"What {name} finds", blocks, sections)


def draw_heat(chart: Chart) -> Figure:
    """Draw a table of shares for each kind of defect: size on x, contrast on y, found settings framed."""
    with rc_context(figures.LOOK):
        figure, panels = figures.lay_out(len(chart.defect_kinds), across=2, ratio=0.72, entries=0)
        for kind, panel in zip(chart.defect_kinds, panels, strict=True):
            _draw_kind(panel, chart, kind)
    return figure


def draw_examples(chart: Chart) -> Figure:
    """Draw one image of each kind of defect with a box around the defect."""
    with rc_context(figures.LOOK):
        kinds = [kind for kind in chart.defect_kinds if kind in chart.examples]
        figure, panels = figures.lay_out(len(kinds), across=3, ratio=1.18, entries=0)
        for kind, panel in zip(kinds, panels, strict=True):
            example = chart.examples[kind]
            panel.imshow(example.image, cmap="gray", vmin=-1, vmax=1)
            # A box, because an outline would hide a thin scratch.
            rows, columns = ((side.min() - _BOX, side.max() + _BOX + 1) for side in np.nonzero(example.mask))
            corner = (columns[0], rows[0])
            box = Rectangle(
                corner, columns[1] - columns[0], rows[1] - rows[0],
                fill=False, edgecolor=figures.OUTLINE, linewidth=1.5,
            )  # fmt: skip
            panel.add_patch(box)
            panel.set_axis_off()
            panel.set_title(f"{NAMES[kind]}\n{_short(example.setting)}, {example.verdict}", fontsize=9)
    return figure


def _summary(chart: Chart) -> str:
    defects = sum(count.defects for count in chart.counts.values())
    return (
        f"{defects} synthetic defects on {chart.good_images} images of good parts. Of these images as they "
        f"are, without a defect, {chart.false_alarms} of {chart.good_images} are called defective. A kind of "
        "defect counts as found from a size and contrast on if of every size and contrast tried, at least as "
        f"large and as strong, {percent(FOUND)} or more are called defective."
    )


def _detection_limits(chart: Chart) -> Table:
    rows = []
    for kind in chart.defect_kinds:
        found = detectability_summary.detection_limits(chart, kind)
        for limit in found:
            start, count = limit.start, limit.count
            rows.append(
                [
                    Cell(NAMES[kind]),
                    Cell(detectability_summary.size(start), start.size),
                    Cell(detectability_summary.contrast(start), start.contrast),
                    Cell(percent(count.share), count.share),
                    Cell(detectability_summary.interval(count), count.interval()[0]),
                    Cell(percent(count.localised_share), count.localised_share),
                    Cell(str(count.defects), count.defects),
                ]
            )
        if not found:
            rows.append([Cell(NAMES[kind]), Cell("not found reliably", mark="warning"), *[Cell("–")] * 5])
    header = [
        "defect",
        "size from",
        "contrast from",
        "found",
        "95 % interval",
        "in the right place",
        "defects",
    ]
    return Table(f"From which size and contrast on {percent(FOUND)} or more are found", header, rows)


def _heat(chart: Chart) -> Picture:
    return Picture(
        "detectability.png",
        figures.to_png(draw_heat(chart)),
        "Share of defects found by kind, size and contrast; the tables below have the same numbers",
        "Share found, in percent; in brackets the share found in the right place, if it differs. "
        "The frame marks the sizes and contrasts that are reliably found.",
    )


def _examples(chart: Chart) -> Picture:
    return Picture(
        "defects.jpg",
        figures.to_jpeg(draw_examples(chart)),
        f"An image with each kind of defect: {', '.join(NAMES[kind] for kind in chart.examples)}",
        "One of each kind, of medium size and contrast, marked with a box.",
    )


def _counts(chart: Chart) -> Iterator[Table]:
    for kind in chart.defect_kinds:
        sizes = chart.sizes(kind)
        rows = []
        for contrast in chart.contrasts(kind):
            cells = [Cell(percent(contrast), contrast)]
            for size in sizes:
                count = chart.counts.get(Setting(kind, size, contrast))
                cells.append(
                    Cell(f"{count.found} / {count.defects}", count.share)
                    if count is not None and count.defects
                    else Cell("–")
                )
            rows.append(cells)
        header = ["contrast" if kind in GRAY else "strength", *(f"{size:g} px" for size in sizes)]
        yield Table(f"{NAMES[kind]}: found / all, by contrast and size", header, rows)


def _draw_kind(panel: Axes, chart: Chart, kind: str) -> None:
    sizes, contrasts = chart.sizes(kind), chart.contrasts(kind)
    counts = [[chart.counts.get(Setting(kind, size, each)) for size in sizes] for each in contrasts]
    shares = np.array([[np.nan if count is None else count.share for count in row] for row in counts])
    panel.imshow(shares, cmap=_SHARES, vmin=0, vmax=1, origin="lower", aspect="auto")
    for row, column in np.argwhere(~np.isnan(shares)):
        count = counts[row][column]
        text = percent(count.share).removesuffix(" %")
        if count.localised != count.found:
            text += f" ({percent(count.localised_share).removesuffix(' %')})"
        color = "white" if count.share >= _DARK else "black"
        panel.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    starts = [limit.start for limit in detectability_summary.detection_limits(chart, kind)]
    is_found = [
        [any(s >= one.size and c >= one.contrast for one in starts) for s in sizes] for c in contrasts
    ]
    _frame(panel, np.array(is_found))
    panel.set_xticks(range(len(sizes)), [f"{size:g}" for size in sizes])
    panel.set_yticks(range(len(contrasts)), [percent(each) for each in contrasts])
    panel.set_title(NAMES[kind])
    panel.set_xlabel("size, px")
    panel.set_ylabel("contrast" if kind in GRAY else "strength")
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)


def _frame(panel: Axes, inside: np.ndarray) -> None:
    """Draw a line around the cells that are True, on the edges of the cells."""
    padded = np.pad(inside, 1)
    line: dict[str, Any] = {
        "color": figures.OUTLINE,
        "linewidth": 2.5,
        "clip_on": False,
        "solid_capstyle": "projecting",
    }
    for row, column in np.argwhere(padded[1:] != padded[:-1]):
        panel.plot([column - 1.5, column - 0.5], [row - 0.5] * 2, **line)
    for row, column in np.argwhere(padded[:, 1:] != padded[:, :-1]):
        panel.plot([column - 0.5] * 2, [row - 1.5, row - 0.5], **line)


def _short(setting: Setting) -> str:
    return f"{setting.size:g} px, {percent(setting.contrast)}"
