"""Standard scores place by place, and their fusion: against NumPy."""

import numpy as np
import pytest

from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.scoring.score import top_mean
    from metricad.scoring.standardize import EDGE, HANDICAP, SMOOTHING, TOP, Fuse, Standardize

pytestmark = pytest.mark.tf

SHAPE = (20, 30)


def drawn(count, seed=0, *, shape=SHAPE, mean=0.0, deviation=1.0, sources=2):
    """Distances whose logarithms have a mean and a deviation at each place: a list of (h, w, sources)."""
    rng = np.random.default_rng(seed)
    logs = mean + deviation * rng.standard_normal((count, *shape, sources))
    return list(np.exp(logs).astype(np.float32))


def by_side():
    """Mean and deviation (h, w, 1) that differ between the left and the right."""
    is_right = (np.arange(SHAPE[1]) >= SHAPE[1] // 2)[None, :, None] * np.ones((*SHAPE, 1))
    return {"mean": 2 * is_right - 1, "deviation": 0.1 + 0.4 * is_right}


def fitted(maps, insides=None, *, has_shape=True):
    shape = maps[0].shape[:2] if has_shape else None
    return Standardize(maps[0].shape[-1], shape).adapt(maps, insides or [None] * len(maps))


def scores(layer, *maps):
    return layer(np.stack(maps)).numpy()


# Standard scores.


def test_good_images_have_mean_0_and_deviation_1_everywhere():
    layer = fitted(drawn(300, **by_side()))
    found = scores(layer, *drawn(300, seed=1, **by_side()))
    for columns in (slice(0, 12), slice(18, None)):  # smoothing blurs the middle
        np.testing.assert_allclose(found[:, :, columns].mean(axis=0), 0, atol=0.35)
        np.testing.assert_allclose(found[:, :, columns].std(axis=0), 1, atol=0.25)


def test_places_are_learned_with_their_neighbours_as_a_slow_loop_does():
    maps = drawn(6, shape=(9, 11), sources=2)
    layer = fitted(maps)
    reach = SMOOTHING // 2
    wide = np.pad(np.log(maps).astype(float), [(0, 0), (reach, reach), (reach, reach), (0, 0)], mode="edge")
    for row, column in np.ndindex(9, 11):
        window = wide[:, row : row + SMOOTHING, column : column + SMOOTHING].reshape(-1, 2)
        np.testing.assert_allclose(layer.center[row, column], window.mean(axis=0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(layer.spread[row, column], window.std(axis=0), rtol=1e-3, atol=1e-4)
    expected = (np.log(maps) - layer.center.numpy()) / layer.spread.numpy()
    np.testing.assert_allclose(scores(layer, *maps), expected, atol=1e-4)


def test_what_is_farther_has_a_larger_score_whatever_its_place():
    layer = fitted(drawn(50, **by_side()))
    near, far = (np.full((*SHAPE, 2), distance, np.float32) for distance in (1, 2))
    assert (scores(layer, far) > scores(layer, near)).all()


@pytest.mark.parametrize("shape", [(40, 60), (10, 15), (7, 90), (20, 31), (1, 1)])
def test_other_sizes_are_matched_by_how_far_along_a_place_lies(shape):
    layer = fitted(drawn(50, **by_side()))
    ones = np.ones((*shape, 2), np.float32)
    rows, columns = (
        np.floor((np.arange(count) + 0.5) / count * own + 1e-9).astype(int)
        for count, own in zip(shape, SHAPE, strict=True)
    )
    expected = (-layer.center.numpy() / layer.spread.numpy())[rows][:, columns]
    np.testing.assert_allclose(scores(layer, ones)[0], expected, rtol=1e-5)


def depth_of(shape):
    """Places between each one and the nearest edge, by a loop."""
    found = np.zeros(shape, int)
    for row, column in np.ndindex(shape):
        found[row, column] = min(row, column, shape[0] - 1 - row, shape[1] - 1 - column)
    return found


def test_where_sizes_differ_places_count_by_their_distance_from_the_edge():
    shapes = [(20, 30), (25, 19), (40, 22), (20, 30)]
    rings = np.linspace(1, 0, EDGE + 1)
    maps, logs, depths = [], [], []
    for seed, shape in enumerate(shapes):
        depth = np.minimum(depth_of(shape), EDGE)
        mean = rings[depth][..., None]
        (one,) = drawn(1, seed, shape=shape, mean=mean, deviation=0.2, sources=2)
        maps.append(one)
        logs.append(np.log(one).reshape(-1, 2))
        depths.append(depth.ravel())
    layer = fitted(maps, has_shape=False)
    logs, depths = np.concatenate(logs), np.concatenate(depths)
    for depth in range(EDGE + 1):
        own = logs[depths == depth]
        np.testing.assert_allclose(layer.center[depth, 0], own.mean(axis=0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(layer.spread[depth, 0], own.std(axis=0), rtol=1e-3)
    for shape in [(20, 30), (13, 50), (3, 3), (1, 5)]:
        found = scores(layer, np.ones((*shape, 2), np.float32))[0]
        depth = np.minimum(depth_of(shape), EDGE)
        expected = (-layer.center.numpy() / layer.spread.numpy())[depth, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("has_shape", [True, False])
def test_only_places_inside_are_learned_from(has_shape):
    inside = np.zeros(SHAPE, bool)
    inside[:, :12] = True
    plain, spoiled = drawn(20), drawn(20)
    for one in spoiled:
        one[:, 12:] = 1e3
    one, other = (fitted(maps, [inside] * 20, has_shape=has_shape) for maps in (plain, spoiled))
    for image in drawn(3, seed=1):
        found, same = scores(one, image)[0][inside], scores(other, image)[0][inside]
        np.testing.assert_allclose(found, same, atol=1e-4)
        # At the region's border, too, mean and deviation are those of what is inside.
        assert np.abs(found.mean()) < 0.3
        assert found.std() == pytest.approx(1, abs=0.2)
    whole = fitted(spoiled, has_shape=has_shape)
    assert np.abs(scores(whole, plain[0])[0][inside] - scores(one, plain[0])[0][inside]).max() > 1


def test_each_image_may_have_a_region_of_its_own():
    maps = drawn(40, mean=1.0, deviation=0.2)
    insides = [np.random.default_rng(seed).random(SHAPE) < 0.5 for seed in range(40)]
    for one, inside in zip(maps, insides, strict=True):
        one[~inside] = 1e3
    layer = fitted(maps, insides)
    np.testing.assert_allclose(layer.center, 1, atol=0.1)
    np.testing.assert_allclose(layer.spread, 0.2, atol=0.05)


@pytest.mark.parametrize("has_shape", [True, False])
@pytest.mark.parametrize("has_region", [True, False])
def test_a_held_out_image_is_judged_by_all_the_others(has_shape, has_region):
    maps = drawn(6)
    inside = np.random.default_rng(0).random(SHAPE) < 0.9 if has_region else None
    layer = Standardize(2, SHAPE if has_shape else None)
    held_out = layer.adapt_and_score(maps, [inside] * 6)
    whole = fitted(maps, [inside] * 6, has_shape=has_shape)
    for weights, same in zip(layer.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, same)
    for number, one in enumerate(maps):
        others = fitted([*maps[:number], *maps[number + 1 :]], [inside] * 5, has_shape=has_shape)
        expected = scores(others, one)[0]
        found = held_out[number]
        assert found.dtype == np.float32
        chosen = slice(None) if inside is None else inside
        np.testing.assert_allclose(found[chosen], expected[chosen], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("has_shape", [True, False])
def test_uniform_maps_have_one_mean_and_deviation(has_shape):
    maps, inside = drawn(20, **by_side()), np.random.default_rng(0).random(SHAPE) < 0.9
    shape = SHAPE if has_shape else None
    layer = Standardize(2, shape, uniform=[1]).adapt(maps, [inside] * 20)
    plain = fitted(maps, [inside] * 20, has_shape=has_shape)
    used = np.log(np.stack(maps)[:, inside][..., 1])
    np.testing.assert_allclose(layer.center[..., 1], used.mean(), atol=0.05)
    np.testing.assert_allclose(layer.spread[..., 1], used.std(), rtol=0.05)
    for own, other in zip(layer.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(own[..., 0], other[..., 0])
        assert np.ptp(own[..., 1]) < 1e-5
        assert np.ptp(other[..., 1]) > 0.01
    again = Standardize.from_config(layer.get_config())
    assert again.uniform == (1,)


def test_an_image_that_has_no_others_is_judged_by_itself():
    (one,) = drawn(1)
    layer = Standardize(2, SHAPE)
    (found,) = layer.adapt_and_score([one], [None])
    np.testing.assert_allclose(found, scores(layer, one)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-9, 1e6])
def test_distances_that_never_vary_leave_scores_finite(value):
    maps = [np.full((*SHAPE, 2), value, np.float32)] * 3
    layer = fitted(maps)
    for image in (maps[0], np.full((*SHAPE, 2), 50, np.float32), np.zeros((*SHAPE, 2), np.float32)):
        assert np.isfinite(scores(layer, image)).all()
    assert np.isfinite(layer.adapt_and_score(maps, [None] * 3)).all()


@pytest.mark.parametrize("has_shape", [True, False])
def test_a_copy_with_its_weights_gives_the_same_scores(has_shape):
    maps = drawn(5)
    layer = fitted(maps, has_shape=has_shape)
    copy = Standardize.from_config(layer.get_config())
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(scores(copy, *maps), scores(layer, *maps))
    assert layer.compute_output_shape((5, *SHAPE, 2)) == (5, *SHAPE, 2)


# Fusion.

KINDS = ("network", "lines", "network")


def standard(count=12, seed=0, *, shape=SHAPE):
    """Standard scores of images that differ in each source by an amount of its own: (h, w, 3)."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, [0.1, 0.5, 1.0], (count, 1, 1, 3))
    return list((rng.standard_normal((count, *shape, 3)) + level).astype(np.float32))


def tops(maps):
    return np.array([top_mean(one, TOP) for one in maps])


def fused(maps, insides=None):
    return Fuse(KINDS).adapt(maps, insides or [None] * len(maps))


def contributions(layer, maps):
    return layer(np.stack(maps)).numpy()


def expected_of_kind(maps, members):
    """Average of a kind's sources, in standard deviations of how far good images reach."""
    shares = np.array([1 / tops([one[..., k] for one in maps]).std() for k in members])
    average = np.stack(maps)[..., members] @ (shares / shares.sum())
    return (average - tops(average).mean()) / tops(average).std()


def test_sources_of_a_kind_are_averaged_and_the_larger_kind_counts():
    maps = standard()
    shares = contributions(fused(maps), maps)
    network, lines = expected_of_kind(maps, [0, 2]), expected_of_kind(maps, [1]) - HANDICAP
    np.testing.assert_allclose(shares.sum(axis=-1), np.maximum(network, lines), atol=1e-3)
    is_lines = lines > network + 1e-3
    assert 0 < is_lines.mean() < 1
    np.testing.assert_array_equal(shares[is_lines][:, [0, 2]], 0)
    np.testing.assert_array_equal(shares[network > lines + 1e-3][:, 1], 0)


def test_one_kind_alone_is_standardized_by_how_far_good_images_reach():
    maps = standard()
    layer = Fuse(["network"] * 3).adapt(maps, [None] * len(maps))
    found = contributions(layer, maps).sum(axis=-1)
    assert tops(found).mean() == pytest.approx(0, abs=1e-3)
    assert tops(found).std() == pytest.approx(1, abs=1e-3)


def test_the_steadier_source_has_more_weight():
    gain = fused(standard()).gain.numpy()
    assert gain[0] > 2 * gain[2]


def test_fusion_learns_from_places_inside_alone():
    inside = np.zeros(SHAPE, bool)
    inside[4:16, 4:25] = True
    plain, spoiled = standard(), standard()
    for one in spoiled:
        one[~inside] = 99
    one, other = (fused(maps, [inside] * 12) for maps in (plain, spoiled))
    for weights, same in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(weights, same, rtol=1e-5)
    cut = fused([each[4:16, 4:25] for each in plain])
    np.testing.assert_allclose(one.gain, cut.gain, rtol=1e-4)


@pytest.mark.parametrize(("kinds", "members"), [(["network"], [0, 2]), (["lines"], [1])])
def test_the_kinds_that_are_kept_contribute_alone(kinds, members):
    layer, maps = fused(standard()), standard(seed=1)
    before = contributions(layer, maps)
    found = contributions(layer.only(kinds), maps)
    expected = np.zeros_like(found)
    reached = np.stack(maps) * layer.gain.numpy() - layer.offset.numpy()
    expected[..., members] = reached[..., members]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(contributions(layer, maps), before)


def test_scores_that_never_vary_leave_contributions_finite():
    maps = [np.zeros((*SHAPE, 3), np.float32)] * 3
    found = contributions(fused(maps), [*maps, np.full((*SHAPE, 3), 5, np.float32)])
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:3], 0)
    assert (found[3].sum(axis=-1) > 0).all()


def test_a_copy_of_the_fusion_contributes_the_same():
    layer, maps = fused(standard()), standard(seed=1)
    copy = Fuse.from_config(layer.get_config())
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(contributions(copy, maps), contributions(layer, maps))
