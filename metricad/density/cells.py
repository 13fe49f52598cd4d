"""A Gaussian for each cell of an image, of the mean features of cells."""

from typing import Self

import keras
import numpy as np
import tensorflow as tf

from metricad.density.covariance import whitening
from metricad.density.mixture import whitened

SHARE = 0.1
"""Share of the covariance of all cells that is added to that of each. From 0.001 to 1, AUROC changes by at
most 0.01 on any development surface (results/imagenet.md)."""


@keras.saving.register_keras_serializable("metricad")
class CellGaussian(keras.layers.Layer):
    """Layer that computes the Mahalanobis distance of each cell's mean feature to that of good images.

    Each cell has its own mean and covariance, as each position has in PaDiM (Defard et al., 2021). There are
    few cells, so that parts need not be aligned to the pixel, and all features are used. A covariance of few
    images has no inverse: a part of the covariance of all cells together is added.

    Parameters
    ----------
    dimensions : int
        Length of a feature vector, d.
    side : int
        Number of rows and columns of cells, g.
    """

    needs_positions = False

    def __init__(self, dimensions: int, side: int, **named: object) -> None:
        super().__init__(**named)
        self.dimensions, self.side = dimensions, side

        def weight(name: str, *shape: int) -> keras.Variable:
            return self.add_weight(shape=shape, initializer="zeros", trainable=False, name=name)

        self.mean = weight("mean", side * side, dimensions)
        self.projections = weight("projections", side * side, dimensions, dimensions)

    def fit(self, maps: np.ndarray) -> Self:
        """Fit to the mean features of the cells of good images, float32 (n, g, g, d)."""
        cells = maps.reshape(len(maps), -1, self.dimensions).swapaxes(0, 1).astype(np.float64)
        common = whitened(cells.reshape(-1, self.dimensions)).whiten
        mean = cells.mean(axis=1)
        white = (cells - mean[:, None]) @ common
        own = white.swapaxes(1, 2) @ white / max(len(maps) - 1, 1) + SHARE * np.eye(self.dimensions)
        self.mean.assign(mean)
        self.projections.assign(common @ whitening(own))
        return self

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Compute distances (N, g, g), 0 or more, of the cells' mean features (N, g, g, d)."""
        cells = tf.reshape(features, (-1, self.side**2, self.dimensions)) - self.mean
        projected = tf.matmul(tf.transpose(cells, (1, 0, 2)), self.projections)
        distances = tf.sqrt(tf.reduce_sum(tf.square(projected), axis=-1))
        return tf.reshape(tf.transpose(distances), (-1, self.side, self.side))

    def compute_output_shape(self, features_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: one distance for each cell."""
        return features_shape[:3]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "dimensions": self.dimensions, "side": self.side}
