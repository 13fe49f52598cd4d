"""Covariances of features, shrunk so that they can be inverted, and the matrices that whiten them."""

import numpy as np

SHRINKAGE = 0.003
"""Share of the mean variance added to each direction: enough to invert a covariance of few vectors."""

# Where good features never vary (constant images) every direction counts alike, and whatever differs by more
# than the last bit of a float32 near 1 is far away, yet not infinitely far.
SMALLEST_VARIANCE = float(np.finfo(np.float32).eps) ** 2


def shrunk(covariance: np.ndarray) -> np.ndarray:
    """Add `SHRINKAGE` of the mean variance to a covariance's diagonal, float64 (d, d)."""
    size = len(covariance)
    variance = max(np.trace(covariance) / size, SMALLEST_VARIANCE)
    return covariance + SHRINKAGE * variance * np.eye(size)


def whitening(covariance: np.ndarray) -> np.ndarray:
    """Matrix W, float64 (..., d, d), for which x @ W has unit covariance where x has this one."""
    return np.linalg.inv(np.linalg.cholesky(covariance)).swapaxes(-1, -2)


def log_peak(whitening: np.ndarray) -> np.ndarray:
    """Logarithm of the normal density with these whitening matrices at its mean, float64 (...)."""
    diagonal = np.abs(np.diagonal(whitening, axis1=-2, axis2=-1)).astype(np.float64)
    return np.sum(np.log(diagonal) - np.log(2 * np.pi) / 2, axis=-1)
