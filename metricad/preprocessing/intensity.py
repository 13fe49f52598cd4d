"""The intensity transform: gray levels as they are, or their logarithm.

Light multiplies: where twice as much falls on a surface, its texture varies twice as much. The logarithm
undoes this (Bartlett, 1947; Box and Cox, 1964). Good images tell whether a part needs it: the standard
deviation goes with the b-th power of the mean (Taylor's power law), and b is the slope of the logarithm of
the local deviation over that of the local mean.
"""

from collections.abc import Iterable
from typing import Self

import keras
import numpy as np
import tensorflow as tf

LINEAR, LOGARITHMIC = "linear", "logarithmic"

IMAGES = 32
"""Good images by which the transform is chosen, at most."""

SIDE = 8
"""Side, in pixels, of the squares over which means and deviations are taken: a texture's grain fits in."""

DARK = 0.05
"""Added to light from 0 to 1 before its logarithm: below it a camera sees mostly its own noise."""

FLAT = 1e-3
"""Standard deviation of light, a quarter of an 8-bit level, below which a square says nothing."""


@keras.saving.register_keras_serializable("metricad")
class IntensityTransform(keras.layers.Layer):
    """A curve from [-1, 1] to [-1, 1], applied to each pixel.

    Parameters
    ----------
    curve : {"linear", "logarithmic"}
        `adapt` chooses it.
    """

    def __init__(self, curve: str = LINEAR, **named: object) -> None:
        super().__init__(**named)
        if curve not in (LINEAR, LOGARITHMIC):
            raise ValueError(f"curve must be {LINEAR} or {LOGARITHMIC}, received {curve!r}")
        self.curve = curve

    def adapt(self, images: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> Self:
        """Take the logarithm where the contrast of good images grows with their brightness.

        Parameters
        ----------
        images : iterable of (float32 (H, W) in [-1, 1], bool (H, W) or None)
            Good images, and which of their pixels to look at; None for all.
        """
        squares = [_squares(image, inside) for image, inside in images]
        means, deviations = (np.concatenate(each) for each in zip(*squares, strict=True))
        seen = (deviations > FLAT) & (means > DARK)
        means, deviations = np.log(means[seen]), np.log(deviations[seen])
        self.curve = LINEAR
        if len(means):
            common = np.mean((means - means.mean()) * deviations)
            self.curve = LOGARITHMIC if common > means.var() / 2 else LINEAR  # b nearer to 1 than to 0
        return self

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Of pixels in [-1, 1], of any shape."""
        if self.curve == LINEAR:
            return pixels
        low, high = np.log([DARK, 1 + DARK]).astype(np.float32)
        return (tf.math.log((pixels + 1.0) / 2.0 + DARK) - low) * (2 / (high - low)) - 1.0

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The same."""
        return pixels_shape

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "curve": self.curve}


def _squares(image: np.ndarray, inside: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the light in each square of an image that lies inside: float64 (n,)."""
    light = _cut((image.astype(np.float64) + 1) / 2)
    if inside is not None:
        light = light[_cut(inside).all(axis=1)]
    return light.mean(axis=1), light.std(axis=1)


def _cut(image: np.ndarray) -> np.ndarray:
    """Pixels of each whole square: (n, SIDE²)."""
    rows, columns = (side // SIDE for side in image.shape)
    squares = image[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    return squares.swapaxes(1, 2).reshape(rows * columns, SIDE**2)
