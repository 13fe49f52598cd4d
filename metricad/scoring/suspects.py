"""Find suspects: good images that look unlike the rest, by scores of models that have not seen them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

APART = 3.5
"""Distance above the median from which on a score stands clearly apart, in units of the spread of the upper
half. If the upper half is exponential, 1.4 % of good images are above it; if it is normal, hardly any. Of the
good test images of 17 surfaces 0.6 % were, of the defects 72 % (3: 1.2 and 76 %; 4: 0.3 and 69 %)."""

FEWER = 6
"""`APART` is multiplied by 1 + 6 / n for n scores, because the spread of few is less well known."""

FEWEST = 8
"""Number of scores from which on their spread is known well enough."""

ROUNDS = 2
"""Largest number of times that suspects are left out and the rest is scored anew: strong defects among the
good images hide weaker ones."""

_NORMAL = 0.6745  # median of the upper half of a normal distribution, in standard deviations


def distances(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Express scores as distances above their median, in standard deviations of the upper half.

    The spread is that of the upper half, because scores of good images are skewed. It comes from its median,
    so that up to a quarter of all scores may be those of defects. All are NaN if a score is not finite.
    """
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        return np.full(len(scores), np.nan)
    above = scores - np.median(scores)
    spread = np.median(above[above >= 0]) / _NORMAL
    return above / max(spread, float(np.finfo(np.float64).tiny))


def stand_out(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Tell which scores stand clearly apart: bool (n,).

    The scores must come from models that have not seen the image. None stand out among fewer than `FEWEST`.
    """
    if len(scores) < FEWEST:
        return np.zeros(len(scores), bool)
    return distances(scores) > APART * (1 + FEWER / len(scores))


@dataclass(frozen=True)
class Suspects:
    """Result of `find`.

    Attributes
    ----------
    numbers : list of int
        Images that stand apart, the farthest first.
    scores : float64 (n,)
        Score of each image by a model that has not seen it; of the suspects, in the round that found them.
        The last call of `score` had all other images.
    distances : float64 (n,)
        The same as distances above the median; see `distances`.
    """

    numbers: list[int]
    scores: np.ndarray
    distances: np.ndarray


def find(count: int, score: Callable[[np.ndarray], np.ndarray], *, rounds: int = ROUNDS) -> Suspects:
    """Find the images that stand apart; leave them out, score the rest again, and repeat.

    Parameters
    ----------
    count : int
        Number of images.
    score : function
        Takes the numbers of some images, in ascending order; returns the score of each by a model that was
        fitted to others of these.
    rounds : int
        Largest number of times that images are left out; `score` is called once more.

    Returns
    -------
    Suspects
    """
    rest = np.arange(count)
    scores, apart = np.full(count, np.nan), np.full(count, np.nan)
    for left in range(rounds, -1, -1):
        scores[rest] = score(rest)
        apart[rest] = distances(scores[rest])
        found = stand_out(scores[rest])
        if not found.any() or not left:
            break
        rest = rest[~found]
    numbers = np.setdiff1d(np.arange(count), rest)
    return Suspects(numbers[np.argsort(-apart[numbers], kind="stable")].tolist(), scores, apart)


def rate(count: int, left_out: int) -> float:
    """Return the smallest false-alarm rate that `count` good images allow if some were left out as suspects.

    These count as alarms, because they may be good: (k + 1) / (n + 1). If a person has confirmed that they
    are defects, they are no good images, and it is the rate of n − k images with none left out.
    """
    return (left_out + 1) / (count + 1)
