"""Mixtures of Gaussians: one against SciPy, several against what they were drawn from."""

import numpy as np
import pytest

from metricad.density.covariance import log_peak, shrunk, whitening
from tests.helpers import COLLECTING

if not COLLECTING:
    from scipy.spatial.distance import mahalanobis
    from scipy.stats import multivariate_normal

    from metricad.density.mixture import GaussianMixture, MixtureMoments, _moments, whitened

pytestmark = pytest.mark.tf

CENTERS = np.array([[0.0, 0.0, 0.0], [12.0, -6.0, 9.0]])


def correlated(count, seed=0, *, dimensions=3):
    """Vectors (count, d) with a covariance of their own."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions)) + np.eye(dimensions)
    return (rng.normal(size=(count, dimensions)) @ mixing).astype(np.float32)


def two_clusters(count=4000):
    """Vectors of two clusters, each correlated in its own way, one after the other."""
    return np.concatenate([correlated(count, seed) + CENTERS[seed] for seed in (0, 1)]).astype(np.float32)


def distances(layer, vectors):
    return layer(vectors[None, None]).numpy()[0, 0]


def components(layer):
    """Mean and covariance of each component, from the layer's weights."""
    mean, projections, offsets = (
        one.numpy().astype(float) for one in (layer.mean, layer.projections, layer.offsets)
    )
    inverses = np.linalg.inv(projections)
    means = mean + np.einsum("kd,kde->ke", offsets, inverses)
    return means, np.einsum("kdc,kec->kde", inverses.swapaxes(1, 2), inverses.swapaxes(1, 2))


# Covariances.


def test_whitened_vectors_have_unit_covariance():
    vectors = correlated(500).astype(float)
    covariance = np.cov(vectors.T)
    np.testing.assert_allclose(np.cov((vectors @ whitening(covariance)).T), np.eye(3), atol=1e-9)
    both = whitening(np.stack([covariance, 4 * covariance]))
    np.testing.assert_allclose(both[0], 2 * both[1])


def test_the_density_at_the_mean_is_that_of_scipy():
    covariance = np.cov(correlated(500).T)
    expected = multivariate_normal(np.zeros(3), covariance).logpdf(np.zeros(3))
    assert log_peak(whitening(covariance)) == pytest.approx(expected)


def test_a_shrunk_covariance_can_be_inverted_and_is_hardly_another():
    flat = np.diag([1.0, 4.0, 0.0])
    assert np.linalg.cond(shrunk(flat)) < 1e4
    np.testing.assert_allclose(shrunk(flat), flat, atol=0.01 * 4)
    assert np.isfinite(whitening(shrunk(np.zeros((3, 3))))).all()


# One component.


def test_one_component_gives_the_mahalanobis_distance():
    vectors, probe = correlated(3000), correlated(50, seed=0)[20:] * 3
    found = distances(GaussianMixture(3).fit(vectors), probe)
    inverse = np.linalg.inv(np.cov(vectors.T.astype(float)))
    expected = [mahalanobis(one, vectors.mean(axis=0), inverse) for one in probe.astype(float)]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_the_likelihood_of_one_component_is_that_of_scipy():
    vectors = correlated(2000)
    layer = GaussianMixture(3).fit(vectors)
    (mean,), (covariance,) = components(layer)
    np.testing.assert_allclose(mean, vectors.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(vectors.T), rtol=0.05, atol=0.02)
    found = layer.log_likelihood(vectors[None, :20, None])[0, :, 0]
    np.testing.assert_allclose(found, multivariate_normal(mean, covariance).logpdf(vectors[:20]), rtol=1e-3)


def test_distances_do_not_depend_on_the_features_units():
    vectors, scale = correlated(2000), np.float32([1, 3, 0.5])
    plain = distances(GaussianMixture(3).fit(vectors), vectors[:50])
    scaled = distances(GaussianMixture(3).fit(vectors * scale), vectors[:50] * scale)
    np.testing.assert_allclose(scaled, plain, rtol=0.1)


