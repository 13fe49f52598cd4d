"""Distance to the mean of good features, as in the paper."""

from collections.abc import Iterable
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from metricad.density import Metric


@keras.saving.register_keras_serializable("metricad")
class MeanDistance(keras.layers.Layer):
    """Layer that computes the distance of each feature to the mean feature (the paper, section 2.9).

    Parameters
    ----------
    dimensions : int
        Length of a feature vector, d.
    metric : {"euclidean", "manhattan"}
        The paper uses Euclidean and leaves Manhattan as an open question (section 4).
    """

    needs_positions = False

    def __init__(self, dimensions: int, *, metric: str = "euclidean", **named: object) -> None:
        super().__init__(**named)
        if metric not in list(Metric):
            raise ValueError(f"metric must be one of {', '.join(Metric)}, received {metric!r}")
        self.dimensions = dimensions
        self.metric = metric
        self.mean = self.add_weight(shape=(dimensions,), trainable=False, name="mean")

    @property
    def description(self) -> str:
        """Describe the density in a few words."""
        return f"{self.metric} distance to the mean"

    def adapt(self, features: Iterable[np.ndarray]) -> Self:
        """Learn the mean of feature vectors.

        Parameters
        ----------
        features : iterable of float32 (..., d)
            Features of any number of images, one after the other; summed in float64.
        """
        total, count = np.zeros(self.dimensions), 0
        for one in features:
            vectors = one.reshape(-1, self.dimensions)
            total += vectors.sum(axis=0, dtype=np.float64)
            count += len(vectors)
        if not count:
            raise ValueError("no features to take the mean of; expected at least one good image")
        self.mean.assign(total / count)
        return self

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Compute distances (N, h, w), 0 or more, of features (N, h, w, d)."""
        difference = features - self.mean
        if self.metric == "manhattan":
            return tf.reduce_sum(tf.abs(difference), axis=-1)
        return tf.sqrt(tf.reduce_sum(tf.square(difference), axis=-1))

    def compute_output_shape(self, features_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: one distance for each feature."""
        return features_shape[:3]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "dimensions": self.dimensions, "metric": self.metric}
