"""Find the areas of an anomaly map above the outline: a box, area, length and largest value for each."""

import math
from dataclasses import dataclass

import numpy as np
import scipy

MOST = 100
"""Largest number of areas of one image, so that a line of JSON stays short; those of the largest values."""


@dataclass(frozen=True)
class DefectBox:
    """A connected area of the anomaly map above the outline, on the pixels of the image.

    It is larger than the defect in the image, because a network sees a defect from some distance.

    Attributes
    ----------
    row, col : int
        Upper left pixel of its box.
    height, width : int
        Of its box, in pixels.
    area : int
        Number of pixels.
    length : float
        Diagonal of its box, in pixels: the length of a straight scratch in any direction.
    value : float
        Largest value of the map inside.
    """

    row: int
    col: int
    height: int
    width: int
    area: int
    length: float
    value: float


def find(anomaly_map: np.ndarray, level: float) -> list[DefectBox]:
    """Find the areas of a map, float32 (H, W), above a level, at most `MOST`; the largest value comes first.

    Pixels that touch at a corner are connected.
    """
    above = anomaly_map > level
    rows, columns = (np.flatnonzero(above.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    part = np.s_[top : rows[-1] + 1, left : columns[-1] + 1]  # labeling takes longest
    labels, count = scipy.ndimage.label(above[part], np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    largest = scipy.ndimage.maximum(anomaly_map[part], labels, np.arange(count + 1))
    places = scipy.ndimage.find_objects(labels)
    found = []
    for number in 1 + np.argsort(-largest[1:], kind="stable")[:MOST]:
        down, across = places[number - 1]
        height, width = down.stop - down.start, across.stop - across.start
        found.append(
            DefectBox(
                top + down.start,
                left + across.start,
                height,
                width,
                int(areas[number]),
                round(math.hypot(height, width), 1),
                float(largest[number]),
            )
        )
    return found
