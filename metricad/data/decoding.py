"""Decode an image file in memory to its levels, as a viewer shows it, or refuse it for the true reason.

This is the only decoder: `images.read` and the HTTP service use it, so both see the same pixels. The content
tells the format, not the name. Size and layout are read from the header and checked before decoding, because
a few kilobytes can claim to be a gigapixel image. Nothing is written to disk and no global state is changed,
so several threads can decode at once.

What is shown
-------------
- Palettes are looked up, min-is-white is turned round, CMYK and YCCK become RGB.
- A color profile that is not sRGB is applied to 8-bit colors. Profiles of gray images are not applied: they
  would bend the levels that a camera measured. PNG's gAMA is not applied either.
- EXIF and TIFF orientation are applied.
- Alpha that is opaque everywhere is dropped. `Picture.alpha` holds any other.
- Of a TIFF, pages marked as reduced in size (thumbnails) or as masks do not count as pictures.
"""

import io
import math
import re
import struct
import zlib
from collections.abc import Callable

import numpy as np
import PIL.Image
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from metricad.data.picture import (
    DecodingLimits,
    Picture,
    TooManyPixelsError,
    UnreadableError,
    check_size,
    finished,
    from_cmyk,
    loaded,
    looked_up,
    two_bytes,
    without_bool,
)
from metricad.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
"""Accepted formats; PPM includes PGM and PBM."""

