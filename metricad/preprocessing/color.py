"""Layers that convert color images to luminance and opponent channels."""

import keras
import tensorflow as tf

from metricad.data.channels import LUMINANCE


@keras.saving.register_keras_serializable("metricad")
class Luminance(keras.layers.Layer):
    """Layer that converts images (N, H, W, 1 or 3) in [-1, 1] to luminance (N, H, W, 1)."""

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Compute the weighted sum of the channels; return gray images unchanged."""
        if pixels.shape[-1] == 1:
            return pixels
        red, green, blue = (weight * pixels[..., k : k + 1] for k, weight in enumerate(LUMINANCE))
        return red + green + blue  # slices, because a convolution of three channels is ten times slower

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: one channel."""
        return (*pixels_shape[:3], 1)


@keras.saving.register_keras_serializable("metricad")
class Opponents(keras.layers.Layer):
    """Layer that converts images (N, H, W, 3) to channels (N, H, W, 2): R − G and B − (R + G) / 2."""

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Compute both channels; they are 0 for gray of any brightness."""
        red, green, blue = (pixels[..., k : k + 1] for k in range(3))
        return tf.concat([red - green, blue - 0.5 * (red + green)], axis=-1)

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: two channels."""
        return (*pixels_shape[:3], 2)
