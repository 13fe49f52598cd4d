"""Mahalanobis distances in TensorFlow: the features of each image scale are whitened on their own grid.

The same numbers as `prototype.GaussianPrototype.distance` but for the last bits, and sooner: a coarse feature
is whitened once, not once for each place of the finest grid that it is the nearest to, and nothing leaves
TensorFlow but one number a place.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from metricad.networks import factory as architectures

Nearest = Callable[[list[tf.Tensor]], tf.Tensor]
"""Brings the first of two maps onto the grid of the second."""


def whitened(
    scales: Sequence[tf.Tensor], means: np.ndarray | tf.Tensor, matrices: np.ndarray | tf.Tensor
) -> list[tf.Tensor]:
    """Features of each scale in coordinates in which good ones have the scale's weight as variance.

    Parameters
    ----------
    scales : sequence of float32 (N, h, w, d)
        Features, each scale on a grid of its own.
    means : float32 (scales, d)
    matrices : float32 (scales, d, d)
        As `GaussianPrototype.whitening` gives them.

    Returns
    -------
    list of float32 (N, h, w, d)
    """
    # As a convolution, a matrix leaves features in the layout that a runtime gives to convolutions. The mean
    # goes first: where good features never vary, matrices are so large that nothing would cancel after them.
    return [
        tf.nn.conv2d(features - means[number], matrices[number, None, None], 1, "VALID")
        for number, features in enumerate(scales)
    ]


def distances(
    scales: Sequence[tf.Tensor],
    nearest: Sequence[Nearest],
    means: np.ndarray | tf.Tensor,
    matrices: np.ndarray | tf.Tensor,
) -> tf.Tensor:
    """Distances float32 (N, h', w') on the grid of the first scale, as yet not levelled at the border."""
    squares = [
        tf.reduce_sum(tf.square(white), axis=-1, keepdims=True) for white in whitened(scales, means, matrices)
    ]
    return tf.squeeze(tf.sqrt(tf.add_n(on_one_grid(squares, nearest))), -1)


def on_one_grid(scales: Sequence[tf.Tensor], nearest: Sequence[Nearest]) -> list[tf.Tensor]:
    """Bring the maps of all scales onto the grid of the first."""
    first, *others = scales
    return [first, *(bring([other, first]) for other, bring in zip(others, nearest, strict=True))]


def compiled(model: keras.Model) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Compile a network and the distance behind it to one function.

    One trace serves every image size and every prototype of as many scales as the network has.

    Returns
    -------
    function
        Of an image float32 (H, W) in [-1, 1], means (scales, d) and matrices (scales, d, d), float32; gives
        float32 (h', w'). Raises ValueError for an image that is too small.
    """
    network, nearest = architectures.by_scale(model)
    count = len(nearest) + 1
    signature = [
        tf.TensorSpec(shape, tf.float32) for shape in ((1, None, None, 1), (count, None), (count, None, None))
    ]
    graph = tf.function(
        lambda pixels, means, matrices: distances(network(pixels), nearest, means, matrices),
        input_signature=signature,
        autograph=False,
    )
    check = architectures.grid(model).check

    def distance(image: np.ndarray, means: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        check(image.shape)
        return graph(image[np.newaxis, :, :, np.newaxis], means, matrices).numpy()[0]

    distance.trace_count = graph.experimental_get_tracing_count
    return distance
