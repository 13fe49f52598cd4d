"""A mixture of Gaussians, fitted to the features of good images."""

import warnings
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from metricad.density.covariance import log_peak, shrunk, whitening
from metricad.density.sampling import VectorSample

WEIGHT = 200
"""Weight of the pooled covariance in each component's covariance, in feature vectors."""

ITERATIONS = 1
"""Rounds after k-means that assign vectors to their most likely component. More have no visible effect."""


@keras.saving.register_keras_serializable("metricad")
class GaussianMixture(keras.layers.Layer):
    """Layer that computes the Mahalanobis distance of each feature to the nearest component of the mixture.

    With one component this is the Mahalanobis distance to a single Gaussian. Several components describe a
    part with several different regions. Each has its own mean and covariance. The covariance is shrunk toward
    that of all components (a compromise of k-means and quadratic discriminant analysis: Friedman, 1989).

    Parameters
    ----------
    dimensions : int
        Length of a feature vector, d.
    components : int
        Number of Gaussians, K.
    """

    needs_positions = False

    def __init__(self, dimensions: int, components: int = 1, **named: object) -> None:
        super().__init__(**named)
        if components < 1:
            raise ValueError(f"components must be at least 1, received {components}")
        self.dimensions, self.components = dimensions, components

        def weight(name: str, *shape: int) -> keras.Variable:
            return self.add_weight(shape=shape, initializer="zeros", trainable=False, name=name)

        self.mean = weight("mean", dimensions)
        self.projections = weight("projections", components, dimensions, dimensions)
        self.offsets = weight("offsets", components, dimensions)
        self.log_weights = weight("log_weights", components)

    def adapt(self, features: Iterable[np.ndarray], *, seed: int = 0) -> Self:
        """Fit the mixture to a random sample of feature vectors.

        Parameters
        ----------
        features : iterable of float32 (h, w, d)
            Feature maps of good images.
        seed : int
            Seed of the sample and of the first centers of k-means.
        """
        sample = VectorSample(np.random.default_rng(seed))
        for one in features:
            sample.update(one, image=0)
        return self.fit(sample.vectors, seed=seed)

    def fit(self, vectors: "np.ndarray | Whitened", *, seed: int = 0) -> Self:
        """Fit the mixture to feature vectors, float32 (n, d): whitening, k-means, then hard assignments."""
        white, mean, whiten = vectors if isinstance(vectors, Whitened) else whitened(vectors)
        members = _clusters(white, self.components, seed)
        for round_ in range(ITERATIONS + 1):
            centers, covariances, counts = _moments(white, members, self.components)
            matrices = whitening(covariances)
            log_weights = _log_weights(counts, matrices)
            if self.components == 1 or round_ == ITERATIONS:
                break
            offsets = np.einsum("kd,kde->ke", centers, matrices).astype(np.float32)
            # One component at a time fits into a processor's cache.
            squares = np.stack(
                [
                    np.square(white @ matrix - offset).sum(axis=1)
                    for matrix, offset in zip(matrices.astype(np.float32), offsets, strict=True)
                ],
                axis=1,
            )
            members = np.argmax(log_weights - squares / 2, axis=1)
        return self._set(mean, whiten, centers, matrices, log_weights)

    def _set(
        self,
        mean: np.ndarray,
        whiten: np.ndarray,
        centers: np.ndarray,
        matrices: np.ndarray,
        log_weights: np.ndarray,
    ) -> Self:
        self.mean.assign(mean)
        self.projections.assign(whiten @ matrices)
        self.offsets.assign(np.einsum("kd,kde->ke", centers, matrices))
        self.log_weights.assign(log_weights + np.log(np.abs(np.diagonal(whiten))).sum())
        return self

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Compute distances (N, h, w), 0 or more, of features (N, h, w, d)."""
        return tf.sqrt(reduce(tf.minimum, self._squares(features)))

    def _squares(self, features: tf.Tensor) -> Iterator[tf.Tensor]:
        """Yield squared Mahalanobis distances (N, h, w) to each component."""
        # The mean is subtracted before projecting. If good features never vary, projections are very large,
        # and a difference after them would lose all digits. One component at a time fits into a processor's
        # cache.
        centered = features - self.mean
        projections = tf.unstack(tf.expand_dims(tf.expand_dims(self.projections, 1), 1))
        for projection, offset in zip(projections, tf.unstack(self.offsets), strict=True):
            # As a bias, the offset is subtracted within the convolution.
            projected = tf.nn.bias_add(tf.nn.conv2d(centered, projection, 1, "VALID"), -offset)
            yield tf.reduce_sum(tf.square(projected), axis=-1)

    def members(self, vectors: np.ndarray) -> np.ndarray:
        """Find the most likely component of each feature vector, float32 (n, d): int (n,)."""
        squares = tf.stack(list(self._squares(vectors[np.newaxis, np.newaxis])), axis=-1)
        return np.argmax(self.log_weights - squares / 2.0, axis=-1)[0, 0]

    def log_likelihood(self, features: tf.Tensor) -> tf.Tensor:
        """Compute the natural logarithm of the mixture's density at each feature: (N, h, w)."""
        squares = tf.stack(list(self._squares(features)), axis=-1)
        return tf.reduce_logsumexp(self.log_weights - squares / 2.0, axis=-1)

    def compute_output_shape(self, features_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: one distance for each feature."""
        return features_shape[:3]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "dimensions": self.dimensions, "components": self.components}


class MixtureMoments:
    """Sums over the vectors of each component of a fitted mixture, to fit it again without some of them.

    This takes a small part of the time of `fit`. Vectors keep their component, and the whitening is that of
    all vectors; it only matters for the shrinkage.

    Parameters
    ----------
    density : GaussianMixture
        Fitted to the vectors.
    vectors : float32 (n, d)
    whitened : Whitened
        The same vectors, whitened.
    """

    def __init__(self, density: GaussianMixture, vectors: np.ndarray, whitened: "Whitened") -> None:
        self._white, self._mean, self._whiten = whitened
        self._members = density.members(vectors)
        self._total = _sums(self._white, self._members, density.components)
        self._density = GaussianMixture(density.dimensions, density.components)

    def without(self, left_out: np.ndarray) -> GaussianMixture:
        """Fit the mixture without the vectors left out, bool (n,); return the same layer at each call."""
        own = _sums(self._white[left_out], self._members[left_out], self._density.components)
        counts, totals, products = (each - mine for each, mine in zip(self._total, own, strict=True))
        centers = totals / np.maximum(counts, 1)[:, None]
        scatters = products - np.einsum("kd,ke->kde", totals, centers)
        scatters[counts == 0] = 0.0
        centers, covariances = _shrunk(centers, scatters, counts)
        matrices = whitening(covariances)
        return self._density._set(self._mean, self._whiten, centers, matrices, _log_weights(counts, matrices))


class Whitened(NamedTuple):
    """Feature vectors, float32 (n, d), less their mean (d,) and multiplied by a matrix (d, d)."""

    white: np.ndarray
    mean: np.ndarray
    whiten: np.ndarray


def whitened(vectors: np.ndarray) -> Whitened:
    """Whiten vectors (n, d), with a shrunk covariance: their mean becomes 0, their covariance about 1."""
    vectors = vectors.astype(np.float64)
    mean = vectors.mean(axis=0)
    whiten = whitening(shrunk(np.cov(vectors.T, bias=True).reshape(2 * [vectors.shape[1]])))
    return Whitened(((vectors - mean) @ whiten).astype(np.float32), mean, whiten)


def _log_weights(counts: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    return np.log((counts + 1) / (counts.sum() + len(counts))) + log_peak(matrices)


def _clusters(white: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Cluster vectors by k-means; return the cluster of each: int (n,)."""
    if count == 1:
        return np.zeros(len(white), int)
    from sklearn.cluster import KMeans  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # clusters stay empty if there are too few distinct vectors
        return KMeans(min(count, len(white)), n_init=1, max_iter=10, random_state=seed).fit_predict(white)


def _moments(white: np.ndarray, members: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute mean (K, d), shrunk covariance (K, d, d) and size (K,) of each cluster of vectors (n, d)."""
    size = white.shape[1]
    counts = np.bincount(members, minlength=count)
    centers, scatters = np.zeros((count, size)), np.zeros((count, size, size))
    for number in range(count):
        own = white[members == number]
        if len(own):
            centers[number] = own.mean(axis=0)
            centered = own - centers[number].astype(np.float32)
            scatters[number] = centered.T @ centered
    return *_shrunk(centers, scatters, counts), counts


def _shrunk(centers: np.ndarray, scatters: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute centers (K, d) and shrunk covariances (K, d, d) from scatter matrices (K, d, d)."""
    centers[counts == 0] = centers[counts.argmax()]  # else the mean of all vectors would count as good
    pooled = shrunk(scatters.sum(axis=0) / counts.sum())
    shares = (counts + WEIGHT)[:, None, None]
    return centers, (scatters + WEIGHT * pooled) / shares


def _sums(white: np.ndarray, members: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute size (K,), sum (K, d) and sum of outer products (K, d, d) of the vectors of each cluster."""
    size = white.shape[1]
    totals, products = np.zeros((count, size)), np.zeros((count, size, size))
    for number in range(count):
        own = white[members == number]
        totals[number], products[number] = own.sum(axis=0, dtype=np.float64), own.T @ own
    return np.bincount(members, minlength=count), totals, products
