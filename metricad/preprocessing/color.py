"""Layers that turn color images into luminance and opponent channels."""

import keras
import tensorflow as tf

from metricad.data.channels import LUMINANCE


@keras.saving.register_keras_serializable("metricad")
class Luminance(keras.layers.Layer):
    """Luminance (N, H, W, 1) of images (N, H, W, 1 or 3) in [-1, 1]."""

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Weight the channels; a gray image stays as it is."""
        if pixels.shape[-1] == 1:
            return pixels
        red, green, blue = (weight * pixels[..., k : k + 1] for k, weight in enumerate(LUMINANCE))
        return red + green + blue  # as slices: a convolution of three channels takes ten times as long

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """One channel."""
        return (*pixels_shape[:3], 1)


@keras.saving.register_keras_serializable("metricad")
class Opponents(keras.layers.Layer):
    """Opponent color channels (N, H, W, 2) of images (N, H, W, 3): R − G and B − (R + G) / 2."""

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Weight the channels; both are 0 for gray, whatever its brightness."""
        red, green, blue = (pixels[..., k : k + 1] for k in range(pixels.shape[-1]))
        return tf.concat([red - green, blue - (red + green) / 2.0], axis=-1)

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Two channels."""
        return (*pixels_shape[:3], 2)
