"""Halving, mirroring and bringing onto a grid, against NumPy."""

import numpy as np
import pytest

from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.networks.resampling import AtLeast, Halve, Nearest

pytestmark = pytest.mark.tf


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 6, 8, 1), (1, 7, 9, 3), (1, 2, 3, 2)])
def test_halving_is_the_mean_of_two_by_two_pixels(shape):
    image = pixels(*shape)
    count, rows, columns, channels = shape[0], shape[1] // 2, shape[2] // 2, shape[3]
    whole = image[:, : 2 * rows, : 2 * columns]
    expected = whole.reshape(count, rows, 2, columns, 2, channels).mean(axis=(2, 4))
    np.testing.assert_allclose(Halve()(image), expected, atol=1e-6)
    assert Halve().compute_output_shape(shape) == expected.shape


@pytest.mark.parametrize("shape", [(2, 5, 40, 1), (1, 17, 3, 2), (1, 1, 20, 1), (1, 30, 30, 1)])
def test_small_images_are_mirrored_as_numpy_mirrors_them(shape):
    image = pixels(*shape)
    ends = [(0, max(0, 20 - side)) for side in shape[1:3]]
    expected = np.pad(image, [(0, 0), *ends, (0, 0)], mode="symmetric")
    np.testing.assert_array_equal(AtLeast(20)(image), expected)


def test_the_smallest_size_is_kept_in_the_configuration():
    assert AtLeast.from_config(AtLeast(20).get_config()).smallest == 20


def slow_nearest(found, count, grid, own, axis):
    """Gather along one axis by the smallest distance between centers."""
    centers = own[0] + own[1] * np.arange(found.shape[axis])
    wanted = grid[0] + grid[1] * np.arange(count)
    return np.take(found, [np.abs(centers - each).argmin() for each in wanted], axis=axis)


@pytest.mark.parametrize(
    ("grid", "own"),
    [((7.5, 4), (15.4, 8)), ((7.5, 4), (33.3, 16)), ((7.5, 4), (3.6, 4)), ((15.5, 8), (3.7, 4))],
)
@pytest.mark.parametrize("shape", [(9, 12), (3, 30)])
def test_the_nearest_feature_is_taken_at_each_place(grid, own, shape):
    found, like = pixels(2, 7, 8, 3), pixels(2, *shape, 5)
    layer = Nearest(grid, own)
    expected = slow_nearest(found, shape[0], grid, own, 1)
    expected = slow_nearest(expected, shape[1], grid, own, 2)
    np.testing.assert_array_equal(layer(found, like), expected)
    assert layer.compute_output_shape(found.shape, like.shape) == expected.shape
    again = Nearest.from_config(layer.get_config())
    np.testing.assert_array_equal(again(found, like), expected)


def test_on_its_own_grid_a_map_stays_as_it_is():
    found = pixels(1, 5, 6, 2)
    np.testing.assert_array_equal(Nearest((7.5, 4), (7.5, 4))(found, found), found)
