"""Prototypes: what is learned map by map against NumPy on everything at once, distances against SciPy."""

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metricad.kinds import KINDS
from metricad.positional import PositionalPrototype
from metricad.prototype import GaussianPrototype, MeanPrototype
from scipy.spatial import distance

from metricad.errors import DataError

EVERY = [MeanPrototype(), MeanPrototype(metric="manhattan"), GaussianPrototype(), PositionalPrototype()]
every_kind = pytest.mark.parametrize("empty", EVERY, ids=["mean", "manhattan", "gaussian", "positional"])


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


def maps_for(prototype, seed=0):
    """Feature maps that this kind takes: of one size for the positional, of several for the others."""
    return in_register(seed) if prototype.kind == "positional" else feature_maps(seed)


def in_register(seed=0, *, shape=(6, 5), count=4, dimensions=4):
    """Features of images of one size: each position with its own mean and its own deviation."""
    rng = np.random.default_rng(seed)
    mean = 3 * rng.normal(size=(*shape, dimensions))
    deviation = rng.uniform(0.2, 2, size=(*shape, 1))
    return [
        (mean + deviation * one).astype(np.float32)
        for one in feature_maps(seed, shapes=[shape] * count, dimensions=dimensions)
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
    np.testing.assert_allclose(gaussian.covariance, [expected], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(MeanPrototype().fit(maps).mean, gaussian.mean, rtol=1e-12, atol=1e-12)


def test_a_large_mean_does_not_eat_a_small_deviation():
    """Sums of squares in one pass would: 1e8 ± 1 has a variance of 1, and its square 17 digits."""
    rng = np.random.default_rng(0)
    maps = [1e8 + rng.choice([-1.0, 1.0], size=(20, 20, 1)) for _ in range(50)]
    covariance = GaussianPrototype().fit(maps).covariance
    assert covariance.item() == pytest.approx(1, rel=1e-2)
    assert covariance.item() == pytest.approx(np.var(joined(maps)), rel=1e-6)


@every_kind
def test_the_order_of_the_images_does_not_matter(empty):
    maps = maps_for(empty)
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
    first, second = maps_for(empty, 1), maps_for(empty, 2)
    again = fresh(empty).fit(first).fit(second)
    np.testing.assert_array_equal(again.distance(first[0]), fresh(empty).fit(second).distance(first[0]))


@every_kind
def test_updates_are_a_fit_and_distances_can_be_asked_between_them(empty):
    maps = maps_for(empty)
    pushed = fresh(empty)
    for count, one in enumerate(maps, start=1):
        pushed.update(one)
        fitted = fresh(empty).fit(maps[:count])
        np.testing.assert_array_equal(pushed.distance(maps[0]), fitted.distance(maps[0]))


@every_kind
def test_updates_go_on_after_a_fit(empty):
    maps = maps_for(empty)
    fitted = fresh(empty).fit(maps[:-1])
    fitted.update(maps[-1])
    np.testing.assert_array_equal(fitted.distance(maps[0]), fresh(empty).fit(maps).distance(maps[0]))


@every_kind
def test_feature_maps_are_not_written_to(empty):
    for one in maps_for(empty):
        one.flags.writeable = False
        wide = one.astype(np.float64)  # nothing would have to be converted, so nothing copied
        wide.flags.writeable = False
        fresh(empty).fit([one, wide]).distance(one)


@every_kind
def test_arrays_handed_out_do_not_change_with_further_updates(empty):
    maps = maps_for(empty)
    fitted = fresh(empty).fit(maps[:-1])
    arrays = fitted.arrays()
    before = {name: array.copy() for name, array in arrays.items()}
    fitted.update(maps[-1])
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


# By position.


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 10), st.integers(1, 10)),
    count=st.integers(1, 6),
    dimensions=st.integers(1, 5),
    offset=st.sampled_from([0.0, 1e3]),
    seed=st.integers(0, 2**32),
)
def test_positions_and_tiles_agree_with_a_slow_loop_over_everything(shape, count, dimensions, offset, seed):
    maps = in_register(seed, shape=shape, count=count, dimensions=dimensions)
    everything = np.stack([one + np.float32(offset) for one in maps]).astype(np.float64)
    fitted = PositionalPrototype().fit(everything)
    np.testing.assert_allclose(fitted.mean, everything.mean(axis=0), rtol=1e-12, atol=1e-12)
    covariances, _ = slow_tiles(everything)
    np.testing.assert_allclose(fitted.covariance[:, :, 0], covariances, rtol=1e-7, atol=1e-9)


