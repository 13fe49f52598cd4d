"""The paper's triplet loss: softmax over two Euclidean distances, mean absolute error (section 2.1)."""

from typing import Any

import keras
from keras import ops

# The root's gradient is infinite at distance 0, where equal patches stand; under the root this keeps it
# finite (and zero there), and changes no distance of practical size.
_EPSILON = 1e-12

TARGET = (0.0, 1.0)
"""What `distance_ratio` should be: all of the distance to the negative, none to the positive."""


def euclidean_distance(first: Any, second: Any) -> Any:
    """Euclidean distance between features (..., d): tensor (...)."""
    return ops.sqrt(ops.sum(ops.square(first - second), axis=-1) + _EPSILON)


def distance_ratio(anchor: Any, positive: Any, negative: Any) -> Any:
    """Softmax of the distances to the positive and to the negative.

    Parameters
    ----------
    anchor, positive, negative : tensor (n, d)
        Features of the three patches of each triplet.

    Returns
    -------
    tensor (n, 2) in [0, 1], rows summing to 1
    """
    distances = [euclidean_distance(anchor, positive), euclidean_distance(anchor, negative)]
    return ops.softmax(ops.stack(distances, axis=-1), axis=-1)


def triplet_loss(anchor: Any, positive: Any, negative: Any) -> Any:
    """Mean absolute error of `distance_ratio` against `TARGET`: tensor scalar in [0, 1].

    After Hoffer and Ailon (2015), who square the error; the paper takes it absolute (section 2.8).
    """
    error = ops.abs(distance_ratio(anchor, positive, negative) - ops.convert_to_tensor(TARGET))
    return ops.mean(error)


@keras.saving.register_keras_serializable(package="metricad")
class DistanceRatio(keras.layers.Layer):
    """`distance_ratio` of flattened features as a layer: three (n, 1, 1, d) to (n, 2)."""

    def call(self, anchor: Any, positive: Any, negative: Any) -> Any:
        """Compare the three branches."""
        return distance_ratio(*(ops.squeeze(branch, axis=(1, 2)) for branch in (anchor, positive, negative)))
