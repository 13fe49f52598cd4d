"""Halving, mirroring and bringing onto a grid, against NumPy."""

import numpy as np
import pytest

from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.networks.resampling import AtLeast, Halve, Nearest, Resize

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


def test_enlarging_interpolates_linearly_between_centers():
    image = pixels(2, 5, 7, 3)
    found = Resize(20)(image).numpy()
    for axis, own in ((1, 5), (2, 7)):
        centers = (np.arange(20) + 0.5) * own / 20 - 0.5
        image = np.apply_along_axis(
            lambda one, own=own, at=centers: np.interp(at, range(own), one), axis, image
        )
    np.testing.assert_allclose(found, image, atol=1e-5)


def test_shrinking_averages_all_pixels_that_are_nearer_than_one_new_pixel():
    image = pixels(1, 12, 12, 1)
    weights = np.array([1, 2, 3, 2, 1]) / 9  # a triangle around the center
    found = Resize(4)(image).numpy()
    expected = weights @ image[0, 2:7, 5:10, 0] @ weights
    assert found.shape == (1, 4, 4, 1)
    np.testing.assert_allclose(found[0, 1, 2, 0], expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 30, 300, 3), (2, 16, 16, 2)])
def test_resizing_keeps_what_is_constant_and_the_size_if_it_is_right(shape):
    np.testing.assert_allclose(Resize(16)(np.full(shape, 0.3, np.float32)), 0.3, atol=1e-6)
    layer = Resize.from_config(Resize(16).get_config())
    assert layer.compute_output_shape(shape) == layer(pixels(*shape)).shape
    if shape[1] == shape[2] == 16:
        np.testing.assert_array_equal(layer(pixels(*shape)), pixels(*shape))
