"""Good surface that is always seen in register: a Gaussian with a mean of its own at each position."""

from collections.abc import Iterable
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from metricad.density.covariance import shrunk, whitening


@keras.saving.register_keras_serializable("metricad")
class PositionalGaussian(keras.layers.Layer):
    """Mahalanobis distance to the mean feature at each position, for parts always seen in register.

    A global pattern (the starburst of a DAGM class) is normal where it belongs and a defect elsewhere, which
    no density without positions can tell. The covariance about the positions' means is one for all of them;
    how much good surface varies from place to place is for standardising to say. (PaDiM, Defard et al., 2021,
    keeps a covariance for every position, d times as much.)

    Parameters
    ----------
    dimensions : int
        Numbers of a feature, d.
    shape : (int, int)
        Rows and columns of every feature map.
    """

    needs_positions = True

    def __init__(self, dimensions: int, shape: tuple[int, int], **named: object) -> None:
        super().__init__(**named)
        self.dimensions, self.shape = dimensions, tuple(shape)

        def weight(name: str, *shape: int) -> keras.Variable:
            return self.add_weight(shape=shape, initializer="zeros", trainable=False, name=name)

        self.mean = weight("mean", *self.shape, dimensions)
        self.projection = weight("projection", dimensions, dimensions)

    def adapt(self, features: Iterable[np.ndarray]) -> Self:
        """Fit to feature maps of good images, float32 (h, w, d), of which one is held at a time."""
        moments = PositionalMoments()
        for one in features:
            moments.update(one)
        return self.fit(moments)

    def fit(self, moments: "PositionalMoments") -> Self:
        """Take mean and covariance from moments of good images."""
        self.mean.assign(moments.mean)
        self.projection.assign(whitening(shrunk(moments.covariance)))
        return self

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Distances (N, h, w), 0 or more, of features (N, h, w, d)."""
        projected = tf.nn.conv2d(features - self.mean, self.projection[None, None], 1, "VALID")
        return tf.sqrt(tf.reduce_sum(tf.square(projected), axis=-1))

    def log_likelihood(self, features: tf.Tensor) -> tf.Tensor:
        """Natural logarithm of the density at each feature: (N, h, w)."""
        spread = tf.reduce_sum(tf.math.log(tf.abs(tf.linalg.diag_part(self.projection))))
        peak = spread - 0.5 * self.dimensions * np.log(2 * np.pi)
        return peak - 0.5 * tf.square(self(features))

    def compute_output_shape(self, features_shape: tuple) -> tuple:
        """One number for each feature."""
        return features_shape[:3]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "dimensions": self.dimensions, "shape": self.shape}


class PositionalMoments:
    """Sums of feature maps, from which the mean at each position and the covariance about it follow.

    Accumulated in float64. Moments of parts of the images can be added, so that each fold can be left out.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum: np.ndarray | float = 0.0  # (h, w, d)
        self._products: np.ndarray | float = 0.0  # (d, d), summed over positions
        self._inside: np.ndarray | None = None

    def update(self, features: np.ndarray, inside: np.ndarray | None = None) -> None:
        """Add one more feature map, float32 (h, w, d); the covariance is of what is `inside`, bool (h, w)."""
        features = features.astype(np.float64)
        vectors = features.reshape(-1, features.shape[-1]) if inside is None else features[inside]
        self._sum = self._sum + features
        self._products = self._products + vectors.T @ vectors
        self._inside = inside
        self.count += 1

    def __add__(self, other: "PositionalMoments") -> "PositionalMoments":
        both = PositionalMoments()
        both.count = self.count + other.count
        both._sum, both._products = self._sum + other._sum, self._products + other._products
        both._inside = self._inside if self.count else other._inside
        return both

    @property
    def mean(self) -> np.ndarray:
        """At each position: float64 (h, w, d)."""
        return self._sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """About the positions' means, unbiased: float64 (d, d)."""
        mean = self.mean if self._inside is None else self.mean[self._inside]
        means = mean.reshape(-1, mean.shape[-1])
        scatter = self._products - self.count * (means.T @ means)
        return scatter / (max(self.count - 1, 1) * len(means))
