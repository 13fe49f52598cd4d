"""The per-class AUC report: a table as Markdown and CSV, ROC curves, an image beside its heat maps."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from metricad import files, metrics
from metricad.results import Example, Result
from metricad.versions import versions

# Okabe and Ito's palette: told apart with any kind of color vision.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINES = {"trained": "-", "bundle": "-", "untrained": "--", "baseline": ":"}
_MAP_COLORS = "viridis"


def write(
    results: Sequence[Result], examples: Sequence[Example | None], out: str | os.PathLike
) -> list[Path]:
    """Write the whole report into a folder.

    Parameters
    ----------
    results : sequence of Result
    examples : sequence of Example or None
        One for each result; pictures are drawn where it is there.
    out : path

    Returns
    -------
    list of Path
        What was written: ``report.md``, ``report.csv``, ``roc.png`` and ``map-<surface>.png``.
    """
    out = Path(out)
    rows = table(results)
    written = [out / "report.csv", out / "roc.png"]
    files.write_text(written[0], to_csv(results))
    _save(draw_roc(results), written[1])
    pictures = {}
    for dataset, surface in _surfaces(results):
        shown = [
            (result, example)
            for result, example in zip(results, examples, strict=True)
            if (result.dataset, result.surface) == (dataset, surface)
            and example
            and result.role != "baseline"
        ]
        if shown:
            name = f"map-{dataset}-{surface}.png".replace("/", "-")
            _save(draw_maps(shown), out / name)
            pictures[f"{dataset}: {surface}"] = name
            written.append(out / name)
    document = _markdown(rows, results, pictures)
    files.write_text(out / "report.md", document)
    return [out / "report.md", *written]


def table(results: Sequence[Result]) -> list[list[str]]:
    """Rows of the per-class AUC table, its header first and the means over the classes last.

    A cell is the AUROC, or the median ± the standard deviation where a method stands there with
    several seeds (the paper's table 3).
    """
    columns = _columns(results)
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        groups.setdefault((result.dataset, result.surface, column(result)), []).append(result)
    rows = [["surface", "normal / defect", *columns]]
    medians: dict[str, list[float]] = {name: [] for name in columns}
    for dataset, surface in _surfaces(results):
        cells = [f"{dataset}: {surface}", ""]
        for name in columns:
            group = groups.get((dataset, surface, name), [])
            values = [result.auroc for result in group]
            if values:
                medians[name].append(float(np.median(values)))
                cells[1] = f"{group[0].test_normals} / {group[0].test_defects}"
            spread = f" ± {np.std(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.median(values):.3f}{spread}" if values else "–")
        rows.append(cells)
    rows.append(["mean", "", *(f"{np.mean(medians[name]):.3f}" for name in columns)])
    return rows


def column(result: Result) -> str:
    """Name of a result's column: the method, its control's role, the network's size."""
    size = f", h = {result.units}" if result.units else ""
    role = "untrained " if result.role == "untrained" else ""
    return f"{role}{result.method}{size}"


def to_csv(results: Sequence[Result]) -> str:
    """One line for each result: everything but the single scores."""
    fields = [name for name in Result.__dataclass_fields__ if name != "scores"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(fields)
    for result in results:
        writer.writerow([getattr(result, name) for name in fields])
    return buffer.getvalue()


def draw_roc(results: Sequence[Result]) -> Figure:
    """ROC curves, one panel for each surface, one curve for each result."""
    surfaces = _surfaces(results)
    across = min(len(surfaces), 4)
    down = -(-len(surfaces) // across)
    figure = Figure(figsize=(0.6 + 3.4 * across, 1.0 + 3.4 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    styles = _styles(results)
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, surface in zip(panels.flat, surfaces, strict=False):
        panel.set_axis_on()
        panel.plot([0, 1], [0, 1], color="#dddddd", linewidth=1, zorder=0)
        for result in results:
            if (result.dataset, result.surface) == surface:
                color, line = styles[column(result)]
                rates = metrics.roc_curve(result.defect, result.score_values)
                panel.plot(*rates, color=color, linestyle=line, linewidth=1.6, label=column(result))
        panel.set(title=f"{surface[0]}: {surface[1]}", xlabel="false positive rate", xlim=(-0.02, 1.02))
        panel.set(ylabel="true positive rate", ylim=(-0.02, 1.02), aspect="equal")
        panel.title.set_fontsize("medium")
    entries = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=2, fontsize="small")
    return figure


def draw_maps(shown: Sequence[tuple[Result, Example]]) -> Figure:
    """A defective image and, beside it, its heat map by each method (the paper's figure 5)."""
    across = min(len(shown) + 1, 3)
    down = -(-(len(shown) + 1) // across)
    figure = Figure(figsize=(3.9 * across, 0.2 + 3.5 * down), layout="constrained")
    plain, *panels = figure.subplots(down, across, squeeze=False).flat
    example = shown[0][1]
    plain.imshow(example.image, cmap="gray", vmin=0, vmax=255)
    if example.mask is not None and example.mask.any():
        plain.contour(example.mask, levels=[0.5], colors="#E69F00", linewidths=1)
    plain.set_title(example.name, fontsize="small")
    for panel, (result, example) in zip(panels, shown, strict=False):
        drawn = panel.imshow(example.anomaly_map, cmap=_MAP_COLORS)
        figure.colorbar(drawn, ax=panel, shrink=0.8)
        panel.set_title(f"{column(result)}: AUROC {result.auroc:.3f}", fontsize="small")
    for panel in (plain, *panels):
        panel.set_axis_off()
    return figure


def _markdown(rows: list[list[str]], results: Sequence[Result], pictures: dict[str, str]) -> str:
    lines = ["# AUROC per surface", "", *markdown_table(rows), ""]
    lines += [f"Protocol: {sentence}" for sentence in _protocol(results)]
    lines += ["", "## ROC curves", "", "![ROC curves](roc.png)", ""]
    if pictures:
        lines += [
            "## Heat maps",
            "",
            "Of each surface the middle defect in the order of names, so not chosen by its score. "
            "The outline is the labelled defect; each map has the range of its own distances.",
            "",
        ]
    for title, name in pictures.items():
        lines += [f"### {title}", "", f"![{title}]({name})", ""]
    made = ", ".join(f"{package} {number}" for package, number in versions().items())
    return "\n".join([*lines, f"Written with {made}.", ""])


def markdown_table(rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table with numbers to the right."""
    header, *body = rows
    marks = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, marks, *body)]


def _protocol(results: Sequence[Result]) -> list[str]:
    fitted = sorted({result.fit_normals for result in results if result.fit_normals})
    seeds = sorted(
        {result.seed for result in results if result.role == "trained" and result.seed is not None}
    )
    counts = (
        f"from {fitted[0]}" if len(fitted) == 1 else f"from {fitted[0]} to {fitted[-1]}" if fitted else ""
    )
    sentences = [
        f"each surface's prototype {counts} good images, AUROC over all other good images and all defects "
        "(counts in the second column), the image's score being the largest value of its map."
        if fitted
        else "ready-made bundles, AUROC over the data set's test images."
    ]
    if seeds:
        sentences[0] += f" Network seeds: {', '.join(map(str, seeds))}."
    return sentences


def _surfaces(results: Sequence[Result]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((result.dataset, result.surface) for result in results))


def _columns(results: Sequence[Result]) -> list[str]:
    ordered = sorted(results, key=lambda result: list(_LINES).index(result.role))
    return list(dict.fromkeys(column(result) for result in ordered))


def _styles(results: Sequence[Result]) -> dict[str, tuple[str, str]]:
    """Color and line of each column; an untrained network has the color of its trained one, dashed."""
    colors: dict[str, str] = {}
    styles = {}
    for result in results:
        name, color = f"{result.method} {result.units}", "#888888"
        if result.role != "baseline":
            color = colors.setdefault(name, _COLORS[len(colors) % len(_COLORS)])
        styles[column(result)] = color, _LINES[result.role]
    return styles


def _save(figure: Figure, path: Path) -> None:
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
