"""The pyramid, the cut at a position, and the patch of noise."""

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from metricad.data import images, patches


def rng(seed=0):
    return np.random.default_rng(seed)


def smooth(count, seed=0):
    """Patches without two equal neighbours, away from black and white."""
    return rng(seed).uniform(-0.5, 0.5, (count, 32, 32)).astype(np.float32)


def add_noise(clean, *, side=(4, 16), strength=(0.1, 0.1), seed=1):
    return patches.add_noise_patches(clean, side=side, strength=strength, rng=rng(seed))


# The pyramid.


def test_pyramid_has_squares_of_8_bit_levels():
    image = rng().uniform(-1, 1, (70, 90)).astype(np.float32)
    levels = patches.pyramid(image, (96, 64, 32))
    assert [level.shape for level in levels] == [(96, 96), (64, 64), (32, 32)]
    assert all(level.dtype == np.uint8 for level in levels)


def test_default_pyramid_is_the_papers():
    assert [level.shape[0] for level in patches.pyramid(np.zeros((40, 40), np.float32))] == [
        512,
        256,
        128,
        64,
    ]


def test_each_level_is_made_from_the_unrounded_one_before():
    image = rng().uniform(-1, 1, (70, 90)).astype(np.float32)
    once = images.resize(image, (64, 64))
    twice = images.resize(once, (48, 48))
    first, second = patches.pyramid(image, (64, 48))
    np.testing.assert_array_equal(first, images.to_uint8(once))
    np.testing.assert_array_equal(second, images.to_uint8(twice))


def test_an_image_of_the_right_size_is_kept_exactly():
    levels = rng().integers(0, 256, (64, 64), dtype=np.uint8)
    np.testing.assert_array_equal(patches.pyramid(images.from_uint8(levels), (64,))[0], levels)


@pytest.mark.parametrize("sides", [(64, 128), (64, 64), (128, 32, 64)])
def test_sides_must_fall(sides):
    with pytest.raises(ValueError, match="sides must be in descending order"):
        patches.pyramid(np.zeros((40, 40), np.float32), sides)


def test_crop_is_the_patch_at_that_pixel():
    stack = np.arange(3 * 40 * 50).reshape(3, 40, 50)
    patch = patches.crop(stack, 1, 5, 18)
    assert patch.shape == (32, 32)
    assert patch[0, 0] == stack[1, 5, 18]
    assert patch[-1, -1] == stack[1, 36, 49]


# Noise.


def rectangle(changed):
    """Top, left, height and width of the changed region, which must be a rectangle."""
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert changed[np.ix_(rows, columns)].all()
    assert (np.diff(rows) == 1).all()
    assert (np.diff(columns) == 1).all()
    return rows[0], columns[0], len(rows), len(columns)


@settings(max_examples=30)
@given(
    side=st.tuples(st.integers(1, 32), st.integers(1, 32)).map(sorted),
    strength=st.tuples(st.floats(0.01, 2), st.floats(0.01, 2)).map(sorted),
    seed=st.integers(0, 2**32),
)
def test_one_rectangle_of_each_patch_changes_and_nothing_else(side, strength, seed):
    clean = smooth(8, seed)
    noisy = add_noise(clean, side=side, strength=strength, seed=seed)
    assert noisy.dtype == np.float32
    assert noisy.min() >= -1
    assert noisy.max() <= 1
    for before, after in zip(clean, noisy, strict=True):
        _, _, height, width = rectangle(before != after)
        assert side[0] <= height <= side[1]
        assert side[0] <= width <= side[1]


def test_every_side_from_the_smallest_to_the_largest_comes_up():
    found = [rectangle(patch != 0) for patch in add_noise(np.zeros((300, 32, 32), np.float32), side=(4, 7))]
    heights, widths = (set(sides) for sides in list(zip(*found, strict=True))[2:])
    assert heights == widths == {4, 5, 6, 7}


def test_noise_of_strength_0_leaves_the_rectangles_own_mean():
    clean = smooth(20)
    noisy = add_noise(clean, strength=(0, 0))
    for before, after in zip(clean, noisy, strict=True):
        top, left, height, width = rectangle(before != after)
        inside = np.s_[top : top + height, left : left + width]
        np.testing.assert_allclose(after[inside], before[inside].mean(), atol=1e-6)


def test_noise_is_normal_around_the_mean_with_the_strength_asked_for():
    clean = smooth(1)
    clean = np.repeat(clean, 50, axis=0)
    noisy = add_noise(clean, side=(32, 32), strength=(0.1, 0.1))
    drawn = (noisy - clean.mean(axis=(1, 2), keepdims=True)).ravel() / 0.1
    assert scipy.stats.kstest(drawn, "norm").pvalue > 0.01


def test_each_patch_has_a_strength_of_its_own_evenly_drawn():
    noisy = add_noise(np.zeros((2000, 32, 32), np.float32), side=(32, 32), strength=(0.02, 0.2))
    deviations = noisy.std(axis=(1, 2))
    assert scipy.stats.kstest(deviations, "uniform", args=(0.02, 0.18)).pvalue > 0.01


def test_relative_noise_is_a_multiple_of_the_patchs_own_deviation():
    scale = np.repeat(np.float32([0.05, 0.2]), 20)[:, np.newaxis, np.newaxis]
    noisy = patches.add_noise_patches(
        scale * smooth(40), side=(32, 32), strength=(2, 2), is_relative=True, rng=rng()
    )
    expected = 2 * (scale * smooth(40)).std(axis=(1, 2))
    np.testing.assert_allclose(noisy.std(axis=(1, 2)), expected, rtol=0.1)


def test_rectangles_lie_anywhere_up_to_the_border():
    noisy = add_noise(np.zeros((3000, 32, 32), np.float32), side=(8, 8))
    found = np.array([rectangle(patch != 0) for patch in noisy])
    assert (found[:, 2:] == 8).all()
    for starts in found[:, :2].T:
        counts = np.bincount(starts, minlength=25)
        assert len(counts) == 25
        assert scipy.stats.chisquare(counts).pvalue > 0.001


def test_the_clean_patches_are_left_alone_and_the_seed_decides():
    clean = smooth(4)
    kept = clean.copy()
    first, same, other = (add_noise(clean, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(clean, kept)
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_no_patches_give_no_patches():
    assert add_noise(np.empty((0, 32, 32), np.float32)).shape == (0, 32, 32)