def test_a_large_mean_does_not_eat_a_small_deviation():
    vectors = correlated(2000)
    plain = distances(GaussianMixture(3).fit(vectors), vectors[:50])
    moved = distances(GaussianMixture(3).fit(vectors + np.float32(1e3)), vectors[:50] + np.float32(1e3))
    np.testing.assert_allclose(moved, plain, rtol=1e-2, atol=1e-2)


def test_a_single_feature_that_never_varies_counts_most():
    vectors = correlated(500)
    vectors[:, 2] = 1
    usual, unusual = distances(GaussianMixture(3).fit(vectors), np.float32([[1, 0, 1], [0, 0, 2]]))
    assert np.isfinite(unusual)
    assert unusual > 5 * usual


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("value", [0.0, 0.7, 1e4])
def test_features_that_never_vary_give_finite_distances(value, count):
    layer = GaussianMixture(4, count).fit(np.full((60, 4), value, np.float32))
    same, other = distances(layer, np.float32([[value] * 4, [value + 10] * 4]))
    assert same == 0
    assert np.isfinite(other)
    assert other > 1
    assert np.isfinite(layer.log_likelihood(np.full((1, 1, 1, 4), value, np.float32))).all()


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("components", [1, 3])
def test_fewer_vectors_than_dimensions_give_finite_distances(count, components):
    layer = GaussianMixture(5, components).fit(correlated(count, dimensions=5))
    found = distances(layer, correlated(30, seed=1, dimensions=5))
    assert np.isfinite(found).all()
    assert (found > 0).all()


# Several.


@pytest.fixture(scope="module")
def two():
    return GaussianMixture(3, 2).fit(two_clusters(), seed=1)


def test_two_clusters_are_found(two):
    means, covariances = components(two)
    order = np.argsort(means[:, 0])
    for number, own in zip(order, (0, 1), strict=True):
        drawn = correlated(4000, own).astype(float)
        np.testing.assert_allclose(means[number], drawn.mean(axis=0) + CENTERS[own], atol=0.1)
        scale = np.trace(np.cov(drawn.T)) / 3
        np.testing.assert_allclose(covariances[number], np.cov(drawn.T), atol=0.15 * scale)


def test_the_distance_is_that_to_the_nearest_component(two):
    probe = two_clusters()[::400] + np.float32([1, 2, 0])
    means, covariances = components(two)
    expected = [
        min(
            mahalanobis(one, mean, np.linalg.inv(each)) for mean, each in zip(means, covariances, strict=True)
        )
        for one in probe.astype(float)
    ]
    np.testing.assert_allclose(distances(two, probe), expected, rtol=1e-3)


def test_between_two_clusters_one_gaussian_sees_nothing_and_two_do(two):
    vectors, middle = two_clusters(), CENTERS.mean(axis=0)[None].astype(np.float32)
    one = GaussianMixture(3).fit(vectors)
    assert distances(one, middle) < np.median(distances(one, vectors))
    assert distances(two, middle) > distances(two, vectors).max()


def test_the_likelihood_is_that_of_the_weighted_components():
    uneven = np.concatenate([two_clusters()[:4000], two_clusters()[4000:5000]])
    layer = GaussianMixture(3, 2).fit(uneven)
    means, covariances = components(layer)
    order = np.argsort(means[:, 0])
    density = sum(
        share * multivariate_normal(means[number], covariances[number]).pdf(uneven[::100])
        for share, number in zip((0.8, 0.2), order, strict=True)
    )
    found = layer.log_likelihood(uneven[None, None, ::100])[0, 0]
    np.testing.assert_allclose(found, np.log(density), atol=0.01)


@pytest.mark.parametrize("count", [1, 3])
def test_the_density_integrates_to_1(count):
    vectors = np.concatenate([correlated(500, seed, dimensions=2) + 3 * seed for seed in range(3)])
    layer = GaussianMixture(2, count).fit(vectors)
    step = 0.1
    grid = np.stack(np.meshgrid(*[np.arange(-20, 26, step)] * 2), axis=-1).astype(np.float32)
    total = np.exp(layer.log_likelihood(grid[None]).numpy().astype(float)).sum() * step**2
    assert total == pytest.approx(1, abs=0.01)


