"""Areas above the outline: boxes, areas, lengths and largest values."""

import numpy as np

from metricad.scoring import defect_boxes
from metricad.scoring.defect_boxes import DefectBox


def test_each_area_has_its_box():
    values = np.zeros((40, 60), np.float32)
    values[5:9, 10:13] = 2
    values[6, 11] = 5
    values[30:33, 50:54] = 3
    values[33, 54] = 7  # touches at a corner
    values[20, 20] = 1  # not above
    assert defect_boxes.find(values, 1.0) == [
        DefectBox(30, 50, 4, 5, 13, 6.4, 7.0),
        DefectBox(5, 10, 4, 3, 12, 5.0, 5.0),
    ]


def test_nothing_above():
    assert defect_boxes.find(np.ones((4, 5), np.float32), 1.0) == []


def test_only_the_largest_of_many():
    values = np.zeros((64, 64), np.float32)
    values[::4, ::4] = np.arange(256).reshape(16, 16)
    found = defect_boxes.find(values, 0.5)
    assert [one.value for one in found] == list(range(255, 255 - defect_boxes.MOST, -1))
