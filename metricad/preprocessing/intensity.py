"""The intensity transform: gray levels unchanged, or their logarithm.

Illumination is multiplicative: where a surface gets twice as much light, its texture varies twice as much.
The logarithm removes this effect (Bartlett, 1947; Box and Cox, 1964). Good images tell whether a part needs
it. The standard deviation is proportional to the b-th power of the mean (Taylor's power law). Here b is the
slope of the logarithm of the local standard deviation over that of the local mean.
"""

from collections.abc import Iterable, Sequence
from typing import Self

import keras
import numpy as np
import tensorflow as tf

LINEAR, LOGARITHMIC = "linear", "logarithmic"

IMAGES = 32
"""Largest number of good images used to choose the transform."""

SIDE = 8
"""Side, in pixels, of the squares for local mean and deviation: larger than the grain of a texture."""

DARK = 0.05
"""Offset added to light in [0, 1] before the logarithm: below it a camera shows mostly its own noise."""

FLAT = 1e-3
"""Smallest standard deviation of light in a square that is used: a quarter of an 8-bit level."""


@keras.saving.register_keras_serializable("metricad")
class IntensityTransform(keras.layers.Layer):
    """Layer that applies a curve from [-1, 1] to [-1, 1] to each pixel.

    Parameters
    ----------
    curve : {"linear", "logarithmic"}
        Curve; chosen by `adapt`.
    """

    def __init__(self, curve: str = LINEAR, **named: object) -> None:
        super().__init__(**named)
        if curve not in (LINEAR, LOGARITHMIC):
            raise ValueError(f"curve must be {LINEAR} or {LOGARITHMIC}, received {curve!r}")
        self.curve = curve

    def adapt(self, images: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> Self:
        """Choose the logarithm if the contrast of good images grows with their brightness.

        Parameters
        ----------
        images : iterable of (float32 (H, W) in [-1, 1], bool (H, W) or None)
            Good images, and the mask of pixels to use; None for all.
        """
        return self.fit([squares(image, inside) for image, inside in images])

    def fit(self, squares: Sequence[tuple[np.ndarray, np.ndarray]]) -> Self:
        """Choose the curve from what `squares` returned for each good image."""
        means, deviations = (np.concatenate(each) for each in zip(*squares, strict=True))
        seen = (deviations > FLAT) & (means > DARK)
        means, deviations = np.log(means[seen]), np.log(deviations[seen])
        self.curve = LINEAR
        if len(means):
            common = np.mean((means - means.mean()) * deviations)
            self.curve = LOGARITHMIC if common > means.var() / 2 else LINEAR  # b nearer to 1 than to 0
        return self

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Transform pixels in [-1, 1], of any shape."""
        if self.curve == LINEAR:
            return pixels
        low, high = np.log([DARK, 1 + DARK]).astype(np.float32)
        return (tf.math.log((pixels + 1.0) / 2.0 + DARK) - low) * (2 / (high - low)) - 1.0

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input shape."""
        return pixels_shape

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "curve": self.curve}


def squares(image: np.ndarray, inside: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and standard deviation of light in each square that lies inside the mask: float64 (n,)."""
    light = _cut((image.astype(np.float64) + 1) / 2)
    if inside is not None:
        light = light[_cut(inside).all(axis=1)]
    return light.mean(axis=1), light.std(axis=1)


def _cut(image: np.ndarray) -> np.ndarray:
    """Cut an image into whole squares: (n, SIDE²)."""
    rows, columns = (side // SIDE for side in image.shape)
    squares = image[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    return squares.swapaxes(1, 2).reshape(rows * columns, SIDE**2)
