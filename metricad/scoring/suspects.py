"""Find suspects: good images that look unlike the rest, by scores of models that have not seen them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

DOUBTFUL = 2.5
"""Distance above the median from which on an image is doubtful, by models that may have seen more like it."""

APART = 6.0
"""Distance above the median from which on a doubtful image is a suspect, by a model that was fitted without
any doubtful image. Defects among the good images hide each other from the models of `DOUBTFUL`, but not from
this one: with 10 % of defects, those of DAGM class 1 stood 3 to 5 away before and 25 to 53 then, good images
7 at most. Good images of a rare look become suspects as well: some castings reached 9 to 15."""

FEWER = 6
"""Both are multiplied by 1 + 6 / n for n scores, because the spread of few is less well known."""

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

    Examples
    --------
    >>> distances([0.0, 1.0, 2.0, 3.0, 4.0, 30.0]).round(1).tolist()
    [-1.1, -0.7, -0.2, 0.2, 0.7, 12.4]
    """
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        return np.full(len(scores), np.nan)
    above = scores - np.median(scores)
    spread = np.median(above[above >= 0]) / _NORMAL
    return above / max(spread, float(np.finfo(np.float64).tiny))


def stand_out(scores: Sequence[float] | np.ndarray, distance: float = APART) -> np.ndarray:
    """Tell which scores stand apart by a distance, see `distances`: bool (n,).

    The scores must come from models that have not seen the image. None stand out among fewer than `FEWEST`.
    """
    if len(scores) < FEWEST:
        return np.zeros(len(scores), bool)
    return distances(scores) > _limit(distance, len(scores))


def _limit(distance: float, count: int) -> float:
    """Return the distance from which on one of so few images stands apart."""
    return distance * (1 + FEWER / count)


@dataclass(frozen=True)
class Suspects:
    """Result of `find`.

    Attributes
    ----------
    numbers : list of int
        Images that stand apart, the farthest first.
    doubtful : list of int
        Images that are doubtful and no suspects, the farthest first.
    scores : float64 (n,)
        Score of each image by a model that has not seen it; of a suspect, by one that has seen none of them.
        The last call of `score` had all other images.
    distances : float64 (n,)
        As distances above the median; see `distances`. Those of doubtful images come from the model that has
        seen no doubtful image.
    """

    numbers: list[int]
    doubtful: list[int]
    scores: np.ndarray
    distances: np.ndarray


Score = Callable[[np.ndarray], tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]]
"""See `find`."""


def find(count: int, score: Score, *, rounds: int = ROUNDS) -> Suspects:
    """Find the images that stand apart; leave them out, score the rest again, and repeat.

    Parameters
    ----------
    count : int
        Number of images.
    score : function
        Takes the numbers of some images, in ascending order. Returns the score of each by a model that was
        fitted to others of these; and a function that takes positions in these numbers, and returns the
        scores of the images there by a model that was fitted to all of these but them.
    rounds : int
        Largest number of times that images are left out; `score` is called once more.

    Returns
    -------
    Suspects
    """
    rest = np.arange(count)
    scores, apart = np.full(count, np.nan), np.full(count, np.nan)
    for left in range(rounds, -1, -1):
        own, unseen = score(rest)
        scores[rest], apart[rest] = own, distances(own)
        doubtful = np.flatnonzero(stand_out(own, DOUBTFUL))
        if not len(doubtful) or not left:
            break
        again = own.copy()
        again[doubtful] = unseen(doubtful)
        apart[rest[doubtful]] = distances(again)[doubtful]
        found = np.intersect1d(doubtful, np.flatnonzero(stand_out(again)))
        if not len(found):
            break
        scores[rest[found]] = again[found]
        rest = np.delete(rest, found)
    numbers = np.setdiff1d(np.arange(count), rest)
    doubtful = rest[(apart[rest] > _limit(DOUBTFUL, len(rest))) & (len(rest) >= FEWEST)]
    first, second = (
        chosen[np.argsort(-apart[chosen], kind="stable")].tolist() for chosen in (numbers, doubtful)
    )
    return Suspects(first, second, scores, apart)


def rate(count: int, left_out: int) -> float:
    """Return the smallest false-alarm rate that `count` good images allow if some were left out as suspects.

    These count as alarms, because they may be good: (k + 1) / (n + 1). If a person has confirmed that they
    are defects, they are no good images, and it is the rate of n − k images with none left out.
    """
    return (left_out + 1) / (count + 1)
