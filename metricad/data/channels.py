"""Color channels of images: luminance, color or gray."""

from collections.abc import Iterable

import numpy as np

from metricad.errors import DataError

LUMINANCE = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue in the luminance (ITU-R BT.709), as in scikit-image."""


def to_luminance(image: np.ndarray) -> np.ndarray:
    """Convert an image (H, W) or (H, W, 3) to its luminance, float32 (H, W), in the same range."""
    return image if image.ndim == 2 else image @ np.array(LUMINANCE, np.float32)


def is_colored(image: np.ndarray) -> bool:
    """Whether an image has three channels that differ at any pixel (R = G = B counts as gray)."""
    return image.ndim == 3 and bool(np.any(image != image[..., :1]))


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Convert an image to the channels that an inspector was fitted to: float32 (H, W, channels).

    Parameters
    ----------
    image : float32 (H, W) or (H, W, 3) in [-1, 1]
    channels : {1, 3}
        For 1 a color image is converted to its luminance.

    Raises
    ------
    DataError
        The image is gray and the inspector was fitted to color.
    """
    if channels == 1:
        return to_luminance(image)[..., np.newaxis]
    if image.ndim == 2:
        raise DataError(
            "expected a color image, received a gray one: the inspector was fitted to color images; give "
            "color images, or fit it again with --gray"
        )
    return image


def channels_of(images: Iterable[np.ndarray]) -> int:
    """Return the number of channels to fit a part with: 3 if any good image has color, else 1."""
    return 3 if any(is_colored(image) for image in images) else 1
