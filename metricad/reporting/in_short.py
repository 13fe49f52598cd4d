"""The first screen of a report: what is best on each surface, how sure that is, and where it fails."""

from collections.abc import Sequence

import numpy as np

from metricad import metrics
from metricad.evaluation.results import Result
from metricad.reporting import tables
from metricad.reporting.document import Cell, Table
from metricad.reporting.summary import Setting, Summary, Surface

Choice = tuple[Setting, str]
"""A setting and its method."""

_NONE = "–"


def in_short(summary: Summary) -> list[str | Table]:
    """Say in sentences which choice is best on average, and for each surface in a table."""
    found = {surface: _ranked(summary, surface) for surface in summary.titles}
    ranked = {surface: ranks for surface, ranks in found.items() if ranks}
    if not ranked:
        return []
    everywhere = [
        choice for choice in next(iter(ranked.values())) if all(choice in ranks for ranks in ranked.values())
    ]
    blocks: list[str | Table] = []
    if everywhere:
        means = {
            choice: float(np.mean([ranks[choice] for ranks in ranked.values()])) for choice in everywhere
        }
        best = max(means, key=means.__getitem__)
        lowest = min(ranked, key=lambda surface: ranked[surface][best])
        over = f", the mean AUROC of {len(ranked)} surfaces" if len(ranked) > 1 else ""
        said = f"Best{' on average' if over else ''}: {_name(summary, best)} with {means[best]:.3f}{over}"
        if over:
            said += f"; lowest on {summary.titles[lowest]}, {ranked[lowest][best]:.3f}"
        controls = [
            f"{summary.labels[one]} {float(np.mean(values)):.3f}"
            for one in summary.controls
            if (values := [v for s in ranked if (v := summary.median(s, one, best[1])) is not None])
            and len(values) == len(ranked)
        ]
        blocks.append(f"{said}. Controls: {', '.join(controls) or 'none'}. 0.5 is chance, 1 is perfect.")
    header = ["surface", "best", "AUROC", "95 % interval", "as good within it", "hardest kind of defect"]
    rows = [_row(summary, surface, ranks) for surface, ranks in ranked.items()]
    used = [k for k in range(len(header)) if any(row[k].text != _NONE for row in rows)]
    marked = any(cell.mark for row in rows for cell in row)
    blocks.append(
        Table(
            "The best on each surface"
            + ("; the sign marks what is not better than all controls" if marked else ""),
            [header[k] for k in used],
            [[row[k] for k in used] for row in rows],
        )
    )
    return blocks


def _ranked(summary: Summary, surface: Surface) -> dict[Choice, float]:
    """Return the median AUROC of every choice on a surface, the best first."""
    found = {}
    for setting in summary.judged:
        names = summary.methods if setting.role == "trained" else [summary.method]
        for method in names:
            median = summary.median(surface, setting, method)
            if median is not None:
                found[setting, method] = median
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _row(summary: Summary, surface: Surface, ranks: dict[Choice, float]) -> list[Cell]:
    (best, auroc), *others = ranks.items()
    group = summary.of(surface, *best)
    low, high = tables.interval(group)
    alike = [_name(summary, choice) for choice, median in others if median >= low]
    beaten = summary.is_beaten(surface, *best)
    return [
        Cell(summary.titles[surface]),
        Cell(_name(summary, best)),
        Cell(f"{auroc:.3f}", auroc, "warning" if beaten else ""),
        Cell(f"{low:.2f} to {high:.2f}", low),
        Cell(", ".join(alike) or _NONE),
        Cell(_hardest(group)),
    ]


def _hardest(group: Sequence[Result]) -> str:
    """Name the kind of defect with the lowest AUROC against all good images, if there are several kinds."""
    first = group[0]
    kinds = np.array([row["kind"] for row in first.scores])
    defect = np.array(first.defect)
    by_kind = {}
    for kind in sorted(set(kinds[defect].tolist())):
        chosen = ~defect | (kinds == kind)
        aurocs = [metrics.auroc(defect[chosen], np.array(one.score_values)[chosen]) for one in group]
        by_kind[kind] = float(np.median(aurocs))
    if len(by_kind) < 2:
        return _NONE
    hardest = min(by_kind, key=by_kind.__getitem__)
    return f"{hardest} ({np.sum(kinds == hardest)}): {by_kind[hardest]:.3f}"


def _name(summary: Summary, choice: Choice) -> str:
    """Return the label of a choice, with its method where the setting has several."""
    setting, method = choice
    is_free = setting.role == "trained" and len(summary.methods) > 1
    return f"{summary.labels[setting]}, {method}" if is_free else summary.labels[setting]