def slow_tiles(everything):
    """Covariance about the positions' means, of each tile of 4×4 positions and of all of them together."""
    _, height, width, dimensions = everything.shape
    mean = everything.mean(axis=0)
    tiles = np.zeros((-(-height // 4), -(-width // 4), dimensions, dimensions))
    counts = np.zeros(tiles.shape[:2])
    for one in everything:
        for row in range(height):
            for column in range(width):
                away = one[row, column] - mean[row, column]
                tiles[row // 4, column // 4] += np.outer(away, away)
                counts[row // 4, column // 4] += 1
    return tiles / counts[..., np.newaxis, np.newaxis], tiles.sum(axis=(0, 1)) / counts.sum()


@pytest.mark.parametrize("shrinkage", [1e-3, 0.5, 1.0])
@pytest.mark.parametrize("position", [(0, 0), (3, 4), (4, 3), (8, 6)])
def test_distance_by_position_is_mahalanobis_distance_with_the_tiles_covariance(shrinkage, position):
    maps = in_register(shape=(9, 7), count=6)
    everything = np.stack(maps).astype(np.float64)
    tiles, pooled = slow_tiles(everything)
    pooled = (1 - 1e-3) * pooled + 1e-3 * np.eye(4) * np.trace(pooled) / 4
    covariance = (1 - shrinkage) * tiles[position[0] // 4, position[1] // 4] + shrinkage * pooled
    probe = in_register(9, shape=(9, 7))[0]
    found = PositionalPrototype(shrinkage=shrinkage).fit(maps).distance(probe)
    expected = distance.mahalanobis(
        probe[position].astype(np.float64), everything.mean(axis=0)[position], np.linalg.inv(covariance)
    )
    assert found.shape == (9, 7)
    assert found[position] == pytest.approx(expected, rel=1e-4)


def test_a_large_mean_at_each_position_does_not_eat_a_small_deviation():
    rng = np.random.default_rng(0)
    maps = [1e8 + rng.choice([-1.0, 1.0], size=(4, 4, 1)) for _ in range(50)]
    covariance = PositionalPrototype().fit(maps).covariance
    assert covariance[0, 0, 0, 0] == pytest.approx(np.var(np.stack(maps), axis=0).mean(), rel=1e-6)


def test_from_one_image_the_distance_by_position_is_euclidean_up_to_scale():
    first, second = in_register(count=2)
    found = PositionalPrototype().fit([first]).distance(second)
    ratio = found / np.linalg.norm(second - first, axis=-1)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_what_is_good_elsewhere_is_found_only_by_position():
    """A ramp from left to right, and a part whose middle looks as the left edge does."""
    rng = np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(-4, 4, 16)[:, np.newaxis], (12, 16, 3))
    good = [(ramp + 0.1 * rng.normal(size=ramp.shape)).astype(np.float32) for _ in range(12)]
    defect = good[-1].copy()
    defect[4:7, 7:9] = defect[4:7, :2]
    scores = {
        kind: [KINDS[kind]().fit(good[:6]).distance(one).max() for one in (*good[6:], defect)]
        for kind in ("mean", "gaussian", "positional")
    }
    assert scores["positional"][-1] > 5 * max(scores["positional"][:-1])
    assert scores["mean"][-1] <= max(scores["mean"][:-1])
    assert scores["gaussian"][-1] <= max(scores["gaussian"][:-1])


def test_a_place_that_varies_much_counts_less():
    rng = np.random.default_rng(0)
    deviation = np.ones((8, 8, 1))
    deviation[:4, :4] = 5
    fitted = PositionalPrototype().fit([deviation * rng.normal(size=(8, 8, 3)) for _ in range(20)])
    found = fitted.distance((fitted.mean + 3).astype(np.float32))
    # Variances of 25 and 1, of 7 on the average of the four tiles, and halfway there 16 and 4.
    np.testing.assert_allclose(found[4:, 4:].mean() / found[:4, :4].mean(), np.sqrt(16 / 4), rtol=0.05)


def test_images_of_another_size_are_refused_with_both_sizes():
    fitted = PositionalPrototype().fit(in_register())
    message = (
        r"^a positional prototype needs images of one size, always seen in register: expected features "
        r"\(6, 5\), received \(5, 6\); resize the images or choose another kind$"
    )
    other = in_register(shape=(5, 6))[0]
    before = fitted.distance(PROBE)
    with pytest.raises(DataError, match=message):
        fitted.update(other)
    with pytest.raises(DataError, match=message):
        fitted.distance(other)
    np.testing.assert_array_equal(fitted.distance(PROBE), before)
    again = PositionalPrototype().restore(fitted.arrays())
    with pytest.raises(DataError, match=message):
        again.distance(other)


def test_a_fit_afresh_may_be_of_another_size():
    fitted = PositionalPrototype().fit(in_register()).fit(in_register(shape=(5, 6)))
    assert fitted.distance(in_register(shape=(5, 6))[0]).shape == (5, 6)


@pytest.mark.parametrize(
    "arrays",
    [
        {"mean": np.zeros((6, 5, 4), np.float32), "covariance": np.zeros((1, 2, 4, 4))},
        {"mean": np.zeros((6, 5, 3), np.float32), "covariance": np.zeros((2, 2, 4, 4))},
        {"mean": np.zeros(4, np.float32), "covariance": np.zeros((4, 4))},
        {"mean": np.zeros((6, 5, 2), np.float32), "covariance": np.full((2, 2, 2, 2), -np.eye(2))},
    ],
    ids=["too few tiles", "other features", "of another kind", "no covariances"],
)
def test_arrays_that_do_not_belong_together_are_not_restored(arrays):
    with pytest.raises(ValueError):  # noqa: PT011 - the bundle says what is wrong with the file
        PositionalPrototype().restore(arrays)


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
    fitted = fresh(empty).fit(maps_for(empty))
    found = fitted.distance(PROBE)
    assert found.shape == PROBE.shape[:2]
    assert found.dtype == np.float32
    assert (found > 0).all()
    middle = np.full(PROBE.shape, fitted.mean, np.float32)
    np.testing.assert_array_equal(fitted.distance(middle), 0)


@every_kind
@pytest.mark.parametrize("value", [0.0, 0.7, 1e4])
def test_features_that_never_vary_give_finite_distances(empty, value):
    fitted = fresh(empty).fit([np.full((5, 5, 4), value, np.float32)] * 3)
    np.testing.assert_array_equal(fitted.distance(np.full((5, 5, 4), value, np.float32)), 0)
    far = fitted.distance(np.full((5, 5, 4), value + 1e3, np.float32))
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
    fitted = fresh(empty).fit(maps_for(empty))
    again = fresh(fitted).restore(fitted.arrays())
    np.testing.assert_array_equal(again.distance(PROBE), fitted.distance(PROBE))


@every_kind
def test_arrays_are_kept_in_full_but_for_the_means_of_all_positions(empty):
    dtypes = {name: array.dtype for name, array in fresh(empty).fit(maps_for(empty)).arrays().items()}
    assert dtypes.pop("mean") == (np.float32 if empty.kind == "positional" else np.float64)
    dtypes.pop("spread", None)  # of the distance, which is float32
    assert set(dtypes.values()) <= {np.dtype(np.float64)}


@every_kind
def test_a_restored_prototype_takes_no_updates_but_can_be_fitted_afresh(empty):
    maps = maps_for(empty)
    restored = fresh(empty).restore(fresh(empty).fit(maps).arrays())
    before = restored.distance(PROBE)
    with pytest.raises(ValueError, match="a restored prototype does not know how many images made it"):
        restored.update(maps[0])
    np.testing.assert_array_equal(restored.distance(PROBE), before)
    one, other = restored.fit(maps[1:]), fresh(empty).fit(maps[1:])
    np.testing.assert_array_equal(one.distance(PROBE), other.distance(PROBE))


with_shrinkage = pytest.mark.parametrize("kind", [GaussianPrototype, PositionalPrototype])


@with_shrinkage
def test_shrinkage_is_among_the_settings(kind):
    assert kind(shrinkage=0.25).settings()["shrinkage"] == 0.25


@with_shrinkage
@pytest.mark.parametrize("shrinkage", [0, -0.1, 1.1, float("nan")])
def test_a_shrinkage_outside_its_range_is_refused(kind, shrinkage):
    with pytest.raises(ValueError, match="shrinkage must lie in"):
        kind(shrinkage=shrinkage)


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of euclidean, manhattan, received 'cosine'"):
        MeanPrototype(metric="cosine")


def test_without_a_shrinkage_few_images_choose_a_larger_one_and_many_the_least():
    """Features that vary slowly: an image has few independent ones, less than a covariance has directions."""
    rng = np.random.default_rng(0)
    deviation = np.geomspace(0.1, 10, 12)
    maps = [
        np.repeat(deviation * rng.normal(size=(2, 3, 12)), 6, axis=0).astype(np.float32) for _ in range(400)
    ]
    few, many = (GaussianPrototype().fit(maps[:count]).arrays()["shrinkage"].item() for count in (3, 400))
    assert few >= 0.01
    assert many == 1e-3
    new = maps[200:]
    plain, fitted = (GaussianPrototype(shrinkage=s).fit(maps[:3]) for s in (1e-3, None))
    squares = {
        s: np.mean([np.square(one.distance(each)) for each in new]) / 12
        for s, one in (("plain", plain), ("chosen", fitted))
    }
    assert abs(np.log(squares["chosen"])) < 0.5 * abs(np.log(squares["plain"]))


# Scales, and the border.

SCALED = [GaussianPrototype(scales=(1.0, 0.25)), PositionalPrototype(shrinkage=1.0, scales=(1.0, 0.25))]


@pytest.mark.parametrize("empty", SCALED, ids=["gaussian", "positional"])
def test_squared_distances_of_scales_are_added_by_weight(empty):
    """Each scale for itself, with a prototype of its own that knows nothing of the other."""
    maps = in_register(count=6)
    joined = fresh(empty).fit(maps).distance(maps[0])
    alone = {**empty.settings(), "scales": [1.0]}
    first, second = (
        KINDS[empty.kind](**alone).fit(one[..., half] for one in maps).distance(maps[0][..., half])
        for half in (slice(0, 2), slice(2, 4))
    )
    np.testing.assert_allclose(joined, np.sqrt(first**2 + 0.25 * second**2), rtol=1e-3)


def test_features_that_cannot_be_cut_into_their_scales_are_refused():
    with pytest.raises(ValueError, match="features of 3 equal parts, received 4 numbers"):
        GaussianPrototype(scales=(1, 1, 1)).fit(feature_maps())


def wide_at_the_edge(count, seed=0, *, shape=(12, 14)):
    """White noise of unit deviation, three times as wide at the outermost features, twice at the next."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(count, *shape, 4)).astype(np.float32)
    maps[:, [0, -1]] *= 3
    maps[:, 1:-1, [0, -1]] *= 3
    maps[:, [1, -2], 1:-1] *= 2
    maps[:, 2:-2, [1, -2]] *= 2
    return maps


def test_near_the_border_a_distance_is_divided_by_the_spread_of_good_features():
    plain = GaussianPrototype().fit(wide_at_the_edge(60))
    fitted = GaussianPrototype(border=4).fit(wide_at_the_edge(60))
    np.testing.assert_allclose(fitted.arrays()["spread"], [3, 2, 1, 1, 1], rtol=0.05)
    probe = wide_at_the_edge(1, seed=1)[0]
    ratio = plain.distance(probe) / fitted.distance(probe)
    for depth, spread in enumerate(fitted.spread):
        np.testing.assert_allclose(ratio[depth, 5], spread, rtol=1e-4)
        np.testing.assert_allclose(ratio[6, -1 - depth], spread, rtol=1e-4)
    squared = np.square(fitted.distance(wide_at_the_edge(60, seed=2)[0]))
    assert squared[0].mean() == pytest.approx(squared[4:-4, 4:-4].mean(), rel=0.3)


def test_a_border_that_varies_less_is_not_judged_more_strictly():
    maps = wide_at_the_edge(20)
    maps[:, 0] *= 0.1
    maps[:, -1] *= 0.1
    maps[:, :, [0, -1]] *= 0.1
    assert GaussianPrototype(border=4).fit(maps).arrays()["spread"][0] == 1


@pytest.mark.parametrize("shape", [(1, 50), (7, 7)])
def test_where_no_feature_is_far_from_the_border_nothing_is_divided(shape):
    """As with features from anywhere, (1, n, d), that a region lets through."""
    maps = feature_maps(shapes=[shape] * 4)
    plain, bordered = (GaussianPrototype(border=border).fit(maps) for border in (0, 4))
    np.testing.assert_allclose(bordered.distance(maps[0]), plain.distance(maps[0]), rtol=1e-5)


def test_what_bundles_once_kept_of_a_gaussian_can_be_restored():
    fitted = GaussianPrototype(shrinkage=1e-3).fit(feature_maps())
    older = {"mean": fitted.mean, "covariance": fitted.covariance[0]}
    restored = GaussianPrototype(shrinkage=1e-3).restore(older)
    np.testing.assert_array_equal(restored.distance(PROBE), fitted.distance(PROBE))


def test_what_bundles_once_kept_of_positions_can_be_restored():
    fitted = PositionalPrototype().fit(in_register())
    older = {**fitted.arrays(), "covariance": fitted.covariance[:, :, 0]}
    np.testing.assert_allclose(
        PositionalPrototype(shrinkage=0.5).restore(older).distance(PROBE), fitted.distance(PROBE), rtol=1e-5
    )


def test_a_spread_that_does_not_suit_the_border_is_refused():
    arrays = GaussianPrototype(border=2).fit(wide_at_the_edge(4)).arrays()
    with pytest.raises(ValueError, match=r"expected a spread \(2,\), received \(3,\)"):
        GaussianPrototype(border=1).restore(arrays)
