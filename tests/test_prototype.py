"""Prototypes: what is learned in one pass against NumPy on everything at once, distances against SciPy."""

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance

from metricad.prototype import KINDS, GaussianPrototype, MeanPrototype

EVERY = [MeanPrototype(), MeanPrototype(metric="manhattan"), GaussianPrototype()]
every_kind = pytest.mark.parametrize("empty", EVERY, ids=["mean", "manhattan", "gaussian"])


def fresh(prototype):
    """Another empty prototype of the same kind and settings."""
    return KINDS[prototype.kind](**prototype.settings())


def feature_maps(seed=0, *, shapes=((5, 7), (1, 1), (9, 4)), dimensions=4):
    """Correlated features of a few images, which differ in size and in mean."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions))
    return [
        (rng.normal(size=(*shape, dimensions)) @ mixing + rng.normal(size=dimensions)).astype(np.float32)
        for shape in shapes
    ]


def joined(maps):
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps]).astype(np.float64)


# Fitting.


@settings(max_examples=40)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=8),
    dimensions=st.integers(1, 5),
    offset=st.sampled_from([0.0, 1e3]),
    seed=st.integers(0, 2**32),
)
def test_one_pass_agrees_with_all_at_once(shapes, dimensions, offset, seed):
    maps = [one + np.float32(offset) for one in feature_maps(seed, shapes=shapes, dimensions=dimensions)]
    everything = joined(maps)
    gaussian = GaussianPrototype().fit(iter(maps))
    np.testing.assert_allclose(gaussian.mean, everything.mean(axis=0), rtol=1e-12, atol=1e-12)
    expected = np.atleast_2d(np.cov(everything, rowvar=False, bias=True))
    np.testing.assert_allclose(gaussian.covariance, expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(MeanPrototype().fit(maps).mean, gaussian.mean)


def test_a_large_mean_does_not_eat_a_small_deviation():
    """Sums of squares in one pass would: 1e8 ± 1 has a variance of 1, and its square 17 digits."""
    rng = np.random.default_rng(0)
    maps = [1e8 + rng.choice([-1.0, 1.0], size=(20, 20, 1)) for _ in range(50)]
    covariance = GaussianPrototype().fit(maps).covariance
    assert covariance[0, 0] == pytest.approx(1, rel=1e-2)
    assert covariance[0, 0] == pytest.approx(np.var(joined(maps)), rel=1e-6)


@every_kind
def test_the_order_of_the_images_does_not_matter(empty):
    maps = feature_maps()
    one, other = fresh(empty).fit(maps), fresh(empty).fit(maps[::-1])
    np.testing.assert_allclose(one.distance(maps[0]), other.distance(maps[0]), rtol=1e-4)


@every_kind
def test_memory_does_not_grow_with_the_number_of_images(empty):
    handed_out = []

    def stream():
        for one in feature_maps(shapes=[(4, 4)] * 10):
            assert sum(reference() is not None for reference in handed_out) <= 1
            copy = one.copy()
            handed_out.append(weakref.ref(copy))
            yield copy
            del copy

    fresh(empty).fit(stream())
    assert len(handed_out) == 10


@every_kind
def test_without_images_there_is_no_prototype(empty):
    with pytest.raises(ValueError, match="no feature maps to fit a prototype to"):
        fresh(empty).fit(iter([]))


@every_kind
def test_fitting_again_forgets_what_was_before(empty):
    first, second = feature_maps(1), feature_maps(2)
    again = fresh(empty).fit(first).fit(second)
    np.testing.assert_array_equal(again.distance(first[0]), fresh(empty).fit(second).distance(first[0]))


# Distances.

PROBE = feature_maps(9, shapes=[(6, 5)])[0]


def slow(features, measure):
    return np.array([[measure(vector.astype(np.float64)) for vector in row] for row in features])


@pytest.mark.parametrize(
    ("metric", "oracle"), [("euclidean", distance.euclidean), ("manhattan", distance.cityblock)]
)
def test_distance_to_the_mean(metric, oracle):
    maps = feature_maps()
    mean = joined(maps).mean(axis=0)
    found = MeanPrototype(metric=metric).fit(maps).distance(PROBE)
    np.testing.assert_allclose(found, slow(PROBE, lambda vector: oracle(vector, mean)), rtol=1e-5)


@pytest.mark.parametrize("shrinkage", [1e-3, 0.1, 1.0])
def test_distance_in_the_gaussian_is_mahalanobis_distance(shrinkage):
    maps = feature_maps()
    everything = joined(maps)
    covariance = np.cov(everything, rowvar=False, bias=True)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.eye(4) * np.trace(covariance) / 4
    inverse = np.linalg.inv(shrunk)
    found = GaussianPrototype(shrinkage=shrinkage).fit(maps).distance(PROBE)
    oracle = slow(PROBE, lambda vector: distance.mahalanobis(vector, everything.mean(axis=0), inverse))
    np.testing.assert_allclose(found, oracle, rtol=1e-4)


def test_shrunk_all_the_way_only_the_scale_differs_from_the_euclidean_distance():
    maps = feature_maps()
    ratio = GaussianPrototype(shrinkage=1).fit(maps).distance(PROBE) / MeanPrototype().fit(maps).distance(
        PROBE
    )
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)


def test_mahalanobis_distance_does_not_depend_on_the_features_units():
    """What Euclidean distance lacks: a feature counts by its deviations, not by its size."""
    maps = feature_maps()
    scale = np.float32([1, 3, 0.5, 2])
    slight = GaussianPrototype(shrinkage=1e-9)
    plain = fresh(slight).fit(maps).distance(PROBE)
    scaled = fresh(slight).fit([one * scale for one in maps]).distance(PROBE * scale)
    np.testing.assert_allclose(scaled, plain, rtol=1e-3)


@every_kind
def test_distances_are_float32_and_0_at_the_mean(empty):
    fitted = fresh(empty).fit(feature_maps())
    found = fitted.distance(PROBE)
    assert found.shape == PROBE.shape[:2]
    assert found.dtype == np.float32
    assert (found > 0).all()
    middle = np.full((2, 3, 4), fitted.mean, np.float32)
    np.testing.assert_array_equal(fitted.distance(middle), 0)


@every_kind
@pytest.mark.parametrize("value", [0.0, 0.7, 1e4])
def test_features_that_never_vary_give_finite_distances(empty, value):
    fitted = fresh(empty).fit([np.full((5, 5, 4), value, np.float32)] * 3)
    np.testing.assert_array_equal(fitted.distance(np.full((1, 1, 4), value, np.float32)), 0)
    far = fitted.distance(np.full((1, 1, 4), value + 1e3, np.float32))
    assert np.isfinite(far).all()
    assert (far > 1).all()


def test_a_single_feature_that_never_varies_counts_most():
    rng = np.random.default_rng(0)
    maps = [np.dstack([rng.normal(size=(9, 9)), np.ones((9, 9))]).astype(np.float32) for _ in range(3)]
    fitted = GaussianPrototype().fit(maps)
    usual, unusual = fitted.distance(np.float32([[[1, 1], [0, 2]]]))[0]
    assert np.isfinite(unusual)
    assert unusual > 10 * usual


# Keeping.


@every_kind
def test_arrays_and_settings_are_all_there_is_to_know(empty):
    maps = feature_maps()
    fitted = fresh(empty).fit(maps)
    again = fresh(fitted).restore(fitted.arrays())
    np.testing.assert_array_equal(again.distance(PROBE), fitted.distance(PROBE))
    assert all(array.dtype == np.float64 for array in fitted.arrays().values())


def test_shrinkage_is_among_the_settings():
    assert GaussianPrototype(shrinkage=0.25).settings() == {"shrinkage": 0.25}


@pytest.mark.parametrize("shrinkage", [0, -0.1, 1.1, float("nan")])
def test_a_shrinkage_outside_its_range_is_refused(shrinkage):
    with pytest.raises(ValueError, match="shrinkage must lie in"):
        GaussianPrototype(shrinkage=shrinkage)


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of euclidean, manhattan, received 'cosine'"):
        MeanPrototype(metric="cosine")
