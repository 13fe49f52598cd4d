"""Good surface that is always seen in register: a prototype with a mean for every position."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from metricad.covariance import (
    SHARE_OF_IDENTITY,
    checked_shrinkage,
    log_density,
    shrunk,
    weighted,
    whitening,
)
from metricad.errors import DataError
from metricad.prototype import Streamed, norm, parts

TILE = 4
"""Features: the side of the tiles that share a covariance."""


class PositionalPrototype(Streamed):
    """Mahalanobis distance to the mean feature at each position, for surfaces always seen in register.

    A global pattern (the starburst of a DAGM class) is normal where it belongs and a defect elsewhere, which
    no prototype without positions can tell. How much good surface varies differs from place to place too:
    the covariance about the positions' means is that of a tile of 4×4 features (8×8 pixels), partly drawn
    towards that of all tiles. PaDiM (Defard et al., 2021) keeps a covariance for every position, sixteen
    times as much: on the synthetic starburst that won 0.01 of AUROC where 48 images had been seen, nothing
    with 12, and lost with 4. Tiles keep memory near that of the means: h'·w'·d·(1 + d/16) numbers with one
    scale.

    The means themselves are not smoothed: blurred over only 3×3 positions they found less, also where few
    images had been seen.

    Parameters
    ----------
    shrinkage : float in (0, 1]
        How far each tile's covariance is drawn towards the one of all tiles, itself shrunk by 1e-3; 1
        leaves a single covariance for the whole image.
    scales : sequence of float
        As in `GaussianPrototype`, each scale with covariances of its own.

    Notes
    -----
    All images must have one size. From a single image nothing is known of the variation: the distance is
    then Euclidean, up to a (large) scale.
    """

    kind: ClassVar[str] = "positional"
    needs_positions: ClassVar[bool] = True

    def __init__(self, *, shrinkage: float = 0.5, scales: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.shrinkage = checked_shrinkage(shrinkage)
        self.covariance: np.ndarray | None = None
        self._whitening: np.ndarray | None = None

    def update(self, features: np.ndarray, inside: np.ndarray | None = None) -> None:
        """See `Prototype`; means and covariances are accumulated in float64.

        All of a map is learned from, since each place has its own prototype.

        Raises
        ------
        DataError
            The map's size is not that of the maps before.
        """
        self._check_register(features)
        step, weight = self._move_mean(features.astype(np.float64), 1)
        tiles = self._tiled(step)
        counts = _positions(step)[..., np.newaxis, np.newaxis, np.newaxis]
        products = tiles.swapaxes(-1, -2) @ tiles / counts
        if self._count == 1:
            self.covariance = np.zeros_like(products)
        self.covariance = self.covariance + (products * weight - self.covariance) / self._count
        self._whitening = None

    def distance(self, features: np.ndarray) -> np.ndarray:
        """See `Prototype`; raises as `whitened`."""
        return norm(self.whitened(features))

    @property
    def whitening(self) -> np.ndarray:
        """Matrices for each tile and scale: float32 (⌈h'/4⌉, ⌈w'/4⌉, scales, d / scales, d / scales)."""
        if self._whitening is None:
            self._whitening = self._whiten()
        return self._whitening

    def whitened(self, features: np.ndarray) -> np.ndarray:
        """Features (h', w', d) in coordinates in which good ones have unit variance, at each position.

        Raises
        ------
        DataError
            The map's size is not that of the maps learned from.
        """
        self._check_register(features)
        tiles = self._tiled(features - self.mean.astype(np.float32)) @ self.whitening
        joined = tiles.swapaxes(2, 3).reshape(*tiles.shape[:2], TILE**2, -1)
        return _untiled(joined, features.shape[:2])

    def log_likelihood(self, features: np.ndarray) -> np.ndarray:
        """Natural logarithm of the density at each feature of a map (h', w', d); raises as `distance`."""
        distance = self.distance(features)
        each = self._whitening.repeat(TILE, axis=0)[: len(distance)]
        return log_density(distance, each.repeat(TILE, axis=1)[:, : distance.shape[1]])

    def settings(self) -> dict[str, object]:
        """See `Prototype`."""
        return {"shrinkage": self.shrinkage, "scales": list(self.scales)}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Prototype`: what is kept of the means and the covariances before shrinking.

        Returns
        -------
        mean : float32 (h', w', d)
            Learned in float64; a distance is taken from it in float32 anyway.
        covariance : float64 (⌈h'/4⌉, ⌈w'/4⌉, scales, d / scales, d / scales)
        """
        return {"mean": self.mean.astype(np.float32), "covariance": self.covariance}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Prototype`; bundles once had one covariance (d, d) of each tile.

        Raises
        ------
        ValueError
            There is not one covariance for each tile of the mean.
        """
        self.mean, self.covariance, self._count = arrays["mean"], arrays["covariance"], None
        count = len(self.scales)
        size = self.mean.shape[-1] // count
        expected = (*_positions(self.mean).shape, count, size, size)
        if count == 1 and self.covariance.ndim == 4:
            self.covariance = self.covariance[:, :, np.newaxis]
        if self.covariance.shape != expected:
            raise ValueError(f"expected covariances {expected}, received {self.covariance.shape}")
        self._whitening = self._whiten()
        return self

    def _check_register(self, features: np.ndarray) -> None:
        received = features.shape[:2]
        if self.mean is not None and received != (expected := self.mean.shape[:2]):
            raise DataError(
                "a positional prototype needs images of one size, always seen in register: expected features "
                f"{expected}, received {received}; resize the images or choose another kind"
            )

    def _whiten(self) -> np.ndarray:
        pooled = np.average(self.covariance, axis=(0, 1), weights=_positions(self.mean))
        pooled = shrunk(pooled, SHARE_OF_IDENTITY)
        mixed = (1 - self.shrinkage) * self.covariance + self.shrinkage * pooled
        return weighted(whitening(mixed), self.scales)

    def _tiled(self, features: np.ndarray) -> np.ndarray:
        """Cut (h', w', d) into tiles and scales: (⌈h'/4⌉, ⌈w'/4⌉, scales, 16, d / scales)."""
        return parts(_tiled(features), len(self.scales)).swapaxes(2, 3)


def _tiled(features: np.ndarray) -> np.ndarray:
    """Cut (h', w', d) into tiles: (⌈h'/4⌉, ⌈w'/4⌉, 16, d), the last ones padded with zeros."""
    height, width, dimensions = features.shape
    padded = np.pad(features, ((0, -height % TILE), (0, -width % TILE), (0, 0)))
    rows, columns = (side // TILE for side in padded.shape[:2])
    tiles = padded.reshape(rows, TILE, columns, TILE, dimensions).swapaxes(1, 2)
    return tiles.reshape(rows, columns, TILE**2, dimensions)


def _untiled(tiles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Put features (rows, columns, 16, d) of tiles back together: (h', w', d)."""
    rows, columns, _, dimensions = tiles.shape
    square = tiles.reshape(rows, columns, TILE, TILE, dimensions).swapaxes(1, 2)
    return square.reshape(rows * TILE, columns * TILE, dimensions)[: shape[0], : shape[1]]


def _positions(features: np.ndarray) -> np.ndarray:
    """How many positions of (h', w', d) each tile has: (⌈h'/4⌉, ⌈w'/4⌉)."""
    rows, columns = (np.diff([*range(0, side, TILE), side]) for side in features.shape[:2])
    return np.outer(rows, columns)
