"""What a chart of detectability says in a line: from which size and contrast on a kind of defect is found."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from metricad.evaluation.detectability import GRAY, Chart, Count, Setting

FOUND = 0.95
"""Share of defects that must be called defective for a size and contrast to count as found."""

NAMES = {
    "scratch": "scratches",
    "crack": "cracks",
    "spots": "spots",
    "stain": "stains",
    "paste": "displaced patches",
    "foreign": "foreign bodies",
    "blur": "blurred patches",
    "noise": "noisy patches",
    "warp": "warped patches",
    "gap": "gaps",
}
"""What each kind of defect is called."""

_WIDE = ("scratch", "crack", "gap")  # what has a width and is many times longer; all else has a diameter


@dataclass(frozen=True)
class Limit:
    """A size and contrast from which on a kind of defect is found, and the count of all from there on."""

    start: Setting
    count: Count


def detection_limits(chart: Chart, kind: str) -> list[Limit]:
    """From which sizes and contrasts on a kind of defect is found.

    A start counts if of every setting at least as large and as strong the share found is `FOUND` or more:
    of each by itself, as what is large and strong would else speak for what is not. Of these only the
    smallest and weakest are given, the one with most settings behind it first, then by size.
    """
    starts = {}
    for setting in chart.counts:
        if setting.kind == kind:
            behind = chart.from_on(setting)
            if all(count.share >= FOUND for count in behind.values()):
                starts[setting] = behind
    least = [
        one
        for one in starts
        if not any(
            other != one and other.size <= one.size and other.contrast <= one.contrast for other in starts
        )
    ]
    least.sort(key=lambda one: (-len(starts[one]), one.size))
    return [Limit(one, sum(starts[one].values(), Count())) for one in least]


def statements(chart: Chart) -> list[str]:
    """One line for each kind of defect: what is found of it."""
    return [_statement(chart, kind) for kind in chart.defect_kinds]


def _statement(chart: Chart, kind: str) -> str:
    name = NAMES[kind]
    largest = max((one for one in chart.counts if one.kind == kind), key=lambda one: (one.size, one.contrast))
    if not any(count.defects for setting, count in chart.counts.items() if setting.kind == kind):
        return f"{name}: this surface cannot show them"
    if found := detection_limits(chart, kind):
        start, count = found[0].start, found[0].count
        more = " or more" if start.contrast < 1 else ""
        return f"{name} at least {size(start)} with a {contrast(start)}{more}: {_outcome(count)}"
    return (
        f"{name}: not found reliably; at {size(largest)} with a {contrast(largest)}, the most tried: "
        f"{_outcome(chart.counts[largest])}"
    )


def _outcome(count: Count) -> str:
    """Say which share was found, how sure that is, and which share where it is, if that is another."""
    if not count.defects:
        return "none can be seen"
    found = f"{percent(count.share)} found (95 % interval {interval(count)})"
    if count.localised == count.found:
        return found
    return f"{found}, {percent(count.localised_share)} in the right place"


def interval(count: Count) -> str:
    """Write the 95 % interval of a share, in percent: 96–100."""
    low, high = (percent(bound).removesuffix(" %") for bound in count.interval())
    return f"{low}–{high}"


def size(setting: Setting) -> str:
    """Write a size as what it is of this kind of defect."""
    return f"{setting.size:g} px {'wide' if setting.kind in _WIDE else 'across'}"


def contrast(setting: Setting) -> str:
    """Write a contrast as what it is of this kind of defect."""
    return f"{'contrast' if setting.kind in GRAY else 'strength'} of {percent(setting.contrast)}"


def percent(share: float) -> str:
    """Write a share in whole percent; only all is 100 % and only none is 0 %."""
    rounded = round(100 * share)
    if rounded in (0, 100) and share not in (0, 1):
        return f"{min(max(100 * share, 0.1), 99.9):.1f} %"
    return f"{rounded} %"


def to_csv(chart: Chart) -> str:
    """One line for each setting; the last three columns are the share found and its 95 % interval."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["kind", "size", "contrast", "defects", "found", "localised", "share", "low", "high"])
    for setting, count in chart.counts.items():
        shares: Sequence[str] = ("", "", "")
        if count.defects:
            shares = [f"{value:.4f}" for value in (count.share, *count.interval())]
        counted = [count.defects, count.found, count.localised]
        writer.writerow([setting.kind, f"{setting.size:g}", f"{setting.contrast:g}", *counted, *shares])
    return buffer.getvalue()
