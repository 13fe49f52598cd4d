"""Read, find, resize and write image files; draw an anomaly map over an image."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import skimage

from metricad import files
from metricad.data import decoding
from metricad.data.levels import Levels, container
from metricad.data.levels import find as levels_of
from metricad.data.picture import Picture
from metricad.errors import DataError

SUFFIXES = frozenset(
    {
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pbm",
        ".pnm",
    }
)  # fmt: skip
"""Suffixes of files that a search finds; the content of a file tells its format."""

_EXPECTED = f"expected files ending in {', '.join(sorted(suffix[1:] for suffix in SUFFIXES))}"

UNSUPPORTED = frozenset(
    {
        ".arw", ".avif", ".bayer", ".cr2", ".cr3", ".dcm", ".dib", ".dng", ".exr", ".gif", ".hdr", ".heic",
        ".heif", ".ico", ".j2k", ".jp2", ".jpf", ".jpx", ".jxl", ".jxr", ".nef", ".orf", ".pam", ".pcx",
        ".pfm", ".psd", ".qoi", ".raf", ".raw", ".rw2", ".sgi", ".svg", ".tga",
    }
)  # fmt: skip
"""Suffixes of other images. They are never passed over in silence."""

TURNED = logging.getLogger(f"{__name__}.turned")
"""Told of each file that was turned as its EXIF or TIFF orientation asks."""

_LONGEST_NAME = 180  # bytes; file systems have 255, and temporary names are longer
_COLORMAP = "viridis"
_CONTOUR_COLOR = (255, 64, 64)
_BOX_COLOR = (255, 255, 255)
_AROUND = 3  # pixels between a box and what is in it, so that the outline stays visible


def read(
    path: str | os.PathLike[str],
    *,
    minimum_size: int = 1,
    color: bool = False,
    levels: Levels | None = None,
    page: int | None = None,
    content: bytes | None = None,
) -> np.ndarray:
    """Read an image file as a viewer shows it, as luminance unless color is asked for.

    Parameters
    ----------
    path : path
        Image in a format of `decoding.FORMATS`, which the content tells; see `decoding` for what is shown.
        Integer or float levels; gray or color. Float images hold values in [0, 1].
    minimum_size : int
        Smallest allowed height and width, in pixels.
    color : bool
        Keep the three channels of color images.
    levels : Levels, optional
        Range of the levels, see `find_levels`. The default is what the file says, else its type's.
    page : int, optional
        Page of a TIFF, from 1. The default is the only one.
    content : bytes, optional
        What `read_bytes` gave for this file; it is not read again then.

    Returns
    -------
    float32 (H, W), or (H, W, 3) for a color image if `color` is true, in [-1, 1]

    Raises
    ------
    DataError
        The file is missing, no image, damaged, of an unsupported kind, transparent or too small; or its
        levels are not finite or do not fit `levels`.
    """
    picture = decode(path, page=page, content=content)
    try:
        return to_image(picture, name=str(path), minimum_size=minimum_size, color=color, levels=levels)
    except MemoryError as error:
        raise DataError(f"{path}: too large for this machine's memory; give a smaller image") from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read an image file into memory without decoding it; raises DataError."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected an image")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def decode(path: str | os.PathLike[str], *, page: int | None = None, content: bytes | None = None) -> Picture:
    """Read the levels of an image file, as input of `to_image`; parameters and errors of `read`."""
    content = read_bytes(path) if content is None else content
    try:
        picture = decoding.decode(content, page=page)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if picture.is_turned:
        TURNED.info("%s: turned as its orientation asks", path)
    return picture


def find_levels(
    paths: Sequence[str | os.PathLike[str]],
    *,
    bits: int | None = None,
    page: int | None = None,
    skips_bad: bool = False,
) -> Levels:
    """Find the range of levels of good images, for `read`.

    Only the first image is read if its levels are 8-bit or floats, or the file says their range, or `bits` is
    given. Else the largest level of all images tells it. With `skips_bad`, images that cannot be read are
    passed over, as long as there are others.

    Raises
    ------
    DataError
        An image cannot be read, or does not hold this number of bits.
    """

    def pictures() -> Iterator[tuple[str, Picture]]:
        bad, good = None, 0
        for path in paths:
            try:
                yield str(path), decode(path, page=page)
                good += 1
            except DataError as error:
                if not skips_bad:
                    raise
                bad = error
        if bad is not None and not good:
            raise bad

    return levels_of(pictures(), bits=bits)


def to_image(
    picture: Picture | np.ndarray,
    *,
    name: str = "image",
    minimum_size: int = 1,
    color: bool = False,
    levels: Levels | None = None,
) -> np.ndarray:
    """Convert decoded levels, (H, W) or (H, W, 1 or 3), to an image in [-1, 1]; see `read`."""
    if not isinstance(picture, Picture):
        picture = Picture(np.asarray(picture))
    pixels = picture.pixels
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] != 3):
        raise DataError(
            f"{name}: expected one gray or color image, received an array of shape {pixels.shape}"
        )
    if min(pixels.shape[:2]) < minimum_size:
        raise DataError(
            f"{name}: expected at least {minimum_size}×{minimum_size} pixels, "
            f"received {pixels.shape[0]}×{pixels.shape[1]}"
        )
    if picture.alpha is not None:
        raise DataError(
            f"{name}: has transparent pixels, whose color depends on what is behind them; save it without "
            "transparency"
        )
    kind = container(pixels, name)
    if kind == "float":
        if not np.isfinite(pixels).all():
            raise DataError(f"{name}: holds NaN or infinite values; expected finite values in [0, 1]")
        if pixels.min() < 0 or pixels.max() > 1:
            raise DataError(
                f"{name}: float values from {pixels.min():g} to {pixels.max():g}; expected [0, 1]: "
                "rescale the image or save it with an integer type"
            )
    white = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    if levels is not None:
        levels.check(picture, name)
        white = levels.white
    elif picture.bits is not None:
        white = 2**picture.bits - 1
    if pixels.ndim == 3 and not color:
        # rgb2gray scales integers by the range of their type.
        is_full = pixels.dtype.kind != "u" or white == np.iinfo(pixels.dtype).max
        pixels, white = skimage.color.rgb2gray(pixels if is_full else pixels / white), 1
    image = pixels.astype(np.float32) * np.float32(2 / white) - np.float32(1)
    return -image if picture.is_negative else image


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Convert an image in [-1, 1] to 8-bit levels, 0 to 255, of the same shape."""
    return np.clip(np.rint((image + 1) * 127.5), 0, 255).astype(np.uint8)


