"""Read masks of defects and of regions, as any program writes them, and find them beside their images."""

import os
from pathlib import Path
from typing import Literal

import numpy as np

from metricad.data import images

NEARLY_ALL = 0.95
"""Share of an image above which a mask of a defect is taken for an inverted one."""

_CONTRAST = 64 / 255  # of a lossy mask, as a share of the range of its type; below it is all of one value


def find(folder: Path, stem: str) -> Path | None:
    """Find the mask of an image by the stem of its name: ``STEM_mask.*``, else ``STEM.*``."""
    for name in (f"{stem}_mask", stem):
        for suffix in sorted(images.SUFFIXES):
            for path in (folder / f"{name}{suffix}", folder / f"{name}{suffix.upper()}"):
                if path.is_file():
                    return path
    return None


def read(path: str | os.PathLike[str], *, gray: Literal["inside", "outside"] = "inside") -> np.ndarray:
    """Read a mask from an image file of any kind.

    Two levels, such as 0 and 1 or 0 and 255, are outside and inside. A lossy file has its threshold in the
    middle between its darkest and its brightest level. If the file has no color or gray but transparency, the
    opaque pixels are inside. Orientation is applied as in any image.

    Parameters
    ----------
    path : path
    gray : {"inside", "outside"}
        What levels above 0 that are not brighter than mid-gray are, where a lossless mask has more than two
        levels.

    Returns
    -------
    bool (H, W)

    Raises
    ------
    DataError
        The file is missing or no image.
    """
    picture = images.decode(path)
    levels = picture.pixels
    if picture.alpha is not None and _is_constant(levels):
        levels = picture.alpha
    elif levels.ndim == 3:
        levels = levels.max(axis=2)
    white = float(np.iinfo(levels.dtype).max) if levels.dtype.kind in "ui" else 1.0
    low, high = float(levels.min()), float(levels.max())
    if picture.is_negative:
        levels = high + low - levels
    if picture.is_lossy:
        has_both = high - low >= _CONTRAST * white
        return levels > ((low + high) / 2 if has_both else white / 2)
    if gray == "inside" or (low == 0 and np.isin(levels, (0, high)).all()):
        return levels > 0
    return levels > white / 2


def problem(mask: np.ndarray, shape: tuple[int, ...]) -> str | None:
    """Say why a mask of a defect cannot be used for an image of a shape (H, W, …), or return None."""
    if mask.shape != shape[:2]:
        received, expected = ("×".join(map(str, one)) for one in (mask.shape, shape[:2]))
        return f"its mask has {received} pixels, the image {expected}"
    if mask.mean() > NEARLY_ALL:
        return f"its mask covers {100 * mask.mean():.0f} % of the image, as an inverted one does"
    return None


def _is_constant(levels: np.ndarray) -> bool:
    return bool((levels == levels[:1, :1]).all())
