"""What good surface looks like in feature space: learned map by map, then asked for distances."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Protocol, Self

import numpy as np

from metricad.errors import DataError

METRICS = ("euclidean", "manhattan")

# Where good features never vary (constant images) every direction counts alike, and whatever differs by more
# than the last bit of a float32 near 1 is far away, yet not infinitely far.
_SMALLEST_VARIANCE = float(np.finfo(np.float32).eps) ** 2

_SHARE_OF_IDENTITY = 1e-3  # enough to invert a covariance, too little to change what it says

_TILE = 4  # features, 8 pixels: the side of the tiles that share a covariance in a positional prototype


class Prototype(Protocol):
    """What a detector and a bundle need of a prototype."""

    kind: ClassVar[str]

    def update(self, features: np.ndarray) -> None:
        """Take one more feature map (h', w', d) into account; `distance` may be asked between updates."""

    def fit(self, features: Iterable[np.ndarray]) -> Self:
        """Start afresh and update with each feature map: memory does not grow with their number."""

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Distance of each feature of (h', w', d) from the prototype: float32 (h', w'), 0 or more."""

    def settings(self) -> dict[str, str | float]:
        """Keyword arguments that make an empty prototype like this one."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What was learned."""

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `arrays` gave."""


class _Streamed:
    """What every prototype keeps while it learns: a mean that moves, and the count that it is of."""

    def __init__(self) -> None:
        self.mean: np.ndarray | None = None
        self._count: int | None = 0  # None once restored: a bundle does not say of how many

    def fit(self, features: Iterable[np.ndarray]) -> Self:
        """See `Prototype`.

        Raises
        ------
        ValueError
            There are no feature maps.
        """
        self.mean, self._count = None, 0
        for feature_map in features:
            self.update(feature_map)
        if self._count == 0:
            raise ValueError("no feature maps to fit a prototype to; expected at least one good image")
        return self

    def _move_mean(self, mean: np.ndarray, count: int) -> tuple[np.ndarray, float]:
        """Merge with the mean of `count` more; return their difference before, and its weight in the scatter.

        Each map's scatter is taken about its own mean and then merged (Chan, Golub and LeVeque, 1983):
        sums of raw squares would cancel where the mean is large against the deviation.
        """
        if self._count is None:
            raise ValueError("a restored prototype does not know how many images made it; fit it afresh")
        if self.mean is None:
            self.mean = np.zeros_like(mean)
        step = mean - self.mean
        total = self._count + count
        weight = self._count * count / total
        self.mean = self.mean + step * (count / total)
        self._count = total
        return step, weight


class MeanPrototype(_Streamed):
    """Distance to the mean feature of good surface (the paper, section 2.9).

    Parameters
    ----------
    metric : {"euclidean", "manhattan"}
        Euclidean in the paper, which leaves Manhattan as an open question (section 4).
    """

    kind: ClassVar[str] = "mean"

    def __init__(self, *, metric: str = "euclidean") -> None:
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, received {metric!r}")
        super().__init__()
        self.metric = metric

    def update(self, features: np.ndarray) -> None:
        """See `Prototype`; the mean is accumulated in float64."""
        vectors = _vectors(features)
        self._move_mean(vectors.mean(axis=0), len(vectors))

    def distance(self, features: np.ndarray) -> np.ndarray:
        """See `Prototype`."""
        difference = features - self.mean.astype(np.float32)
        if self.metric == "manhattan":
            return np.abs(difference).sum(axis=-1)
        return _norm(difference)

    def settings(self) -> dict[str, str | float]:
        """See `Prototype`."""
        return {"metric": self.metric}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Prototype`: mean, float64 (d,)."""
        return {"mean": self.mean}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Prototype`."""
        self.mean, self._count = arrays["mean"], None
        return self


class GaussianPrototype(_Streamed):
    """Mahalanobis distance to one Gaussian fitted to the features of good surface.

    Parameters
    ----------
    shrinkage : float in (0, 1]
        How far the covariance is drawn towards a multiple of the identity with the same trace. It
        keeps the inverse finite, also where a feature never varies; 1 leaves the Euclidean distance
        up to scale.
    """

    kind: ClassVar[str] = "gaussian"

    def __init__(self, *, shrinkage: float = _SHARE_OF_IDENTITY) -> None:
        super().__init__()
        self.shrinkage = _checked_shrinkage(shrinkage)
        self.covariance: np.ndarray | None = None
        self._scatter: np.ndarray | None = None
        self._whitening: np.ndarray | None = None

    def update(self, features: np.ndarray) -> None:
        """See `Prototype`; mean and covariance are accumulated in float64."""
        vectors = _vectors(features)
        map_mean = vectors.mean(axis=0)
        is_first = self.mean is None
        step, weight = self._move_mean(map_mean, len(vectors))
        vectors -= map_mean
        map_scatter = vectors.T @ vectors + np.outer(step, step) * weight
        self._scatter = map_scatter if is_first else self._scatter + map_scatter
        self.covariance = self._scatter / self._count
        self._whitening = None

    def distance(self, features: np.ndarray) -> np.ndarray:
        """See `Prototype`."""
        if self._whitening is None:
            self._whitening = _whitening(_shrunk(self.covariance, self.shrinkage))
        return _norm((features - self.mean.astype(np.float32)) @ self._whitening)

    def settings(self) -> dict[str, str | float]:
        """See `Prototype`."""
        return {"shrinkage": self.shrinkage}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Prototype`: mean, float64 (d,), and covariance before shrinking, float64 (d, d)."""
        return {"mean": self.mean, "covariance": self.covariance}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Prototype`."""
        self.mean, self.covariance, self._count = arrays["mean"], arrays["covariance"], None
        self._whitening = _whitening(_shrunk(self.covariance, self.shrinkage))  # now, to see it fail now
        return self


