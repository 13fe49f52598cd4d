"""The paper's triplet loss: softmax over two distances, mean absolute error (section 2.1).

The paper's distance is Euclidean; Manhattan is one of its open questions (section 4).
"""

from typing import Any

import keras
from keras import ops

# The gradient of the square root is infinite at distance 0, which equal patches have. This constant makes it
# finite (and zero there) and changes no relevant distance.
_EPSILON = 1e-12

TARGET = (0.0, 1.0)
"""Target of `distance_ratio`: 0 for the positive, 1 for the negative."""


def euclidean_distance(first: Any, second: Any) -> Any:
    """Compute Euclidean distances between features (..., d): tensor (...)."""
    return ops.sqrt(ops.sum(ops.square(first - second), axis=-1) + _EPSILON)


def manhattan_distance(first: Any, second: Any) -> Any:
    """Compute Manhattan distances between features (..., d): tensor (...)."""
    return ops.sum(ops.abs(first - second), axis=-1)


_DISTANCES = {"euclidean": euclidean_distance, "manhattan": manhattan_distance}


def distance_ratio(anchor: Any, positive: Any, negative: Any, *, metric: str = "euclidean") -> Any:
    """Compute the softmax of the distances to the positive and to the negative.

    Parameters
    ----------
    anchor, positive, negative : tensor (n, d)
        Features of the three patches of each triplet.
    metric : {"euclidean", "manhattan"}

    Returns
    -------
    tensor (n, 2) in [0, 1], rows summing to 1
    """
    distance = _DISTANCES[metric]
    distances = [distance(anchor, positive), distance(anchor, negative)]
    return ops.softmax(ops.stack(distances, axis=-1), axis=-1)


def triplet_loss(anchor: Any, positive: Any, negative: Any) -> Any:
    """Compute the mean absolute error of `distance_ratio` against `TARGET`: scalar tensor in [0, 1].

    Based on Hoffer and Ailon (2015), who use the squared error; the paper uses the absolute error (section
    2.8).
    """
    error = ops.abs(distance_ratio(anchor, positive, negative) - ops.convert_to_tensor(TARGET))
    return ops.mean(error)


@keras.saving.register_keras_serializable(package="metricad")
class DistanceRatio(keras.layers.Layer):
    """Layer that computes `distance_ratio` of flattened features: three (n, 1, 1, d) to (n, 2)."""

    def __init__(self, *, metric: str = "euclidean", **named: Any) -> None:
        super().__init__(**named)
        self.metric = metric

    def call(self, anchor: Any, positive: Any, negative: Any) -> Any:
        """Compute the ratio of the three branches."""
        branches = (ops.squeeze(branch, axis=(1, 2)) for branch in (anchor, positive, negative))
        return distance_ratio(*branches, metric=self.metric)

    def get_config(self) -> dict[str, Any]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "metric": self.metric}
