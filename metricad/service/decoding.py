"""Images sent by clients: their media types, and the limits under which they are decoded."""

import numpy as np

from metricad.data import decoding, images
from metricad.data.levels import Levels
from metricad.data.picture import DecodingLimits

MEDIA_TYPES = (
    "image/png",
    "image/jpeg",
    "image/bmp",
    "image/tiff",
    "image/webp",
    "image/x-portable-graymap",
    "image/x-portable-pixmap",
)
"""Media types of `decoding.FORMATS`. The declared type is not checked further; the content decides."""

MOST_PIXELS = 8_000_000
"""Default limit of pixels in an image."""

_MOST_SEGMENTS = 65_536


def decode(
    content: bytes,
    *,
    smallest: int = 1,
    most_pixels: int = MOST_PIXELS,
    color: bool = False,
    levels: Levels | None = None,
) -> np.ndarray:
    """Decode an image file in memory, to what `images.read` gives for a file of this content.

    Parameters
    ----------
    content : bytes
        A whole file with one image. The content tells the format.
    smallest : int
        Smallest allowed height and width, in pixels.
    most_pixels : int
        Largest product of height and width; checked before decoding.
    color, levels
        As in `images.read`.

    Raises
    ------
    TooManyPixelsError
        The image is larger than `most_pixels`.
    UnreadableError
        The image cannot be decoded, has several frames, or has an unusual color space or compression.
    DataError
        The image is too small, or its levels do not fit.
    """
    limits = DecodingLimits(pixels=most_pixels, segments=_MOST_SEGMENTS)
    picture = decoding.decode(content, limits=limits)
    return images.to_image(picture, minimum_size=smallest, color=color, levels=levels)
