"""Image-level measures against slow loops, scikit-learn, SciPy's rank sums and simulated scores."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
import scipy
from hypothesis import assume, given
from hypothesis import strategies as st

from metricad.errors import DataError
from metricad.metrics import image as metrics
from tests.helpers import COLLECTING

if not COLLECTING:
    from sklearn.metrics import average_precision_score, f1_score

# Few distinct values, so that ties are common.
cases = st.lists(st.tuples(st.booleans(), st.integers(-5, 5).map(float)), min_size=2, max_size=40).filter(
    lambda pairs: len({defect for defect, _ in pairs}) == 2
)


def split(pairs):
    defect, scores = zip(*pairs, strict=True)
    return list(defect), list(scores)


def slow_auroc(defect, scores):
    """The chance that a defect scores above a normal image, ties counting half."""
    pairs = [
        (s > t) + (s == t) / 2
        for d, s in zip(defect, scores, strict=True)
        for e, t in zip(defect, scores, strict=True)
        if d and not e
    ]
    return sum(pairs) / len(pairs)


@given(pairs=cases)
def test_auroc_is_the_chance_to_order_a_pair(pairs):
    assert metrics.auroc(*split(pairs)) == pytest.approx(slow_auroc(*split(pairs)))


@given(pairs=cases)
def test_auroc_is_the_rank_sum_statistic(pairs):
    defect, scores = map(np.array, split(pairs))
    statistic = scipy.stats.mannwhitneyu(scores[defect], scores[~defect]).statistic
    assert metrics.auroc(defect, scores) == pytest.approx(statistic / (defect.sum() * (~defect).sum()))


@given(pairs=cases)
def test_turning_the_scores_or_the_labels_round_gives_the_complement(pairs):
    defect, scores = map(np.array, split(pairs))
    found = metrics.auroc(defect, scores)
    assert metrics.auroc(defect, -scores) == pytest.approx(1 - found)
    assert metrics.auroc(~defect, scores) == pytest.approx(1 - found)


def test_auroc_by_hand():
    assert metrics.auroc([False, False, True, True], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert metrics.auroc([False, True], [1, 2]) == 1
    assert metrics.auroc([True, False], [1, 2]) == 0
    assert metrics.auroc([True, False, False], [1, 1, 1]) == 0.5
    assert isinstance(metrics.auroc([False, True], [1, 2]), float)


@given(pairs=cases)
def test_roc_curve_rises_from_0_to_1_over_the_same_area(pairs):
    false_positive, true_positive = metrics.roc_curve(*split(pairs))
    for rates in (false_positive, true_positive):
        assert (rates[0], rates[-1]) == (0, 1)
        assert (np.diff(rates) >= 0).all()
    area = np.trapezoid(true_positive, false_positive)
    assert area == pytest.approx(metrics.auroc(*split(pairs)))


def slow_rates(defect, scores):
    """True-positive rate, false-positive rate and F1 of every threshold, marking from it upwards."""
    defect, scores = np.array(defect), np.array(scores)
    for threshold in [*np.unique(scores), np.inf]:
        marked = scores >= threshold
        hits = np.sum(marked & defect)
        yield (
            hits / defect.sum(),
            np.sum(marked & ~defect) / np.sum(~defect),
            2 * hits / np.sum(marked.astype(int) + defect),
        )


@given(pairs=cases)
def test_average_precision_sums_precision_over_the_steps_of_recall(pairs):
    found = metrics.average_precision(*split(pairs))
    assert found == average_precision_score(*split(pairs))
    recall, precision = metrics.precision_recall_curve(*split(pairs))
    assert found == pytest.approx(np.sum(np.diff(recall) * precision[1:]))


@given(pairs=cases)
def test_precision_recall_curve_rises_from_nothing_marked_to_everything(pairs):
    defect, scores = map(np.array, split(pairs))
    recall, precision = metrics.precision_recall_curve(defect, scores)
    assert (recall[0], precision[0], recall[-1]) == (0, 1, 1)
    assert (np.diff(recall) >= 0).all()
    # The other points are those of the thresholds, from the highest score down to where all are found.
    thresholds = np.unique(scores)[::-1][: len(recall) - 1]
    assert recall[1:] == pytest.approx([np.mean(scores[defect] >= t) for t in thresholds])
    assert precision[1:] == pytest.approx([np.mean(defect[scores >= t]) for t in thresholds])


@given(pairs=cases)
def test_f1_max_is_the_best_of_all_thresholds(pairs):
    defect, scores = map(np.array, split(pairs))
    found = metrics.f1_max(defect, scores)
    assert found == pytest.approx(max(f1 for _, _, f1 in slow_rates(defect, scores)))
    assert found == pytest.approx(max(f1_score(defect, scores >= t) for t in scores))


@given(pairs=cases, tpr=st.sampled_from([0.01, 0.25, 0.5, 0.8, 0.95, 1.0]))
def test_fpr_at_tpr_is_the_smallest_rate_that_finds_enough(pairs, tpr):
    expected = min(false for true, false, _ in slow_rates(*split(pairs)) if true >= tpr)
    assert metrics.fpr_at_tpr(*split(pairs), tpr=tpr) == pytest.approx(expected)


def test_fpr_at_tpr_keeps_thresholds_on_a_straight_stretch():
    # Normal and defect by turns: the ROC curve is a staircase whose every second corner matters.
    defect = [True, False] * 20
    assert metrics.fpr_at_tpr(defect, range(40, 0, -1)) == 18 / 20
    # Each pair tied: one straight line, of which scikit-learn by default keeps only the ends.
    assert metrics.fpr_at_tpr(defect, np.repeat(range(20), 2)) == 19 / 20
    assert metrics.fpr_at_tpr(defect, np.repeat(range(20), 2), tpr=0.5) == 1 / 2


def test_measures_by_hand():
    defect, scores = [False, False, True, True], [0.1, 0.4, 0.35, 0.8]
    assert metrics.average_precision(defect, scores) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert metrics.pr_auc(defect, scores) == pytest.approx(1 / 2 + (1 / 2 + 2 / 3) / 4)
    assert metrics.f1_max(defect, scores) == pytest.approx(4 / 5)
    assert metrics.fpr_at_tpr(defect, scores) == 1 / 2
    assert metrics.fpr_at_tpr(defect, scores, tpr=0.5) == 0
    recall, precision = metrics.precision_recall_curve(defect, scores)
    assert recall == pytest.approx([0, 1 / 2, 1 / 2, 1, 1])
    assert precision == pytest.approx([1, 1, 1 / 2, 2 / 3, 1 / 2])


def test_one_score_for_all_tells_nothing():
    defect, scores = [True, False, False, False], [7.0] * 4
    assert metrics.average_precision(defect, scores) == 1 / 4
    assert metrics.f1_max(defect, scores) == pytest.approx(2 / 5)
    assert metrics.fpr_at_tpr(defect, scores) == 1
    assert metrics.auroc_interval(defect, scores, rng=np.random.default_rng(0)) == (0.5, 0.5)


def test_perfect_separation_is_perfect_by_every_measure():
    defect = np.arange(30) >= 20
    for scores in (np.arange(30.0), defect.astype(float)):
        assert metrics.average_precision(defect, scores) == pytest.approx(1)
        assert metrics.pr_auc(defect, scores) == pytest.approx(1)
        assert metrics.f1_max(defect, scores) == 1
        assert metrics.fpr_at_tpr(defect, scores, tpr=1) == 0
        assert metrics.auroc_interval(defect, scores, rng=np.random.default_rng(0)) == (1, 1)
        assert metrics.auroc_interval(defect, -scores, rng=np.random.default_rng(0)) == (0, 0)


@given(pairs=cases, scale=st.floats(0.01, 100), offset=st.floats(-100, 100))
def test_every_measure_is_unchanged_by_a_monotone_transform(pairs, scale, offset):
    defect, scores = map(np.array, split(pairs))
    for transformed in (scale * scores + offset, np.exp(scores), np.cbrt(scores)):
        assume(len(np.unique(transformed)) == len(np.unique(scores)))
        for measure in MEASURES:
            assert measure(defect, transformed) == measure(defect, scores)


def interval(defect, scores, **options):
    return metrics.auroc_interval(
        defect, scores, **{"rng": np.random.default_rng(1), "resamples": 100, **options}
    )


MEASURES = (
    metrics.auroc,
    metrics.average_precision,
    metrics.pr_auc,
    metrics.f1_max,
    metrics.fpr_at_tpr,
    interval,
)


def gaussian_scores(rng, normals, defects, *, seeds=1):
    """Scores (seeds, n) of which a defect exceeds a normal image by 1 standard deviation, and the labels."""
    defect = np.arange(normals + defects) >= normals
    return defect, rng.normal(size=(seeds, len(defect))) + defect


def test_interval_against_resamples_drawn_out_in_full():
    rng = np.random.default_rng(5)
    defect = rng.permutation(np.arange(40) >= 28)
    scores = np.round(rng.normal(size=(3, 40)) + defect, 1)
    draws = np.random.default_rng(6)
    normals = draws.multinomial(28, [1 / 28] * 28, 60)
    defects = draws.multinomial(12, [1 / 12] * 12, 60)
    medians = []
    for normal_counts, defect_counts in zip(normals, defects, strict=True):
        counts = np.zeros(40, int)
        counts[~defect], counts[defect] = normal_counts, defect_counts
        drawn = np.repeat(np.arange(40), counts)
        medians.append(np.median([metrics.auroc(defect[drawn], row[drawn]) for row in scores]))
    found = interval(defect, scores, rng=np.random.default_rng(6), resamples=60, level=0.8)
    assert found == pytest.approx(tuple(np.quantile(medians, [0.1, 0.9])))


def test_resamples_have_the_same_images_in_every_row():
    defect, scores = gaussian_scores(np.random.default_rng(2), 50, 20, seeds=2)
    rows = np.stack([scores[0], scores[1], scores[0], np.exp(scores[1])])
    count = metrics.BATCH + 7  # more than are drawn at once
    areas = metrics.auroc_resamples(defect, rows, rng=np.random.default_rng(1), resamples=count)
    assert areas.shape == (4, count)
    np.testing.assert_array_equal(areas[0], areas[2])
    np.testing.assert_array_equal(areas[1], areas[3])
    assert len(np.unique(areas[0])) > 10
    alone = metrics.auroc_resamples(defect, scores[0], rng=np.random.default_rng(1), resamples=count)
    np.testing.assert_array_equal(alone, areas[:1])


def test_interval_depends_on_the_generator_alone():
    defect, scores = gaussian_scores(np.random.default_rng(2), 50, 20)
    # More resamples than are drawn at once, and no whole number of batches.
    first, again = (interval(defect, scores, resamples=2 * metrics.BATCH + 7) for _ in range(2))
    assert first == again
    assert first != interval(defect, scores, resamples=2 * metrics.BATCH + 7, rng=np.random.default_rng(2))
    assert all(isinstance(end, float) for end in first)


def test_seeds_of_equal_scores_are_as_one():
    defect, scores = gaussian_scores(np.random.default_rng(3), 50, 20)
    assert interval(defect, scores[0]) == interval(defect, scores)
    assert interval(defect, scores[0]) == interval(defect, np.repeat(scores, 3, axis=0))


@pytest.mark.parametrize("seeds", [1, 3])
def test_interval_holds_the_estimate_and_grows_with_its_level(seeds):
    rng = np.random.default_rng(4)
    for _ in range(20):
        defect, scores = gaussian_scores(rng, 60, 30, seeds=seeds)
        estimate = np.median([metrics.auroc(defect, row) for row in scores])
        low, high = interval(defect, scores, level=0.9)
        assert 0 <= low < estimate < high <= 1
        wider = interval(defect, scores, level=0.99)
        assert wider[0] < low
        assert high < wider[1]


def test_interval_shrinks_as_the_root_of_the_number_of_images():
    rng = np.random.default_rng(7)
    few, many = (
        np.mean([np.diff(interval(*gaussian_scores(rng, 4 * n, n))) for _ in range(10)]) for n in (20, 320)
    )
    assert few / many == pytest.approx(4, rel=0.2)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(8)
    truth = scipy.stats.norm.cdf(1 / np.sqrt(2))
    covered = 0
    for _ in range(200):
        low, high = interval(*gaussian_scores(rng, 60, 40), rng=rng, resamples=metrics.BATCH)
        covered += low <= truth <= high
    # 99.9 % of counts of 200 at 95 %, one more percent down for the percentile bootstrap's known shortfall.
    assert scipy.stats.binom.ppf(0.0005, 200, 0.94) <= covered <= scipy.stats.binom.ppf(0.9995, 200, 0.95)


def test_interval_of_a_large_data_set_takes_little_memory():
    defect, scores = gaussian_scores(np.random.default_rng(9), 650, 150, seeds=3)
    tracemalloc.start()
    try:
        metrics.auroc_interval(defect, scores, rng=np.random.default_rng(1))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "measure",
    [
        metrics.auroc,
        metrics.roc_curve,
        metrics.average_precision,
        metrics.precision_recall_curve,
        metrics.f1_max,
        metrics.fpr_at_tpr,
        interval,
    ],
    ids=lambda measure: measure.__name__,
)
@pytest.mark.parametrize(
    ("defect", "scores", "message"),
    [
        ([True, True], [1, 2], "good and defective images, received 0 good, 2 defective"),
        ([False, False, False], [1, 2, 3], "good and defective images, received 3 good, 0 defective"),
        ([], [], "received 0 good, 0 defective"),
        ([True, False, False], [1, np.nan, np.inf], "2 of 3 scores are not finite"),
    ],
)
def test_without_both_kinds_or_finite_scores_there_is_no_curve(measure, defect, scores, message):
    with pytest.raises(DataError, match=message):
        measure(defect, scores)


@pytest.mark.parametrize("measure", [metrics.auroc, metrics.f1_max, interval])
def test_one_score_for_each_label(measure):
    with pytest.raises(ValueError, match=r"received \(2,\) labels and \(3,\) scores"):
        measure([True, False], [1, 2, 3])


def test_labels_and_scores_are_in_one_row():
    with pytest.raises(ValueError, match=r"received \(1, 2\) labels and \(1, 2\) scores"):
        metrics.auroc([[True, False]], [[1, 2]])


def test_a_seed_without_finite_scores_has_no_interval():
    with pytest.raises(DataError, match="1 of 2 scores are not finite"):
        interval([True, False], [[1, 2], [1, np.nan]])


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (
            partial(metrics.fpr_at_tpr, tpr=0),
            "true-positive rate must lie in",
        ),
        (partial(metrics.fpr_at_tpr, tpr=95), "received 95"),
        (partial(metrics.fpr_at_tpr, tpr=np.nan), "received nan"),
        (partial(interval, level=0), "level must lie between 0 and 1, received 0"),
        (partial(interval, level=1), "received 1"),
        (partial(interval, resamples=0), "resamples must be 1 or more, received 0"),
    ],
)
def test_options_have_their_range(measure, message):
    with pytest.raises(ValueError, match=message):
        measure([True, False], [2, 1])


@pytest.mark.parametrize("shape", [(), (0, 2), (1, 1, 2)])
def test_an_interval_is_of_one_score_or_several_seeds(shape):
    with pytest.raises(ValueError, match=r"scores must be \(n,\) or \(seeds, n\), received"):
        interval([True, False], np.zeros(shape))
