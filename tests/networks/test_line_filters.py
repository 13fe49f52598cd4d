"""Line filters: against a slow filter bank, and what they find and where."""

import numpy as np
import pytest

from tests.helpers import COLLECTING

if not COLLECTING:
    from scipy.signal import correlate2d

    from metricad.networks import line_filters
    from metricad.networks.line_filters import DIRECTIONS, RADIUS, SIZES, STRIDE, LineFilters

pytestmark = pytest.mark.tf

SIDE = 256


def noise(seed, shape=(SIDE, SIDE)):
    return np.random.default_rng(seed).normal(0, 0.15, shape).astype(np.float32)


def responses(image):
    return [one.numpy()[0] for one in LineFilters()(image[None, ..., None])]


@pytest.fixture(scope="module")
def standard():
    """Responses of an image in standard deviations of those to plain noise."""
    plain = [responses(noise(seed)) for seed in range(6)]
    mean, deviation = (
        [function(each, axis=(0, 1, 2)) for each in zip(*plain, strict=True)]
        for function in (np.mean, np.std)
    )
    return lambda image: [
        (one - center) / spread for one, center, spread in zip(responses(image), mean, deviation, strict=True)
    ]


def shrunk(image, by):
    rows, columns = (side // by for side in image.shape)
    return image[: rows * by, : columns * by].reshape(rows, by, columns, by).mean(axis=(1, 3))


def slow(image, by):
    """The responses of one size, filter by filter."""
    light = shrunk(image.astype(float), by // 2)
    change = np.diff(light, axis=0)[:, :-1] ** 2 + np.diff(light, axis=1)[:-1] ** 2
    energy = np.log(shrunk(change, 2) + 1e-5)
    ends = [(0, max(0, 2 * RADIUS + 1 - side)) for side in energy.shape]
    energy = np.pad(energy, ends, mode="symmetric")
    step = max(STRIDE // by, 1)
    kernels = np.moveaxis(line_filters._FILTERS[:, :, 0].astype(float), -1, 0)
    found = [np.abs(correlate2d(energy, kernel, "valid"))[::step, ::step] for kernel in kernels]
    return np.stack(found, axis=-1)


@pytest.mark.parametrize("shape", [(160, 131), (68, 90)])
def test_responses_are_those_of_a_slow_filter_bank(shape):
    image = noise(0, shape)
    image[30:34, 10:60] += 0.3
    for found, by in zip(responses(image), SIZES, strict=True):
        np.testing.assert_allclose(found, slow(image, by), atol=1e-3)


def test_filters_do_not_answer_to_even_energy_and_have_norm_1():
    filters = line_filters._FILTERS[:, :, 0].astype(float)
    assert filters.shape[-1] == 2 * DIRECTIONS
    np.testing.assert_allclose(filters.sum(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(np.square(filters).sum(axis=(0, 1)), 1, rtol=1e-5)


def test_brightness_does_not_matter_and_contrast_hardly():
    plain = noise(0, (128, 128))
    for one, brighter, stronger in zip(*map(responses, (plain, plain + 0.3, 2 * plain)), strict=True):
        np.testing.assert_allclose(brighter, one, atol=0.05)
        np.testing.assert_allclose(stronger, one, atol=0.3)


@pytest.mark.parametrize("turn", [lambda image: image, np.transpose], ids=["rows", "columns"])
def test_a_line_answers_at_the_places_that_are_named(turn):
    """The centroid of the responses to a line, over all places that it can have on the grid."""
    for number, (first, stride) in enumerate(line_filters.places()):
        away = []
        for row in range(120, 120 + stride):
            image = np.zeros((SIDE, SIDE), np.float32)
            image[row] = 0.2
            found = turn(responses(turn(image))[number].max(axis=-1)) ** 2
            weights = found.sum(axis=1)
            away.append(np.average(first + stride * np.arange(len(weights)), weights=weights) - row)
        assert np.abs(away).max() <= stride / 2
        assert np.mean(away) == pytest.approx(0, abs=0.1)


def test_places_and_names_go_with_the_maps():
    found = responses(noise(0))
    assert len(line_filters.names()) == len(line_filters.places()) == len(found)
    for (first, stride), one in zip(line_filters.places(), found, strict=True):
        for count in one.shape[:2]:
            last = first + stride * (count - 1)
            assert last <= SIDE - 1
            assert SIDE - 1 - last < first + stride + 0.5


def test_a_faint_long_line_is_found_where_it_is_and_a_short_one_is_not(standard):
    plain = max(one.max() for one in standard(noise(99)))
    largest = {}
    for length in (8, 200):
        image = noise(99)
        image[120:124, 20 : 20 + length] += 0.2
        found = standard(image)
        largest[length] = max(one.max() for one in found)
        if length == 200:
            number = int(np.argmax([one.max() for one in found]))
            first, stride = line_filters.places()[number]
            row, column, direction = np.unravel_index(found[number].argmax(), found[number].shape)
            assert abs(first + stride * row - 121.5) <= 2 * SIZES[number]
            assert 20 <= first + stride * column <= 220
            assert direction == 0  # along the rows
    assert largest[8] < plain + 1
    assert largest[200] > plain + 3


@pytest.mark.parametrize("direction", range(8))
def test_a_line_answers_most_in_its_own_direction(direction):
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    angle = direction * np.pi / DIRECTIONS
    image = noise(1)
    image *= np.where(np.abs(y * np.cos(angle) - x * np.sin(angle)) < 6, 3, 1)
    found = responses(image)[1][..., :DIRECTIONS]
    assert np.unravel_index(found.argmax(), found.shape)[2] == direction


def test_a_streak_of_other_grain_with_the_same_light_is_a_line(standard):
    image = noise(99)
    image[120:136] *= 2
    found = standard(image)
    assert min(one.max() for one in found[:2]) > 12
    for one, (first, stride) in zip(found[:2], line_filters.places(), strict=False):
        assert abs(first + stride * np.unravel_index(one.argmax(), one.shape)[0] - 127.5) <= 16


def test_where_one_texture_ends_and_another_begins_is_an_edge(standard):
    image = noise(99)
    image[:, 128:] *= 2
    for one, (first, stride) in zip(standard(image), line_filters.places(), strict=True):
        _, column, number = np.unravel_index(one.argmax(), one.shape)
        assert one.max() > 12
        assert abs(number - DIRECTIONS - DIRECTIONS // 2) <= 1  # an edge, along the columns
        assert abs(first + stride * column - 127.5) <= 16


@pytest.mark.parametrize("shape", [(68, 68), (69, 300), (71, 83), (200, 75)])
def test_small_and_odd_images_have_finite_responses(shape):
    for image in (noise(0, shape), np.full(shape, 0.3, np.float32)):
        for one in responses(image):
            assert one.shape[-1] == 2 * DIRECTIONS
            assert np.isfinite(one).all()
            assert one.min() >= 0
