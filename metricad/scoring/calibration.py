"""Set the threshold with scores of good images, and say what its false-alarm rate stands for.

Three words, one meaning each:

- *promised*: images that took no part in anything that was learned set the threshold (split conformal).
- *expected*: cross-validated scores set it, each of a model that was fitted without this image. No guarantee.
- *estimated*: the rate is lower than the number of scores allows, and comes from a fitted tail.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, Self

import numpy as np

from metricad.errors import DataError

CONFIDENCE = 0.95
"""Confidence of all bounds and intervals."""

TAIL_FROM = 50
"""Smallest number of scores to fit a tail to. With fewer, the threshold is the largest score."""

TAIL, TAIL_LEAST = 0.2, 10
"""Share of the scores, and smallest number of them, in the tail."""

SHAPES = (0.0, 0.5)
"""Smallest and largest shape of a fitted tail. 0 is an exponential tail. Lighter ones, which few scores
often suggest, would give too many false alarms. The estimate is valid below 0.5.
"""

RESAMPLES = 2000
"""Number of parametric bootstrap samples for the interval of an estimated rate."""

FEWEST = 5
"""Smallest number of good images to cross-validate; with fewer, their spread cannot be estimated."""

SWITCH = 200
"""Largest number of good images that all fit; above it, some are held out for the threshold."""

FIT_SHARE, FIT_MOST = Fraction(3, 5), 500
"""Share of the good images that fit if there are more than `SWITCH`, and largest number of them."""


class Basis(StrEnum):
    """What a false-alarm rate is based on."""

    promised = "promised"
    expected = "expected"
    estimated = "estimated"


@dataclass(frozen=True)
class Tail:
    """Threshold from a fitted tail, and the 95 % interval of the false-alarm rate there."""

    threshold: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """Scores of good images, and the threshold computed from them.

    Attributes
    ----------
    scores : float64 (n,), in ascending order
        Of images that the model was not fitted to.
    false_alarm_rate : float in (0, 1)
        Share of good images above the threshold, in expectation over the scores.
    is_held_out : bool
        Whether the images took no part in anything that was learned. Else the scores are cross-validated, or
        the images chose the image score.
    tail : Tail or None
        The threshold, if there are too few scores for the rate.
    asked_rate : float, optional
        The rate asked for, if the scores are too few for it.

    Raises
    ------
    ValueError
        The scores are not finite, not ascending, or too few for the rate.
    """

    scores: np.ndarray
    false_alarm_rate: float
    is_held_out: bool = True
    tail: Tail | None = None
    asked_rate: float | None = None

    def __post_init__(self) -> None:
        scores, enough = self.scores, 1 if self.tail is not None else needed(self.false_alarm_rate)
        if scores.ndim != 1 or len(scores) < enough:
            raise ValueError(f"scores of shape {scores.shape}; a rate needs a list of {enough} or more")
        if not (np.isfinite(scores).all() and (scores[1:] >= scores[:-1]).all()):
            raise ValueError("scores that are not finite numbers in ascending order")
        if self.tail is not None and not scores[-1] <= self.tail.threshold < math.inf:
            raise ValueError(f"a threshold of {self.tail.threshold} below the largest score")

    @property
    def threshold(self) -> float:
        """Threshold: that of the tail, else the ⌈(n + 1)(1 − α)⌉-th smallest score.

        A new good image that is exchangeable with held-out ones scores above the latter with probability at
        most α. This holds for every n and every distribution (Vovk et al., 2005).
        """
        if self.tail is not None:
            return self.tail.threshold
        return float(self.scores[_rank(len(self.scores), self.false_alarm_rate) - 1])

    @property
    def asked(self) -> float:
        """The rate that was asked for."""
        return self.asked_rate or self.false_alarm_rate

    @property
    def basis(self) -> Basis:
        """What the false-alarm rate is based on."""
        if self.tail is not None:
            return Basis.estimated
        return Basis.promised if self.is_held_out else Basis.expected

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of this inspector's own false-alarm rate; None if the rate is only expected.

        Over sets of held-out images, the rate at the k-th largest of n scores has the distribution
        Beta(k, n + 1 − k). So for the largest score the bound is 1 − 0.05^(1/n).
        """
        if self.tail is not None:
            return self.tail.low, self.tail.high
        if not self.is_held_out:
            return None
        from scipy.special import betaincinv

        above = len(self.scores) + 1 - _rank(len(self.scores), self.false_alarm_rate)
        return 0.0, float(betaincinv(above, len(self.scores) + 1 - above, CONFIDENCE))

    def percentile(self, score: float) -> float:
        """Compute the percentage of the good images with this score or a lower one."""
        return float(100 * np.searchsorted(self.scores, score, side="right") / len(self.scores))

    def describe(self) -> str:
        """Say in one sentence what the threshold stands for."""
        count = len(self.scores)
        images = f"{count} {'held-out ' if self.is_held_out else ''}good images: "
        share = f"1 false alarm in {1 / self.false_alarm_rate:.3g}"
        condition = "if the line looks like these images"
        match self.basis, self.interval:
            case Basis.promised, (_, bound):
                return (
                    f"{images}at most {share} promised on average, and with 95 % confidence a rate below "
                    f"{100 * bound:.2g} %, {condition}"
                )
            case Basis.estimated, (low, high):
                promise = f"; at most 1 in {count + 1} promised" if self.is_held_out else ""
                return (
                    f"{images}about {share} estimated from the tail of their scores (95 % interval "
                    f"{100 * low:.2g} to {100 * high:.2g} %, no guarantee){promise}, {condition}"
                )
        # With few images, cross-validation makes the largest score rather too high; see cross_validation.
        fewer = ", or fewer," if self.threshold == self.scores[-1] else ""
        return f"{images}about {share}{fewer} expected (cross-validated, no guarantee), {condition}"

    def record(self) -> dict[str, Any]:
        """Return all but the scores, for JSON."""
        return {
            "false_alarm_rate": self.false_alarm_rate,
            "rate_basis": str(self.basis),
            "rate_interval": None if self.interval is None else list(self.interval),
            "asked_rate": self.asked_rate,
            "calibration_images": len(self.scores),
            "is_held_out": self.is_held_out,
            "threshold": self.threshold,
        }

    @classmethod
    def restore(cls, scores: np.ndarray, record: Mapping[str, Any]) -> Self:
        """Restore a calibration from its scores and `record`.

        Raises
        ------
        LookupError, TypeError, ValueError
            The record is incomplete, or contradicts itself or the scores.
        """
        tail, interval = None, record["rate_interval"]
        if record["rate_basis"] == Basis.estimated:
            tail = Tail(float(record["threshold"]), *map(float, interval))
        is_held_out, asked = record["is_held_out"], record["asked_rate"]
        found = cls(scores, float(record["false_alarm_rate"]), is_held_out, tail, asked)
        if not isinstance(is_held_out, bool) or found.basis != record["rate_basis"]:
            raise ValueError(f"a rate that is {found.basis}, not {record['rate_basis']}")
        if len(scores) != record["calibration_images"]:
            raise ValueError(f"{len(scores)} scores of {record['calibration_images']} images")
        if found.threshold != record["threshold"]:
            raise ValueError(f"scores with the threshold {found.threshold}, not {record['threshold']}")
        return found


