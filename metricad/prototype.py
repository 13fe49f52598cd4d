"""What good surface looks like in feature space: learned map by map, then asked for distances."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Protocol, Self

import numpy as np

METRICS = ("euclidean", "manhattan")

# Where good features never vary (constant images) every direction counts alike, and whatever differs by more
# than the last bit of a float32 near 1 is far away, yet not infinitely far.
_SMALLEST_VARIANCE = float(np.finfo(np.float32).eps) ** 2

SHARE_OF_IDENTITY = 1e-3  # enough to invert a covariance, too little to change what it says


class Prototype(Protocol):
    """What a detector and a bundle need of a prototype."""

    kind: ClassVar[str]
    needs_positions: ClassVar[bool]
    """Whether `update` must be given whole maps; others also take features (1, n, d) from anywhere."""

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


class Streamed:
    """What every prototype keeps while it learns: a mean that moves, and the count that it is of."""

    needs_positions: ClassVar[bool] = False

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


class MeanPrototype(Streamed):
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
        return norm(difference)

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


class GaussianPrototype(Streamed):
    """Mahalanobis distance to one Gaussian fitted to the features of good surface.

    Parameters
    ----------
    shrinkage : float in (0, 1]
        How far the covariance is drawn towards a multiple of the identity with the same trace. It
        keeps the inverse finite, also where a feature never varies; 1 leaves the Euclidean distance
        up to scale.
    """

    kind: ClassVar[str] = "gaussian"

    def __init__(self, *, shrinkage: float = SHARE_OF_IDENTITY) -> None:
        super().__init__()
        self.shrinkage = checked_shrinkage(shrinkage)
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
        return norm(self.whitened(features))

    def whitened(self, features: np.ndarray) -> np.ndarray:
        """Features (h', w', d) in coordinates in which good ones have unit variance in every direction."""
        if self._whitening is None:
            self._whitening = whitening(shrunk(self.covariance, self.shrinkage))
        return (features - self.mean.astype(np.float32)) @ self._whitening

    def log_likelihood(self, features: np.ndarray) -> float:
        """Mean natural logarithm of the density at the features of a map (h', w', d)."""
        return log_density(self.distance(features), self._whitening)

    def settings(self) -> dict[str, str | float]:
        """See `Prototype`."""
        return {"shrinkage": self.shrinkage}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Prototype`: mean, float64 (d,), and covariance before shrinking, float64 (d, d)."""
        return {"mean": self.mean, "covariance": self.covariance}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Prototype`."""
        self.mean, self.covariance, self._count = arrays["mean"], arrays["covariance"], None
        self._whitening = whitening(shrunk(self.covariance, self.shrinkage))  # now, to see it fail now
        return self


def checked_shrinkage(shrinkage: float) -> float:
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage must lie in (0, 1], received {shrinkage}")
    return shrinkage


def _vectors(features: np.ndarray) -> np.ndarray:
    """All features of a map: float64 (h'·w', d), a copy."""
    return features.reshape(-1, features.shape[-1]).astype(np.float64)


def norm(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("...d,...d->...", vectors, vectors))


def shrunk(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    """Draw a covariance (d, d) towards a multiple of the identity with the same trace."""
    dimensions = len(covariance)
    variance = max(np.trace(covariance) / dimensions, _SMALLEST_VARIANCE)
    return (1 - shrinkage) * covariance + shrinkage * variance * np.eye(dimensions)


def whitening(covariance: np.ndarray) -> np.ndarray:
    """Matrices (..., d, d) after which the Mahalanobis distance is a plain norm, float32."""
    return np.linalg.inv(np.linalg.cholesky(covariance)).swapaxes(-1, -2).astype(np.float32)


def log_density(distance: np.ndarray, whitening: np.ndarray, share: np.ndarray | float = 1.0) -> float:
    """Mean logarithm of normal densities at these Mahalanobis distances.

    Parameters
    ----------
    distance : float32 (h', w')
    whitening : float32 (..., d, d)
        Triangular, as `whitening` gives them.
    share : float (...)
        Share of the distances that each matrix stands for.
    """
    diagonal = np.diagonal(whitening, axis1=-2, axis2=-1).astype(np.float64)
    peaks = np.log(diagonal).sum(axis=-1) - 0.5 * diagonal.shape[-1] * np.log(2 * np.pi)
    return float(np.sum(share * peaks) - 0.5 * np.mean(np.square(distance, dtype=np.float64)))
