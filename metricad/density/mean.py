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

    The paper can be read in two ways: one mean over all images and positions, or one at each position. The
    second needs parts that are always aligned.

    Parameters
    ----------
    dimensions : int
        Length of a feature vector, d.
    metric : {"euclidean", "manhattan"}
        The paper uses Euclidean and leaves Manhattan as an open question (section 4).
    shape : (int, int), optional
        Rows and columns of every feature map, for a mean at each position.
    """

    def __init__(
        self,
        dimensions: int,
        *,
        metric: str = "euclidean",
        shape: tuple[int, int] | None = None,
        **named: object,
    ) -> None:
        super().__init__(**named)
        if metric not in list(Metric):
            raise ValueError(f"metric must be one of {', '.join(Metric)}, received {metric!r}")
        self.dimensions = dimensions
        self.metric = metric
        self.shape = None if shape is None else tuple(shape)
        self.mean = self.add_weight(shape=(*(self.shape or ()), dimensions), trainable=False, name="mean")

    @property
    def needs_positions(self) -> bool:
        """Whether there is a mean at each position."""
        return self.shape is not None

    @property
    def description(self) -> str:
        """Describe the density in a few words."""
        return f"{self.metric} distance to the mean{' at each position' if self.needs_positions else ''}"

    def adapt(self, features: Iterable[np.ndarray]) -> Self:
        """Learn the mean of feature vectors.

        Parameters
        ----------
        features : iterable of float32 (..., d)
            Features of any number of images, one after the other; summed in float64. For a mean at each
            position, whole maps (h, w, d).
        """
        total, count = np.zeros(self.mean.shape), 0
        for one in features:
            own, number = self.sums(one)
            total += own
            count += number
        if not count:
            raise ValueError("no features to take the mean of; expected at least one good image")
        self.mean.assign(total / count)
        return self

    def sums(self, features: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the sum of the features of an image, in float64 of the mean's shape, and their number."""
        if self.needs_positions:
            return features.astype(np.float64), 1
        vectors = features.reshape(-1, self.dimensions)
        return vectors.sum(axis=0, dtype=np.float64), len(vectors)

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
        own = {"dimensions": self.dimensions, "metric": self.metric, "shape": self.shape}
        return {**super().get_config(), **own}
