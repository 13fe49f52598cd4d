"""Calibrate the threshold with good images that were not used to fit the density."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from metricad.errors import DataError

ROUNDING = 10_000
"""Rates are told in so many parts of one."""


@dataclass(frozen=True)
class Calibration:
    """Scores of held-out good images and the threshold computed from them.

    Attributes
    ----------
    scores : float64 (n,), in ascending order
    false_alarm_rate : float in (0, 1)
        Largest share of good images above the threshold, in expectation over the held-out images.

    Raises
    ------
    ValueError
        The scores are not finite, not ascending, or too few for the rate.
    """

    scores: np.ndarray
    false_alarm_rate: float

    def __post_init__(self) -> None:
        scores, enough = self.scores, needed(self.false_alarm_rate)
        if scores.ndim != 1 or len(scores) < enough:
            raise ValueError(f"scores of shape {scores.shape}; a rate needs a list of {enough} or more")
        if not (np.isfinite(scores).all() and (scores[1:] >= scores[:-1]).all()):
            raise ValueError("scores that are not finite numbers in ascending order")

    @property
    def threshold(self) -> float:
        """Threshold: the split-conformal quantile, the ⌈(n + 1)(1 − α)⌉-th smallest held-out score.

        A new good image that is exchangeable with the held-out ones scores above it with probability at most
        α. This holds for every n and every distribution (Vovk et al., 2005).
        """
        return float(self.scores[_rank(len(self.scores), self.false_alarm_rate) - 1])

    def percentile(self, score: float) -> float:
        """Compute the percentage of held-out good images with this score or a lower one."""
        return float(100 * np.searchsorted(self.scores, score, side="right") / len(self.scores))


def calibrate(scores: Iterable[float], false_alarm_rate: float) -> Calibration:
    """Make a calibration from the scores of held-out good images.

    Raises
    ------
    DataError
        There are too few scores to guarantee the false-alarm rate, or a score is not finite.
    """
    scores = np.sort(np.fromiter(scores, np.float64))
    if not np.isfinite(scores).all():
        raise DataError("scores of good images are not finite: the network has diverged; train it again")
    check_count(len(scores), false_alarm_rate)
    return Calibration(scores, false_alarm_rate)


def needed(false_alarm_rate: float) -> int:
    """Return the smallest number of held-out images that guarantees this false-alarm rate: ⌈1/α⌉ − 1."""
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false-alarm rate must lie between 0 and 1, received {false_alarm_rate}")
    return max(1, math.ceil(1 / _exact(false_alarm_rate)) - 1)


def held_out_count(total: int, holdout: float) -> int:
    """Return how many of `total` good images are held out."""
    return round(total * holdout)


def check_count(held_out: int, false_alarm_rate: float, *, remedy: str = "") -> None:
    """Raise an error if the held-out images are too few to guarantee the false-alarm rate.

    Raises
    ------
    DataError
        The message gives the number of images needed and the lowest rate possible with these images.
    """
    enough = needed(false_alarm_rate)
    if held_out >= enough:
        return
    # Rounded up, so that the rate in the message is possible.
    allowed = math.ceil(ROUNDING / (held_out + 1)) / ROUNDING
    allows = (
        f"{held_out} allow a rate of {allowed:g} at best" if held_out else "with none there is no threshold"
    )
    raise DataError(
        f"a false-alarm rate of {false_alarm_rate:g} needs at least {enough} held-out good images; {allows}"
        f"{remedy}"
    )


def check_split(total: int, *, holdout: float, false_alarm_rate: float) -> None:
    """Raise an error if there are too few good images to split them. Called before any computation.

    Raises
    ------
    DataError
        The message gives the total number of images needed.
    """
    if not 0 < holdout < 1:
        raise ValueError(f"holdout must lie between 0 and 1, received {holdout}")
    held_out = held_out_count(total, holdout)
    enough = needed(false_alarm_rate)
    nearly = math.floor((enough - 1 / 2) / holdout)
    in_all = next(n for n in itertools.count(nearly) if held_out_count(n, holdout) >= enough)
    check_count(
        held_out,
        false_alarm_rate,
        remedy=f"; received {total} good images, a share of {holdout:g} to be held out: "
        f"give at least {in_all}, raise --holdout, or ask for a higher --false-alarm-rate",
    )
    if held_out == total:
        raise DataError(f"all {total} good images are held out and none is left to fit; lower --holdout")


def _rank(count: int, false_alarm_rate: float) -> int:
    return math.ceil((count + 1) * (1 - _exact(false_alarm_rate)))


def _exact(rate: float) -> Fraction:
    """Give the fraction that a rate is meant as: 0.01 is 1/100, which its binary number is not quite."""
    return Fraction(rate).limit_denominator(ROUNDING**2)
