"""Decode an image sent by a client: from bytes in memory to the same array as `images.read`.

Size and format are read from the header and checked before decoding, because a few kilobytes can claim to be
a gigapixel image. Nothing is written to disk. Unlike `images.read`, these functions do not change warning
filters, so several threads can use them at once.
"""

import io
import math
import zlib

import numpy as np
import PIL.Image
import tifffile

from metricad.data import images
from metricad.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
"""Accepted formats, by Pillow's names; PPM includes PGM."""

MEDIA_TYPES = (
    "image/png",
    "image/jpeg",
    "image/bmp",
    "image/tiff",
    "image/webp",
    "image/x-portable-graymap",
    "image/x-portable-pixmap",
)
"""Media types of these formats. The declared type is not checked further; the content decides."""

MOST_PIXELS = 8_000_000
"""Default limit of pixels in an image."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_COMPRESSIONS = {1: "none", 8: "deflate", 32946: "deflate"}  # decoded size can be checked
_MOST_SEGMENTS = 65_536  # strips or tiles: each takes time, even a small one
_MOST_BYTES_PER_PIXEL = 8  # 16-bit RGBA, or one float64
_MOST_SCANS = 64  # scans of a progressive JPEG, which has about ten; each decodes the whole image again
_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B", "I"}


class TooManyPixelsError(DataError):
    """The image has more pixels than the limit."""


class UnreadableError(DataError):
    """The content is no image, is damaged, or is of an unsupported kind."""


def decode(
    content: bytes, *, smallest: int = 1, most_pixels: int = MOST_PIXELS, color: bool = False
) -> np.ndarray:
    """Decode an image file in memory, as luminance unless color is asked for.

    Parameters
    ----------
    content : bytes
        A whole file of one of `FORMATS` with one image. The content tells the format.
    smallest : int
        Smallest allowed height and width, in pixels.
    most_pixels : int
        Largest product of height and width; checked before decoding.
    color : bool
        Keep the three channels of color images.

    Returns
    -------
    float32 (H, W), or (H, W, 3) for a color image if `color` is true, in [-1, 1]
        Equal to the result of `images.read` for a file with this content and the right suffix.

    Raises
    ------
    TooManyPixelsError
        The image is larger than `most_pixels`.
    UnreadableError
        The image cannot be decoded, has several frames, or has an unusual color space or compression.
    DataError
        The image is too small, or holds values that are no brightness.
    """
    is_tiff = content.startswith(_TIFF_MAGIC)
    try:
        pixels = (_decode_tiff if is_tiff else _decode_other)(content, most_pixels)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # each format's decoder raises its own types of error
        raise UnreadableError(
            f"not a readable image: damaged, truncated, or of another kind; expected {', '.join(FORMATS)}"
        ) from error
    return images.to_image(pixels, minimum_size=smallest, color=color)


def _decode_other(content: bytes, most_pixels: int) -> np.ndarray:
    """Decode all formats except TIFF to pixels (H, W) or (H, W, channels), as imageio does with Pillow."""
    try:
        others = [name for name in FORMATS if name != "TIFF"]
        image: PIL.Image.Image = PIL.Image.open(io.BytesIO(content), formats=others)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError(f"too many pixels; expected {most_pixels} at most") from error
    with image:
        _check_pixels(image.width, image.height, most_pixels)
        # An MPO file of a camera is a JPEG followed by more pictures; `images.read` also takes the first.
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
            raise UnreadableError("holds several frames; expected one image: send the frames one by one")
        if image.mode not in _MODES:
            raise UnreadableError(f"color mode {image.mode}; expected gray or RGB: convert the image to RGB")
        # Image data of a JPEG cannot contain this marker: there 0xFF is followed by 0 or a restart number.
        if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > _MOST_SCANS:
            raise UnreadableError(f"more than {_MOST_SCANS} scans; expected an ordinary JPEG: save it anew")
        if image.mode == "P":
            assert image.palette is not None
            image = image.convert(image.palette.mode)
        elif image.format == "PNG" and image.mode == "I":
            image = image.convert("I;16")
        return np.array(image)


def _decode_tiff(content: bytes, most_pixels: int) -> np.ndarray:
    """Decode a TIFF with one page to pixels (H, W) or (H, W, channels), as tifffile does."""
    with tifffile.TiffFile(io.BytesIO(content), is_ome=False) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        if _has_another_page(file):
            raise UnreadableError("holds several pages; expected one image: send the pages one by one")
        _check_pixels(page.imagewidth, page.imagelength, most_pixels)
        if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
            raise UnreadableError("color mode CMYK; expected gray or RGB: convert the image to RGB")
        if page.nbytes > _MOST_BYTES_PER_PIXEL * page.imagewidth * page.imagelength:
            raise UnreadableError(f"an array of shape {page.shape}; expected one gray or color image")
        if page.compression not in _TIFF_COMPRESSIONS:
            raise UnreadableError(
                f"TIFF compression {page.compression}; expected none or deflate: save the image anew"
            )
        _check_segments(page, content, most_pixels)
        pixels = page.asarray(maxworkers=1)
    # As scikit-image does: channels stored plane by plane are moved to the last axis.
    if pixels.ndim == 3 and pixels.shape[-1] not in (3, 4) and pixels.shape[0] in (3, 4):
        pixels = np.moveaxis(pixels, 0, -1)
    return pixels


def _has_another_page(file: tifffile.TiffFile) -> bool:
    try:
        file.pages[1]
    except IndexError:
        return False
    return True


def _check_segments(page: tifffile.TiffPage, content: bytes, most_pixels: int) -> None:
    """Raise an error if strips or tiles would take much more memory or time than the image."""
    each = math.prod(page.chunks)
    count = len(page.dataoffsets)
    # A tile may extend beyond the image on both sides.
    if count > _MOST_SEGMENTS or count * each > 4 * _MOST_BYTES_PER_PIXEL * most_pixels:
        raise UnreadableError("strips or tiles unlike any usual file's; save the image anew")
    if _TIFF_COMPRESSIONS[page.compression] == "none":
        return
    assert page.dtype is not None
    most_bytes = each * page.dtype.itemsize
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        # tifffile decompresses all data, whatever size the header states.
        if len(zlib.decompressobj().decompress(content[start : start + length], most_bytes + 1)) > most_bytes:
            raise UnreadableError(
                "a strip or tile inflates beyond its size; the file is damaged: save it anew"
            )


def _check_pixels(width: int, height: int, most_pixels: int) -> None:
    if width * height > most_pixels:
        raise TooManyPixelsError(
            f"{height}×{width} pixels are {width * height}; expected {most_pixels} at most: send a smaller "
            "image or a part of it"
        )
