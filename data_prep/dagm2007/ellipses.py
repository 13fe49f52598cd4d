"""Ellipses that mark the defects in the competition's layout of DAGM 2007."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.draw import ellipse as ellipse_pixels

from metricad.errors import DataError

_FIELDS = 6


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in pixels; `angle` rotates its major axis from x toward y (down), in radians."""

    semi_major: float
    semi_minor: float
    angle: float
    x: float
    y: float


def read(path: Path) -> dict[int, Ellipse]:
    """Read a ``labels.txt``: number of the image, both semi-axes, angle, x and y of the center.

    Fields are counted instead of lines, because some copies have a line break after the number.

    Raises
    ------
    DataError
        There are not six fields per image, a field is no number, or an image is listed twice.
    """
    fields = path.read_text(encoding="utf-8-sig", errors="replace").split()
    try:
        numbers = np.array([float(field.lower().removesuffix(".png")) for field in fields]).reshape(
            -1, _FIELDS
        )
    except ValueError:
        numbers = None
    if numbers is None or not np.isfinite(numbers).all():
        raise DataError(f"{path}: expected six numbers per image: its number, both semi-axes, angle, x, y")
    marked = {int(number): Ellipse(*map(float, values)) for number, *values in numbers}
    if len(marked) != len(numbers):
        raise DataError(f"{path}: {len(numbers)} ellipses for {len(marked)} images; expected one each")
    return marked


def draw(ellipse: Ellipse, shape: tuple[int, int]) -> np.ndarray:
    """Draw an ellipse as a mask, uint8 (H, W): 255 inside, 0 outside; cut off what is outside the image."""
    mask = np.zeros(shape, dtype=np.uint8)
    # scikit-image rotates in the other direction: counterclockwise on screen, because y points down.
    mask[
        ellipse_pixels(
            ellipse.y, ellipse.x, ellipse.semi_minor, ellipse.semi_major, shape=shape, rotation=-ellipse.angle
        )
    ] = 255
    return mask
