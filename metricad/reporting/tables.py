"""Tables of a report: comparison with the paper, with controls, and between densities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metricad import metrics
from metricad.evaluation.results import Result
from metricad.reporting.document import Cell, Table
from metricad.reporting.summary import Setting, Summary, Surface

_BLANK = Cell("–")


def rates(result: Result) -> tuple[float, float] | None:
    """Compute the share of good test images above the threshold, and the share of defects not above it."""
    if result.threshold is None:
        return None
    defect, above = np.array(result.defect), np.array(result.score_values) > result.threshold
    return float(above[~defect].mean()), float((~above)[defect].mean())


def signed(value: float) -> str:
    """Format a difference with its sign."""
    text = f"{value:+.3f}".replace("-", "−")
    return text if float(text[1:]) else "0.000"


def percent(value: float) -> str:
    """Format a rate in percent."""
    return f"{100 * value:.1f} %" if value >= 0.01 else f"{100 * value:.2g} %"


def figure(values: Sequence[float], mark: str = "") -> Cell:
    """Format median ± population standard deviation over seeds, as in the paper; no deviation for one
    value.
    """
    deviation = f" ± {np.std(values):.3f}" if len(values) > 1 else ""
    return Cell(f"{np.median(values):.3f}{deviation}", float(np.median(values)), mark) if values else _BLANK


def means(summary: Summary) -> Table:
    """Make a table with the mean AUROC of every setting and control over known, novel and all surfaces."""
    groups = {"known": summary.known, "novel": summary.novel, "all": list(summary.titles)}
    if not summary.known or not summary.novel:
        groups = {"all": list(summary.titles)}
    rows = [
        [Cell(summary.column(setting))]
        + [
            _mean([summary.median(s, setting, summary.method_of(setting)) for s in group])
            for group in groups.values()
        ]
        for setting in summary.labels
    ]
    header = ["setting", *(f"{name} ({len(group)})" for name, group in groups.items())]
    return Table(f"AUROC, mean over surfaces: {summary.method}", header, rows)


def auroc(summary: Summary) -> list[Table]:
    """Make the paper's table 3 for known and for novel surfaces: our values, the paper's, the controls."""
    groups = {"Known surfaces": summary.known, "Novel surfaces": summary.novel}
    if not summary.known:
        groups = {"AUROC": summary.novel}
    return [_auroc(summary, group, f"{name}: {summary.method}") for name, group in groups.items() if group]


def _auroc(summary: Summary, surfaces: Sequence[Surface], caption: str) -> Table:
    columns = [_Column("good / defect", [Cell(summary.counts(s)) for s in surfaces], None)]
    for setting in summary.judged:
        label = summary.column(setting)
        columns.append(_judged(summary, surfaces, setting, summary.method_of(setting), label))
        theirs = [summary.reference(surface, setting) for surface in surfaces]
        if any(theirs):
            apart = [summary.difference(surface, setting) for surface in surfaces]
            paper = [Cell(f"{found[0]} ± {found[1]}", found[0]) if found else _BLANK for found in theirs]
            columns.append(_Column("paper", paper))
            cells = [_BLANK if found is None else Cell(signed(found), found) for found in apart]
            columns.append(_Column("difference", cells, signed))
    for one in summary.controls:
        figures = [figure(summary.values(surface, one, summary.method_of(one))) for surface in surfaces]
        columns.append(_Column(summary.column(one), figures))
    _mark_best(columns)
    return _table(caption, summary, surfaces, columns)


def interval(group: Sequence[Result]) -> tuple[float, float]:
    """Compute the 95 % interval of the median AUROC of results that differ in their seed."""
    # A new generator each time, so that intervals do not depend on each other.
    scores = [one.score_values for one in group]
    return metrics.auroc_interval(group[0].defect, scores, rng=np.random.default_rng(0))


def intervals(summary: Summary) -> Table:
    """Make a table of 95 % intervals over the choice of test images, for every AUROC of the main method."""

    def cell(group: Sequence[Result]) -> Cell:
        if not group:
            return _BLANK
        low, high = interval(group)
        return Cell(f"[{low:.2f}, {high:.2f}]", low)

    columns = []
    for setting in summary.judged:
        method = summary.method_of(setting)
        cells = [cell(summary.of(surface, setting, method)) for surface in summary.titles]
        columns.append(_Column(summary.column(setting), cells, None))
    return _table(f"AUROC, 95 % intervals: {summary.method}", summary, list(summary.titles), columns)


def all_metrics(summary: Summary, setting: Setting) -> Table:
    """Make a table of all metrics of one setting, with stated and real false alarms: medians over seeds."""
    every = [
        one for surface in summary.titles for one in summary.of(surface, setting, summary.method_of(setting))
    ]
    bases = {one.rate_basis for one in every if one.false_alarm_rate is not None} or {"promised"}
    stated = f"false alarms {bases.pop() if len(bases) == 1 else 'stated'}"
    taken: dict[str, Callable[[Result], float | None]] = {
        "AUROC": lambda one: one.auroc,
        "AP": lambda one: one.average_precision,
        "PR AUC by trapezoid": lambda one: metrics.pr_auc(one.defect, one.score_values),
        "F1-max": lambda one: one.f1_max,
        "FPR at 95 % TPR": lambda one: one.fpr_at_95_tpr,
        "pixel AUROC": lambda one: one.pixel_auroc,
        "AUPRO": lambda one: one.aupro,
        stated: lambda one: one.false_alarm_rate,
        "false alarms": lambda one: (rates(one) or (None, None))[0],
        "misses": lambda one: (rates(one) or (None, None))[1],
    }
    surfaces, columns = list(summary.titles), []
    for header, take in taken.items():
        style: Callable[[float], str] = "{:.3f}".format
        if header.startswith(("false alarms", "misses")):
            style = percent
        cells = []
        for surface in surfaces:
            all_found = [take(one) for one in summary.of(surface, setting, summary.method_of(setting))]
            found = [value for value in all_found if value is not None]
            cells.append(Cell(style(np.median(found)), float(np.median(found))) if found else _BLANK)
        columns.append(_Column(header, cells, style))
    return _table(f"All metrics: {summary.caption(setting)}", summary, surfaces, columns)


def densities(summary: Summary, setting: Setting) -> Table:
    """Make a table of densities on one setting's networks. The footer counts how often each beats the main
    one.
    """
    surfaces = list(summary.titles)
    used = [m for m in summary.methods if any(summary.of(s, setting, m) for s in surfaces)]
    columns = [_judged(summary, surfaces, setting, method, method) for method in used]
    _mark_best(columns)
    table = _table(f"AUROC by density: {summary.labels[setting]}", summary, surfaces, columns)
    wins = [Cell(f"better than {used[0]}, all settings")]
    for method in used:
        better = [
            own > first
            for s in surfaces
            for each in summary.judged
            if each.role == "trained"
            and (own := summary.median(s, each, method)) is not None
            and (first := summary.median(s, each, used[0])) is not None
        ]
        wins.append(_BLANK if method == used[0] else Cell(f"{sum(better)} of {len(better)}"))
    return replace(table, footer=[*table.footer, wins])


def controls(summary: Summary) -> Table:
    """Make a table of the controls: untrained networks with every density, and the baselines."""
    columns = []
    for one in summary.controls:
        for method in summary.methods if one.role == "untrained" else [summary.method]:
            figures = [figure(summary.values(surface, one, method)) for surface in summary.titles]
            label = summary.labels[one] + (f", {method}" if one.role == "untrained" else "")
            columns += [_Column(label, figures)] if set(figures) != {_BLANK} else []
    return _table("AUROC of the controls", summary, list(summary.titles), columns)


@dataclass(frozen=True)
class _Column:
    """A table column over surfaces; `style` formats its mean, if it has one."""

    header: str
    cells: list[Cell]
    style: Callable[[float], str] | None = "{:.3f}".format
    is_judged: bool = False


def _table(caption: str, summary: Summary, surfaces: Sequence[Surface], columns: Sequence[_Column]) -> Table:
    rows = [
        [Cell(summary.titles[surface]), *(column.cells[number] for column in columns)]
        for number, surface in enumerate(surfaces)
    ]
    footer = [Cell("mean")]
    for column in columns:
        values = [cell.value for cell in column.cells]
        footer.append(_mean(values, column.style) if column.style else Cell(""))
    has_means = len(surfaces) > 1 and any(column.style for column in columns)
    return Table(caption, ["surface", *(c.header for c in columns)], rows, [footer] if has_means else [])


def _mean(values: Sequence[float | None], style: Callable[[float], str] = "{:.3f}".format) -> Cell:
    """Compute the mean of the existing values. If some are missing, the cell shows how many there are."""
    there = [value for value in values if value is not None]
    if not there:
        return _BLANK
    mean = float(np.mean(there))
    return Cell(style(mean) + (f" ({len(there)} of {len(values)})" if len(there) < len(values) else ""), mean)


def _judged(
    summary: Summary, surfaces: Sequence[Surface], setting: Setting, method: str, header: str
) -> _Column:
    """Make a column compared with controls; cells have a warning if a control is as good."""
    cells = []
    for surface in surfaces:
        mark = "warning" if summary.is_beaten(surface, setting, method) else ""
        cells.append(figure(summary.values(surface, setting, method), mark))
    return _Column(header, cells, is_judged=True)


def _mark_best(columns: Sequence[_Column]) -> None:
    """Mark the best of the judged columns in each row, unless a control is as good."""
    judged = [column.cells for column in columns if column.is_judged]
    for number in range(len(judged[0]) if len(judged) > 1 else 0):
        best = max((cells[number].value or 0 for cells in judged), default=0)
        for cells in judged:
            if cells[number].value == best and not cells[number].mark:
                cells[number] = replace(cells[number], mark="strong")
