"""Long lines and edges: the filters against a slow reference, and what they are told by."""

import numpy as np
import pytest
from metricad.lines import FAMILIES, Lines
from scipy.signal import correlate2d

from metricad import lines

SIDE = 256
GRID = 61  # features a side


def noise(seed, side=SIDE):
    return np.random.default_rng(seed).normal(0, 0.15, (side, side)).astype(np.float32)


def streaked(seed):
    """Columns of different light, as of grinding, and a little noise."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.2, (1, SIDE)) + rng.normal(0, 0.05, (SIDE, SIDE))).astype(np.float32)


def grid_of(image):
    return tuple((side - 12) // 4 for side in image.shape)


def families(found, image):
    light, like = image[None, :, :, None], np.ones((1, GRID, GRID), np.float32)
    return lines.standard(light, like, found.centre, found.spread)[0].numpy()


def highest(found, image):
    return families(found, image).max(axis=-1)


def learned(images):
    made = Lines()
    for one in images:
        made.update(one, np.ones(grid_of(one), bool))
    return made


@pytest.fixture(scope="module")
def plain():
    return learned(noise(seed) for seed in range(12))


def shrunk(image, by):
    side = image.shape[0] // by * by
    return image[:side, :side].reshape(side // by, by, side // by, by).mean(axis=(1, 3))


def window(image, side):
    return correlate2d(image, np.full((side, side), 1 / side**2), "valid")


def energy(image):
    high = image[2:-2, 2:-2] - window(image, 5)
    return np.log(shrunk(window(high**2, 3), 2) + 1e-5)


def slow(image, kernel, by, first):
    """Response to one kernel at each of the features: the nearest one, NaN where there is none."""
    found = np.abs(correlate2d(image - image.mean(), kernel, "valid"))
    first, step = first + 10 * by, by
    if by < 4:
        found, step = found[::2, ::2], 2 * by
    if by == 1:
        side = found.shape[0] // 2 * 2
        found = found[:side, :side].reshape(side // 2, 2, side // 2, 2).max(axis=(1, 3))
        first, step = first + 1, 4
    nearest = np.round((7.5 + 4 * np.arange(GRID) - first) / step).astype(int)
    is_there = (nearest >= 0) & (nearest < found.shape[0])
    nearest = np.where(is_there, nearest, 0)
    return np.where(np.outer(is_there, is_there), found[np.ix_(nearest, nearest)], np.nan)


def test_the_scores_are_those_of_a_slow_filter_bank(plain):
    image = noise(99)
    image[40:44, 20:230] += 0.2
    banks = [(shrunk(image, 1), lines._SHORT, 1, 0)]
    banks += [(shrunk(image, by), lines._LONG, by, (by - 1) / 2) for by in (2, 4, 8)]
    banks += [(energy(shrunk(image, by // 2)), lines._LONG_AND_EDGES, by, 2 * by - 0.5) for by in (2, 4, 8)]
    responses, family = [], []
    for number, (pixels, kernels, by, first) in enumerate(banks):
        responses += [slow(pixels, kernels[:, :, 0, k], by, first) for k in range(kernels.shape[-1])]
        family += [0 if number == 0 else 1 if number < 4 else 2] * kernels.shape[-1]
    standard = np.subtract(responses, plain.centre[:, None, None]) / plain.spread[:, None, None]
    standard = np.nan_to_num(standard)  # where a filter would reach beyond the image it says nothing
    expected = [standard[np.array(family) == one].max(axis=0) for one in range(FAMILIES)]
    assert np.max(expected) > 10
    np.testing.assert_allclose(families(plain, image), np.stack(expected, -1), rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize("bank", [lines._SHORT, lines._LONG_AND_EDGES], ids=["short", "long and edges"])
def test_kernels_answer_to_no_even_light_and_have_norm_1(bank):
    kernels = bank[:, :, 0].astype(float)
    np.testing.assert_allclose(kernels.sum(axis=(0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(np.square(kernels).sum(axis=(0, 1)), 1, rtol=1e-6)


def test_a_faint_line_is_told_by_its_length(plain):
    found = {}
    for length in (8, 200):
        image = noise(99)
        image[120:124, 20 : 20 + length] += 0.1
        found[length] = highest(plain, image)
    assert found[200].max() > 6
    assert found[200].max() > found[8].max() + 3
    row, column = np.unravel_index(found[200].argmax(), (GRID, GRID))
    assert abs(7.5 + 4 * row - 121.5) <= 8
    assert 20 <= 7.5 + 4 * column <= 220
    assert found[200][:18].max() < 4  # pixels above row 76


def test_a_streak_of_other_grain_with_the_same_light_is_a_line_of_energy(plain):
    image = noise(99)
    image[120:136] *= 2.5
    found = families(plain, image)
    row = np.unravel_index(found[..., 2].argmax(), (GRID, GRID))[0]
    assert found[..., 2].max() > max(6, found[..., 1].max())
    assert abs(7.5 + 4 * row - 128) <= 16


def test_where_one_texture_ends_and_another_with_the_same_light_begins_is_an_edge(plain):
    image = noise(99)
    image[:, 128:] *= 2.5
    found = families(plain, image)[..., 2]
    column = np.unravel_index(found.argmax(), (GRID, GRID))[1]
    assert found.max() > 6
    assert abs(7.5 + 4 * column - 128) <= 16


def test_along_a_grain_lines_count_for_little_and_across_it_for_much():
    found = learned(streaked(seed) for seed in range(12))
    along, across = streaked(99), streaked(99)
    along[:, 120:124] += 0.2
    across[120:124] += 0.2
    assert highest(found, along).max() < 5
    assert highest(found, across).max() > 20


@pytest.mark.parametrize("count", [1, 2, 12])
def test_surface_that_never_varies_has_no_lines_and_one_on_it_goes_far_but_not_without_end(count):
    even = np.full((SIDE, SIDE), 0.3, np.float32)
    found = learned([even] * count)
    assert highest(found, even).max() < 0.1
    even[100:104] = 0.9
    assert 20 < highest(found, even).max() < 1e5


def test_only_what_lies_inside_is_learned_from():
    marked = noise(1)
    marked[:, 200:204] += 0.8
    inside = np.zeros((GRID, GRID), bool)
    inside[:, :20] = True  # pixels up to 84, with filters that reach 84 more at the coarsest
    whole, part = Lines(), Lines()
    whole.update(marked, np.ones_like(inside))
    part.update(marked, inside)
    assert (part.centre <= whole.centre + 1e-6).all()
    assert part.centre.max() < whole.centre.max() / 2


def test_restored_lines_judge_alike(plain):
    copy, image = Lines().restore(plain.arrays()), noise(99)
    np.testing.assert_array_equal(families(copy, image), families(plain, image))