def from_uint8(levels: np.ndarray) -> np.ndarray:
    """Convert 8-bit levels to float32 in [-1, 1], of the same shape."""
    return levels.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, …) to `shape`: bilinear, smoothed before shrinking; return float32 in the same range."""
    if image.shape[:2] == tuple(shape):
        return image.astype(np.float32, copy=False)
    shrinks = shape[0] < image.shape[0] or shape[1] < image.shape[1]
    return skimage.transform.resize(
        image.astype(np.float32, copy=False), (*shape, *image.shape[2:]), order=1, anti_aliasing=shrinks
    )


@dataclass(frozen=True)
class Found:
    """What a search for images found.

    Attributes
    ----------
    paths : list of path
        Images, each once.
    others : list of path
        Image files of kinds that are not read, such as .heic.
    skipped : Counter of str
        Number of all other files by suffix; hidden files and folders are counted as ``hidden``.
    """

    paths: list[Path]
    others: list[Path]
    skipped: Counter[str]

    def readable(self) -> list[Path]:
        """Return `paths`; raise DataError if there are only `others`."""
        if self.others and not self.paths:
            raise DataError(f"{self.others[0]}: of a kind that is not read, as all images here; {_EXPECTED}")
        return self.paths

    def left_out(self) -> Counter[str]:
        """Count all files that are not in `paths`, by suffix."""
        return self.skipped + Counter(path.suffix.lower() for path in self.others)


def find(paths: Iterable[str | os.PathLike[str]], *, missing_ok: bool = False) -> list[Path]:
    """List image files, each once; see `search`. Raises DataError if all are of kinds that are not read."""
    return search(paths, missing_ok=missing_ok).readable()


def search(paths: Iterable[str | os.PathLike[str]], *, missing_ok: bool = False) -> Found:
    """Find image files. Folders are searched in sorted order, linked ones included, but each only once.

    Parameters
    ----------
    paths : iterable of path
    missing_ok : bool
        Also list paths that do not exist; `read` will report them.

    Raises
    ------
    DataError
        A path does not exist, or a folder has no image files.
    OSError
        A folder cannot be read.
    """
    found = Found([], [], Counter())
    for path in map(Path, paths):
        if not path.exists() and not missing_ok:
            raise DataError(f"{path}: no such file or folder")
        if path.is_dir():
            inside = Found([], [], found.skipped)
            _walk(path, inside, set())
            if not inside.paths and not inside.others:
                raise DataError(f"{path}: no images in this folder; {_EXPECTED}")
            found.paths.extend(inside.paths)
            found.others.extend(inside.others)
        else:
            found.paths.append(path)
    return Found(list(dict.fromkeys(found.paths)), list(dict.fromkeys(found.others)), found.skipped)


def _walk(folder: Path, found: Found, seen: set[tuple[int, int]]) -> None:
    """Add what is in a folder; `seen` has the device and number of all folders so far: links may loop."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            found.skipped["hidden"] += 1
        elif path.is_dir():
            _walk(path, found, seen)
        elif path.suffix.lower() in SUFFIXES:
            found.paths.append(path)  # also a link to nowhere: `read` will report it
        elif path.suffix.lower() in UNSUPPORTED:
            found.others.append(path)
        else:
            found.skipped[path.suffix.lower()] += 1


