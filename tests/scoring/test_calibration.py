"""The threshold keeps its promise: proved by going through every way to hold out."""

import itertools
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from metricad.errors import DataError
from metricad.scoring.calibration import (
    Calibration,
    calibrate,
    check_count,
    check_split,
    held_out_count,
    needed,
)

rates = st.integers(1, 99).map(lambda percent: percent / 100)
scores = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30)


@settings(max_examples=200)
@given(scores=scores | st.lists(st.integers(0, 3).map(float), min_size=2, max_size=30), rate=rates)
def test_expected_false_alarms_stay_below_the_rate(scores, rate):
    """Of n + 1 exchangeable good images each may be the new one: the share above, exactly.

    With ties as well, for every number of images that the rate allows.
    """
    assume(len(scores) - 1 >= needed(rate))
    alarms = 0
    for new, _ in enumerate(scores):
        others = scores[:new] + scores[new + 1 :]
        alarms += scores[new] > calibrate(others, rate).threshold
    assert Fraction(alarms, len(scores)) <= Fraction(round(100 * rate), 100)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25])
def test_the_rate_is_used_up_to_one_image(rate):
    """A threshold that is higher than it must be would pass the test above, and miss defects."""
    for count in range(needed(rate), 60):
        distinct = list(range(count + 1))
        alarms = sum(
            new > calibrate(distinct[:new] + distinct[new + 1 :], rate).threshold for new in distinct
        )
        assert alarms == int(Fraction(rate).limit_denominator(100) * (count + 1))


def test_random_splits_of_real_looking_scores_keep_the_rate():
    """Over many splits of one set of images the mean rate is at most α, within what chance allows."""
    rng = np.random.default_rng(0)
    pool = rng.gamma(3, size=400)
    found = []
    for _ in range(2000):
        rng.shuffle(pool)
        found.append(np.mean(pool[40:] > calibrate(pool[:40], 0.1).threshold))
    assert np.mean(found) < 0.1 + 3 * np.std(found) / np.sqrt(len(found))
    assert np.mean(found) > 0.09


@given(count=st.integers(1, 500), rate=rates)
@example(count=9, rate=0.7)  # in floats the product lies just above a whole number
def test_threshold_is_the_quantile_of_the_docstring(count, rate):
    assume(count >= needed(rate))
    exact = ceil((count + 1) * (1 - Fraction(round(100 * rate), 100)))
    assert calibrate(range(1, count + 1), rate).threshold == exact


def test_scores_come_in_any_order_and_as_any_iterable():
    shuffled = [3.0, 1.0, 2.0]
    calibrated = calibrate(iter(shuffled), 0.25)
    np.testing.assert_array_equal(calibrated.scores, [1, 2, 3])
    assert calibrated.scores.dtype == np.float64
    assert calibrated.threshold == 3
    assert calibrated.false_alarm_rate == 0.25


@given(scores=scores, probe=st.floats(-1e6, 1e6))
def test_percentile_is_scipys_weak_one(scores, probe):
    found = Calibration(np.sort(scores), 0.5)
    for score in (probe, *scores):
        expected = stats.percentileofscore(scores, score, kind="weak")
        assert found.percentile(score) == pytest.approx(expected)


@given(scores=scores, pair=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(sorted))
def test_percentile_rises_from_0_to_100(scores, pair):
    found = Calibration(np.sort(scores), 0.5)
    assert found.percentile(pair[0]) <= found.percentile(pair[1])
    assert found.percentile(np.nextafter(min(scores), -np.inf)) == 0
    assert found.percentile(max(scores)) == 100


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(wrong):
    """They would make a threshold that nothing is above: every part good."""
    with pytest.raises(DataError, match="not finite"):
        calibrate([*range(20), wrong], 0.1)


# How many images it takes.


@pytest.mark.parametrize(
    ("rate", "images"), [(0.5, 1), (0.25, 3), (0.1, 9), (0.05, 19), (0.01, 99), (0.001, 999), (0.3, 3)]
)
def test_images_needed(rate, images):
    assert needed(rate) == images


@given(rate=rates)
def test_needed_is_the_fewest_for_which_the_rank_exists(rate):
    exact = Fraction(round(100 * rate), 100)
    fewest = next(n for n in itertools.count(1) if ceil((n + 1) * (1 - exact)) <= n)
    assert needed(rate) == fewest


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match="false-alarm rate must lie between 0 and 1"):
        needed(rate)


@given(held_out=st.integers(1, 300))
def test_the_rate_named_in_a_refusal_is_allowed(held_out):
    with pytest.raises(DataError, match="needs at least") as refusal:
        check_count(held_out, 1e-4)
    allowed = float(str(refusal.value).split("a rate of ")[1].split(" ")[0])
    calibrate(range(held_out), allowed)
    # And it is the best one, but for its four digits.
    with pytest.raises(DataError):
        calibrate(range(held_out), allowed - 2e-4)


def test_two_images_are_refused_with_numbers_and_a_remedy():
    with pytest.raises(DataError) as refusal:
        check_split(2, holdout=0.5, false_alarm_rate=0.05)
    message = str(refusal.value)
    for words in (
        "a false-alarm rate of 0.05 needs at least 19 held-out good images",
        "1 allow a rate of 0.5 at best",
        "received 2 good images",
        "give at least 38",
        "--holdout",
        "--false-alarm-rate",
    ):
        assert words in message


def test_without_any_held_out_image_no_rate_is_named():
    with pytest.raises(DataError) as refusal:
        check_split(2, holdout=0.2, false_alarm_rate=0.05)
    assert "allow a rate of" not in str(refusal.value)


@given(
    total=st.integers(1, 50),
    holdout=st.integers(1, 95).map(lambda percent: percent / 100),
    rate=st.sampled_from([0.01, 0.05, 0.1]),
)
@example(total=1, holdout=0.5, rate=0.01)
def test_the_number_named_in_a_refusal_is_the_smallest_that_does(total, holdout, rate):
    assume(held_out_count(total, holdout) < needed(rate))
    with pytest.raises(DataError, match="give at least") as refusal:
        check_split(total, holdout=holdout, false_alarm_rate=rate)
    number = int(str(refusal.value).split("give at least ")[1].split(",")[0])
    check_split(number, holdout=holdout, false_alarm_rate=rate)
    for fewer in range(max(total, number - 30), number):
        with pytest.raises(DataError):
            check_split(fewer, holdout=holdout, false_alarm_rate=rate)


def test_a_tiny_holdout_is_refused_at_once():
    with pytest.raises(DataError, match="give at least"):  # one by one, 10^14 numbers would be tried
        check_split(100, holdout=1e-12, false_alarm_rate=0.01)


def test_something_must_be_left_to_fit():
    with pytest.raises(DataError, match="all 5 good images are held out and none is left to fit"):
        check_split(5, holdout=0.95, false_alarm_rate=0.25)


@pytest.mark.parametrize("holdout", [0, 1, -0.2, 1.2, float("nan")])
def test_a_holdout_that_is_no_share_is_refused(holdout):
    with pytest.raises(ValueError, match="holdout must lie between 0 and 1"):
        check_split(100, holdout=holdout, false_alarm_rate=0.1)


def test_exactly_enough_is_enough():
    check_split(95, holdout=0.2, false_alarm_rate=0.05)
    with pytest.raises(DataError):
        check_split(92, holdout=0.2, false_alarm_rate=0.05)
