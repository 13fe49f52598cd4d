"""Covariances of features, shrunk so that they can be inverted, and their whitening matrices."""

import numpy as np

SHRINKAGE = 0.003
"""Share of the mean variance added to the diagonal: enough to invert a covariance of few vectors."""

# Smallest variance, for features of good images that never vary (constant images). All directions then have
# the same weight. A difference of more than the last bit of a float32 near 1 gives a large but finite
# distance.
SMALLEST_VARIANCE = float(np.finfo(np.float32).eps) ** 2


def shrunk(covariance: np.ndarray) -> np.ndarray:
    """Shrink a covariance, float64 (d, d): add `SHRINKAGE` of the mean variance to its diagonal."""
    size = len(covariance)
    variance = max(np.trace(covariance) / size, SMALLEST_VARIANCE)
    return covariance + SHRINKAGE * variance * np.eye(size)


def whitening(covariance: np.ndarray) -> np.ndarray:
    """Compute the whitening matrix W, float64 (..., d, d), of a covariance: x @ W has unit covariance.

    It is upper triangular, with exact zeros, which take no place in a file.
    """
    return np.triu(np.linalg.inv(np.linalg.cholesky(covariance)).swapaxes(-1, -2))


def log_peak(whitening: np.ndarray) -> np.ndarray:
    """Compute the logarithm of the normal density at its mean from whitening matrices, float64 (...)."""
    diagonal = np.abs(np.diagonal(whitening, axis1=-2, axis2=-1)).astype(np.float64)
    return np.sum(np.log(diagonal) - np.log(2 * np.pi) / 2, axis=-1)
