"""Follow brightness, contrast and sharpness from file to file: images apart from the others, and drift."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # which imports its parts at first use

from metricad.check.facts import ImageFacts

APART = 3.0
"""Multiple of the middle half's width, beyond its ends, from which on a value is apart (Tukey's "far out").
Of values with a normal distribution these are 2 in a million."""

LEVEL = 0.001
"""Significance level of drift: Spearman's correlation of the values with the order of the files."""

LEAST_DRIFT = 1.0
"""Smallest drift that is told: change from the first quarter of the files to the last, in standard deviations
of all files (from the width of their middle half). A steady drift without noise has 2."""

SMALLEST_CHANGE = 0.02
"""Changes below 2 % of the median are never told, because they do not matter."""

FEWEST = 12
"""Number of files from which on values are judged: each quarter then has three."""

_MIDDLE_HALF = 1.349  # width of the middle half of a normal distribution, in standard deviations

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


def follow(files: Sequence[ImageFacts]) -> list[Course]:
    """Judge each quantity of readable images in this order."""
    return [_course(name, np.array([getattr(image, name) for image in files])) for name in QUANTITIES]


def _course(name: str, values: np.ndarray) -> Course:
    if len(values) < FEWEST:
        return Course(name, values, [], None)
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    room = max(APART * (high - low), SMALLEST_CHANGE * middle)
    apart = np.flatnonzero((values < low - room) | (values > high + room))
    return Course(name, values, apart.tolist(), _drift(values, float(middle), (high - low) / _MIDDLE_HALF))


def _drift(values: np.ndarray, middle: float, spread: float) -> float | None:
    """Return the relative change from the first quarter to the last if it is significant and large enough."""
    quarter = len(values) // 4
    change = float(np.median(values[-quarter:]) - np.median(values[:quarter]))
    if abs(change) <= max(LEAST_DRIFT * spread, SMALLEST_CHANGE * middle):
        return None
    return change / middle if scipy.stats.spearmanr(np.arange(len(values)), values).pvalue < LEVEL else None
