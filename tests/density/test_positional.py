"""A Gaussian at each position: against a slow loop over everything, and what it alone finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import COLLECTING

if not COLLECTING:
    from scipy.spatial.distance import mahalanobis
    from scipy.stats import multivariate_normal

    from metricad.density.mixture import GaussianMixture
    from metricad.density.positional import PositionalGaussian, PositionalMoments

pytestmark = pytest.mark.tf


def in_register(seed=0, *, shape=(6, 5), count=6, dimensions=4):
    """Features of images of one size: each position with its own mean."""
    rng = np.random.default_rng(seed)
    mean = 3 * rng.normal(size=(*shape, dimensions))
    mixing = rng.normal(size=(dimensions, dimensions)) + np.eye(dimensions)
    return [(mean + rng.normal(size=(*shape, dimensions)) @ mixing).astype(np.float32) for _ in range(count)]


def slow_covariance(maps, inside=None):
    """About the positions' means, unbiased."""
    everything = np.stack(maps).astype(np.float64)
    away = everything - everything.mean(axis=0)
    vectors = (
        away.reshape(-1, away.shape[-1]) if inside is None else away[:, inside].reshape(-1, away.shape[-1])
    )
    total = np.zeros((vectors.shape[1],) * 2)
    for one in vectors:
        total += np.outer(one, one)
    places = np.prod(everything.shape[1:3]) if inside is None else inside.sum()
    return total / (max(len(maps) - 1, 1) * places)


def moments_of(maps, inside=None):
    moments = PositionalMoments()
    for one in maps:
        moments.update(one, inside)
    return moments


# Moments.


