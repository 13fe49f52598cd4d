"""Borders between textures: against a slow reference, and what they are told by."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from scipy.signal import correlate2d

from metricad import borders
from metricad.borders import ABSENT, DIRECTIONS, Borders

SIDE = 256
GRID = 61  # features a side


def noise(seed, side=SIDE):
    return np.random.default_rng(seed).normal(0, 0.15, (side, side)).astype(np.float32)


def strengths(found, image):
    like = np.ones((1, *((side - 12) // 4 for side in image.shape)), np.float32)
    return borders.strength(image[None, :, :, None], like, found.whitening)[0].numpy()


def learned(images):
    made = Borders()
    for one in images:
        made.update(one, np.ones([(side - 12) // 4 for side in one.shape], bool))
    return made


@pytest.fixture(scope="module")
def plain():
    return learned(noise(seed) for seed in range(12))


def shrunk(image, by):
    rows, columns = (side // by for side in image.shape)
    return image[: rows * by, : columns * by].reshape(rows, by, columns, by).mean(axis=(1, 3))


def slow_energies(image):
    rows, columns = (side // 4 - 1 for side in image.shape)
    found = []
    for by in (1, 2, 4):
        for change in (np.diff(shrunk(image, by), axis=0), np.diff(shrunk(image, by), axis=1)):
            square = change**2
            if by == 4:
                total = uniform_filter(square, 3, mode="constant")
                square = total / uniform_filter(np.ones_like(square), 3, mode="constant")
            else:
                square = shrunk(square, 4 // by)
            found.append(shrunk(np.log(square[:rows, :columns] + 1e-5), 2))
    return found


def slow_strength(image, matrix, kernel):
    """Logarithm of the strength in one direction at each of the features, ABSENT where there is none."""
    differences = np.stack([correlate2d(one, kernel, "valid") for one in slow_energies(image)], axis=-1)
    found = 0.5 * np.log(np.square(differences @ matrix).sum(axis=-1) + 1e-6)
    pixels = 7.5 + 4 * np.arange(GRID)
    places = []
    for side, count in zip(kernel.shape, found.shape, strict=True):
        nearest = np.round((pixels - 3.5 - 8 * (side // 2)) / 8).astype(int)
        places.append((np.clip(nearest, 0, count - 1), (nearest >= 0) & (nearest < count)))
    (rows, has_row), (columns, has_column) = places
    return np.where(np.outer(has_row, has_column), found[np.ix_(rows, columns)], ABSENT)


def test_strengths_are_those_of_a_slow_reference(plain):
    image = noise(99)
    image[:, 128:] *= 2
    found = strengths(plain, image)
    for number, kernel in enumerate(borders._KERNELS):
        expected = slow_strength(image.astype(float), plain.whitening[number], kernel)
        assert (expected > ABSENT).any()
        np.testing.assert_allclose(found[..., number], expected, atol=2e-3)


def test_on_good_surface_the_two_sides_of_a_line_have_variance_1_after_whitening(plain):
    squares = []
    for seed in range(20, 28):
        found = strengths(plain, noise(seed)).reshape(-1, DIRECTIONS).astype(float)
        squares.append([np.exp(2 * one[one > ABSENT]).mean() for one in found.T])
    np.testing.assert_allclose(np.mean(squares, axis=0), 6, rtol=0.3)  # of six channels


@pytest.mark.parametrize(("direction", "angle"), [(0, 90), (1, 135), (2, 0), (3, 45)])
def test_a_border_is_strongest_in_its_own_direction_and_where_it_is(plain, direction, angle):
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    normal = np.deg2rad(angle)
    image = noise(99)
    image *= np.where(x * np.cos(normal) + y * np.sin(normal) > 0, 1.6, 1)
    found = strengths(plain, image)
    assert found.max() > max(strengths(plain, noise(seed)).max() for seed in range(3)) + 1
    row, column, strongest = np.unravel_index(found.argmax(), found.shape)
    assert strongest == direction
    at = np.array([7.5 + 4 * column, 7.5 + 4 * row]) - SIDE / 2
    assert abs(at @ [np.cos(normal), np.sin(normal)]) <= 16


def test_light_that_ends_without_another_texture_is_a_border_no_stronger_than_its_own_line(plain):
    texture, light = noise(99), noise(99)
    texture[:, 128:] *= 2.5
    light[:, 128:] += 0.3
    assert strengths(plain, texture).max() > strengths(plain, light).max() + 0.5


def test_what_good_images_have_counts_for_little():
    def sided(seed):
        image = noise(seed)
        image[:, 128:] *= 1.6
        return image

    used_to = learned(sided(seed) for seed in range(12))
    unused = learned(noise(seed) for seed in range(12))
    assert strengths(used_to, sided(99)).max() < strengths(unused, sided(99)).max() - 0.5


def test_only_what_lies_inside_is_learned_from():
    image = noise(1)
    image[:, 150:] *= 3
    inside = np.zeros((GRID, GRID), bool)
    inside[:, :20] = True
    part, whole, plain = Borders(), Borders(), Borders()
    part.update(image, inside)
    whole.update(image, np.ones_like(inside))
    plain.update(noise(1), inside)
    np.testing.assert_allclose(part.whitening[2], plain.whitening[2], rtol=1e-4)
    assert not np.allclose(part.whitening[2], whole.whitening[2], rtol=0.1)


@pytest.mark.parametrize("shape", [(68, 68), (69, 300), (300, 75)])
def test_where_there_is_no_room_there_is_no_border(shape, plain):
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.15, shape).astype(np.float32)
    found = strengths(learned([image] * 3), image)
    assert np.isfinite(found).all()
    has_room = [(found[..., number] > ABSENT).any() for number in range(DIRECTIONS)]
    # 21 steps of 8 pixels along a line, 9 to both of its sides, and a step less for what changes are made of.
    assert has_room == [shape[1] > 176 and shape[0] > 76, False, shape[0] > 176 and shape[1] > 76, False]


@pytest.mark.parametrize("count", [1, 12])
def test_surface_that_never_varies_has_no_borders(count):
    even = np.full((SIDE, SIDE), 0.3, np.float32)
    found = learned([even] * count)
    assert strengths(found, even).max() < -6
    even[:, 128:] += noise(0)[:, 128:]
    assert 2 < strengths(found, even).max() < 20


def test_restored_borders_are_as_strong(plain):
    image = noise(99)
    np.testing.assert_array_equal(
        strengths(Borders().restore(plain.arrays()), image), strengths(plain, image)
    )
