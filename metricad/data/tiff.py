"""Decode TIFF: with tifffile alone where it can, else with Pillow's libtiff, else with imagecodecs."""

import contextlib
import ctypes
import io
import logging
import math
import re
import struct
import threading
import zlib
from dataclasses import replace

import numpy as np
import PIL.Image
import tifffile
from PIL import TiffImagePlugin

from metricad.data.picture import (
    ORIENTATION,
    DecodingLimits,
    Picture,
    UnreadableError,
    check_size,
    finished,
    from_cmyk,
    looked_up,
    two_bytes,
    without_bool,
)

# tifffile logs problems of a file, and prints them if there is no handler; they are raised as errors.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_ICC_PROFILE = 34675  # TIFF tag
_MOST_BYTES_PER_PIXEL = 8  # 16-bit RGBA, or one float64
_PLAIN, _DEFLATE = 1, (8, 32946)  # TIFF compressions that are decoded here
_LIBTIFF = (1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000)  # and those that Pillow decodes
_JPEG, _PACKBITS = 7, 32773
_GRAY_WHITE_IS_0, _GRAY, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6  # TIFF photometric
_COLORS = {
    4: "a transparency mask", 8: "CIE Lab colors", 9: "ICC Lab colors", 10: "ITU Lab colors",
    32803: "raw values of a sensor's color filter", 32844: "LogL values", 32845: "LogLuv values",
    34892: "raw values of a sensor", 51177: "a depth map",
}  # fmt: skip


_errors = threading.local()


@ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
def _note_error(module: bytes, text: bytes, values: int) -> None:
    """Note an error of libtiff, which would print it and might go on with what is left of the image."""
    _errors.text = text.decode("ascii", "replace")


# Pillow's library finds the function in the libtiff that it was linked to, if that is a library of its own.
with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL(PIL.Image.core.__file__).TIFFSetErrorHandler(_note_error)  # type: ignore[attr-defined]


