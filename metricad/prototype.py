"""What good surface looks like in feature space: learned map by map, then asked for distances."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Protocol, Self

import numpy as np

from metricad.covariance import (
    SMALLEST_VARIANCE,
    Moments,
    checked_shrinkage,
    cross_validated,
    log_density,
    merged,
    shrunk,
    weighted,
    whitening,
)

METRICS = ("euclidean", "manhattan")

NOTHING = "no feature maps to fit a prototype to; expected at least one good image"
"""What is said where there is nothing to learn from."""

_FOLDS = 4  # of images, for cross-validation


class Prototype(Protocol):
    """What a detector and a bundle need of a prototype."""

    kind: ClassVar[str]
    needs_positions: ClassVar[bool]
    """Whether each place has a prototype of its own, so that only whole maps can be judged."""

    def clear(self) -> None:
        """Forget all that was learned."""

    def update(self, features: np.ndarray, inside: np.ndarray | None = None) -> None:
        """Take one more feature map (h', w', d) into account; `distance` may be asked between updates.

        Where `inside`, bool (h', w'), is given, features outside may be learned from only if they cannot
        change the distance inside.
        """

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

    def clear(self) -> None:
        """See `Prototype`."""
        self.mean, self._count = None, 0

    def fit(self, features: Iterable[np.ndarray]) -> Self:
        """See `Prototype`.

        Raises
        ------
        ValueError
            There are no feature maps.
        """
        self.clear()
        for feature_map in features:
            self.update(feature_map)
        if self._count == 0:
            raise ValueError(NOTHING)
        return self

    def _move_mean(self, mean: np.ndarray, count: int) -> tuple[np.ndarray, float]:
        """Merge with the mean of `count` more; return their difference before, and its weight in the scatter.

        Each map's scatter is taken about its own mean and then merged (Chan, Golub and LeVeque, 1983):
        sums of raw squares would cancel where the mean is large against the deviation.
        """
        self._check_count()
        if self.mean is None:
            self.mean = np.zeros_like(mean)
        step = mean - self.mean
        total = self._count + count
        weight = self._count * count / total
        self.mean = self.mean + step * (count / total)
        self._count = total
        return step, weight

    def _check_count(self) -> None:
        if self._count is None:
            raise ValueError("a restored prototype does not know how many images made it; fit it afresh")


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

    def update(self, features: np.ndarray, inside: np.ndarray | None = None) -> None:
        """See `Prototype`; the mean is accumulated in float64."""
        vectors = (features[np.newaxis] if inside is None else features[inside]).astype(np.float64)
        vectors = vectors.reshape(-1, features.shape[-1])
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

    Features of several scales are taken to be independent, each with a covariance of its own: the squared
    distance is the weighted sum of theirs. What two scales have in common differs too much from place to
    place to be relied upon.

    Near the image's border features are made of less, and good ones spread wider. There the distance is
    divided by how much farther good features lie, in the mean square, than in the interior, so that a map is
    not brightest along its edge.

    Parameters
    ----------
    shrinkage : float in (0, 1], optional
        How far each covariance is drawn towards a multiple of the identity with the same trace. It
        keeps the inverse finite, also where a feature never varies; 1 leaves the Euclidean distance
        up to scale. When not given, good images choose it for each scale: see `covariance.cross_validated`.
    scales : sequence of float
        Weight of each scale that features are made of, in equal parts; see `sampling.FeatureGrid`.
    border : int
        Features from the edge inwards whose spread is learned; see `sampling.FeatureGrid`. Nothing is divided
        where no map reaches farther inwards than that.
    """

    kind: ClassVar[str] = "gaussian"

    def __init__(
        self, *, shrinkage: float | None = None, scales: Sequence[float] = (1.0,), border: int = 0
    ) -> None:
        super().__init__()
        self.shrinkage = None if shrinkage is None else checked_shrinkage(shrinkage)
        self.scales = tuple(scales)
        self.border = border
        self.covariance: np.ndarray | None = None
        self._spread = np.ones(border + 1, np.float32)
        self._shrinkage: np.ndarray | None = None  # float64 (scales,), as given or chosen
        self._whitening: np.ndarray | None = None
        self.clear()

    @property
    def spread(self) -> np.ndarray:
        """How much wider good features spread than in the interior, from the edge on: float32 (n,)."""
        if self._whitening is None and self.mean is not None:
            self._prepare()
        return self._spread

    def clear(self) -> None:
        """See `Prototype`."""
        super().clear()
        self._images = 0
        # Of each share of the images, what lies at each depth from the edge.
        self._folds = [[Moments() for _ in range(self.border + 1)] for _ in range(_FOLDS)]

    def update(self, features: np.ndarray, inside: np.ndarray | None = None) -> None:
        """See `Prototype`; mean and covariance are accumulated in float64."""
        self._check_count()
        vectors = parts(features.astype(np.float64), len(self.scales))
        depth = _depth(features.shape, self.border)
        for ring, moments in enumerate(self._folds[self._images % _FOLDS]):
            chosen = depth == ring
            moments.add(vectors[chosen if inside is None else chosen & inside])
        self._images += 1
        everything = merged([merged(rings) for rings in self._folds])
        self._count, self.mean = everything.count, everything.mean.reshape(-1)
        self.covariance = everything.covariance
        self._whitening = None

    def distance(self, features: np.ndarray) -> np.ndarray:
        """See `Prototype`."""
        return norm(self.whitened(features))

    @property
    def whitening(self) -> np.ndarray:
        """What features less their mean are multiplied by: float32 (scales, d / scales, d / scales)."""
        if self._whitening is None:
            self._prepare()
        return self._whitening

    @property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Means, float32 (scales, d / scales), and `whitening`: what `mahalanobis` needs."""
        return parts(self.mean.astype(np.float32), len(self.scales)), self.whitening

    def levelled(self, distance: np.ndarray) -> np.ndarray:
        """Distances (h', w') divided by how much wider good ones spread at the border."""
        return distance / self.spread[_depth(distance.shape, self.border)] if self.border else distance

    def whitened(self, features: np.ndarray) -> np.ndarray:
        """Features (h', w', d) in coordinates in which good ones have a scale's weight as variance."""
        vectors = parts(features - self.mean.astype(np.float32), len(self.scales))
        white = np.moveaxis(np.moveaxis(vectors, -2, 0) @ self.whitening[:, np.newaxis], 0, -2)
        if self.border:
            white = white / self.spread[_depth(features.shape, self.border)][..., np.newaxis, np.newaxis]
        return white.reshape(features.shape)

    def log_likelihood(self, features: np.ndarray) -> np.ndarray:
        """Natural logarithm of the density at each feature of a map (h', w', d): float64 (h', w')."""
        spread = self.spread[_depth(features.shape, self.border)].astype(np.float64)
        return log_density(self.distance(features), self._whitening) - features.shape[-1] * np.log(spread)

    def settings(self) -> dict[str, object]:
        """See `Prototype`."""
        return {"shrinkage": self.shrinkage, "scales": list(self.scales), "border": self.border}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Prototype`.

        Returns
        -------
        mean : float64 (d,)
        covariance : float64 (scales, d / scales, d / scales)
            Before shrinking.
        spread : float32 (border + 1,)
            From the edge inwards.
        shrinkage : float64 (scales,)
        """
        if self._whitening is None:
            self._prepare()
        learned = {"mean": self.mean, "covariance": self.covariance}
        return {**learned, "spread": self._spread, "shrinkage": self._shrinkage}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Prototype`; bundles once had one covariance (d, d), no spread, and the shrinkage given.

        Raises
        ------
        ValueError
            The arrays do not suit each other.
        """
        self.clear()
        self.mean, self._count = arrays["mean"], None
        size = self.mean.size // len(self.scales)
        self.covariance = arrays["covariance"].reshape(len(self.scales), size, size)
        spread = arrays.get("spread", self._spread)
        if spread.shape != self._spread.shape:
            raise ValueError(f"expected a spread {self._spread.shape}, received {spread.shape}")
        self._spread = spread
        self._shrinkage = arrays.get("shrinkage")
        self._prepare()  # now, to see it fail now
        return self

    def _prepare(self) -> None:
        """Make of what was learned what a distance needs."""
        if self.shrinkage is not None:
            self._shrinkage = np.full(len(self.scales), self.shrinkage)
        elif self._count is not None:
            self._shrinkage = cross_validated([merged(rings) for rings in self._folds])
        covariance = shrunk(self.covariance, self._shrinkage)
        rings = [merged(ring) for ring in zip(*self._folds, strict=True)]
        if rings[-1].count:
            precision = np.linalg.inv(covariance)
            mean = parts(self.mean, len(self.scales))
            weights = np.array(self.scales)

            def square(moments: Moments) -> float:
                """Mean of the squared distances in a ring."""
                each = np.einsum("sij,sji->s", moments.about(mean), precision)
                return float(weights @ each) / moments.count

            interior = max(square(rings[-1]), SMALLEST_VARIANCE)
            squares = [square(moments) if moments.count else interior for moments in rings]
            # Never below 1: the border is not to be judged more strictly than the rest.
            self._spread = np.sqrt(np.maximum(np.array(squares) / interior, 1)).astype(np.float32)
        self._whitening = weighted(whitening(covariance), self.scales)


def parts(features: np.ndarray, count: int) -> np.ndarray:
    """Cut features (..., d) into their scales: (..., count, d / count).

    Raises
    ------
    ValueError
        They cannot be cut so.
    """
    if features.shape[-1] % count:
        raise ValueError(f"expected features of {count} equal parts, received {features.shape[-1]} numbers")
    return features.reshape(*features.shape[:-1], count, features.shape[-1] // count)


def _depth(shape: tuple[int, ...], border: int) -> np.ndarray:
    """How many features lie between each of a map (h', w', d) and the edge, at most `border`: (h', w')."""
    rows, columns = (np.minimum(np.arange(side), np.arange(side)[::-1]) for side in shape[:2])
    return np.minimum(np.minimum.outer(rows, columns), border)


def norm(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("...d,...d->...", vectors, vectors))
