"""What a decoded image file is, and the steps that all formats share: size, color profile, orientation."""

import functools
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageCms

from metricad.errors import DataError

warnings.filterwarnings("ignore", module=r"PIL\.")  # odd tags; what matters is checked and raised as an error

ORIENTATION = 0x0112
"""EXIF and TIFF tag."""

_MOST_CODE_LENGTH = 2**14  # pixels that a byte of PNG or JPEG can stand for, with room: 8 × 1032 in PNG
_SAME_COLOR = 2  # levels of 255; a profile that moves no color by more is sRGB


class TooManyPixelsError(DataError):
    """The image has more pixels than the limit."""


class UnreadableError(DataError):
    """The content is no image, is damaged, or is of an unsupported kind."""


@dataclass(frozen=True)
class DecodingLimits:
    """Limits that are checked before decoding.

    Attributes
    ----------
    pixels : int
        Largest product of height and width.
    segments : int
        Largest number of strips or tiles of a TIFF, or of chunks of a PNG: each takes time, even a small one.
    scans : int
        Largest number of scans of a progressive JPEG, which has about ten; each decodes the whole image
        again.
    """

    pixels: int = 2**31
    segments: int = 2**20
    scans: int = 64


@dataclass(frozen=True)
class Picture:
    """Levels of an image file and what the file says of them.

    Attributes
    ----------
    pixels : uint8, uint16, uint32 or float (H, W) or (H, W, 3)
        Levels as stored; other integer types are as the file has them.
    alpha : array (H, W) or None
        Opacity, if it is not the largest everywhere.
    bits : int or None
        Number of bits of a level, if the file says that it is smaller than the type of `pixels`.
    is_negative : bool
        Whether 0 is white. Such 8-bit files are turned round already.
    is_lossy : bool
        Whether the compression may have changed levels.
    is_turned : bool
        Whether EXIF or TIFF orientation was applied.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    bits: int | None = None
    is_negative: bool = False
    is_lossy: bool = False
    is_turned: bool = False


def check_size(width: int, height: int, content: bytes | None, limits: DecodingLimits) -> None:
    """Check the number of pixels against the limit, and against the content if codes have a least length."""
    if width * height > limits.pixels:
        raise TooManyPixelsError(
            f"{height}×{width} pixels are {width * height}; expected {limits.pixels} at most: send a smaller "
            "image or a part of it"
        )
    if content is not None and width * height > _MOST_CODE_LENGTH * len(content):
        raise UnreadableError(
            f"not a readable image: its header claims {height}×{width} pixels, which {len(content)} bytes "
            "cannot hold: damaged or truncated"
        )


def loaded(image: PIL.Image.Image, rawmode: str) -> PIL.Image.Image:
    """Load an image, unpacking its bytes in another way."""
    tiles = image.tile  # type: ignore[attr-defined]
    args = tiles[0].args
    args = rawmode if isinstance(args, str) else (rawmode, *args[1:])
    image.tile = [one._replace(args=args) for one in tiles]  # type: ignore[attr-defined]
    image.load()
    return image


def two_bytes(opened: Callable[[], PIL.Image.Image], mode: str, *, order: str = "BL") -> np.ndarray:
    """Read 16-bit colors. Pillow keeps one of the two bytes of each, so both are read, one after the other.

    Parameters
    ----------
    opened : function
        Opens the file anew.
    mode : {"RGB", "RGBA"}
    order : {"BL", "LB"}
        Byte order of the levels that Pillow is told for the high and for the low byte. From libtiff they come
        little-endian.
    """
    high, low = (np.asarray(loaded(opened(), f"{mode};16{one}")) for one in order)
    return high.astype(np.uint16) << 8 | low


def looked_up(image: PIL.Image.Image) -> np.ndarray:
    """Look up the colors of a palette: gray if they all are, with alpha if some are transparent."""
    image.load()
    wanted = "RGBA" if "transparency" in image.info else "RGB"
    return np.asarray(image.convert(wanted))


def without_bool(levels: np.ndarray) -> np.ndarray:
    return levels.astype(np.uint8) * np.uint8(255) if levels.dtype == bool else levels


def from_cmyk(image: PIL.Image.Image, profile: object = None) -> np.ndarray:
    """Convert CMYK to RGB: by its profile if it has one, else as web browsers do."""
    profile = profile or image.info.get("icc_profile")
    transform = _to_srgb(profile, "CMYK") if isinstance(profile, bytes) else None
    if transform is not None:
        return np.asarray(transform.apply(image))
    return np.asarray(image.convert("RGB"))


@functools.lru_cache(maxsize=8)
def _to_srgb(profile: bytes, mode: str) -> PIL.ImageCms.ImageCmsTransform | None:
    """Make the transform from a color profile to sRGB; None if it changes nothing."""
    try:
        given = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = given.profile.xcolor_space.strip()
        if space != mode:
            raise UnreadableError(
                f"its color profile is for {space}, its pixels are {mode}; save the image without profile, "
                "or as sRGB"
            )
        transform = PIL.ImageCms.buildTransform(given, PIL.ImageCms.createProfile("sRGB"), mode, "RGB")
    except (PIL.ImageCms.PyCMSError, OSError) as error:
        raise UnreadableError("its color profile is damaged; save the image as sRGB") from error
    if mode == "RGB":
        steps = np.linspace(0, 255, 9).astype(np.uint8)
        probe = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
        changed = np.asarray(transform.apply(PIL.Image.fromarray(probe)))
        if np.abs(changed.astype(int) - probe).max() <= _SAME_COLOR:
            return None
    return transform


def finished(
    levels: np.ndarray,
    alpha: np.ndarray | None = None,
    *,
    image: PIL.Image.Image | None = None,
    orientation: object = None,
    profile: object = "of the image",
    is_lossy: bool = False,
) -> Picture:
    """Apply profile and orientation, those of a Pillow image by default, and drop alpha that is opaque."""
    if image is not None:
        orientation = _exif_orientation(image)
        profile = image.info.get("icc_profile") if profile == "of the image" else profile
    if levels.ndim == 3 and levels.shape[2] == 1:
        levels = levels[..., 0]
    elif isinstance(profile, bytes) and levels.ndim == 3:
        transform = _to_srgb(profile, "RGB")
        if transform is not None and levels.dtype != np.uint8:
            raise UnreadableError(
                f"{levels.dtype} colors with a color profile that is not sRGB; convert the image to sRGB"
            )
        if transform is not None:
            levels = np.asarray(transform.apply(PIL.Image.fromarray(np.ascontiguousarray(levels))))
    if alpha is not None:
        opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1
        alpha = None if (alpha == opaque).all() else alpha
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    if turn is not None:
        levels, alpha = turn(levels), None if alpha is None else turn(alpha)
    return Picture(np.ascontiguousarray(levels), alpha, is_lossy=is_lossy, is_turned=turn is not None)


def _exif_orientation(image: PIL.Image.Image) -> object:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF data say nothing of the pixels; viewers ignore them, too
        return None


_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda levels: np.rot90(levels, 2),
    4: np.flipud,
    5: lambda levels: np.swapaxes(levels, 0, 1),
    6: lambda levels: np.rot90(levels, -1),
    7: lambda levels: np.rot90(np.swapaxes(levels, 0, 1), 2),
    8: np.rot90,
}
"""What EXIF orientations ask for; 1 is upright."""
