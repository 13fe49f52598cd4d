"""The image score, the peak and the source: against NumPy, image by image."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metricad.networks.feature_grid import FeatureGrid
from metricad.scoring import anomaly_maps
from metricad.scoring.score_names import DEFAULT, SCORES, checked
from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.scoring.score import AREA, ImageScore, OnPixels, top_mean

pytestmark = pytest.mark.tf

every_score = pytest.mark.parametrize("score", SCORES)


def contributions(seed=0, *, shape=(40, 50), sources=3, count=2):
    rng = np.random.default_rng(seed)
    return rng.normal(-1, 1, (count, *shape, sources)).astype(np.float32)


def judge(layer, shares, inside=None):
    """What the layer says of contributions (N, h, w, sources), as arrays."""
    anomaly = shares.sum(axis=-1)
    known = np.ones(anomaly.shape, np.float32) if inside is None else inside.astype(np.float32)
    return {name: one.numpy() for name, one in layer(anomaly, shares, known).items()}


def insides(count=2, shape=(40, 50), seed=0):
    """Regions of different sizes, one for each image."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.random(shape) < share for share in np.linspace(0.05, 0.6, count)])


# The largest values.


def slow_top_mean(values, count):
    """Sort all, take the last, add them up."""
    return sum(sorted(map(float, values.ravel()))[-count:]) / count


@pytest.mark.parametrize(
    ("shape", "score", "count"),
    [
        ((40, 50), "max", 1),
        ((40, 50), "top-0.1%", 2),
        ((40, 50), "top-1%", 20),
        ((40, 50), "top-10%", 200),
        ((9, 9), "top-0.1%", 1),
        ((9, 9), "top-10%", 8),
        ((1, 1), "top-10%", 1),
    ],
)
def test_scores_are_means_of_the_largest_values(shape, score, count):
    values = np.random.default_rng(1).uniform(1e3, 1e6, shape).astype(np.float32)
    before = values.copy()
    expected = pytest.approx(slow_top_mean(values, count), rel=1e-6)
    assert top_mean(values, SCORES[score]) == expected
    assert judge(ImageScore(score), values[None, ..., None])["score"][0] == expected
    np.testing.assert_array_equal(values, before)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60), columns=st.integers(1, 60))
def test_a_wider_score_is_never_larger(seed, rows, columns):
    values = np.random.default_rng(seed).exponential(size=(rows, columns)).astype(np.float32)
    found = [top_mean(values, share) for share in SCORES.values()]
    assert found[0] == values.max()
    assert all(wide <= narrow + 1e-6 * narrow for narrow, wide in itertools.pairwise(found))


@every_score
def test_the_layer_takes_as_many_places_as_numpy_does(score):
    """Of the numbers from 0 the mean of the largest tells how many they were; halves count, too."""
    layer, among = ImageScore(score), round(1 / (SCORES[score] or 1))
    halves = [among // 2 * number + step for number in range(1, 12) for step in (-1, 0, 1)]
    for size in {*range(1, 12), *(one for one in halves if one > 0)}:
        values = np.arange(size, dtype=np.float32)[None]
        found = judge(layer, values[None, ..., None])["score"][0]
        assert found == pytest.approx(top_mean(values, SCORES[score]), rel=1e-5), size


@every_score
@pytest.mark.parametrize("has_region", [False, True])
def test_the_score_of_each_image_of_a_batch_is_that_of_numpy(score, has_region):
    layer, shares = ImageScore(score), contributions()
    layer.center.assign(0.5)
    layer.spread.assign(2.0)
    inside = insides() if has_region else None
    found = judge(layer, shares, inside)
    for number, one in enumerate(shares.sum(axis=-1)):
        expected = top_mean(one, SCORES[score], None if inside is None else inside[number])
        assert found["score"][number] == pytest.approx((expected - 0.5) / 2, abs=1e-4)


@every_score
def test_a_batch_is_each_of_its_images_alone(score):
    shares, inside = contributions(), insides()
    together = judge(ImageScore(score), shares, inside)
    for number in range(2):
        alone = judge(ImageScore(score), shares[number][None], inside[number][None])
        for name, one in alone.items():
            np.testing.assert_allclose(together[name][number], one[0], rtol=1e-5, atol=1e-5)


def test_a_map_with_a_hole_has_no_score():
    """A network that diverged is told from its scores."""
    values = np.ones((40, 40), np.float32)
    values[3, 4] = np.nan
    assert all(np.isnan(top_mean(values, share)) for share in SCORES.values())


def test_an_image_of_one_place_has_a_score():
    found = judge(ImageScore(), contributions(shape=(1, 1)))
    np.testing.assert_allclose(found["score"], contributions(shape=(1, 1)).sum(axis=-1).ravel(), rtol=1e-5)
    np.testing.assert_array_equal(found["place"], [[0, 0], [0, 0]])


# Where.


def test_outside_the_region_the_map_has_its_least_value_inside():
    shares, inside = contributions(), insides()
    found = judge(ImageScore(), shares, inside)["anomaly"]
    anomaly = shares.sum(axis=-1)
    np.testing.assert_allclose(found[inside], anomaly[inside], atol=1e-5)
    for one, known, whole in zip(found, inside, anomaly, strict=True):
        np.testing.assert_allclose(one[~known], whole[known].min(), atol=1e-5)


def test_the_peak_of_the_maximum_is_the_largest_value():
    shares = contributions()
    found = judge(ImageScore("max"), shares)["place"]
    assert found.dtype == np.int32
    for place, one in zip(found, shares.sum(axis=-1), strict=True):
        assert tuple(place) == np.unravel_index(one.argmax(), one.shape)


@pytest.mark.parametrize("score", [name for name in SCORES if name != "max"])
def test_the_peak_of_other_scores_is_the_middle_of_the_area_with_the_largest_mean(score):
    shares = 0.1 * contributions(sources=1)
    shares[0, 10, 40] += 3  # alone
    shares[0, 25:30, 12:17] += 2  # many together
    assert AREA == 5
    found = judge(ImageScore(score), shares)
    np.testing.assert_allclose(found["place"][0], [27, 14], atol=1)
    assert tuple(judge(ImageScore("max"), shares)["place"][0]) == (10, 40)


@every_score
def test_the_peak_lies_inside_the_region(score):
    shares, inside = contributions(sources=1), np.zeros((2, 40, 50), bool)
    inside[0, 30:, :7] = inside[1, :3, 20:] = True
    shares[:, 10:20, 20:30] += 9
    for place, known in zip(judge(ImageScore(score), shares, inside)["place"], inside, strict=True):
        assert known[tuple(place)]


@every_score
def test_the_source_is_the_one_that_contributes_most_where_it_counts(score):
    shares = 0.1 * contributions(sources=3, count=3)
    for number, source in enumerate((2, 0, 1)):
        shares[number, 10:20, 10:20, source] += 5
        shares[number, 30:, :, (source + 1) % 3] += 3
        shares[number, 30:, :, (source + 2) % 3] -= 3  # large in sum only, and where it does not count
    found = judge(ImageScore(score), shares)["source"]
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [2, 0, 1])