def test_a_component_of_few_vectors_has_the_pooled_covariance():
    rng = np.random.default_rng(0)
    many = rng.normal(size=(4000, 3)) * [1, 2, 0.5]
    few = 40 + 1e-3 * rng.normal(size=(5, 3))
    white = np.concatenate([many, few]).astype(np.float32)
    centers, (own, fallback), counts = _moments(white, np.repeat([0, 1], [4000, 5]), 2)
    np.testing.assert_array_equal(counts, [4000, 5])
    np.testing.assert_allclose(centers[1], 40, atol=0.01)
    np.testing.assert_allclose(own, np.cov(many.T), rtol=0.05, atol=0.01)
    np.testing.assert_allclose(fallback, np.cov(many.T), rtol=0.05, atol=0.01)


def test_a_component_without_vectors_is_no_place_of_its_own():
    """Its center would else be the mean of all, which lies far from any vector."""
    white = two_clusters(500) - CENTERS.mean(axis=0).astype(np.float32)
    members = np.repeat([0, 2], 500)
    centers, covariances, counts = _moments(white, members, 4)
    np.testing.assert_array_equal(counts, [500, 0, 500, 0])
    np.testing.assert_allclose(
        centers[[0, 2]], [white[:500].mean(axis=0), white[500:].mean(axis=0)], atol=1e-3
    )
    assert np.linalg.norm(centers, axis=1).min() > 5
    assert np.isfinite(covariances).all()


def test_the_seed_decides_the_components():
    vectors = correlated(500)
    one, same, other = (GaussianMixture(3, 5).fit(vectors, seed=seed) for seed in (3, 3, 4))
    for weights, again in zip(one.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, again)
    assert not np.array_equal(distances(one, vectors), distances(other, vectors))


# As a layer.


def test_adapting_to_maps_is_a_fit_to_their_vectors():
    vectors = two_clusters(300)
    adapted = GaussianMixture(3, 2).adapt(iter(vectors.reshape(6, 10, 10, 3)))
    fitted = GaussianMixture(3, 2).fit(vectors)
    # The sample has them in another order.
    np.testing.assert_allclose(distances(adapted, vectors), distances(fitted, vectors), rtol=1e-3, atol=1e-3)


def test_there_is_one_distance_for_each_feature(two):
    probe = two_clusters()[::40].reshape(2, 10, 10, 3)
    assert two.compute_output_shape(probe.shape) == two(probe).shape == (2, 10, 10)


def test_a_copy_with_its_weights_gives_the_same_distances(two):
    copy = GaussianMixture.from_config(two.get_config())
    copy.set_weights(two.get_weights())
    np.testing.assert_array_equal(distances(copy, two_clusters()[::40]), distances(two, two_clusters()[::40]))


def test_no_components_are_refused():
    with pytest.raises(ValueError, match="at least 1, received 0"):
        GaussianMixture(3, 0)


# Without some vectors.


def test_one_component_without_some_vectors_is_that_of_the_others():
    vectors, left_out = correlated(900), np.arange(900) % 5 == 0
    moments = MixtureMoments(GaussianMixture(3).fit(vectors), vectors, whitened(vectors))
    found, expected = moments.without(left_out), GaussianMixture(3).fit(vectors[~left_out])
    for one, other in zip(components(found), components(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    probes = correlated(50, seed=3)
    likelihoods = (each.log_likelihood(probes[None, None]) for each in (found, expected))
    np.testing.assert_allclose(*likelihoods, atol=2e-3)


def test_a_component_without_its_vectors_is_gone():
    vectors = two_clusters(1000)
    full = GaussianMixture(3, 2).fit(vectors)
    second = np.arange(2000) >= 1000
    assert distances(full, CENTERS[1:].astype(np.float32))[0] < 1
    np.testing.assert_array_equal(full.members(vectors) == full.members(vectors)[0], ~second)
    moments = MixtureMoments(full, vectors, whitened(vectors))
    assert distances(moments.without(second), CENTERS[1:].astype(np.float32))[0] > 5
    nothing = moments.without(np.zeros(2000, bool))
    for one, other in zip(components(nothing), components(full), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-2)
