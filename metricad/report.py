"""The per-class AUC report: a table as Markdown and CSV, ROC curves, an image beside its heat maps."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
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
    written = [out / "report.csv", out / "roc.png"]
    files.write_text(written[0], to_csv(results))
    _save(draw_roc(results), written[1])
    pictures = {}
    titles = _titles(results)
    for surface in titles:
        # Of several seeds the first is shown.
        shown: dict[str, tuple[Result, Example]] = {}
        for name, result, example in zip(columns(results), results, examples, strict=True):
            if _surface(result) == surface and example and result.role != "baseline":
                shown.setdefault(name, (result, example))
        if shown:
            name = f"map-{'-'.join(surface)}.png".replace("/", "-")
            _save(draw_maps(shown), out / name)
            pictures[titles[surface]] = name
            written.append(out / name)
    files.write_text(out / "report.md", _markdown(results, pictures))
    return [out / "report.md", *written]


def table(results: Sequence[Result]) -> list[list[str]]:
    """Rows of the per-class AUC table, its header first and the means over the classes last.

    A cell is the AUROC, or the median ± the standard deviation where a method stands there with
    several seeds (the paper's table 3).
    """
    names = _in_order(results)
    groups: dict[tuple, list[float]] = {}
    counts = {}
    for name, result in zip(columns(results), results, strict=True):
        groups.setdefault((_surface(result), name), []).append(result.auroc)
        counts[_surface(result)] = f"{result.test_normals} / {result.test_defects}"
    rows = [["surface", "normal / defect", *names]]
    for surface, title in _titles(results).items():
        rows.append([title, counts[surface], *(_cell(groups.get((surface, n))) for n in names)])
    means = [
        np.mean([np.median(aurocs) for (_, where), aurocs in groups.items() if where == name])
        for name in names
    ]
    return [*rows, ["mean", "", *(f"{mean:.3f}" for mean in means)]]


def columns(results: Sequence[Result]) -> list[str]:
    """Name each result's column: the method, its control's role, the network's size.

    Networks that differ by more than their seed are named too; ``run-0`` and ``run-1`` with seeds 0 and
    1 are one network with two seeds.
    """
    runs = [result.network and result.network.removesuffix(f"-{result.seed}") for result in results]
    several = len({run for run in runs if run}) > 1
    return [
        f"{f'{run}: ' if run and several else ''}"
        f"{'untrained ' if result.role == 'untrained' else ''}"
        f"{result.method}"
        f"{f', h = {result.units}' if result.units else ''}"
        for run, result in zip(runs, results, strict=True)
    ]


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
    titles = _titles(results)
    across = min(len(titles), 4)
    down = -(-len(titles) // across)
    figure = Figure(figsize=(0.6 + 3.4 * across, 1.0 + 3.4 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    styles = _styles(results)
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, (surface, title) in zip(panels.flat, titles.items(), strict=False):
        panel.set_axis_on()
        panel.plot([0, 1], [0, 1], color="#dddddd", linewidth=1, zorder=0)
        for name, result in zip(columns(results), results, strict=True):
            if _surface(result) == surface:
                color, line = styles[name]
                rates = metrics.roc_curve(result.defect, result.score_values)
                panel.plot(*rates, color=color, linestyle=line, linewidth=1.6, label=name)
        panel.set(title=title, xlabel="false positive rate", xlim=(-0.02, 1.02))
        panel.set(ylabel="true positive rate", ylim=(-0.02, 1.02), aspect="equal")
        panel.title.set_fontsize("medium")
    entries = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=2, fontsize="small")
    return figure


def draw_maps(shown: Mapping[str, tuple[Result, Example]]) -> Figure:
    """A defective image and, beside it, its heat map by each method (the paper's figure 5).

    Parameters
    ----------
    shown : mapping of column's name to (Result, Example)
        All of one surface.
    """
    across = min(len(shown) + 1, 3)
    down = -(-(len(shown) + 1) // across)
    figure = Figure(figsize=(3.9 * across, 0.2 + 3.5 * down), layout="constrained")
    plain, *panels = figure.subplots(down, across, squeeze=False).flat
    _, example = next(iter(shown.values()))
    plain.imshow(example.image, cmap="gray", vmin=0, vmax=255)
    if example.mask is not None and example.mask.any():
        plain.contour(example.mask, levels=[0.5], colors="#E69F00", linewidths=1)
    plain.set_title(example.name, fontsize="small")
    for panel, (name, (result, example)) in zip(panels, shown.items(), strict=False):
        drawn = panel.imshow(example.anomaly_map, cmap=_MAP_COLORS)
        figure.colorbar(drawn, ax=panel, shrink=0.8)
        panel.set_title(f"{name}: AUROC {result.auroc:.3f}", fontsize="small")
    for panel in (plain, *panels):
        panel.set_axis_off()
    return figure


def _markdown(results: Sequence[Result], pictures: Mapping[str, str]) -> str:
    lines = ["# AUROC per surface", "", *markdown_table(table(results)), "", _protocol(results), ""]
    lines += ["## ROC curves", "", "![ROC curves](roc.png)", ""]
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


def _protocol(results: Sequence[Result]) -> str:
    fitted = sorted({result.fit_normals for result in results if result.fit_normals})
    seeds = sorted({result.seed for result in results if result.seed is not None})
    datasets = ", ".join(dict.fromkeys(result.dataset for result in results))
    sentences = [
        f"Data: {datasets}.",
        "Protocol: AUROC over the normal and defective test images counted in the second column.",
    ]
    if fitted:
        count = " to ".join(str(number) for number in dict.fromkeys((fitted[0], fitted[-1])))
        sentences.append(f"Prototypes and baselines are made from {count} other good images of the surface.")
    sentences.append("A prototype's image score is the largest distance in its map.")
    if seeds:
        sentences.append(f"Network seeds: {', '.join(map(str, seeds))}.")
    if len(seeds) > 1:
        sentences.append("Cells are medians ± standard deviations over the seeds; ROC curves show each seed.")
    return " ".join(sentences)


def _cell(aurocs: Sequence[float] | None) -> str:
    if not aurocs:
        return "–"
    return f"{np.median(aurocs):.3f}" + (f" ± {np.std(aurocs):.3f}" if len(aurocs) > 1 else "")


def _surface(result: Result) -> tuple[str, str]:
    return result.dataset, result.surface


def _titles(results: Sequence[Result]) -> dict[tuple[str, str], str]:
    """What each surface is called: the data set is named where there are several."""
    surfaces = dict.fromkeys(map(_surface, results))
    several = len({dataset for dataset, _ in surfaces}) > 1
    return {
        (dataset, name): name if not several else dataset if dataset.endswith(name) else f"{dataset}: {name}"
        for dataset, name in surfaces
    }


def _in_order(results: Sequence[Result]) -> list[str]:
    """The columns, controls last."""
    ranks = dict(zip(columns(results), (list(_LINES).index(result.role) for result in results), strict=True))
    return sorted(ranks, key=ranks.get)


def _styles(results: Sequence[Result]) -> dict[str, tuple[str, str]]:
    """Color and line of each column; an untrained network has the color of its trained one, dashed."""
    colors: dict[str, str] = {}
    styles = {}
    for name, result in zip(columns(results), results, strict=True):
        color = "#888888"
        if result.role != "baseline":
            trained = name.replace("untrained ", "")
            color = colors.setdefault(trained, _COLORS[len(colors) % len(_COLORS)])
        styles[name] = color, _LINES[result.role]
    return styles


def _save(figure: Figure, path: Path) -> None:
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