def calibrate(scores: Iterable[float], false_alarm_rate: float, *, is_held_out: bool = True) -> Calibration:
    """Make a calibration from the scores of good images.

    If there are enough scores for the rate, the threshold is a conformal quantile. If there are too few, it
    is their largest one, which stands for the rate 1/(n + 1). From `TAIL_FROM` scores on, the threshold of
    the rate is estimated from a fitted tail; it is never below the largest score.

    Parameters
    ----------
    scores : iterable of float
    false_alarm_rate : float in (0, 1)
        Rate asked for.
    is_held_out : bool
        See `Calibration`.

    Raises
    ------
    DataError
        There are no scores, or a score is not finite.

    Examples
    --------
    >>> calibrate(range(99), 0.05).threshold  # the 95th of 99 scores
    94.0
    >>> few = calibrate(range(5), 0.05, is_held_out=False)
    >>> few.threshold, round(few.false_alarm_rate, 3), str(few.basis)
    (4.0, 0.167, 'expected')
    """
    scores = np.sort(np.fromiter(scores, np.float64))
    if not np.isfinite(scores).all():
        raise DataError("scores of good images are not finite: the network has diverged; train it again")
    if not len(scores):
        raise DataError("no good images to set the threshold; give one or more")
    if len(scores) >= needed(false_alarm_rate):
        return Calibration(scores, false_alarm_rate, is_held_out)
    if len(scores) < TAIL_FROM:
        return Calibration(scores, 1 / (len(scores) + 1), is_held_out, asked_rate=false_alarm_rate)
    return Calibration(scores, false_alarm_rate, is_held_out, fit_tail(scores, false_alarm_rate))