class _Unlimited(TiffImagePlugin.TiffImageFile):
    """TIFF without Pillow's limit of pixels, which it checks again when it loads."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = PIL.Image.core.new(self.mode, self._tile_size)  # type: ignore[attr-defined]
        super().load_prepare()


def decode(content: bytes, page: int | None, limits: DecodingLimits) -> Picture:
    """Decode a page of a TIFF, from 1; see `decoding.decode`."""
    with tifffile.TiffFile(io.BytesIO(content), is_ome=False) as file:
        index, found = _chosen_page(file, page)
        check_size(found.imagewidth, found.imagelength, None, limits)
        _check_layout(found)
        _check_segments(found, content, limits)
        bits, photometric = found.bitspersample, found.photometric
        if _is_plain(found):
            levels = found.asarray(maxworkers=1)
            if levels.ndim == 3 and found.planarconfig == 2:
                levels = np.moveaxis(levels, 0, -1)
            levels = levels.astype(levels.dtype.newbyteorder("="), copy=False)
        elif _suits_pillow(found):
            return _by_libtiff(content, found, index)
        else:
            levels = _by_imagecodecs(found)
        orientation = _tag(found, ORIENTATION)
        profile = _tag(found, _ICC_PROFILE)
        table = found.colormap
    if bits < 8 and photometric != _PALETTE:
        levels = np.rint(levels * (255 / (2**bits - 1))).astype(np.uint8)
    alpha = None
    if levels.ndim == 3:
        colors = {_CMYK: 4, _RGB: 3, _YCBCR: 3}.get(photometric, 1)
        if levels.shape[2] > colors and found.extrasamples[0] in (1, 2):
            alpha = levels[..., colors]
        levels = levels[..., :colors] if colors > 1 else levels[..., 0]
    if photometric == _PALETTE:
        levels = _table(table)[levels]
    elif photometric == _CMYK:
        levels, profile = from_cmyk(PIL.Image.fromarray(levels, "CMYK"), profile), None
    elif photometric == _GRAY_WHITE_IS_0 and levels.dtype == np.uint8:
        levels = 255 - levels
    said = bits if levels.dtype.kind == "u" and 8 < bits < 8 * levels.dtype.itemsize else None
    return replace(
        finished(levels, alpha, orientation=orientation, profile=profile),
        bits=said,
        is_negative=photometric == _GRAY_WHITE_IS_0 and levels.dtype != np.uint8,
        is_lossy=found.compression == _JPEG,
    )


def _tag(page: tifffile.TiffPage, code: int) -> object:
    return page.tags[code].value if code in page.tags else None


def _chosen_page(file: tifffile.TiffFile, page: int | None) -> tuple[int, tifffile.TiffPage]:
    """Find the picture to read, and its number among all pages, thumbnails and masks included."""
    pictures: list[tuple[int, tifffile.TiffPage]] = []
    for index in range(2**16):
        try:
            found = file.pages[index]
        except IndexError:
            if not index or _next_page(file, file.pages[index - 1].offset):
                raise UnreadableError(
                    "not a readable image: a truncated TIFF, as a page is missing"
                ) from None
            break
        if isinstance(found, tifffile.TiffPage) and not int(found.subfiletype) & 5:
            pictures.append((index, found))
        if len(pictures) == (page or 2):
            break
    if not pictures:
        raise UnreadableError("holds thumbnails or masks only; expected an image at full size")
    if page is None and len(pictures) > 1:
        raise UnreadableError(
            "holds several pages; expected one image: save the pages one by one, or name one by --page"
        )
    said = re.match(r"ImageJ=.*^images=(\d+)", pictures[0][1].description, re.DOTALL | re.MULTILINE)
    if len(pictures) == 1 and said and int(said[1]) > 1:  # above 4 GB, ImageJ writes a single page's tags
        raise UnreadableError(f"holds {said[1]} images of ImageJ; expected one image: save them one by one")
    if page is not None and page > len(pictures):
        raise UnreadableError(f"holds {len(pictures)} page(s); received --page {page}")
    return pictures[(page or 1) - 1]


def _next_page(file: tifffile.TiffFile, offset: int) -> int:
    """Read the place of the page that follows the one at this place, 0 after the last."""
    layout = (("H", 2, 12, "I"), ("Q", 8, 20, "Q"))[file.is_bigtiff]
    count, head, entry, place = layout
    file.filehandle.seek(offset)
    number = struct.unpack(file.byteorder + count, file.filehandle.read(head))[0]
    file.filehandle.seek(offset + head + entry * number)
    return struct.unpack(file.byteorder + place, file.filehandle.read(struct.calcsize(place)))[0]


def _check_layout(page: tifffile.TiffPage) -> None:
    """Refuse what no picture of gray levels or colors is."""
    photometric, samples = page.photometric, page.samplesperpixel
    if photometric in _COLORS:
        raise UnreadableError(f"{_COLORS[photometric]}; expected gray or RGB: convert the image to RGB")
    if photometric not in (_GRAY_WHITE_IS_0, _GRAY, _RGB, _PALETTE, _CMYK, _YCBCR) or 262 not in page.tags:
        raise UnreadableError("a TIFF that does not say what its levels mean; expected gray or RGB")
    if page.imagedepth > 1:
        raise UnreadableError(f"a volume of {page.imagedepth} slices; expected one image")
    if not isinstance(page.compression, int) or not isinstance(page.predictor, int):
        raise UnreadableError("not a readable image: a damaged TIFF")
    if not isinstance(page.bitspersample, int) or page.dtype is None:
        raise UnreadableError("levels of several types; expected one type for all channels")
    colors = {_CMYK: 4, _RGB: 3, _YCBCR: 3}.get(photometric, 1)
    extra = tuple(map(int, page.extrasamples))
    # An extra channel of no stated meaning is left out by viewers. Beside gray it may be a picture.
    is_known = extra in ((), (1,), (2,)) or (extra == (0,) and colors == 3)
    if samples != colors + len(extra) or not is_known:
        raise UnreadableError(
            f"{samples} channels; expected one gray or color image: save the channels apart"
        )
    if page.predictor != 1 and page.compression in (_PLAIN, _PACKBITS):
        raise UnreadableError("a predictor without a compression that has one; save the image anew")
    if photometric == _CMYK and (page.bitspersample != 8 or _tag(page, 332) not in (None, 1)):
        raise UnreadableError("CMYK of more than 8 bits, or other inks; expected gray or RGB: convert to RGB")
    if photometric == _YCBCR and page.compression != _JPEG:
        raise UnreadableError("YCbCr colors without JPEG; expected gray or RGB: convert the image to RGB")
    if photometric == _GRAY_WHITE_IS_0 and page.dtype.kind == "f":
        raise UnreadableError("floats with white at 0; expected black at 0: save the image anew")


def _is_plain(page: tifffile.TiffPage) -> bool:
    """Whether tifffile decodes the page alone, without other libraries."""
    return (
        page.compression in (_PLAIN, *_DEFLATE)
        and page.predictor in (1, 2)
        and page.bitspersample in (8, 16, 32, 64)
        and page.fillorder == 1
    )


def _suits_pillow(page: tifffile.TiffPage) -> bool:
    """Whether Pillow decodes the page without loss."""
    if page.compression not in _LIBTIFF or page.predictor not in (1, 2):
        return False
    if page.dtype is None or page.dtype.kind not in "ub":
        return False
    bits, samples = page.bitspersample, page.samplesperpixel
    if page.fillorder != 1 and bits != 1 and page.compression != _JPEG:
        return False
    if bits == 16:
        # Pillow keeps one byte of 16-bit colors; both are read one after the other.
        return samples == 1 or (page.photometric == _RGB and samples in (3, 4) and page.planarconfig == 1)
    return bits in (1, 2, 4, 8) or (bits == 12 and samples == 1 and page.photometric == _GRAY)


def _by_libtiff(content: bytes, page: tifffile.TiffPage, index: int) -> Picture:
    """Decode a page with Pillow, which also looks up palettes and turns the image."""

    def opened() -> TiffImagePlugin.TiffImageFile:
        image = _Unlimited(io.BytesIO(content))
        image.seek(index)
        if {image.width, image.height} != {page.imagewidth, page.imagelength}:
            raise UnreadableError("not a readable image: a TIFF with contradictory sizes")
        return image

    _errors.text = None
    image = opened()
    mode, photometric = image.mode, page.photometric
    orientation = image.tag_v2.get(ORIENTATION, 1)
    profile = image.info.get("icc_profile")
    if page.bitspersample == 16 and page.samplesperpixel > 1:
        levels = two_bytes(opened, mode, order="LB")
    else:
        image.load()
        levels = looked_up(image) if mode == "P" else np.asarray(image)
    if _errors.text is not None:
        raise UnreadableError(f"not a readable image: a damaged TIFF ({_errors.text})")
    if mode == "CMYK":
        levels, profile = from_cmyk(image, profile), None
    levels = without_bool(levels)
    levels = levels.astype(levels.dtype.newbyteorder("="), copy=False)
    alpha = None
    if mode in ("LA", "La", "RGBA", "RGBa", "PA"):
        levels, alpha = levels[..., :-1], levels[..., -1]
    found = finished(levels, alpha, profile=profile)
    return replace(
        found,
        bits=12 if page.bitspersample == 12 else None,
        is_negative=photometric == _GRAY_WHITE_IS_0 and found.pixels.dtype != np.uint8,
        is_lossy=page.compression == _JPEG,
        is_turned=orientation in range(2, 9),
    )


def _by_imagecodecs(page: tifffile.TiffPage) -> np.ndarray:
    """Decode a page with tifffile and imagecodecs, which is optional."""
    try:
        import imagecodecs  # noqa: F401
    except ImportError as error:
        name = getattr(page.compression, "name", page.compression)
        raise UnreadableError(
            f"a TIFF of {page.bitspersample} bits, compression {name}, needs more codecs: install them with "
            "pip install 'metricad[codecs]', or save it without compression"
        ) from error
    levels = page.asarray(maxworkers=1)
    return np.moveaxis(levels, 0, -1) if levels.ndim == 3 and page.planarconfig == 2 else levels


def _check_segments(page: tifffile.TiffPage, content: bytes, limits: DecodingLimits) -> None:
    """Raise an error if strips or tiles are missing, or would take far more memory or time than the image."""
    each, count = math.prod(page.chunks), len(page.dataoffsets)
    # A tile may extend beyond the image on both sides.
    most = 4 * _MOST_BYTES_PER_PIXEL * min(limits.pixels, max(page.imagewidth * page.imagelength, 2**20))
    if count > limits.segments or count * each > most:
        raise UnreadableError("strips or tiles unlike any usual file's; save the image anew")
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if count < math.prod(page.chunked) or any(
        size <= 0 or start + size > len(content) for start, size in places
    ):
        raise UnreadableError("not a readable image: a truncated TIFF, or one without some strips or tiles")
    assert page.dtype is not None
    most_bytes = each * page.dtype.itemsize
    if (
        page.compression == _PLAIN
        and sum(size for _, size in places) * 8 < page.imagewidth * page.imagelength
    ):
        raise UnreadableError("not a readable image: a truncated TIFF")
    if page.compression not in _DEFLATE:
        return
    for start, length in places:
        # tifffile decompresses all data, whatever size the header states.
        if len(zlib.decompressobj().decompress(content[start : start + length], most_bytes + 1)) > most_bytes:
            raise UnreadableError(
                "a strip or tile inflates beyond its size; the file is damaged: save it anew"
            )


def _table(table: np.ndarray | None) -> np.ndarray:
    """Convert a TIFF's color table, 16-bit (3, n), to 8-bit (n, 3)."""
    if table is None:
        raise UnreadableError("a palette image without its palette; save it anew")
    # Some programs write 8-bit values.
    return (table >> 8 if table.max() > 255 else table).astype(np.uint8).T
