"""Which channels of an image are inspected: luminance alone, or two opponent color channels beside it."""

from collections.abc import Iterable

import numpy as np

from metricad.errors import DataError

LUMINANCE = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue in the luminance (ITU-R BT.709), as scikit-image has them."""


def to_luminance(image: np.ndarray) -> np.ndarray:
    """Turn an image (H, W) or (H, W, 3) into its luminance, float32 (H, W), in the same range."""
    return image if image.ndim == 2 else image @ np.array(LUMINANCE, np.float32)


def is_colored(image: np.ndarray) -> bool:
    """Whether an image has three channels that differ anywhere (R = G = B counts as gray)."""
    return image.ndim == 3 and bool(np.any(image != image[..., :1]))


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Bring an image to the channels that an inspector was fitted to: float32 (H, W, channels).

    Parameters
    ----------
    image : float32 (H, W) or (H, W, 3) in [-1, 1]
    channels : {1, 3}
        A gray inspector sees the luminance of a color image.

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
    """Channels to fit a part with: 3 where any of its good images is colored, else 1."""
    return 3 if any(is_colored(image) for image in images) else 1
