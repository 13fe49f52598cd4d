"""Heat maps of a report: some images of each surface with their anomaly maps below."""

import re
from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from metricad.evaluation.results import Example, Result
from metricad.reporting.document import Picture
from metricad.reporting.figures import LOOK, OUTLINE, WIDTH, to_jpeg
from metricad.reporting.summary import Summary, Surface, plain

_MAP_COLORS = "viridis"
HOW_TO_READ_MAPS = (
    "For each surface: the defects with the highest, the median and the lowest score, and the good image "
    "with the highest score. Labeled defects have an outline. Below each image is its map, with the score. "
    "All maps of a surface have the same color range, which ends at about twice the threshold; the line in "
    "the color bar marks the threshold."
)


def maps(summary: Summary, examples: Mapping[int, Sequence[Example]]) -> dict[Surface, Picture]:
    """Make a picture with heat maps for each surface with examples; of the shown setting if possible.

    Parameters
    ----------
    summary : Summary
    examples : mapping of id of a Result to its examples

    Returns
    -------
    dict of Surface to Picture
    """
    found: dict[Surface, Picture] = {}
    names: set[str] = set()
    for surface, title in summary.titles.items():
        candidates = [
            (result, setting)
            for setting in sorted(summary.judged, key=lambda one: one != summary.shown)
            for method in summary.methods or [summary.method]
            for result in summary.of(surface, setting, method)
            if examples.get(id(result))
        ]
        if candidates:
            result, setting = candidates[0]
            shown = examples[id(result)]
            picture = Picture(
                _file_name(title, names),
                to_jpeg(draw_maps(result, shown)),
                f"Images of {title} and, below, their heat maps",
                (result.method if setting.role == "bundle" else f"{result.method}, {summary.labels[setting]}")
                + ("" if result.seed is None else f", seed {result.seed}")
                + ": "
                + "; ".join(f"{_role(result, one)} {plain(one.name)}" for one in shown)
                + ".",
            )
            found[surface] = picture
    return found


def draw_maps(result: Result, examples: Sequence[Example]) -> Figure:
    """Draw images with outlined defects, and their anomaly maps below, all with the same color range."""
    low = min(float(example.anomaly_map.min()) for example in examples)
    high = max(float(example.anomaly_map.max()) for example in examples)
    # Otherwise the strongest defect would leave no colors for values near the threshold.
    cut = high if result.threshold is None else max(2 * result.threshold, result.threshold + 1)
    is_cut = low < cut < high
    high = cut if is_cut else high
    with rc_context(LOOK):
        figure = Figure(figsize=(WIDTH, 3.75), layout="constrained")
        rows = figure.subplots(2, len(examples), squeeze=False)
        for example, above, below in zip(examples, *rows, strict=True):
            above.imshow(example.image, cmap="gray", vmin=0, vmax=255)
            if example.mask is not None and example.mask.any() and not example.mask.all():
                above.contour(example.mask, levels=[0.5], colors="black", linewidths=2.2)
                above.contour(example.mask, levels=[0.5], colors=OUTLINE, linewidths=1.2)
            drawn = below.imshow(example.anomaly_map, cmap=_MAP_COLORS, vmin=low, vmax=high)
            above.set_title(_role(result, example))
            below.set_title(f"{example.score:.3g}{_verdict(result, example)}", fontsize=9)
        for panel in rows.flat:
            panel.set_axis_off()
        bar = figure.colorbar(
            drawn, ax=list(rows.flat), location="bottom", aspect=45, shrink=0.6, pad=0.02,
            extend="max" if is_cut else "neither",
        )  # fmt: skip
        if result.threshold is not None and low <= result.threshold <= high:
            bar.ax.axvline(result.threshold, color="white", linewidth=2)
    return figure


def _role(result: Result, example: Example) -> str:
    if example.role == "false alarm":
        is_alarm = result.threshold is not None and example.score > result.threshold
        return "false alarm" if is_alarm else "highest good"
    return f"{example.role} defect"


def _verdict(result: Result, example: Example) -> str:
    if result.threshold is None:
        return ""
    is_above = example.score > result.threshold
    if example.role == "false alarm":
        return ", above" if is_above else ", not above"
    return ", found" if is_above else ", missed"


def _file_name(title: str, taken: set[str]) -> str:
    """Make a file name for a surface's picture that is valid on every file system and not `taken`."""
    stem = re.sub(r"[^a-z0-9_]+", "-", title.lower()).strip("-")[:80] or "surface"
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return f"map-{name}.jpg"