def by_numbers(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts names with numbers as numbers: image2 before image10."""
    parts = re.findall(r"(\d+)|(\D+)", str(path))
    return [(int(digits), "") if digits else (-1, word) for digits, word in parts]


def map_names(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Make the name of a PNG file for each image's map: its path below the common parent folder."""
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 (links keep their own names)
    shared = Path(os.path.commonpath([path.parent for path in absolute])) if absolute else Path()
    return [map_name(path.relative_to(shared)) for path in absolute]


def map_name(path: Path) -> str:
    """Make the name of an image's map: the same path and ``.png``; what is too long ends in a checksum."""
    name = os.fsencode(path.name)
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(name).hexdigest()[:16]
        path = path.with_name(f"{os.fsdecode(name[: _LONGEST_NAME - 17])}-{digest}")
    return f"{path.as_posix()}.png"


def overlay(
    image: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    low: float,
    high: float,
    threshold: float | None = None,
    boxes: Iterable[tuple[int, int, int, int]] = (),
) -> np.ndarray:
    """Draw an anomaly map over its image.

    Parameters
    ----------
    image : float32 (H, W) or (H, W, 3) in [-1, 1]
    anomaly_map : float32 (H, W)
    low, high : float
        Map values of the first and the last color; use the same two for all images.
    threshold : float, optional
        Outline the area above this value.
    boxes : iterable of (int, int, int, int)
        Row and column of the upper left pixel, height and width of areas; a white box is drawn around each.

    Returns
    -------
    uint8 (H, W, 3)
    """
    from matplotlib import colormaps  # slow to import, and only needed for pictures

    # In float64: if good images never vary the range is 0, and the quotient would overflow float32.
    position = np.clip(
        (anomaly_map - np.float64(low)) / max(high - low, float(np.finfo(np.float32).tiny)), 0, 1
    )
    colors = colormaps[_COLORMAP](position)[..., :3]
    surface = (image + 1) / 2 if image.ndim == 3 else ((image + 1) / 2)[..., np.newaxis]
    # The lowest map values leave the image as it is; high values get a strong color.
    opacity = (0.7 * position)[..., np.newaxis]
    picture = np.rint(255 * ((1 - opacity) * surface + opacity * colors)).astype(np.uint8)
    if threshold is not None:
        above = anomaly_map > threshold
        picture[skimage.segmentation.find_boundaries(above, mode="thick")] = _CONTOUR_COLOR
    for row, column, height, width in boxes:
        top, left = max(row - _AROUND, 0), max(column - _AROUND, 0)
        rows, columns = slice(top, row + height + _AROUND), slice(left, column + width + _AROUND)
        frame = np.ones(picture[rows, columns].shape[:2], bool)
        frame[1:-1, 1:-1] = False
        picture[rows, columns][frame] = _BOX_COLOR
    return picture


def write(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Write uint8 pixels (H, W) or (H, W, 3) as PNG, first under a temporary name."""
    with files.replacing(path) as temporary:
        PIL.Image.fromarray(pixels).save(temporary, "PNG")
