"""Find exact and near duplicates: the same pixels, or the same part in the same place taken twice.

Good parts in one pose look alike, and two of them are no duplicates. So what they have in common, the
average of all other images, is subtracted first. Images are near duplicates if the rest agrees nearly
everywhere: of all tiles with any detail, at least three quarters correlate by `SAME` or more. This finds
copies with noise, JPEG compression, another brightness or size, and small shifts, but not rotated ones.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import fft

from metricad.check.facts import Survey
from metricad.errors import DataError

SAME = 0.8
"""Correlation of tiles of near duplicates. Good images of five parts with a higher one show the same part, as
seen by eye. Copies with noise, JPEG compression or another size have 0.86 or more on most parts."""

SHARE = 0.25
"""Share of the tiles that may correlate less."""

LIKE = 0.4
"""Correlation of coarse copies from which on two images are compared in detail."""

REPEATS = 0.87
"""Correlation at a far shift, as a share of the largest, from which on a pattern repeats. Of copies, woven,
sawn and brushed surfaces have 0.9 at most, others 0.4; of different images of printed dots all have 0.88."""

PARTNERS = 3
"""Number of the most similar other images that each is compared with."""

_SHIFT = 12  # pixels of the copy of `SIDE`
_BORDER = 16  # pixels that are left out, because a shift moves others there
_TILE = 32  # pixels
_FAINT = 0.01  # of the variance of all detail; tiles with less have only noise
_ROWS = 256  # images whose similarities are in memory at once
_CACHED = 128  # details in memory at once, 256 KiB each
_FEW = 8  # up to this number, the average is that of all others than a pair


def groups(survey: Survey, *, read_detail: Callable[[str], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Group exact and near duplicates.

    Parameters
    ----------
    survey : Survey
    read_detail : function
        Reads the detail of a file again, as `facts.read_detail`.

    Returns
    -------
    exact, near : int (n,)
        Number of the group of each image; most are alone in theirs. Exact duplicates are also near ones. If
        more than half of the images are one group, they are not one part but all alike: then no near
        duplicates are told.
    """
    digests = [image.digest or f"unreadable {number}" for number, image in enumerate(survey.all)]
    _, first, exact = np.unique(digests, return_index=True, return_inverse=True)
    own = np.array([number for number in np.sort(first) if np.any(survey.coarse[number])], int)
    details = lru_cache(maxsize=_CACHED)(lambda number: read_detail(survey.all[number].path))
    joined = exact.copy()
    for one, other in ((own[first], own[second]) for first, second in _candidates(survey.coarse[own])):
        if joined[one] == joined[other]:
            continue
        try:
            if _is_same(details(one), details(other), survey.detail, len(survey.all)):
                joined[joined == joined[other]] = joined[one]
        except (DataError, OSError):  # gone since they were surveyed
            continue
    sizes = np.bincount(joined, minlength=1)
    return exact, exact if sizes.max() > max(len(own) / 2, 2) else joined


def _candidates(coarse: np.ndarray) -> list[tuple[int, int]]:
    """Pair each image with the most similar others, by what their coarse copies do not share with all."""
    count = len(coarse)
    if count <= _FEW:
        pairs = [(one, other) for one in range(count) for other in range(one + 1, count)]
        total = coarse.sum(axis=0)
        return [
            (one, other)
            for one, other in pairs
            if _likeness(*_rest(coarse[one], coarse[other], total, count)) >= LIKE
        ]
    rest = coarse - coarse.mean(axis=0)
    rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    found = set()
    for start in range(0, count, _ROWS):
        alike = rest[start : start + _ROWS] @ rest.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -1
        for row, others in enumerate(np.argpartition(alike, -PARTNERS, axis=1)[:, -PARTNERS:]):
            for other in others[alike[row, others] >= LIKE]:
                found.add((min(start + row, int(other)), max(start + row, int(other))))
    return sorted(found)


def _is_same(one: np.ndarray, other: np.ndarray, total: np.ndarray, count: int) -> bool:
    """Whether the details of two images agree nearly everywhere, without what all other images share."""
    one, other = _rest(one, other, total, count)
    shift = _shift(one, other)
    if shift is None:
        return False
    other = np.roll(other, shift, axis=(0, 1))
    first, second = _tiles(one), _tiles(other)
    variances = (first**2).mean(axis=1), (second**2).mean(axis=1)
    has_detail = (variances[0] > _FAINT * variances[0].mean()) | (variances[1] > _FAINT * variances[1].mean())
    if not has_detail.any():
        return False
    product = (first * second).mean(axis=1)[has_detail]
    scale = np.sqrt(variances[0] * variances[1])[has_detail]
    correlation = product / np.maximum(scale, np.finfo(np.float32).tiny)
    return bool(np.quantile(correlation, SHARE) >= SAME)


def _rest(one: np.ndarray, other: np.ndarray, total: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Subtract from two images the average of all others; `total` is the sum of all `count`."""
    shared = (total - one - other) / (count - 2) if count > 2 else 0.0
    return one - shared, other - shared


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one.ravel() @ other.ravel()) / scale if scale else 0.0


def _shift(one: np.ndarray, other: np.ndarray) -> tuple[int, int] | None:
    """Find the shift of the second image, in rows and columns, at which both correlate most.

    None if they correlate as much at a far shift: the pattern repeats, and any two parts agree somewhere.
    """
    found = fft.irfft2(fft.rfft2(one) * np.conj(fft.rfft2(other)), s=one.shape)
    near = np.ix_(*[np.r_[0 : _SHIFT + 1, -_SHIFT:0]] * 2)
    row, column = np.unravel_index(found[near].argmax(), found[near].shape)
    best = found[near].max()
    found[near] = 0
    return None if found.max() > REPEATS * best else (int(near[0][row, 0]), int(near[1][0, column]))


def _tiles(detail: np.ndarray) -> np.ndarray:
    """Cut an image without its border into tiles, each with mean 0: (n, pixels)."""
    inner = detail[_BORDER:-_BORDER, _BORDER:-_BORDER]
    count = len(inner) // _TILE
    tiles = inner.reshape(count, _TILE, count, _TILE).swapaxes(1, 2).reshape(count**2, -1)
    return tiles - tiles.mean(axis=1, keepdims=True)