class PositionalPrototype(_Streamed):
    """Mahalanobis distance to the mean feature at each position, for surfaces always seen in register.

    A global pattern (the starburst of a DAGM class) is normal where it belongs and a defect elsewhere, which
    no prototype without positions can tell. How much good surface varies differs from place to place too:
    the covariance about the positions' means is that of a tile of 4×4 features (8×8 pixels), partly drawn
    towards that of all tiles. PaDiM (Defard et al., 2021) keeps a covariance for every position, sixteen
    times as much: on the synthetic starburst that won 0.01 of AUROC where 48 images had been seen, nothing
    with 12, and lost with 4. Tiles keep memory near that of the means: h'·w'·d·(1 + d/16) numbers.

    The means themselves are not smoothed: blurred over only 3×3 positions they found less, also where few
    images had been seen.

    Parameters
    ----------
    shrinkage : float in (0, 1]
        How far each tile's covariance is drawn towards the one of all tiles, itself shrunk by 1e-3 as in
        `GaussianPrototype`; 1 leaves a single covariance for the whole image.

    Notes
    -----
    All images must have one size. From a single image nothing is known of the variation: the distance is
    then Euclidean, up to a (large) scale.
    """

    kind: ClassVar[str] = "positional"

    def __init__(self, *, shrinkage: float = 0.5) -> None:
        super().__init__()
        self.shrinkage = _checked_shrinkage(shrinkage)
        self.covariance: np.ndarray | None = None
        self._whitening: np.ndarray | None = None

    def update(self, features: np.ndarray) -> None:
        """See `Prototype`; means and covariances are accumulated in float64.

        Raises
        ------
        DataError
            The map's size is not that of the maps before.
        """
        self._check_register(features)
        step, weight = self._move_mean(features.astype(np.float64), 1)
        tiles = _tiled(step)
        products = tiles.swapaxes(-1, -2) @ tiles / _positions(step)[..., np.newaxis, np.newaxis]
        if self._count == 1:
            self.covariance = np.zeros_like(products)
        self.covariance = self.covariance + (products * weight - self.covariance) / self._count
        self._whitening = None

    def distance(self, features: np.ndarray) -> np.ndarray:
        """See `Prototype`.

        Raises
        ------
        DataError
            The map's size is not that of the maps learned from.
        """
        self._check_register(features)
        if self._whitening is None:
            self._whitening = self._whiten()
        tiles = _tiled(features - self.mean.astype(np.float32))
        return _untiled(_norm(tiles @ self._whitening), features.shape[:2])

    def settings(self) -> dict[str, str | float]:
        """See `Prototype`."""
        return {"shrinkage": self.shrinkage}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Prototype`: what is kept of the means and the covariances before shrinking.

        Returns
        -------
        mean : float32 (h', w', d)
            Learned in float64; a distance is taken from it in float32 anyway.
        covariance : float64 (⌈h'/4⌉, ⌈w'/4⌉, d, d)
        """
        return {"mean": self.mean.astype(np.float32), "covariance": self.covariance}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Prototype`.

        Raises
        ------
        ValueError
            There is not one covariance for each tile of the mean.
        """
        self.mean, self.covariance, self._count = arrays["mean"], arrays["covariance"], None
        dimensions = self.mean.shape[-1]
        expected = (*_positions(self.mean).shape, dimensions, dimensions)
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
        pooled = _shrunk(pooled, _SHARE_OF_IDENTITY)
        return _whitening((1 - self.shrinkage) * self.covariance + self.shrinkage * pooled)


KINDS = {prototype.kind: prototype for prototype in (MeanPrototype, GaussianPrototype, PositionalPrototype)}


def _checked_shrinkage(shrinkage: float) -> float:
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage must lie in (0, 1], received {shrinkage}")
    return shrinkage


def _vectors(features: np.ndarray) -> np.ndarray:
    """All features of a map: float64 (h'·w', d), a copy."""
    return features.reshape(-1, features.shape[-1]).astype(np.float64)


def _norm(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("...d,...d->...", vectors, vectors))


def _shrunk(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    """Draw a covariance (d, d) towards a multiple of the identity with the same trace."""
    dimensions = len(covariance)
    variance = max(np.trace(covariance) / dimensions, _SMALLEST_VARIANCE)
    return (1 - shrinkage) * covariance + shrinkage * variance * np.eye(dimensions)


def _whitening(covariance: np.ndarray) -> np.ndarray:
    """Matrices (..., d, d) after which the Mahalanobis distance is a plain norm, float32."""
    return np.linalg.inv(np.linalg.cholesky(covariance)).swapaxes(-1, -2).astype(np.float32)


def _tiled(features: np.ndarray) -> np.ndarray:
    """Cut (h', w', d) into tiles: (⌈h'/4⌉, ⌈w'/4⌉, 16, d), the last ones padded with zeros."""
    height, width, dimensions = features.shape
    padded = np.pad(features, ((0, -height % _TILE), (0, -width % _TILE), (0, 0)))
    rows, columns = (side // _TILE for side in padded.shape[:2])
    tiles = padded.reshape(rows, _TILE, columns, _TILE, dimensions).swapaxes(1, 2)
    return tiles.reshape(rows, columns, _TILE**2, dimensions)


def _untiled(tiles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Put numbers (rows, columns, 16) of tiles back together: (h', w')."""
    rows, columns, _ = tiles.shape
    whole = tiles.reshape(rows, columns, _TILE, _TILE).swapaxes(1, 2).reshape(rows * _TILE, columns * _TILE)
    return whole[: shape[0], : shape[1]]


def _positions(features: np.ndarray) -> np.ndarray:
    """How many positions of (h', w', d) each tile has: (⌈h'/4⌉, ⌈w'/4⌉)."""
    rows, columns = (np.diff([*range(0, side, _TILE), side]) for side in features.shape[:2])
    return np.outer(rows, columns)
