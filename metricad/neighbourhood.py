"""What its neighbours say of a feature: a distance counts for more where those around it are large, too.

A cluster of small flaws, or a patch of slightly other texture, is conspicuous by many features, none of which
needs to be the farthest of the image.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

WIDTH = 2.5
"""Standard deviation of the neighbourhood, in features."""

RADIUS = 8
"""Features from one whose neighbours are looked at, up to which they are."""


def gathered(distances: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """The geometric mean of each distance and the root of its neighbours' mean square.

    Parameters
    ----------
    distances : float32 (h', w')
        0 or more.
    inside : bool (h', w'), optional
        Which are judged; others are no neighbours. All of them when not given.

    Returns
    -------
    float32 (h', w')
        0 where the distance is.
    """
    weights = np.ones_like(distances) if inside is None else inside.astype(np.float32)
    squares = _blurred(np.square(distances) * weights) / np.maximum(_blurred(weights), np.float32(1e-6))
    return np.sqrt(distances * np.sqrt(squares))


def _blurred(values: np.ndarray) -> np.ndarray:
    return gaussian_filter(values, WIDTH, mode="constant", radius=RADIUS)
