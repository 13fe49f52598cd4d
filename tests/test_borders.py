"""Borders between textures: against a slow reference, and what they are told by."""

import numpy as np
import pytest
from metricad.borders import ABSENT, DIRECTIONS, Borders
from scipy.ndimage import uniform_filter
from scipy.signal import correlate2d

from metricad import borders

SIDE = 256


def noise(seed, side=SIDE):
    return np.random.default_rng(seed).normal(0, 0.15, (side, side)).astype(np.float32)


def grid(image):
    """Features of a network at an image: rows and columns."""
    return [(side - 12) // 4 for side in image.shape]


def strengths(found, image):
    like = np.ones((1, *grid(image)), np.float32)
    return borders.strength(image[None, :, :, None], like, found.whitening)[0].numpy()


def learned(images):
    made = Borders()
    for one in images:
        made.update(one, np.ones(grid(one), bool))
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


def slow_strength(image, matrix, kernel, *, runs_on):
    """Logarithm of the strength in one direction at each of the features, ABSENT where there is none.

    Lines can run on beyond the image along one axis, along both or along none.
    """
    ends = [(side // 2 if on else 0,) * 2 for side, on in zip(kernel.shape, runs_on, strict=True)]
    energies = [np.pad(one, ends) for one in slow_energies(image)]
    differences = np.stack([correlate2d(one, kernel, "valid") for one in energies], axis=-1)
    within = correlate2d(np.pad(np.ones_like(slow_energies(image)[0]), ends), kernel**2, "valid")
    differences /= np.sqrt(within)[..., None]
    found = 0.5 * np.log(np.square(differences @ matrix).sum(axis=-1) + 1e-6)
    places = []
    for side, count, features, on in zip(kernel.shape, found.shape, grid(image), runs_on, strict=True):
        pixels = 7.5 + 4 * np.arange(features)
        nearest = np.round((pixels - 3.5) / 8).astype(int) - (0 if on else side // 2)
        places.append((np.clip(nearest, 0, count - 1), (nearest >= 0) & (nearest < count)))
    (rows, has_row), (columns, has_column) = places
    return np.where(np.outer(has_row, has_column), found[np.ix_(rows, columns)], ABSENT)


@pytest.mark.parametrize("shape", [(256, 256), (104, 300), (300, 110)])
def test_strengths_are_those_of_a_slow_reference(plain, shape):
    image = np.random.default_rng(99).normal(0, 0.15, shape).astype(np.float32)
    image[:, shape[1] // 2 :] *= 2
    found = strengths(plain, image)
    runs_on = [(False, True), (False, False), (True, False), (False, False)]
    for number, kernel in enumerate(borders._KERNELS):
        if min(image.shape) // 8 < max(kernel.shape) + 1 and number % 2:
            assert (found[..., number] == ABSENT).all()
            continue
        expected = slow_strength(
            image.astype(float), plain.whitening[number], kernel, runs_on=runs_on[number]
        )
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
    inside = np.zeros(grid(image), bool)
    inside[:, :20] = True
    part, whole, plain = Borders(), Borders(), Borders()
    part.update(image, inside)
    whole.update(image, np.ones_like(inside))
    plain.update(noise(1), inside)
    np.testing.assert_allclose(part.whitening[2], plain.whitening[2], rtol=1e-4)
    assert not np.allclose(part.whitening[2], whole.whitening[2], rtol=0.1)


@pytest.mark.parametrize("shape", [(68, 68), (69, 300), (300, 75), (110, 110)])
def test_where_there_is_no_room_there_is_no_border(shape, plain):
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.15, shape).astype(np.float32)
    found = strengths(learned([image] * 3), image)
    assert np.isfinite(found).all()
    has_room = [(found[..., number] > ABSENT).any() for number in range(DIRECTIONS)]
    # 5 steps of 8 pixels to both sides of a line, and a step less for what changes are made of.
    assert has_room == [shape[0] > 96, False, shape[1] > 96, False]


def test_a_border_along_a_narrow_image_and_across_it_is_found():
    rng = np.random.default_rng(0)
    narrow = learned(rng.normal(0, 0.15, (104, 400)).astype(np.float32) for _ in range(12))
    for direction, half in [(0, np.s_[52:]), (2, np.s_[:, 200:])]:
        image = rng.normal(0, 0.15, (104, 400)).astype(np.float32)
        good = strengths(narrow, image)[..., direction].max()
        image[half] *= 1.6
        found = strengths(narrow, image)
        assert found.max() > good + 0.7
        assert np.unravel_index(found.argmax(), found.shape)[2] == direction


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