_OTHERS = (
    (rb"GIF8[79]a", "a GIF"),
    (rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51", "a JPEG 2000"),
    (rb"....ftyp(?:hei|hev|mif1|msf1)", "a HEIC"),
    (rb"....ftypavi[fs]", "an AVIF"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL"),
    (rb"8BPS", "a Photoshop"),
    (rb"%PDF", "a PDF"),
    (rb"\x89HDF", "an HDF5"),
    (rb".{128}DICM", "a DICOM"),
    (rb"<\?xml|<svg", "an SVG or XML"),
    (rb"P7\s", "a PAM"),
    (rb"P[Ff]\s", "a PFM"),
    (rb"v/1\x01", "an OpenEXR"),
    (rb"\x93NUMPY", "a NumPy"),
    (rb"\xff\xd8\xff\xf7", "a JPEG-LS"),
)  # fmt: skip


def decode(content: bytes, *, page: int | None = None, limits: DecodingLimits | None = None) -> Picture:
    """Decode an image file in memory.

    Parameters
    ----------
    content : bytes
        A whole file of one of `FORMATS`. The content tells the format.
    page : int, optional
        Page of a TIFF to read, from 1. The default is the only one.
    limits : DecodingLimits, optional
        The default is that for files on disk.

    Raises
    ------
    TooManyPixelsError
        The image is larger than the limit.
    UnreadableError
        The image cannot be decoded, has several pages or frames and no page was asked for, or has colors or a
        compression that are not supported.
    """
    limits = limits or DecodingLimits()
    reader = _reader(content)
    try:
        if reader is _tiff:
            return _tiff(content, page, limits)
        if page not in (None, 1):
            raise UnreadableError(f"holds one picture; received page {page}: only TIFF has pages here")
        return reader(content, limits)
    except (DataError, ImportError):
        raise
    except MemoryError as error:
        raise TooManyPixelsError("too large for this machine's memory; give a smaller image") from error
    except PIL.Image.DecompressionBombError as error:  # of a WEBP, by Pillow
        raise TooManyPixelsError("more than 178 million pixels in a WEBP; save it as PNG or TIFF") from error
    except Exception as error:  # each format's decoder raises its own types of error
        raise UnreadableError(f"not a readable image: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())[:100]
    is_kind = re.search(r"support|unknown|cannot handle|requires|implement", words, re.IGNORECASE)
    said = "damaged, or of a kind that is not supported" if is_kind else "damaged or truncated"
    return f"{said} ({words})" if words else said


def _reader(content: bytes) -> Callable[..., Picture]:
    """Choose the function that reads a format by its first bytes."""
    for magic, reader in _READERS:
        if re.match(magic, content, re.DOTALL):
            return reader
    for magic, name in _OTHERS:
        if re.match(magic, content, re.DOTALL):
            raise UnreadableError(
                f"{name} file; expected {', '.join(FORMATS)}: save the image as one of these"
            )
    raise UnreadableError(
        f"not a readable image: {'damaged, or of another kind' if content else 'an empty file'}; "
        f"expected {', '.join(FORMATS)}"
    )


def _png(content: bytes, limits: DecodingLimits) -> Picture:
    chunks = _checked_chunks(content, limits)
    width, height, depth, color = struct.unpack_from(">IIBB", content, 16)
    check_size(width, height, content, limits)
    if b"acTL" in chunks and struct.unpack_from(">I", content, chunks[b"acTL"])[0] > 1:
        raise UnreadableError("holds several frames; expected one image: save the frames one by one")
    image = PngImagePlugin.PngImageFile(io.BytesIO(content))
    if depth == 16 and color == 4:  # gray and alpha, two bytes each: raw bytes by way of RGBA
        both = np.asarray(loaded(image, "RGBA")).view(">u2").astype(np.uint16)
        return finished(both[..., 0], both[..., 1], image=image)
    if depth == 16 and color in (2, 6):
        levels = two_bytes(lambda: PngImagePlugin.PngImageFile(io.BytesIO(content)), image.mode)
    elif image.mode == "P":
        levels = looked_up(image)
    else:
        levels = np.asarray(image)
    levels = without_bool(levels)
    alpha = None
    if levels.ndim == 3 and levels.shape[2] in (2, 4):
        levels, alpha = levels[..., :-1], levels[..., -1]
    elif isinstance(key := image.info.get("transparency"), int | tuple) and color in (0, 2):
        # One level or color is transparent. Pillow stretches levels of less than 8 bits.
        key = np.array(key) * (255 // (2**depth - 1) if depth < 8 else 1)
        clear = (levels == key) if levels.ndim == 2 else (levels == key).all(axis=-1)
        alpha = np.where(clear, 0, np.iinfo(levels.dtype).max).astype(levels.dtype)
    return finished(levels, alpha, image=image)


def _checked_chunks(content: bytes, limits: DecodingLimits) -> dict[bytes, int]:
    """Check the checksums of a PNG's critical chunks; return where the data of each kind begin.

    Pillow does not check those of the pixels.
    """
    found: dict[bytes, int] = {}
    at, whole = 8, memoryview(content)
    for _ in range(limits.segments):
        if at + 8 > len(content):
            break
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if not kind[0] & 0x20:  # in upper case: needed for the picture
            if end > len(content):
                raise UnreadableError("not a readable image: a truncated PNG")
            if zlib.crc32(whole[at + 4 : end - 4]) != struct.unpack_from(">I", content, end - 4)[0]:
                raise UnreadableError("not a readable image: damaged, as a checksum is wrong; copy it anew")
        found.setdefault(kind, at + 8)
        if kind == b"IEND":
            return found
        at = end
    if b"IDAT" in found and at >= len(content):
        return found  # without its end, but the pixels are there
    raise UnreadableError("not a readable image: a truncated PNG, or one of too many chunks")


def _jpeg(content: bytes, limits: DecodingLimits) -> Picture:
    # Image data of a JPEG cannot contain this marker: there 0xFF is followed by 0 or a restart number.
    if content.count(b"\xff\xda") > limits.scans:
        raise UnreadableError(f"more than {limits.scans} scans; expected an ordinary JPEG: save it anew")
    try:
        # The pictures that follow the first in an MPO file of a camera are other views of it.
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(content))
    except SyntaxError as error:
        if found := re.search(r"(\d+)-bit", str(error)):
            raise UnreadableError(f"a JPEG of {found[1]} bits; expected 8: save it as TIFF or PNG") from error
        raise
    check_size(*image.size, content, limits)
    image.load()
    if image.mode == "CMYK":
        return finished(from_cmyk(image), image=image, is_lossy=True, profile=None)
    return finished(np.asarray(image), image=image, is_lossy=True)


def _bmp(content: bytes, limits: DecodingLimits) -> Picture:
    image = BmpImagePlugin.BmpImageFile(io.BytesIO(content))
    check_size(*image.size, content, limits)
    image.load()
    levels = without_bool(looked_up(image) if image.mode == "P" else np.asarray(image))
    if image.mode == "RGBA":
        alpha = levels[..., 3] if levels[..., 3].any() else None  # all 0 is padding
        return finished(levels[..., :3], alpha, image=image)
    return finished(levels, image=image)


def _webp(content: bytes, limits: DecodingLimits) -> Picture:
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(content))
    check_size(*image.size, None, limits)
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableError("holds several frames; expected one image: save the frames one by one")
    image.load()
    levels = np.asarray(image)
    alpha = levels[..., 3] if image.mode == "RGBA" else None
    return finished(levels[..., :3], alpha, image=image, is_lossy=b"VP8L" not in content)


def _netpbm(content: bytes, limits: DecodingLimits) -> Picture:
    """Read PBM, PGM or PPM. Pillow reads 16-bit colors as 8-bit."""
    kind = content[1] - ord("0")
    numbers = 2 if kind in (1, 4) else 3
    space = rb"(?:\s|#[^\r\n]*[\r\n])"
    head = re.match(rb"P\d" + (space + rb"+(\d{1,10})") * numbers + rb"\s", content)
    if head is None:
        raise UnreadableError("not a readable image: damaged, as its header is no PPM's")
    width, height, *rest = map(int, head.groups())
    most = rest[0] if rest else 1
    if not (0 < most < 2**16 and width and height):
        raise UnreadableError(f"not a readable image: a PPM of {height}×{width} pixels, levels up to {most}")
    check_size(width, height, content, limits)
    shape = (height, width, 3) if kind in (3, 6) else (height, width)
    count, data = math.prod(shape), memoryview(content)[head.end() :]
    end = 0
    levels: np.ndarray
    if kind == 4:
        end = height * (-(-width // 8))
        levels = np.unpackbits(np.frombuffer(data[:end], np.uint8)).reshape(height, -1)[:, :width]
    elif kind > 4:
        dtype = np.dtype(np.uint8 if most < 256 else ">u2")
        end = count * dtype.itemsize
        levels = np.frombuffer(data[:end], dtype).reshape(shape)
    else:
        text = re.sub(rb"#[^\r\n]*", b"", bytes(data))
        if kind == 1:
            text = re.sub(rb"([01])", rb"\1 ", text)
        levels = np.fromstring(text, np.uint32, count=count, sep=" ").reshape(shape)
    if end and re.match(rb"\s*P[1-6]\s", data[end : end + 64]):
        raise UnreadableError("holds several pictures; expected one image: save them one by one")
    if levels.max() > most:
        raise UnreadableError(
            f"not a readable image: damaged, as it has levels above {most}, its own maximum"
        )
    if most == 1 and kind in (1, 4):
        levels = 1 - levels  # 1 is black
    bits = most.bit_length()
    if bits in (8, 10, 12, 14, 16) and most == 2**bits - 1:
        said = bits if 8 < bits < 16 else None
        return Picture(levels.astype(np.uint8 if bits == 8 else np.uint16), bits=said)
    full = np.uint8 if most < 256 else np.uint16  # other ranges are stretched to the whole of their type
    return Picture(np.rint(levels.astype(np.float64) * (np.iinfo(full).max / most)).astype(full))


def _tiff(content: bytes, page: int | None, limits: DecodingLimits) -> Picture:
    from metricad.data import tiff  # slow to import

    return tiff.decode(content, page, limits)


_READERS: tuple[tuple[bytes, Callable[..., Picture]], ...] = (
    (rb"\x89PNG\r\n\x1a\n", _png),
    (rb"\xff\xd8\xff(?!\xf7)", _jpeg),
    (rb"BM", _bmp),
    (rb"RIFF....WEBP", _webp),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", _tiff),
    (rb"P[1-6](?:\s|#)", _netpbm),
)
