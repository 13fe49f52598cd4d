"""The threshold: from good images that took no part in fitting the density."""

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
    """Scores of held-out good images and the threshold they give.

    Attributes
    ----------
    scores : float64 (n,), rising
    false_alarm_rate : float in (0, 1)
        Largest share of good images above the threshold, in expectation over the held-out images.
    """

    scores: np.ndarray
    false_alarm_rate: float

    @property
    def threshold(self) -> float:
        """The split-conformal quantile: the ⌈(n + 1)(1 − α)⌉-th smallest held-out score.

        A new good image, exchangeable with the held-out ones, scores above it with probability α at
        most, for every n and every distribution (Vovk et al., 2005).
        """
        return float(self.scores[_rank(len(self.scores), self.false_alarm_rate) - 1])

    def percentile(self, score: float) -> float:
        """Share of the held-out good images that score at most this much, in percent."""
        return float(100 * np.searchsorted(self.scores, score, side="right") / len(self.scores))


def calibrate(scores: Iterable[float], false_alarm_rate: float) -> Calibration:
    """Keep the scores of held-out good images for a threshold at this false-alarm rate.

    Raises
    ------
    DataError
        There are too few scores to promise the rate, or a score is not finite.
    """
    scores = np.sort(np.fromiter(scores, np.float64))
    if not np.isfinite(scores).all():
        raise DataError("scores of good images are not finite: the network has diverged; train it again")
    check_count(len(scores), false_alarm_rate)
    return Calibration(scores, false_alarm_rate)


def needed(false_alarm_rate: float) -> int:
    """Fewest held-out images that can promise this false-alarm rate: ⌈1/α⌉ − 1."""
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false-alarm rate must lie between 0 and 1, received {false_alarm_rate}")
    return max(1, math.ceil(1 / _exact(false_alarm_rate)) - 1)


def held_out_count(total: int, holdout: float) -> int:
    """How many of so many good images are held out."""
    return round(total * holdout)


def check_count(held_out: int, false_alarm_rate: float, *, remedy: str = "") -> None:
    """Refuse a rate that this many held-out images cannot promise.

    Raises
    ------
    DataError
        Says how many images the rate needs and which rate these images allow.
    """
    enough = needed(false_alarm_rate)
    if held_out >= enough:
        return
    # Rounded up: the rate that is named must itself be allowed.
    allowed = math.ceil(ROUNDING / (held_out + 1)) / ROUNDING
    allows = (
        f"{held_out} allow a rate of {allowed:g} at best" if held_out else "with none there is no threshold"
    )
    raise DataError(
        f"a false-alarm rate of {false_alarm_rate:g} needs at least {enough} held-out good images; {allows}"
        f"{remedy}"
    )


def check_split(total: int, *, holdout: float, false_alarm_rate: float) -> None:
    """Refuse, before anything is computed, a number of good images that is too small to be split so.

    Raises
    ------
    DataError
        Says how many images are needed in all.
    """
    if not 0 < holdout < 1:
        raise ValueError(f"holdout must lie between 0 and 1, received {holdout}")
    held_out = held_out_count(total, holdout)
    enough = needed(false_alarm_rate)
    nearly = math.floor((enough - 1) / holdout)
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
