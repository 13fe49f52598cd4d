"""Regions drawn as polygons in a JSON file."""

import json

import numpy as np
import pytest

from metricad.errors import DataError
from metricad.preprocessing.regions import MaskRegion

SQUARE = [[2, 3], [2, 8], [6, 8], [6, 3]]


def read(tmp_path, **content):
    path = tmp_path / "region.json"
    path.write_text(json.dumps({"height": 20, "width": 30} | content))
    return MaskRegion.read(path).mask


def square():
    expected = np.zeros((20, 30), bool)
    expected[2:7, 3:9] = True
    return expected


def test_what_is_ignored_is_outside(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, ignore=[SQUARE]), ~square())


def test_what_is_inspected_is_inside(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, inspect=[SQUARE]), square())


def test_what_is_ignored_is_cut_out(tmp_path):
    found = read(tmp_path, inspect=[SQUARE], ignore=[[[-5, -5], [-5, 99.5], [4, 99.5], [4, -5]]])
    expected = square()
    expected[:5] = False
    np.testing.assert_array_equal(found, expected)


def test_nothing_ignored_is_the_whole_image(tmp_path):
    assert read(tmp_path, ignore=[]).all()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"ignore": [SQUARE], "inspekt": []},
        {"ignore": [SQUARE], "height": 0},
        {"ignore": [SQUARE], "width": 30.5},
        {"ignore": [SQUARE], "width": True},
        {"ignore": [SQUARE], "height": 10**6},
        {"ignore": {}},
        {"ignore": SQUARE},
        {"ignore": [SQUARE[:2]]},
        {"ignore": [[[1, 2], [3, 4], [5]]]},
        {"ignore": [[[1, 2], [3, 4], ["5", 6]]]},
        {"ignore": [[[1, 2], [3, 4], [5, 1e99]]]},
        {"inspect": []},
        {"ignore": [[[-9, -9], [-9, 99], [99, 99], [99, -9]]]},
    ],
)
def test_wrong_polygons_are_one_line(tmp_path, content):
    with pytest.raises(DataError) as refused:
        read(tmp_path, **content)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"height": NaN}', b"[" * 10**5])
def test_a_file_that_is_no_json(tmp_path, content):
    path = tmp_path / "region.JSON"
    path.write_bytes(content)
    with pytest.raises(DataError):
        MaskRegion.read(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError):
        MaskRegion.read(tmp_path / "none.json")
