"""A Gaussian with its own mean at each position, for parts that are always aligned in the image."""

import copy
from collections.abc import Iterable
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from metricad.density.covariance import shrunk, whitening


@keras.saving.register_keras_serializable("metricad")
class PositionalGaussian(keras.layers.Layer):
    """Layer that computes the Mahalanobis distance to the mean feature at each position; needs aligned parts.

    A global pattern (the starburst of a DAGM class) is normal at its position and a defect elsewhere. Only a
    density with positions can tell the two apart. All positions share one covariance about their means. How
    much good surface varies from position to position is handled by the standard scores. (PaDiM, Defard et
    al., 2021, keeps one covariance per position, which takes d times as much memory.)

    Parameters
    ----------
    dimensions : int
        Length of a feature vector, d.
    shape : (int, int)
        Rows and columns of every feature map.
    """

    needs_positions = True
    description = "Gaussian at each position"

    def __init__(self, dimensions: int, shape: tuple[int, int], **named: object) -> None:
        super().__init__(**named)
        self.dimensions, self.shape = dimensions, tuple(shape)

        def weight(name: str, *shape: int) -> keras.Variable:
            return self.add_weight(shape=shape, initializer="zeros", trainable=False, name=name)

        self.mean = weight("mean", *self.shape, dimensions)
        self.projection = weight("projection", dimensions, dimensions)

    def adapt(self, features: Iterable[np.ndarray]) -> Self:
        """Fit to feature maps of good images, float32 (h, w, d); only one is kept in memory at a time."""
        moments = PositionalMoments()
        for one in features:
            moments.update(one)
        return self.fit(moments)

    def fit(self, moments: "PositionalMoments") -> Self:
        """Compute mean and covariance from the moments of good images."""
        self.mean.assign(moments.mean)
        self.projection.assign(whitening(shrunk(moments.covariance)))
        return self

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Compute distances (N, h, w), 0 or more, of features (N, h, w, d)."""
        projected = tf.nn.conv2d(features - self.mean, self.projection[None, None], 1, "VALID")
        return tf.sqrt(tf.reduce_sum(tf.square(projected), axis=-1))

    def log_likelihood(self, features: tf.Tensor) -> tf.Tensor:
        """Compute the natural logarithm of the density at each feature: (N, h, w)."""
        spread = tf.reduce_sum(tf.math.log(tf.abs(tf.linalg.diag_part(self.projection))))
        peak = spread - self.dimensions * np.log(2 * np.pi) / 2
        return peak - tf.square(self(features)) / 2.0

    def compute_output_shape(self, features_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: one distance for each feature."""
        return features_shape[:3]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "dimensions": self.dimensions, "shape": self.shape}


class PositionalMoments:
    """Sums over feature maps, to compute the mean at each position and the covariance about it.

    The first map is subtracted before summing, so that no digits are lost if features vary little about a
    large mean. The moments of several sets of images can be added. So each fold can be left out.
    """

    def __init__(self) -> None:
        self.count = 0

    def update(self, features: np.ndarray, inside: np.ndarray | None = None, *, sign: int = 1) -> None:
        """Add one feature map, float32 (h, w, d). Only features `inside`, bool (h, w), are in the
        covariance. With `sign` -1, a map that was added before is taken out again.
        """
        if not self.count:
            self._origin = features.copy()
            self._sum, self._inside_sum = np.zeros(features.shape), np.zeros(features.shape)
            self._inside_count = np.zeros((*features.shape[:2], 1))
            self._products = np.zeros(2 * features.shape[2:])  # of features inside, summed over positions
        away = features - self._origin
        self._sum += sign * away
        if inside is not None:
            away *= inside[..., np.newaxis]
        self._inside_sum += sign * away
        self._inside_count += sign * (1 if inside is None else inside[..., np.newaxis])
        self._products += sign * _product(away, away)
        self.count += sign

    def __add__(self, other: "PositionalMoments") -> "PositionalMoments":
        both = copy.deepcopy(self if self.count else other)
        if not (self.count and other.count):
            return both
        shift = other._origin.astype(np.float64) - self._origin
        cross = _product(shift, other._inside_sum)
        both.count += other.count
        both._sum += other._sum + other.count * shift
        both._inside_sum += other._inside_sum + other._inside_count * shift
        both._inside_count += other._inside_count
        both._products += other._products + cross + cross.T + _product(shift, other._inside_count * shift)
        return both

    @property
    def mean(self) -> np.ndarray:
        """Mean at each position: float64 (h, w, d)."""
        return self._origin + self._sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariance about the means of the positions: float64 (d, d)."""
        mean = self._sum / self.count
        cross = _product(mean, self._inside_sum)
        scatter = self._products - cross - cross.T + _product(mean, self._inside_count * mean)
        return scatter / (self._inside_count.sum() * max(self.count - 1, 1) / self.count)


def _product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sum the outer products of vectors (h, w, d) over positions: (d, d)."""
    return one.reshape(-1, one.shape[-1]).T @ other.reshape(-1, other.shape[-1])
