"""What neighbours say: against a slow mean, at borders, and with a region."""

import numpy as np
import pytest
from metricad.neighbourhood import RADIUS, gathered
from metricad.prototype import GaussianPrototype

from metricad import kinds
from metricad.inspection.detector import TripletDetector
from metricad.networks import hypercolumn
from metricad.networks import residual as network
from metricad.preprocessing.regions import MaskRegion

SHAPE = (23, 30)


def distances(seed=0):
    return np.random.default_rng(seed).gamma(4, 1, SHAPE).astype(np.float32)


def slow(found, inside):
    rows, columns = np.indices(found.shape)
    expected = np.zeros(found.shape)
    for place in np.argwhere(inside):
        apart = np.stack([rows - place[0], columns - place[1]])
        weights = np.exp(-0.5 * (apart**2).sum(axis=0) / 2.5**2)
        weights *= inside & (np.abs(apart).max(axis=0) <= RADIUS)
        neighbours = np.sqrt((weights * found.astype(float) ** 2).sum() / weights.sum())
        expected[tuple(place)] = np.sqrt(found[tuple(place)] * neighbours)
    return expected


@pytest.mark.parametrize("columns", [None, slice(4, 6), slice(0, 17)])
def test_it_is_the_slow_mean_of_what_lies_inside(columns):
    inside = np.ones(SHAPE, bool)
    if columns is not None:
        inside[:, columns] = False
    found = np.where(inside, distances(), np.float32(0))
    given = None if columns is None else inside
    np.testing.assert_allclose(gathered(found, given), slow(found, inside), rtol=1e-4, atol=1e-6)


def test_even_maps_stay_as_they_are():
    for value in (0, 3):
        np.testing.assert_allclose(gathered(np.full(SHAPE, value, np.float32)), value, rtol=1e-5)


def test_a_cluster_counts_for_more_than_one_alone():
    single, cluster = np.ones((2, 40, 40), np.float32)
    single[20, 20] = 4
    cluster[18:23, 18:23] = 3
    assert gathered(cluster).max() > gathered(single).max()
    assert gathered(single).argmax() == single.argmax()


def test_what_lies_outside_a_region_has_no_say():
    model = hypercolumn.build(2, seed=0)
    mask = np.zeros((128, 128), bool)
    mask[:, :64] = True
    rng = np.random.default_rng(0)
    good = rng.normal(0, 0.2, (4, 128, 128)).astype(np.float32)
    made = TripletDetector(model, GaussianPrototype(), region=MaskRegion(mask), gathers=True).fit(good)
    changed = good[0].copy()
    changed[:, 110:] = 1  # far enough that no feature inside sees it
    np.testing.assert_array_equal(made.distance_map(changed), made.distance_map(good[0]))
    plain = TripletDetector(model, made.prototype, region=made.region)
    inside = made.inside(good[0], made.distance_map(good[0]).shape)
    np.testing.assert_array_equal(made.distance_map(good[0]), gathered(plain.distance_map(good[0]), inside))


def test_neighbours_have_a_say_on_all_but_the_papers_network():
    assert not kinds.gathers(network.build(2, seed=0))
    assert kinds.gathers(hypercolumn.build(2, seed=0))
    assert kinds.gathers(hypercolumn.build_three_scales(2, seed=0))
