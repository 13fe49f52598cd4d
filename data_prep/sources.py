"""Read users' files: search folders, match names regardless of case, read and check images."""

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage

from metricad.errors import DataError


def folder(path: str | os.PathLike[str]) -> Path:
    """Return `path` if it is a folder that is not empty.

    Raises
    ------
    DataError
        The path does not exist, is a file, or is empty.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such folder; expected the folder that holds the unpacked data set")
    if not path.is_dir():
        raise DataError(f"{path}: a file; expected the folder that holds the unpacked data set")
    if not any(path.iterdir()):
        raise DataError(f"{path}: an empty folder; expected the unpacked data set in it")
    return path


def walk(root: Path, *, depth: int) -> Iterator[Path]:
    """Yield `root` and all folders up to `depth` levels below it, level by level, sorted; skip hidden
    ones.
    """
    level = [root]
    for _ in range(depth + 1):
        yield from level
        level = sorted(
            child
            for parent in level
            for child in parent.iterdir()
            if child.is_dir() and not child.name.startswith(".")
        )


def children(parent: Path) -> dict[str, Path]:
    """Map the lower-case names of a folder's files and folders to their paths, in sorted order.

    Copies of a data set may differ in case (``0001.PNG``, ``0001.png``), depending on the systems they were
    on.
    """
    return {child.name.lower(): child for child in sorted(parent.iterdir())}


def read_gray(path: Path) -> np.ndarray:
    """Read an 8-bit image file completely, so that damaged files are detected.

    Returns
    -------
    uint8 (H, W). Color is converted to luminance; alpha is dropped.

    Raises
    ------
    DataError
        The file is missing, no image, truncated, or does not have 8 bits.
    """
    pixels = _decode(path)
    if pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: expected 8 bits per pixel, received {pixels.dtype}; expected an original file"
        )
    if pixels.ndim == 2:
        return pixels
    if pixels.ndim != 3 or pixels.shape[2] > 4:
        raise DataError(f"{path}: expected one gray image, received an array of shape {pixels.shape}")
    return to_gray(pixels[..., :3]) if pixels.shape[2] > 2 else pixels[..., 0]


def read_mask(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a defect mask as uint8 (H, W), 255 on the defect and 0 elsewhere.

    Pixels brighter than half of the maximum are marked. Masks may have values 0 and 255, or 0 and 1, or soft
    borders after resizing.

    Raises
    ------
    DataError
        As `read_gray`, or its size differs from the image's `shape` (H, W).
    """
    pixels = _decode(path)
    gray = (pixels if pixels.ndim == 2 else pixels[..., 0]).astype(np.float32)
    if gray.shape != shape:
        raise DataError(
            f"{path}: a mask of {gray.shape[0]}×{gray.shape[1]} pixels; expected {shape[0]}×{shape[1]}, "
            "the size of its image"
        )
    return np.where(gray > gray.max() / 2, np.uint8(255), np.uint8(0))


def to_gray(color: np.ndarray) -> np.ndarray:
    """Convert uint8 (..., 3) to luminance, uint8 (...), with scikit-image's weights (ITU-R BT.709)."""
    return np.rint(skimage.color.rgb2gray(color) * 255).astype(np.uint8)


def _decode(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected an image")
    encoded = io.BytesIO(path.read_bytes())  # with a path, some readers leave the file open after an error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # readers warn about odd tags; callers check what matters
            return np.asarray(skimage.io.imread(encoded))
    except MemoryError:
        raise
    except Exception as error:  # each format's reader raises its own types of error
        raise DataError(
            f"{path}: not a readable image, perhaps damaged or truncated; "
            "expected an original file: copy it again"
        ) from error
