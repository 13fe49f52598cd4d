"""Line filter responses: feature maps that see long, faint lines and edges between textures.

A bank of elongated derivatives of Gaussians (as in Leung and Malik, 2001) over the texture's energy (filter,
rectify, filter: Malik and Perona, 1990), at several sizes of the image. A network's features see a place; a
scratch or a streak of another density shows by its length.
"""

import keras
import numpy as np
import tensorflow as tf

from metricad.networks.resampling import AtLeast, halved

SIZES = (2, 4, 8)
"""By how much the image is shrunk before the filters see its texture energy."""

DIRECTIONS = 8
"""Directions of each kind of filter, over half a turn."""

RADIUS = 7
"""Pixels from the middle of a filter to its edge."""

LENGTH = 5.0
"""Standard deviation of a filter along its line, in pixels of the shrunk image: what fits into the radius."""

STRIDE = 4
"""Pixels between responses, as between features, where the shrunk image's are not wider apart."""

_DARKEST = 1e-5  # energy, on the scale of light from -1 to 1, below which its logarithm says nothing


@keras.saving.register_keras_serializable("metricad")
class LineFilters(keras.layers.Layer):
    """Absolute responses of line filters to texture energy, a feature map for each size of the image."""

    def call(self, light: tf.Tensor) -> list[tf.Tensor]:
        """Filter images (N, H, W, 1) in [-1, 1]: maps (N, h, w, filters), 0 or more, one of each size."""
        found, shrunk = [], light
        for by in SIZES:
            found.append(_responses(_energy(shrunk), by))
            shrunk = halved(shrunk)
        return found

    def compute_output_shape(self, light_shape: tuple[int | None, ...]) -> list[tuple[int | None, ...]]:
        """Sizes are known only when an image comes."""
        return [(light_shape[0], None, None, 2 * DIRECTIONS)] * len(SIZES)


def names() -> list[str]:
    """What each feature map is called."""
    return [f"line filters, 1/{by}" for by in SIZES]


def places() -> list[tuple[float, int]]:
    """First center and stride, in pixels, of each feature map."""
    # Changes lie a quarter of a shrunk pixel right of and below the pixels that they start from.
    return [((by - 1) / 2 + by / 4 + RADIUS * by, max(by, STRIDE)) for by in SIZES]


def _responses(pixels: tf.Tensor, by: int) -> tf.Tensor:
    """Responses to pixels that are `by` of the image's apart."""
    pixels = AtLeast(2 * RADIUS + 1)(pixels)
    return tf.abs(tf.nn.conv2d(pixels, _FILTERS, max(STRIDE // by, 1), "VALID"))


def _energy(pixels: tf.Tensor) -> tf.Tensor:
    """Logarithm of the mean squared change of light down and to the right, half as large."""
    corner = pixels[:, :-1, :-1]
    change = tf.square(pixels[:, 1:, :-1] - corner) + tf.square(pixels[:, :-1, 1:] - corner)
    return tf.math.log(halved(change) + _DARKEST)


def _kernels(*, derivative: int, along: float, across: float = 1.0) -> np.ndarray:
    """First or second derivatives across a line, of norm 1 and without a mean: float32 (side, side, 1, n)."""
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    kernels = []
    for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        ahead = (x * np.cos(angle) + y * np.sin(angle)) / along
        aside = (y * np.cos(angle) - x * np.sin(angle)) / across
        kernel = np.exp(-0.5 * (ahead**2 + aside**2)) * (aside if derivative == 1 else aside**2 - 1)
        kernel -= kernel.mean()
        kernels.append(kernel / np.linalg.norm(kernel))
    return np.stack(kernels, axis=-1)[:, :, None].astype(np.float32)


# Lines, and edges, which are wide since energy is: one texture ends there and another begins.
_FILTERS = np.concatenate(
    [_kernels(derivative=2, along=LENGTH), _kernels(derivative=1, along=2 * LENGTH, across=2)], axis=-1
)