@every_score
def test_a_source_that_says_nothing_is_not_named_unless_all_do(score):
    shares = contributions() - 9
    shares[..., [0, 2]] = 0
    np.testing.assert_array_equal(judge(ImageScore(score), shares)["source"], [1, 1])
    np.testing.assert_array_equal(judge(ImageScore(score), 0 * shares)["source"], [0, 0])


@every_score
def test_a_source_outside_the_region_does_not_count(score):
    shares, inside = 0.1 * contributions(), np.ones((2, 40, 50), bool)
    shares[:, 10:20, 10:20, 2] += 5
    shares[:, 30:35, 10:20, 1] += 9
    inside[:, 25:] = False
    np.testing.assert_array_equal(judge(ImageScore(score), shares, inside)["source"], [2, 2])


# What good images teach.


@every_score
def test_good_images_have_scores_of_mean_0_and_deviation_1(score):
    shares, inside = contributions(count=12), insides(12)
    layer = ImageScore(score).adapt(list(shares.sum(axis=-1)), list(inside))
    found = judge(layer, shares, inside)["score"]
    assert found.mean() == pytest.approx(0, abs=1e-4)
    assert found.std() == pytest.approx(1, abs=1e-4)


def test_good_images_that_never_vary_leave_scores_finite():
    layer = ImageScore().adapt([np.ones((9, 9), np.float32)] * 3, [None] * 3)
    found = judge(layer, np.stack([np.ones((9, 9, 1)), np.full((9, 9, 1), 2)]).astype(np.float32))["score"]
    assert found[0] == 0
    assert np.isfinite(found).all()
    assert found[1] > 100


def test_the_maps_value_that_corresponds_to_a_score_gives_this_score():
    layer = ImageScore().adapt(list(contributions(count=12).sum(axis=-1)), [None] * 12)
    even = np.full((1, 20, 20, 1), layer.map_value(3.5), np.float32)
    assert judge(layer, even)["score"][0] == pytest.approx(3.5, abs=1e-4)
    assert ImageScore("max").map_value(3.5) == 3.5


def test_the_score_is_kept_in_the_configuration():
    assert ImageScore.from_config(ImageScore("top-10%").get_config()).score == "top-10%"
    assert ImageScore().score == DEFAULT


def test_an_unknown_score_is_refused():
    words = r"one of max, top-0\.1%, top-1%, top-10%, received 'median'"
    for make in (ImageScore, checked):
        with pytest.raises(ValueError, match=words):
            make("median")


# On the pixels.


@pytest.mark.parametrize(("first", "stride"), [(15.5, 2), (7.5, 4), (15.5, 8)])
@pytest.mark.parametrize(
    ("features", "shape"), [((9, 12), (160, 201)), ((1, 1), (136, 136)), ((3, 1), (140, 90))]
)
def test_the_layer_puts_maps_on_pixels_as_numpy_does(first, stride, features, shape):
    found = np.random.default_rng(0).normal(size=(2, *features)).astype(np.float32)
    grid = FeatureGrid(first, stride, smallest=1)
    layer = OnPixels((first, stride))
    pixels = np.zeros((2, *shape, 1), np.float32)
    placed = layer(found, pixels)
    assert placed.shape == layer.compute_output_shape(found.shape, pixels.shape) == (2, *shape)
    for one, expected in zip(placed, found, strict=True):
        np.testing.assert_allclose(one, anomaly_maps.place(expected, shape, grid), atol=1e-5)
    again = OnPixels.from_config(layer.get_config())
    np.testing.assert_array_equal(again(found, pixels), placed)
