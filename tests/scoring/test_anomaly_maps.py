"""Maps on an image's pixels: linear between the centers of features, and what an image has at these."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from metricad.networks.feature_grid import FeatureGrid
from metricad.preprocessing.regions import MaskRegion
from metricad.scoring import anomaly_maps
from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.networks import hypercolumn, residual

pytestmark = pytest.mark.tf

every_grid = pytest.mark.parametrize("grid", ["paper", "hypercolumn", "halved"], indirect=True)
image_shapes = st.tuples(st.integers(136, 190), st.integers(136, 190))


def grids():
    return {"paper": residual.GRID, "hypercolumn": hypercolumn.GRID, "halved": hypercolumn.GRID.halved()}


@pytest.fixture(scope="module")
def grid(request):
    return grids()[request.param]


def random_map(shape, grid, seed=0):
    """A map with as many features as have their center, and as much again, within an image."""
    features = [int((side - 1 - 2 * grid.first) // grid.stride + 1) for side in shape]
    return np.random.default_rng(seed).normal(size=features).astype(np.float32)


@every_grid
@settings(max_examples=20)
@given(shape=image_shapes, seed=st.integers(0, 1000))
def test_a_map_is_interpolated_between_centers_and_kept_beyond_them(grid, shape, seed):
    anomaly = random_map(shape, grid, seed)
    positions = (np.indices(shape) - grid.first) / grid.stride
    expected = ndimage.map_coordinates(anomaly, positions, order=1, mode="nearest")
    placed = anomaly_maps.place(anomaly, shape, grid)
    assert placed.dtype == np.float32
    np.testing.assert_allclose(placed, expected, atol=1e-5)
    corner = int(grid.first)
    np.testing.assert_array_equal(placed[:corner, :corner], anomaly[0, 0])


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.transpose])
def test_no_direction_is_favoured(turn):
    shape = (64, 80)  # even sides: the last feature is as far from its border as the first
    anomaly = random_map(shape, residual.GRID)
    placed = anomaly_maps.place(turn(anomaly), turn(np.empty(shape)).shape, residual.GRID)
    np.testing.assert_allclose(placed, turn(anomaly_maps.place(anomaly, shape, residual.GRID)), atol=1e-6)


@every_grid
def test_a_feature_lies_at_its_center(grid):
    anomaly = np.zeros((12, 12), np.float32)
    anomaly[3, 7] = 1
    placed = anomaly_maps.place(anomaly, (300, 300), grid)
    bright = np.argwhere(placed == placed.max())
    np.testing.assert_allclose(bright.mean(axis=0), [n * grid.stride + grid.first for n in (3, 7)])


def test_outside_a_region_a_map_has_its_least_value():
    mask = np.zeros((64, 80), bool)
    mask[10:50, 30:60] = True
    anomaly = random_map(mask.shape, residual.GRID) - 5
    image = np.zeros(mask.shape, np.float32)
    found = anomaly_maps.on_pixels(anomaly, image, residual.GRID, MaskRegion(mask))
    placed = anomaly_maps.place(anomaly, mask.shape, residual.GRID)
    np.testing.assert_array_equal(found[mask], placed[mask])
    np.testing.assert_array_equal(found[~mask], anomaly.min())
    color = np.zeros((*mask.shape, 3), np.float32)
    np.testing.assert_array_equal(
        anomaly_maps.on_pixels(anomaly, color, residual.GRID, MaskRegion(mask)), found
    )
    np.testing.assert_array_equal(anomaly_maps.on_pixels(anomaly, image, residual.GRID), placed)


@pytest.mark.parametrize("place", [(15.5, 2), (7.5, 4), (31.5, 16)])
def test_an_image_is_looked_at_where_features_have_their_centers(place):
    first, stride = place
    image = np.arange(200 * 210).reshape(200, 210)
    found = anomaly_maps.at_features(image, place, (9, 10))
    for row, column in np.ndindex(9, 10):
        # Half a pixel up: the middle of an even side, to whole pixels.
        expected = image[int(first + 0.5) + stride * row, int(first + 0.5) + stride * column]
        assert found[row, column] == expected


def test_a_center_beyond_the_image_takes_the_outermost_pixel():
    image = np.arange(20 * 30).reshape(20, 30)
    found = anomaly_maps.at_features(image, (7.5, 4), (9, 3))
    np.testing.assert_array_equal(found[3:], np.tile(image[-1, [8, 12, 16]], (6, 1)))


def test_the_middle_of_the_first_feature_is_a_whole_pixel():
    assert [grid.middle for grid in (*grids().values(), FeatureGrid(7, 4, 20))] == [16, 8, 16, 7]


def test_an_image_without_features_is_refused():
    hypercolumn.GRID.check((68, 68))
    with pytest.raises(ValueError, match=r"at least 68×68 pixels, received \(67, 90, 3\)"):
        hypercolumn.GRID.check((67, 90, 3))
