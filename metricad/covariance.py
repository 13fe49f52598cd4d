"""Covariances of features: learned map by map, shrunk as far as new images ask for, made into whitenings."""

from collections.abc import Sequence

import numpy as np

SHARE_OF_IDENTITY = 1e-3  # enough to invert a covariance, too little to change what it says

# Where good features never vary (constant images) every direction counts alike, and whatever differs by more
# than the last bit of a float32 near 1 is far away, yet not infinitely far.
SMALLEST_VARIANCE = float(np.finfo(np.float32).eps) ** 2

_SHRINKAGES = np.array([SHARE_OF_IDENTITY, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1])


class Moments:
    """Count, mean and scatter of vectors (n, scales, d), each scale for itself.

    Each map's scatter is taken about its own mean and then merged (Chan, Golub and LeVeque, 1983): sums of
    raw squares would cancel where the mean is large against the deviation.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: np.ndarray | float = 0.0  # float64 (scales, d)
        self._scatter: np.ndarray | float = 0.0  # float64 (scales, d, d)

    def add(self, vectors: np.ndarray) -> None:
        """Take vectors float64 (n, scales, d) into account, which may be none."""
        if not len(vectors):
            return
        more = Moments()
        more.count, more.mean = len(vectors), vectors.mean(axis=0)
        centred = np.moveaxis(vectors - more.mean, 0, -1)
        more._scatter = centred @ centred.swapaxes(-1, -2)
        both = merged([self, more])
        self.count, self.mean, self._scatter = both.count, both.mean, both._scatter

    def about(self, mean: np.ndarray) -> np.ndarray:
        """Scatter about another mean (scales, d): float64 (scales, d, d)."""
        return self._scatter + _outer(self.mean - mean) * self.count

    @property
    def covariance(self) -> np.ndarray:
        """Of all vectors, about their mean: float64 (scales, d, d)."""
        return self._scatter / self.count


def merged(several: Sequence[Moments]) -> Moments:
    """Moments of all vectors that several are of; those of none may be among them."""
    both = Moments()
    seen = [one for one in several if one.count]
    if seen:
        both.count = sum(one.count for one in seen)
        both.mean = sum(one.mean * (one.count / both.count) for one in seen)
        both._scatter = sum(one.about(both.mean) for one in seen)
    return both


def _outer(vectors: np.ndarray) -> np.ndarray:
    return vectors[..., :, np.newaxis] * vectors[..., np.newaxis, :]


def checked_shrinkage(shrinkage: float) -> float:
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage must lie in (0, 1], received {shrinkage}")
    return shrinkage


def shrunk(covariance: np.ndarray, shrinkage: float | np.ndarray) -> np.ndarray:
    """Draw covariances (..., d, d) towards a multiple of the identity with the same trace.

    Parameters
    ----------
    covariance : float64 (..., d, d)
    shrinkage : float or float64 (...)
        In (0, 1], for all or for each.
    """
    share = np.asarray(shrinkage)[..., np.newaxis, np.newaxis]
    identity = _variance(covariance)[..., np.newaxis, np.newaxis] * np.eye(covariance.shape[-1])
    return (1 - share) * covariance + share * identity


def _variance(covariance: np.ndarray) -> np.ndarray:
    """Mean variance of covariances (..., d, d)."""
    return np.maximum(np.trace(covariance, axis1=-2, axis2=-1) / covariance.shape[-1], SMALLEST_VARIANCE)


def cross_validated(folds: Sequence[Moments]) -> np.ndarray:
    """How far to shrink the covariance of each scale: float64 (scales,), `SHARE_OF_IDENTITY` or more.

    By cross-validated likelihood (Warton, 2008, section 3): each fold is asked how likely it is under a
    normal density of the others, and the shrinkage under which it is likeliest is taken. Where there are
    many images it is the least. A few hold too few independent features at a coarse scale: a covariance that
    is not shrunk there finds new good images far away, and drowns the finer scales.

    Parameters
    ----------
    folds : sequence of Moments
        Of different images; with fewer than two that hold any, nothing can be asked.
    """
    held = [fold for fold in folds if fold.count]
    if len(held) < 2:
        return np.full(np.shape(held[0].mean)[0], SHARE_OF_IDENTITY)
    likelihood = 0.0
    for fold in held:
        others = merged([one for one in held if one is not fold])
        # Shrinking moves the eigenvalues alone, so that one decomposition serves every candidate.
        values, vectors = np.linalg.eigh(others.covariance)
        along = np.einsum("sji,sjk,ski->si", vectors, fold.about(others.mean), vectors)
        share = _SHRINKAGES[:, np.newaxis, np.newaxis]
        variances = (1 - share) * np.maximum(values, 0) + share * _variance(others.covariance)[:, np.newaxis]
        likelihood = likelihood - np.sum(along / variances + fold.count * np.log(variances), axis=-1)
    return _SHRINKAGES[np.argmax(likelihood, axis=0)]


def whitening(covariance: np.ndarray) -> np.ndarray:
    """Matrices (..., d, d) after which the Mahalanobis distance is a plain norm, float32."""
    return np.linalg.inv(np.linalg.cholesky(covariance)).swapaxes(-1, -2).astype(np.float32)


def weighted(whitening: np.ndarray, scales: Sequence[float]) -> np.ndarray:
    """Whitening matrices (..., scales, d, d) after which squared distances are weighted by scale."""
    return whitening * np.sqrt(np.array(scales, np.float32))[:, np.newaxis, np.newaxis]


def log_density(distance: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    """Logarithm of normal densities at these Mahalanobis distances: float64, of their shape.

    Parameters
    ----------
    distance : float32 (h', w')
    whitening : float32 (..., scales, d, d)
        Triangular, as `whitening` gives them; all but the last three axes go with those of the distance.
    """
    diagonal = np.diagonal(whitening, axis1=-2, axis2=-1).astype(np.float64)
    peaks = np.sum(np.log(diagonal) - 0.5 * np.log(2 * np.pi), axis=(-2, -1))
    return peaks - 0.5 * np.square(distance, dtype=np.float64)
