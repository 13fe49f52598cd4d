"""Find suspects: good images that look unlike the rest, by scores of models that have not seen them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

APART = 4.0
"""Distance above the median from which on a score stands clearly apart, in units of the spread of the upper
half. If the upper half is exponential, 0.8 % of good images are above it; if it is normal, hardly any. Of the
good test images of 17 surfaces 0.3 % were."""

FEWER = 6
"""`APART` is multiplied by 1 + 6 / n for n scores, because the spread of few is less well known."""

FEWEST = 8
"""Number of scores from which on their spread is known well enough."""

ROUNDS = 3
"""Largest number of times that suspects are left out and the rest is scored anew: strong defects among the
good images hide weaker ones."""

_NORMAL = 0.6745  # median of the upper half of a normal distribution, in standard deviations


def distances(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Express scores as distances above their median, in standard deviations of the upper half.

    The spread is that of the upper half, because scores of good images are skewed. It comes from its median,
    so that up to a quarter of all scores may be those of defects.
    """
    scores = np.asarray(scores, np.float64)
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
        Images that stand apart, highest score first.
    scores : float64 (n,)
        Score of each image by a model that has not seen it; of the suspects, in the round that found them.
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
        Largest number of calls of `score`.

    Returns
    -------
    Suspects
    """
    rest = np.arange(count)
    scores, apart = np.full(count, np.nan), np.full(count, np.nan)
    for _ in range(rounds):
        scores[rest] = score(rest)
        apart[rest] = distances(scores[rest])
        found = stand_out(scores[rest])
        if not found.any():
            break
        rest = rest[~found]
    numbers = np.setdiff1d(np.arange(count), rest)
    return Suspects(numbers[np.argsort(-apart[numbers], kind="stable")].tolist(), scores, apart)


def rates(count: int, left_out: int) -> tuple[float, float]:
    """Return the expected false-alarm rate if `left_out` of `count` good images are left out of fitting.

    Returns
    -------
    float
        If they are good, they are alarms: (k + 1) / (n + 1).
    float
        If a person has confirmed that they are defects: 1 / (n − k + 1).
    """
    return (left_out + 1) / (count + 1), 1 / (count - left_out + 1)
