"""Line filters: feature maps for long, faint lines and for edges between textures.

The filters are elongated derivatives of Gaussians (as in Leung and Malik, 2001). They are applied to the
energy of the texture (filter, rectify, filter: Malik and Perona, 1990), at several image sizes. Features of a
network see one place only. A scratch or a streak of another density is visible by its length.
"""

import keras
import numpy as np
import tensorflow as tf

from metricad.networks.resampling import AtLeast, halved

SIZES = (2, 4, 8)
"""Factors by which the image is shrunk; the filters are applied to the texture energy at each size."""

DIRECTIONS = 8
"""Number of directions of each kind of filter, over half a turn."""

RADIUS = 7
"""Distance from the center of a filter to its edge, in pixels of the shrunk image."""

LENGTH = 5.0
"""Standard deviation of a filter along its line, in pixels of the shrunk image: fits the radius."""

STRIDE = 4
"""Distance between responses in pixels, the same as between features; more where a shrunk pixel is larger."""

_DARKEST = 1e-5  # smallest energy that is used, for light from -1 to 1: below it the logarithm is noise


@keras.saving.register_keras_serializable("metricad")
class LineFilters(keras.layers.Layer):
    """Layer that computes absolute responses of line filters to texture energy: one map per image size."""

    def call(self, light: tf.Tensor) -> list[tf.Tensor]:
        """Filter images (N, H, W, 1) in [-1, 1]; return maps (N, h, w, filters), 0 or more, one per size."""
        found, shrunk = [], light
        for by in SIZES:
            found.append(_responses(_energy(shrunk), by))
            shrunk = halved(shrunk)
        return found

    def compute_output_shape(self, light_shape: tuple[int | None, ...]) -> list[tuple[int | None, ...]]:
        """Return the shapes; height and width are unknown until an image is given."""
        return [(light_shape[0], None, None, 2 * DIRECTIONS)] * len(SIZES)


def names() -> list[str]:
    """Return the name of each feature map."""
    return [f"line filters, 1/{by}" for by in SIZES]


def places() -> list[tuple[float, int]]:
    """Return first center and stride, in pixels, of each feature map."""
    # Energy is computed from pixels and their right and lower neighbors: 1/4 of a shrunk pixel to the right
    # and down.
    return [((by - 1) / 2 + by / 4 + RADIUS * by, max(by, STRIDE)) for by in SIZES]


def _responses(pixels: tf.Tensor, by: int) -> tf.Tensor:
    """Compute responses to an image that was shrunk by the factor `by`."""
    pixels = AtLeast(2 * RADIUS + 1)(pixels)
    return tf.abs(tf.nn.conv2d(pixels, _FILTERS, max(STRIDE // by, 1), "VALID"))


def _energy(pixels: tf.Tensor) -> tf.Tensor:
    """Compute the logarithm of the mean squared change to the right and down, at half the size."""
    corner = pixels[:, :-1, :-1]
    change = tf.square(pixels[:, 1:, :-1] - corner) + tf.square(pixels[:, :-1, 1:] - corner)
    return tf.math.log(halved(change) + _DARKEST)


def _kernels(*, derivative: int, along: float, across: float = 1.0) -> np.ndarray:
    """Make first or second derivatives across a line, with norm 1 and mean 0: float32 (side, side, 1, n)."""
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    kernels = []
    for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        ahead = (x * np.cos(angle) + y * np.sin(angle)) / along
        aside = (y * np.cos(angle) - x * np.sin(angle)) / across
        kernel = np.exp(-0.5 * (ahead**2 + aside**2)) * (aside if derivative == 1 else aside**2 - 1)
        kernel -= kernel.mean()
        kernels.append(kernel / np.linalg.norm(kernel))
    return np.stack(kernels, axis=-1)[:, :, None].astype(np.float32)


# Filters for lines, and for edges where one texture ends and another begins. The edge filters are wide
# because the energy is smooth.
_FILTERS = np.concatenate(
    [_kernels(derivative=2, along=LENGTH), _kernels(derivative=1, along=2 * LENGTH, across=2)], axis=-1
)
