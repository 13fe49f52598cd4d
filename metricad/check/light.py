"""Follow brightness, contrast and sharpness from file to file: images apart from the others, and drift."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from metricad.check.look import Look

APART = 3.0
"""Multiple of the middle half's width, beyond its ends, from which on a value is apart (Tukey's "far out").
Of values with a normal distribution these are 2 in a million."""

LEVEL = 0.001
"""Significance level of drift: Spearman's correlation of the values with the order of the files."""

LEAST_DRIFT = 1.0
"""Smallest drift that is told: change from the first quarter of the files to the last, as a multiple of the
spread of files next to each other."""

SMALLEST_CHANGE = 0.02
"""Changes below 2 % of the median are never told, because they do not matter."""

FEWEST = 12
"""Number of files from which on values are judged: each quarter then has three."""

QUANTITIES = ("brightness", "contrast", "sharpness")


@dataclass(frozen=True)
class Course:
    """One quantity over all readable files, in order.

    Attributes
    ----------
    quantity : {"brightness", "contrast", "sharpness"}
    values : float64 (n,)
    apart : list of int
        Numbers of values far from the others.
    drift : float or None
        Change from the first quarter to the last, as a share of the median, if the values drift.
    """

    quantity: str
    values: np.ndarray
    apart: list[int]
    drift: float | None


def follow(looks: Sequence[Look]) -> list[Course]:
    """Judge each quantity of readable images in this order."""
    return [_course(name, np.array([getattr(look, name) for look in looks])) for name in QUANTITIES]


def _course(name: str, values: np.ndarray) -> Course:
    if len(values) < FEWEST:
        return Course(name, values, [], None)
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    room = max(APART * (high - low), SMALLEST_CHANGE * middle)
    apart = np.flatnonzero((values < low - room) | (values > high + room))
    return Course(name, values, apart.tolist(), _drift(values, float(middle)))


def _drift(values: np.ndarray, middle: float) -> float | None:
    """Return the relative change from the first quarter to the last if it is significant and large enough."""
    quarter = len(values) // 4
    change = float(np.median(values[-quarter:]) - np.median(values[:quarter]))
    # Neighbors differ by √2 standard deviations in the mean square; the median is robust against steps.
    spread = float(np.median(np.abs(np.diff(values)))) / (0.6745 * 2**0.5)
    if abs(change) <= max(LEAST_DRIFT * spread, SMALLEST_CHANGE * middle):
        return None
    return change / middle if spearmanr(np.arange(len(values)), values).pvalue < LEVEL else None
