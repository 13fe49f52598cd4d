"""What good surface looks like in feature space: fitted in one pass, then asked for distances."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Protocol, Self

import numpy as np

METRICS = ("euclidean", "manhattan")

# Where good features never vary (constant images) every direction counts alike, and whatever differs by more
# than the last bit of a float32 near 1 is far away, yet not infinitely far.
_SMALLEST_VARIANCE = float(np.finfo(np.float32).eps) ** 2


class Prototype(Protocol):
    """What a detector and a bundle need of a prototype."""

    kind: ClassVar[str]

    def fit(self, features: Iterable[np.ndarray]) -> Self:
        """Learn from feature maps (h', w', d), one at a time: memory does not grow with their number."""

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Distance of each feature of (h', w', d) from the prototype: float32 (h', w'), 0 or more."""

    def settings(self) -> dict[str, str | float]:
        """Keyword arguments that make an empty prototype like this one."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What was learned."""

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `arrays` gave."""


class MeanPrototype:
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
        self.metric = metric
        self.mean: np.ndarray | None = None

    def fit(self, features: Iterable[np.ndarray]) -> Self:
        """See `Prototype`."""
        self.mean, _ = _moments(features, with_covariance=False)
        return self

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
        self.mean = arrays["mean"]
        return self


class GaussianPrototype:
    """Mahalanobis distance to one Gaussian fitted to the features of good surface.

    Parameters
    ----------
    shrinkage : float in (0, 1]
        How far the covariance is drawn towards a multiple of the identity with the same trace. It
        keeps the inverse finite, also where a feature never varies; 1 leaves the Euclidean distance
        up to scale.
    """

    kind: ClassVar[str] = "gaussian"

    def __init__(self, *, shrinkage: float = 1e-3) -> None:
        if not 0 < shrinkage <= 1:
            raise ValueError(f"shrinkage must lie in (0, 1], received {shrinkage}")
        self.shrinkage = shrinkage
        self.mean: np.ndarray | None = None
        self.covariance: np.ndarray | None = None
        self._whitening: np.ndarray | None = None

    def fit(self, features: Iterable[np.ndarray]) -> Self:
        """See `Prototype`; mean and covariance are accumulated in one pass, in float64."""
        mean, covariance = _moments(features, with_covariance=True)
        return self.restore({"mean": mean, "covariance": covariance})

    def distance(self, features: np.ndarray) -> np.ndarray:
        """See `Prototype`."""
        return _norm((features - self.mean.astype(np.float32)) @ self._whitening)

    def settings(self) -> dict[str, str | float]:
        """See `Prototype`."""
        return {"shrinkage": self.shrinkage}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Prototype`: mean, float64 (d,), and covariance before shrinking, float64 (d, d)."""
        return {"mean": self.mean, "covariance": self.covariance}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Prototype`."""
        self.mean, self.covariance = arrays["mean"], arrays["covariance"]
        self._whitening = _whitening(self.covariance, self.shrinkage)
        return self


KINDS = {prototype.kind: prototype for prototype in (MeanPrototype, GaussianPrototype)}


def _norm(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("...d,...d->...", vectors, vectors))


def _whitening(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    """Matrix (d, d) after which the Mahalanobis distance is a plain norm, float32."""
    dimensions = len(covariance)
    variance = max(np.trace(covariance) / dimensions, _SMALLEST_VARIANCE)
    shrunk = (1 - shrinkage) * covariance + shrinkage * variance * np.eye(dimensions)
    return np.linalg.inv(np.linalg.cholesky(shrunk)).T.astype(np.float32)


def _moments(
    features: Iterable[np.ndarray], *, with_covariance: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean (d,) and, if asked for, covariance (d, d) over all positions of all maps, one map at a time.

    Each map's scatter is taken about its own mean and then merged (Chan, Golub and LeVeque, 1983):
    sums of raw squares would cancel where the mean is large against the deviation.
    """
    count, mean, scatter = 0, None, None
    for feature_map in features:
        vectors = feature_map.reshape(-1, feature_map.shape[-1]).astype(np.float64)
        map_mean = vectors.mean(axis=0)
        step = map_mean if mean is None else map_mean - mean
        total = count + len(vectors)
        if with_covariance:
            vectors -= map_mean
            map_scatter = vectors.T @ vectors + np.outer(step, step) * (count * len(vectors) / total)
            scatter = map_scatter if scatter is None else scatter + map_scatter
        mean = map_mean if mean is None else mean + step * (len(vectors) / total)
        count = total
    if mean is None:
        raise ValueError("no feature maps to fit a prototype to; expected at least one good image")
    return mean, scatter / count if with_covariance else None
