"""Read, find, resize and write image files; draw an anomaly map over an image."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import skimage

from metricad import files
from metricad.errors import DataError

# tifffile logs problems of a file, and prints them if there is no handler; `read` reports them as errors.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
_TIFF = (".tif", ".tiff")
_COLORMAP = "viridis"
_CONTOUR_COLOR = (255, 64, 64)


def read(path: str | os.PathLike[str], *, minimum_size: int = 1, color: bool = False) -> np.ndarray:
    """Read an image file, as luminance unless color is asked for.

    Parameters
    ----------
    path : path
        8- or 16-bit integer, boolean or float image; gray, gray with alpha, RGB or RGBA. Float images
        hold values in [0, 1], as everywhere in scikit-image.
    minimum_size : int
        Smallest allowed height and width, in pixels.
    color : bool
        Keep the three channels of color images.

    Returns
    -------
    float32 (H, W), or (H, W, 3) for a color image if `color` is true, in [-1, 1]
        Integers are scaled by the range of their type; alpha is dropped.

    Raises
    ------
    DataError
        The file is missing, no image, truncated or too small, or its values are not finite or out of range.
    """
    return to_image(decode(path), name=str(path), minimum_size=minimum_size, color=color)


def decode(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the raw pixels of an image file, as input of `to_image`; raises DataError as `read`."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected an image")
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # the readers warn about odd tags; errors are checked below
            # TIFF is recognized by its suffix. Other formats are opened here, because imageio leaves a
            # damaged file open.
            return skimage.io.imread(path if path.suffix.lower() in _TIFF else file)
    except MemoryError:
        raise
    except Exception as error:  # each format's plugin raises its own types of error
        raise DataError(f"{path}: not a readable image: damaged, truncated, or of another kind") from error


def to_image(
    pixels: np.ndarray, *, name: str = "image", minimum_size: int = 1, color: bool = False
) -> np.ndarray:
    """Convert decoded pixels (H, W) or (H, W, 1 to 4) to an image in [-1, 1]; see `read`."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4):
        raise DataError(
            f"{name}: expected one gray or color image, received an array of shape {pixels.shape}"
        )
    if min(pixels.shape[:2]) < minimum_size:
        raise DataError(
            f"{name}: expected at least {minimum_size}×{minimum_size} pixels, "
            f"received {pixels.shape[0]}×{pixels.shape[1]}"
        )
    if pixels.dtype.kind not in "buf":
        raise DataError(f"{name}: expected unsigned integers or floats, received {pixels.dtype}")
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise DataError(f"{name}: holds NaN or infinite values; expected finite values in [0, 1]")
        if pixels.min() < 0 or pixels.max() > 1:
            raise DataError(
                f"{name}: float values from {pixels.min():g} to {pixels.max():g}; expected [0, 1]: "
                "rescale the image or save it with an integer type"
            )
    channels = pixels[..., : 3 if pixels.shape[2] > 2 else 1]
    if channels.shape[2] == 3 and color:
        gray = channels
    else:
        gray = skimage.color.rgb2gray(channels) if channels.shape[2] == 3 else channels[..., 0]
    # rgb2gray returns [0, 1] for integers, too; gray integers are divided by the maximum of their type.
    maximum = np.iinfo(gray.dtype).max if gray.dtype.kind == "u" else 1
    return gray.astype(np.float32) * np.float32(2 / maximum) - np.float32(1)


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


def find(paths: Iterable[str | os.PathLike[str]], *, missing_ok: bool = False) -> list[Path]:
    """List image files, each once. Folders are searched in sorted order.

    Parameters
    ----------
    paths : iterable of path
    missing_ok : bool
        Also list paths that do not exist; `read` will report them.

    Raises
    ------
    DataError
        A path does not exist, or a folder has no image files.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists() and not missing_ok:
            raise DataError(f"{path}: no such file or folder")
        if path.is_dir():
            inside = list(_walk(path))
            if not inside:
                kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
                raise DataError(f"{path}: no images in this folder; expected files ending in {kinds}")
            found.extend(inside)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            yield path


def map_names(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Make the name of a PNG file for each image's map: its path below the common parent folder."""
    absolute = [Path(path).resolve() for path in paths]
    shared = Path(os.path.commonpath([path.parent for path in absolute])) if absolute else Path()
    return [f"{path.relative_to(shared).as_posix()}.png" for path in absolute]


def overlay(
    image: np.ndarray, anomaly_map: np.ndarray, *, low: float, high: float, threshold: float | None = None
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
    # Low map values leave the surface visible; high values get a strong color.
    opacity = (0.1 + 0.6 * position)[..., np.newaxis]
    picture = np.rint(255 * ((1 - opacity) * surface + opacity * colors)).astype(np.uint8)
    if threshold is not None:
        above = anomaly_map > threshold
        picture[skimage.segmentation.find_boundaries(above, mode="thick")] = _CONTOUR_COLOR
    return picture


def write(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Write uint8 pixels (H, W) or (H, W, 3) as PNG, first under a temporary name."""
    with files.replacing(path) as temporary:
        skimage.io.imsave(temporary, pixels, check_contrast=False)