def fit_tail(scores: np.ndarray, false_alarm_rate: float) -> Tail:
    """Estimate the threshold of a rate from a generalized Pareto distribution of the largest scores.

    Shape and scale come from probability-weighted moments (Hosking and Wallis, 1987), which vary less than
    those of maximum likelihood if there are few scores. The interval is a parametric bootstrap: samples of
    the fitted tail are fitted again, and the share of good images in the tail is drawn from its Beta
    distribution.

    Parameters
    ----------
    scores : float64 (n,), in ascending order
    false_alarm_rate : float
        Lower than the share of the scores in the tail.
    """
    from scipy.stats import genpareto  # slow to import

    count = max(TAIL_LEAST, round(TAIL * len(scores)))
    start = scores[-count - 1]
    above = scores[-count:] - start
    shape, scale = _pareto(above[np.newaxis])
    if scale[0] < np.finfo(np.float64).tiny:  # the scores of the tail are equal
        return Tail(float(scores[-1]), 0.0, 1.0)
    share = false_alarm_rate * len(scores) / count
    threshold = max(float(scores[-1]), float(start + genpareto.isf(share, shape, scale=scale)[0]))
    rng = np.random.default_rng(0)
    shapes, scales = _pareto(genpareto.rvs(shape, scale=scale, size=(RESAMPLES, count), random_state=rng))
    shares = rng.beta(count, len(scores) + 1 - count, RESAMPLES)
    rates = shares * genpareto.sf(threshold - start, shapes, scale=scales)
    low, high = np.quantile(rates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Tail(threshold, float(low), float(high))


def _pareto(above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit shape and scale of generalized Pareto distributions to each row of (m, k): (m,) each."""
    ordered, count = np.sort(above, axis=1), above.shape[1]
    mean = ordered.mean(axis=1)
    weighted = (ordered * (1 - np.arange(1, count + 1) / count)).sum(axis=1) / (count - 1)
    spread = mean - 2 * weighted
    shape = 2 - np.divide(mean, spread, out=np.full_like(mean, 2.0), where=spread > 0)
    shape = np.clip(shape, *SHAPES)
    return shape, mean * (1 - shape)


def check_total(total: int) -> None:
    """Raise DataError if there are too few good images to cross-validate."""
    if total < FEWEST:
        raise DataError(
            f"{total} good images are too few to say how often there are false alarms; give {FEWEST} or more"
        )


def split(total: int, holdout: float | None) -> tuple[int, int]:
    """Return how many of `total` good images fit, and how many are held out for the threshold.

    Parameters
    ----------
    total : int
    holdout : float in [0, 1) or None
        Share to hold out. With 0 all images fit and there is no threshold. None holds out none of up to
        `SWITCH` images, whose scores are cross-validated; of more, all but `FIT_SHARE`, and all above
        `FIT_MOST`.

    Raises
    ------
    DataError
        There are fewer than `FEWEST` to cross-validate, none is left to fit, or none is held out.
    """
    if holdout is None:
        check_total(total)
        fit = total if total <= SWITCH else min(FIT_MOST, round(total * FIT_SHARE))
        return fit, total - fit
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout must lie in [0, 1), received {holdout}")
    if holdout == 0 < total:
        return total, 0
    held_out = held_out_count(total, holdout)
    if held_out in (0, total):
        raise DataError(
            f"a share of {holdout:g} of {total} good images holds out {held_out}; expected at least one held "
            "out and one left to fit; change --holdout or give more images"
        )
    return total - held_out, held_out


def needed(false_alarm_rate: float) -> int:
    """Return the smallest number of held-out images that guarantees this false-alarm rate: ⌈1/α⌉ − 1.

    Examples
    --------
    >>> needed(0.01)
    99
    """
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false-alarm rate must lie between 0 and 1, received {false_alarm_rate}")
    return max(1, math.ceil(1 / _exact(false_alarm_rate)) - 1)


def held_out_count(total: int, holdout: float) -> int:
    """Return how many of `total` good images are held out."""
    return round(total * holdout)


def _rank(count: int, false_alarm_rate: float) -> int:
    return math.ceil((count + 1) * (1 - _exact(false_alarm_rate)))


def _exact(rate: float) -> Fraction:
    """Give the fraction that a rate is meant as: 0.01 is 1/100, which its binary number is not quite."""
    return Fraction(rate).limit_denominator(10**8)
