"""Distance to the mean feature: against NumPy and SciPy on everything at once."""

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import COLLECTING

if not COLLECTING:
    from scipy.spatial import distance

    from metricad.density.mean import MeanDistance

pytestmark = pytest.mark.tf


def feature_maps(seed=0, *, shapes=((5, 7), (1, 1), (9, 4)), dimensions=4):
    """Features of a few images, which differ in size and in mean."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(*shape, dimensions)) + rng.normal(size=dimensions)).astype(np.float32)
        for shape in shapes
    ]


def joined(maps):
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps]).astype(np.float64)


@pytest.mark.parametrize(("metric", "oracle"), [("euclidean", "euclidean"), ("manhattan", "cityblock")])
def test_distances_are_those_to_the_mean(metric, oracle):
    maps = feature_maps()
    probe = np.stack(feature_maps(9, shapes=[(6, 5)] * 2))
    layer = MeanDistance(4, metric=metric).adapt(maps)
    mean = joined(maps).mean(axis=0)
    found, expected = layer(probe).numpy(), getattr(distance, oracle)
    assert found.dtype == np.float32
    assert layer.compute_output_shape(probe.shape) == found.shape == (2, 6, 5)
    for place in np.ndindex(found.shape):
        assert found[place] == pytest.approx(expected(probe[place].astype(float), mean), rel=1e-5)


@settings(max_examples=30)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=8),
    dimensions=st.integers(1, 5),
    offset=st.sampled_from([0.0, 1e3]),
    seed=st.integers(0, 2**32),
)
def test_one_pass_agrees_with_all_at_once(shapes, dimensions, offset, seed):
    maps = [one + np.float32(offset) for one in feature_maps(seed, shapes=shapes, dimensions=dimensions)]
    found = MeanDistance(dimensions).adapt(iter(maps)).mean.numpy()
    np.testing.assert_array_equal(found, joined(maps).mean(axis=0).astype(np.float32))


def test_sums_are_taken_in_float64():
    """In float32 the ones would be lost beside 2²⁴."""
    maps = [np.full((1, 1, 1), 2.0**24, np.float32), *[np.ones((1, 1, 1), np.float32)] * 1023]
    found = MeanDistance(1).adapt(maps).mean.numpy()
    assert found == np.float32((2.0**24 + 1023) / 1024)
    assert found != np.float32(2.0**24 / 1024)


def test_only_one_map_is_held_at_a_time():
    handed_out = []

    def stream():
        for one in feature_maps(shapes=[(4, 4)] * 10):
            assert sum(reference() is not None for reference in handed_out) <= 1
            copy = one.copy()
            copy.flags.writeable = False  # nor is one written to
            handed_out.append(weakref.ref(copy))
            yield copy
            del copy

    MeanDistance(4).adapt(stream())
    assert len(handed_out) == 10


def test_a_layer_that_adapts_again_forgets_what_was_before():
    first, second = feature_maps(1), feature_maps(2)
    again = MeanDistance(4).adapt(first).adapt(second)
    np.testing.assert_array_equal(again.mean, MeanDistance(4).adapt(second).mean)


def test_vectors_without_positions_are_taken_as_well():
    maps = feature_maps()
    found = MeanDistance(4).adapt(one.reshape(-1, 4) for one in maps)
    np.testing.assert_array_equal(found.mean, MeanDistance(4).adapt(maps).mean)


def test_at_the_mean_the_distance_is_0():
    layer = MeanDistance(4).adapt(feature_maps())
    np.testing.assert_array_equal(layer(np.full((1, 2, 3, 4), layer.mean, np.float32)), 0)


def test_without_images_there_is_no_mean():
    with pytest.raises(ValueError, match="expected at least one good image"):
        MeanDistance(4).adapt(iter([]))


def test_the_metric_is_kept_in_the_configuration():
    layer = MeanDistance.from_config(MeanDistance(7, metric="manhattan").get_config())
    assert (layer.dimensions, layer.metric) == (7, "manhattan")


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of euclidean, manhattan, received 'cosine'"):
        MeanDistance(4, metric="cosine")
