"""Summarize detectability: from which size and contrast on each kind of defect is found."""

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
"""Names of the kinds of defects in text."""

_WIDE = ("scratch", "crack", "gap")  # kinds with a width; all others have a diameter


@dataclass(frozen=True)
class Limit:
    """Smallest size and contrast at which a kind of defect is found, and the counts from there on."""

    start: Setting
    count: Count


def detection_limits(chart: Chart, kind: str) -> list[Limit]:
    """Find the smallest sizes and contrasts from which on a kind of defect is found.

    A setting counts if the share found is at least `FOUND` for every setting that is at least as large and as
    strong. Each setting must reach it by itself; otherwise large and strong defects would hide missed ones.
    Only the smallest and weakest settings are returned. The first covers the most settings; the rest are
    sorted by size.
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
    """Describe in one line for each kind of defect what is found."""
    return [_statement(chart, kind) for kind in chart.defect_kinds]


def _statement(chart: Chart, kind: str) -> str:
    name = NAMES[kind]
    largest = max((one for one in chart.counts if one.kind == kind), key=lambda one: (one.size, one.contrast))
    if not any(count.defects for setting, count in chart.counts.items() if setting.kind == kind):
        return f"{name}: not visible on this surface"
    if found := detection_limits(chart, kind):
        start, count = found[0].start, found[0].count
        more = " or more" if start.contrast < 1 else ""
        return f"{name} at least {size(start)} with a {contrast(start)}{more}: {_outcome(count)}"
    return (
        f"{name}: not found reliably; at {size(largest)} with a {contrast(largest)}, the largest tested: "
        f"{_outcome(chart.counts[largest])}"
    )


def _outcome(count: Count) -> str:
    """Describe the share found, its interval, and the share localized if it differs."""
    if not count.defects:
        return "none is visible"
    found = f"{percent(count.share)} found (95 % interval {interval(count)})"
    if count.localised == count.found:
        return found
    return f"{found}, {percent(count.localised_share)} in the right place"


def interval(count: Count) -> str:
    """Format the 95 % interval of a share in percent: 96–100."""
    low, high = (percent(bound).removesuffix(" %") for bound in count.interval())
    return f"{low}–{high}"


def size(setting: Setting) -> str:
    """Format a size as width or diameter, depending on the kind of defect."""
    return f"{setting.size:g} px {'wide' if setting.kind in _WIDE else 'across'}"


def contrast(setting: Setting) -> str:
    """Format a contrast as contrast or strength, depending on the kind of defect."""
    return f"{'contrast' if setting.kind in GRAY else 'strength'} of {percent(setting.contrast)}"


def percent(share: float) -> str:
    """Format a share in whole percent; 100 % means all and 0 % means none."""
    rounded = round(100 * share)
    if rounded in (0, 100) and share not in (0, 1):
        return f"{min(max(100 * share, 0.1), 99.9):.1f} %"
    return f"{rounded} %"


def to_csv(chart: Chart) -> str:
    """Write one CSV line for each setting; the last columns are the share found and its 95 % interval."""
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