@settings(max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    count=st.integers(1, 6),
    dimensions=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_one_pass_agrees_with_a_slow_loop_over_everything(shape, count, dimensions, seed):
    maps = in_register(seed, shape=shape, count=count, dimensions=dimensions)
    found = moments_of(maps)
    assert found.count == count
    np.testing.assert_allclose(found.mean, np.mean(np.float64(maps), axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.covariance, slow_covariance(maps), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cuts", [[2], [1, 4], [0, 3]])
def test_moments_of_folds_add_up(cuts):
    maps = in_register(count=6)
    parts = [moments_of(maps[start:end]) for start, end in zip([0, *cuts], [*cuts, 6], strict=True)]
    total = sum(parts[1:], parts[0])
    whole = moments_of(maps)
    assert total.count == 6
    np.testing.assert_allclose(total.mean, whole.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total.covariance, whole.covariance, rtol=1e-5, atol=1e-6)


def test_adding_leaves_the_parts_as_they_were():
    maps = in_register(count=6)
    one, other = moments_of(maps[:3]), moments_of(maps[3:])
    before = one.mean.copy(), other.mean.copy()
    both = one + other
    both.update(maps[0])
    np.testing.assert_array_equal(one.mean, before[0])
    np.testing.assert_array_equal(other.mean, before[1])
    assert (one.count, other.count, both.count) == (3, 3, 7)


def test_outside_a_region_there_are_means_but_nothing_for_the_covariance():
    inside = np.zeros((6, 5), bool)
    inside[2:4, 1:] = True
    maps = in_register()
    found = moments_of(maps, inside)
    np.testing.assert_allclose(found.mean, np.mean(np.float64(maps), axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.covariance, slow_covariance(maps, inside), rtol=1e-4, atol=1e-4)


def test_a_region_may_be_another_in_every_image():
    """The covariance is that of all that is inside, about the means of all images."""
    maps = in_register(count=8)
    rng = np.random.default_rng(0)
    insides = [rng.random((6, 5)) < share for share in np.linspace(0.2, 0.9, 8)]
    moments = PositionalMoments(), PositionalMoments()
    for number, (one, inside) in enumerate(zip(maps, insides, strict=True)):
        moments[number % 2].update(one, inside)
    found = moments[0] + moments[1]
    mean = np.mean(np.float64(maps), axis=0)
    away = np.concatenate([(one - mean)[inside] for one, inside in zip(maps, insides, strict=True)])
    expected = away.T @ away / (len(away) * 7 / 8)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-4, atol=1e-4)


def test_a_large_mean_does_not_eat_a_small_deviation():
    rng = np.random.default_rng(0)
    maps = [np.float32(1e4) + rng.choice([-1, 1], size=(4, 4, 1)).astype(np.float32) for _ in range(50)]
    halves = moments_of(maps[:25]), moments_of(maps[25:])
    for found in (moments_of(maps), halves[0] + halves[1]):
        assert found.covariance.item() == pytest.approx(slow_covariance(maps).item(), rel=1e-5)


# Distances.


def fitted(maps):
    return PositionalGaussian(maps[0].shape[-1], maps[0].shape[:2]).adapt(maps)


def test_distances_are_mahalanobis_distances_to_the_mean_at_each_position():
    maps = in_register(count=60)
    probe = np.stack(in_register(9, count=2))
    found = fitted(maps)(probe).numpy()
    mean, inverse = np.mean(np.float64(maps), axis=0), np.linalg.inv(slow_covariance(maps))
    assert found.shape == (2, 6, 5)
    assert found.dtype == np.float32
    for number, row, column in np.ndindex(found.shape):
        expected = mahalanobis(probe[number, row, column].astype(float), mean[row, column], inverse)
        assert found[number, row, column] == pytest.approx(expected, rel=0.05)


def test_the_likelihood_is_that_of_scipy():
    maps = in_register(count=60)
    layer = fitted(maps)
    projection = layer.projection.numpy().astype(float)
    covariance = np.linalg.inv(projection @ projection.T)
    np.testing.assert_allclose(covariance, slow_covariance(maps), rtol=0.05, atol=0.05)
    away = maps[0].astype(float) - layer.mean.numpy()
    expected = multivariate_normal(np.zeros(4), covariance).logpdf(away)
    np.testing.assert_allclose(layer.log_likelihood(maps[0][None])[0], expected, rtol=1e-3)


def test_what_is_good_elsewhere_is_found_only_by_position():
    """A ramp from left to right, and a part whose middle looks as the left edge does."""
    rng = np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(-4, 4, 16)[:, np.newaxis], (12, 16, 3))
    good = [(ramp + 0.1 * rng.normal(size=ramp.shape)).astype(np.float32) for _ in range(12)]
    defect = good[-1].copy()
    defect[4:7, 7:9] = defect[4:7, :2]
    positional, mixture = fitted(good[:6]), GaussianMixture(3, 4).adapt(good[:6])
    for layer, is_found in ((positional, True), (mixture, False)):
        *scores, marked = (float(np.max(layer(one[None]))) for one in (*good[6:], defect))
        assert (marked > 3 * max(scores)) == is_found


@pytest.mark.parametrize("value", [0.0, 0.7, 1e4])
@pytest.mark.parametrize("count", [1, 3])
def test_features_that_never_vary_give_finite_distances(value, count):
    layer = fitted([np.full((5, 5, 4), value, np.float32)] * count)
    np.testing.assert_array_equal(layer(np.full((1, 5, 5, 4), value, np.float32)), 0)
    far = layer(np.full((1, 5, 5, 4), value + 1e3, np.float32)).numpy()
    assert np.isfinite(far).all()
    assert (far > 1).all()


def test_from_one_image_the_distance_is_euclidean_up_to_scale():
    first, second = in_register(count=2)
    ratio = fitted([first])(second[None])[0].numpy() / np.linalg.norm(second - first, axis=-1)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_a_copy_with_its_weights_gives_the_same_distances():
    maps = in_register()
    layer = fitted(maps)
    copy = PositionalGaussian.from_config(layer.get_config())
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(maps[0][None]), layer(maps[0][None]))
    assert layer.compute_output_shape((7, 6, 5, 4)) == (7, 6, 5)


def test_moments_without_a_map_are_those_of_the_others():
    rng = np.random.default_rng(0)
    maps = rng.normal(2, 1, (5, 4, 3, 2)).astype(np.float32)
    insides = rng.random((5, 4, 3)) > 0.3
    left, others = PositionalMoments(), PositionalMoments()
    for number, (one, inside) in enumerate(zip(maps, insides, strict=True)):
        left.update(one, inside)
        if number != 3:
            others.update(one, inside)
    left.update(maps[3], insides[3], sign=-1)
    assert left.count == 4
    np.testing.assert_allclose(left.mean, others.mean, rtol=1e-6)
    np.testing.assert_allclose(left.covariance, others.covariance, rtol=1e-5, atol=1e-7)
