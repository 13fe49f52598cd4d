"""AUROC and ROC curve against a slow loop, scikit-learn's trapezoids and SciPy's rank sums."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from metricad import metrics
from metricad.errors import DataError

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
    statistic = stats.mannwhitneyu(scores[defect], scores[~defect]).statistic
    assert metrics.auroc(defect, scores) == pytest.approx(statistic / (defect.sum() * (~defect).sum()))


@given(pairs=cases, scale=st.floats(0.01, 100), offset=st.floats(-100, 100))
def test_auroc_is_unchanged_by_a_monotone_transform(pairs, scale, offset):
    defect, scores = map(np.array, split(pairs))
    for transformed in (scale * scores + offset, np.exp(scores), np.cbrt(scores)):
        assume(len(np.unique(transformed)) == len(np.unique(scores)))
        assert metrics.auroc(defect, transformed) == metrics.auroc(defect, scores)


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


@pytest.mark.parametrize("measure", [metrics.auroc, metrics.roc_curve])
@pytest.mark.parametrize(
    ("defect", "scores", "message"),
    [
        ([True, True], [1, 2], "needs normal and defective images; received 0 and 2"),
        ([False, False, False], [1, 2, 3], "needs normal and defective images; received 3 and 0"),
        ([], [], "received 0 and 0"),
        ([True, False, False], [1, np.nan, np.inf], "2 of 3 scores are not finite"),
    ],
)
def test_without_both_kinds_or_finite_scores_there_is_no_curve(measure, defect, scores, message):
    with pytest.raises(DataError, match=message):
        measure(defect, scores)


def test_one_score_for_each_label():
    with pytest.raises(ValueError, match="received \\(2,\\) labels and \\(3,\\) scores"):
        metrics.auroc([True, False], [1, 2, 3])
