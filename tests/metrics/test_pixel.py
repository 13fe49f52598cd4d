"""Pixel AUROC and AUPRO against slow loops, scikit-learn and regions drawn by hand."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from metricad.errors import DataError
from metricad.metrics.pixel import PixelMetrics
from tests.helpers import COLLECTING

if not COLLECTING:
    from sklearn.metrics import roc_auc_score


def images(values, *, side=6):
    """A few small maps with masks, of which some are all normal and some all defective."""
    shapes = arrays.array_shapes(min_dims=2, max_dims=2, max_side=side)

    def pair(shape):
        # Random pixels make many regions that touch at corners; the fills make whole images.
        masks = arrays.arrays(bool, shape)
        return st.tuples(arrays.arrays(np.float32, shape, elements=values), masks)

    return st.lists(shapes.flatmap(pair), min_size=1, max_size=3)


# Few distinct values, so that ties are common; each has a bin of its own.
tied = st.integers(-6, 6).map(float)
# 12 significant bits: as many as a bin tells apart.
exact = st.integers(-4095, 4095).map(lambda number: number / 64)


def measured(pairs):
    pixels = PixelMetrics()
    for anomaly_map, mask in pairs:
        pixels.update(anomaly_map, mask)
    return pixels


def pooled(pairs):
    return np.concatenate([mask.ravel() for _, mask in pairs]), np.concatenate([m.ravel() for m, _ in pairs])


def slow_regions(mask):
    """The 8-connected regions of a mask, each as a list of its pixels, found by walking."""
    left = set(zip(*np.nonzero(mask), strict=True))
    while left:
        region = []
        reached = [left.pop()]
        while reached:
            row, column = reached.pop()
            region.append((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            reached += near
        yield region


def slow_aupro(pairs, limit):
    """Area under the mean overlap of regions over every threshold, step by step up to the limit."""
    defect, values = pooled(pairs)
    regions = [[m[pixel] for pixel in region] for m, mask in pairs for region in slow_regions(mask)]
    area = rate = overlap = 0.0
    for threshold in np.unique(values)[::-1]:
        next_rate = np.mean(values[~defect] >= threshold)
        next_overlap = np.mean([np.mean(np.array(region) >= threshold) for region in regions])
        if next_rate > limit:
            at_limit = overlap + (next_overlap - overlap) * (limit - rate) / (next_rate - rate)
            return (area + (limit - rate) * (overlap + at_limit) / 2) / limit
        area += (next_rate - rate) * (overlap + next_overlap) / 2
        rate, overlap = next_rate, next_overlap
    return area / limit


def has_both(pairs):
    defect, _ = pooled(pairs)
    return defect.any() and not defect.all()


@given(pairs=images(exact))
def test_auroc_of_values_with_bins_of_their_own_is_exact(pairs):
    assume(has_both(pairs))
    assert measured(pairs).auroc() == pytest.approx(roc_auc_score(*pooled(pairs)), abs=1e-12)


@given(pairs=images(tied), limit=st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_aupro_against_every_threshold(pairs, limit):
    assume(has_both(pairs))
    assert measured(pairs).aupro(limit) == pytest.approx(slow_aupro(pairs, limit), abs=1e-12)


# Around 100 a bin is 1/32 wide, a noticeable part of the spread of 1.
@pytest.mark.parametrize(("offset", "tolerance"), [(0, 1e-4), (-3, 1e-4), (1e-6, 1e-4), (100, 3e-3)])
def test_random_floats_are_told_apart_finely_enough(offset, tolerance):
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 60), bool)
    mask[5:25, 5:30] = mask[40:44, 50:52] = True
    pairs = [((rng.normal(size=mask.shape) + mask + offset).astype(np.float32), mask) for _ in range(3)]
    pairs.append((np.float32(rng.normal(size=(50, 70)) + offset), np.zeros((50, 70), bool)))
    pixels = measured(pairs)
    assert pixels.auroc() == pytest.approx(roc_auc_score(*pooled(pairs)), abs=tolerance)
    assert pixels.aupro() == pytest.approx(slow_aupro(pairs, 0.3), abs=tolerance)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(one=finite, other=finite)
def test_values_keep_their_order_over_the_whole_range_of_numbers(one, other):
    low, high = sorted([one, other])
    found = measured([(np.float32([[low, high]]), np.array([[False, True]]))]).auroc()
    apart = high - low > 2**-11 * max(abs(low), abs(high))
    assert found == 1 or (found == 0.5 and not apart)
    if low == high:
        assert found == 0.5


def test_zero_has_no_sign():
    mask = np.array([[False, True]])
    assert measured([(np.float32([[-0.0, 0.0]]), mask)]).auroc() == 0.5
    assert measured([(np.float32([[0.0, -0.0]]), mask)]).auroc() == 0.5
    assert measured([(np.float32([[-1e-30, 0.0]]), mask)]).auroc() == 1


@pytest.mark.parametrize("transform", [lambda m: m**3, lambda m: m / 64, lambda m: 3 * m - 100])
def test_both_are_unchanged_by_a_monotone_transform(transform):
    rng = np.random.default_rng(1)
    pairs = [(np.float32(rng.integers(-6, 7, (8, 9))), rng.random((8, 9)) < 0.3) for _ in range(20)]
    pixels, other = measured(pairs), measured([(transform(m), mask) for m, mask in pairs])
    assert (other.auroc(), other.aupro()) == (pixels.auroc(), pixels.aupro())


@given(pairs=images(tied))
def test_turning_the_map_or_the_mask_round_gives_the_complement(pairs):
    assume(has_both(pairs))
    found = measured(pairs).auroc()
    assert measured([(-m, mask) for m, mask in pairs]).auroc() == pytest.approx(1 - found)
    assert measured([(m, ~mask) for m, mask in pairs]).auroc() == pytest.approx(1 - found)


@given(pairs=images(tied))
def test_the_order_of_the_maps_does_not_matter(pairs):
    forth, back = measured(pairs), measured(pairs[::-1])
    assert forth.auroc() == back.auroc()
    assert forth.aupro() == (None if back.aupro() is None else pytest.approx(back.aupro(), abs=1e-12))


@given(pairs=images(tied), limit=st.floats(0.01, 1))
def test_both_lie_between_0_and_1(pairs, limit):
    pixels = measured(pairs)
    if has_both(pairs):
        assert 0 <= pixels.auroc() <= 1
        assert 0 <= pixels.aupro(limit) <= 1
    else:
        assert pixels.auroc() is None
        assert pixels.aupro(limit) is None


def two_regions():
    """A mask of a large region (8 × 10) and a small one (2 × 2), and a map of 0 to draw on."""
    mask = np.zeros((30, 40), bool)
    mask[2:10, 5:15] = True
    mask[20:22, 30:32] = True
    return np.zeros(mask.shape, np.float32), mask


def test_a_small_region_weighs_as_much_as_a_large_one():
    anomaly_map, mask = two_regions()
    anomaly_map[2:10, 5:15] = anomaly_map[20, 30:32] = 1
    # Nothing normal at 1: overlap (1 + 1/2) / 2 at a rate of 0. Then all the rest at once, a straight
    # line from (0, 3/4) to (1, 1), which is 3/4 + 0.15 / 4 in the middle of the first 0.3.
    assert measured([(anomaly_map, mask)]).aupro() == pytest.approx(0.75 + 0.15 / 4)
    assert measured([(anomaly_map, mask)]).aupro(1) == pytest.approx(0.875)
    # The other half below all normal pixels: never found below a rate of 1.
    anomaly_map[21, 30:32] = -1
    assert measured([(anomaly_map, mask)]).aupro() == pytest.approx(0.75)
    assert measured([(anomaly_map, mask)]).auroc() == pytest.approx(82 / 84)


def test_regions_of_several_images_count_alike():
    anomaly_map, mask = two_regions()
    anomaly_map[mask] = 1
    missed = np.where(mask, -1, 0).astype(np.float32)
    good = np.zeros_like(mask)
    assert measured([(anomaly_map, mask), (missed, mask)]).aupro() == pytest.approx(1 / 2)
    one = mask.copy()
    one[20:22, 30:32] = False
    pairs = [(anomaly_map, mask), (np.where(one, -1, 0), one), (np.zeros(good.shape), good)]
    assert measured(pairs).aupro() == pytest.approx(2 / 3)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.zeros((5, 5), bool)
    mask[0, 0] = mask[1, 1] = mask[4, 4] = True
    anomaly_map = np.zeros((5, 5), np.float32)
    anomaly_map[0, 0] = anomaly_map[4, 4] = 1
    anomaly_map[1, 1] = -1
    assert measured([(anomaly_map, mask)]).aupro() == pytest.approx((1 / 2 + 1) / 2)


def test_the_curve_is_cut_at_the_limit_by_a_straight_line():
    # Five normal pixels; the region comes with the second of them: (0.2, 0), then (0.4, 1).
    pixels = measured([(np.float32([[5, 4, 3, 2, 1, 4]]), np.array([[False] * 5 + [True]]))])
    assert pixels.aupro(0.2) == 0
    assert pixels.aupro(0.3) == pytest.approx(0.1 * 0.5 / 2 / 0.3)
    assert pixels.aupro(0.4) == pytest.approx(0.2 / 2 / 0.4)
    assert pixels.aupro(1) == pytest.approx((0.2 / 2 + 0.6) / 1)


def test_perfect_and_constant_maps():
    anomaly_map, mask = two_regions()
    perfect, wrong, constant = (measured([(m, mask)]) for m in (mask * 1.5, -1.5 * mask, anomaly_map))
    assert (perfect.auroc(), perfect.aupro()) == (1, pytest.approx(1))
    assert (wrong.auroc(), wrong.aupro()) == (0, 0)
    assert constant.auroc() == 0.5
    assert constant.aupro() == pytest.approx(0.15)


def test_without_both_kinds_of_pixels_there_is_nothing_to_tell():
    pixels = PixelMetrics()
    assert (pixels.auroc(), pixels.aupro()) == (None, None)
    pixels.update(np.zeros((3, 4), np.float32), np.zeros((3, 4), bool))
    assert (pixels.auroc(), pixels.aupro()) == (None, None)
    pixels.update(np.ones((3, 4), np.float32), np.ones((3, 4), bool))
    assert (pixels.auroc(), pixels.aupro()) == (1, 1)
    whole = measured([(np.ones((3, 4), np.float32), np.ones((3, 4), bool))])
    assert (whole.auroc(), whole.aupro()) == (None, None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_is_refused_and_not_counted(value):
    pixels = measured([(np.float32([[1, 2, 2, 3]]), np.array([[False, True, False, True]]))])
    before = pixels.auroc(), pixels.aupro()
    with pytest.raises(DataError, match="2 of 6 values of the anomaly map are not finite"):
        pixels.update(np.float32([[0, value, 1], [2, 3, value]]), np.eye(2, 3, dtype=bool))
    assert (pixels.auroc(), pixels.aupro()) == before


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "received"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2), bool), r"received bool \(3, 2\) for a map \(2, 3\)"),
        (np.zeros((2, 3)), np.zeros((2, 3)), r"received float64 \(2, 3\) for"),
        (np.zeros((2, 3)), None, r"received object \(\) for"),
        (np.zeros((2, 3, 1)), np.zeros((2, 3, 1), bool), r"for a map \(2, 3, 1\)"),
        (np.zeros(3), np.zeros(3, bool), r"for a map \(3,\)"),
    ],
)
def test_one_bool_for_each_pixel(anomaly_map, mask, received):
    with pytest.raises(ValueError, match=received):
        PixelMetrics().update(anomaly_map, mask)


@pytest.mark.parametrize("limit", [0, -0.3, 1.01, 30, np.nan])
def test_the_limit_is_a_rate(limit):
    with pytest.raises(ValueError, match="limit must lie in"):
        PixelMetrics().aupro(limit)
