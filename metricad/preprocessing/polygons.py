"""Read regions of interest drawn as polygons: a JSON file.

It has the size of the images that the polygons were drawn on, and polygons to inspect, to ignore, or both::

    {"height": 480, "width": 640, "ignore": [[[0, 0], [0, 90], [60, 0]]]}

A polygon is a list of three points or more, each row and column in pixels; the center of the first pixel is
[0, 0], and points may lie outside the image. What is in a polygon of ``inspect`` (without it, the whole
image) and in none of ``ignore`` is inspected.
"""

import math
import os
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import skimage

from metricad import files
from metricad.errors import DataError

MOST_BYTES = 2**24
"""Largest size of a file, 16 MiB: a million points."""

_KEYS = {"height", "width", "inspect", "ignore"}
_LARGEST = 2**16  # side of an image in pixels
_EXPECTED = 'expected {"height": H, "width": W, "ignore": [[[row, column], …], …]}, or "inspect" likewise'


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """Read polygons and return what they leave to inspect: bool (H, W), some True.

    Raises
    ------
    DataError
        The file is missing or not as described, or nothing is left to inspect.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; expected polygons in JSON, or an image")
    try:
        found = files.parse_json(files.read_whole(path, most_bytes=MOST_BYTES))
        shape, inspect, ignore = _parsed(found)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: no polygons ({' '.join(str(error).split())[:200]}); {_EXPECTED}") from error
    inside = _filled(shape, inspect) if "inspect" in found else np.ones(shape, bool)
    inside &= ~_filled(shape, ignore)
    if not inside.any():
        raise DataError(
            f"{path}: the polygons leave no pixel of {shape[0]}×{shape[1]} to inspect; draw them anew"
        )
    return inside


def _parsed(
    found: Any,
) -> tuple[tuple[int, int], list[np.ndarray], list[np.ndarray]]:
    if not isinstance(found, dict) or not {"inspect", "ignore"} & found.keys():
        raise ValueError("neither inspect nor ignore")
    if unknown := found.keys() - _KEYS:
        raise ValueError(f"{min(unknown)!r} is not known")
    height, width = found.get("height"), found.get("width")
    if not (_is_side(height) and _is_side(width)):
        raise ValueError(f"height and width are {height!r} and {width!r}")
    inspect, ignore = ([_polygon(one) for one in _list(found.get(key, []))] for key in ("inspect", "ignore"))
    return (height, width), inspect, ignore


def _is_side(given: Any) -> TypeGuard[int]:
    return type(given) is int and 0 < given <= _LARGEST


def _list(given: Any) -> list[Any]:
    if not isinstance(given, list):
        raise ValueError(f"{given!r} is no list")
    return given


def _polygon(given: Any) -> np.ndarray:
    points = _list(given)
    is_right = len(points) >= 3 and all(
        isinstance(point, list) and len(point) == 2 and all(_is_number(one) for one in point)
        for point in points
    )
    if not is_right:
        raise ValueError(f"{str(given)[:60]} is no list of three points [row, column] or more")
    return np.array(points, np.float64)


def _is_number(given: Any) -> bool:
    return type(given) in (int, float) and math.isfinite(given) and abs(given) <= _LARGEST


def _filled(shape: tuple[int, int], polygons: list[np.ndarray]) -> np.ndarray:
    filled = np.zeros(shape, bool)
    for polygon in polygons:
        filled[skimage.draw.polygon(polygon[:, 0], polygon[:, 1], shape)] = True
    return filled
