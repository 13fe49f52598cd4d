"""The threshold keeps its promise: proved by going through every way to hold out."""

import itertools
import json
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
import scipy
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from metricad.errors import DataError
from metricad.scoring.calibration import (
    FEWEST,
    SWITCH,
    TAIL_FROM,
    Basis,
    Calibration,
    Tail,
    calibrate,
    fit_tail,
    needed,
    split,
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
        expected = scipy.stats.percentileofscore(scores, score, kind="weak")
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


# What is said of fewer.


@given(scores=scores, rate=rates, is_held_out=st.booleans())
def test_too_few_scores_give_the_largest_and_say_its_rate(scores, rate, is_held_out):
    assume(len(scores) < needed(rate))
    found = calibrate(scores, rate, is_held_out=is_held_out)
    assert found.threshold == max(scores)
    assert found.false_alarm_rate == 1 / (len(scores) + 1)
    assert found.asked_rate == rate
    assert found.basis == (Basis.promised if is_held_out else Basis.expected)
    assert (found.interval is None) != is_held_out


@pytest.mark.parametrize(("count", "bound"), [(20, 0.139), (100, 0.0295)])
def test_the_bound_of_the_largest_score_is_that_of_its_formula(count, bound):
    found = calibrate(range(count), 1 / (count + 1))
    assert found.basis == Basis.promised
    assert found.interval == (0, pytest.approx(1 - 0.05 ** (1 / count)))
    assert found.interval[1] == pytest.approx(bound, rel=5e-3)


@pytest.mark.parametrize(("count", "rate"), [(20, 0.04), (50, 0.1), (200, 0.01)])
def test_promises_hold_on_average_and_their_bounds_for_95_percent_of_inspectors(count, rate):
    """Scores are uniform, so the rate of a threshold is known: 1 minus it."""
    rng = np.random.default_rng(1)
    made = [calibrate(rng.random(count), rate) for _ in range(2000)]
    found = np.array([1 - one.threshold for one in made])
    said, bound = made[0].false_alarm_rate, made[0].interval[1]
    assert np.mean(found) < said + 3 * np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found < bound) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / len(found))


# Tails.

many = st.lists(st.floats(-1e3, 1e3), min_size=TAIL_FROM, max_size=98)


@settings(max_examples=25)
@given(scores=many | st.lists(st.integers(0, 2).map(float), min_size=TAIL_FROM, max_size=60))
def test_a_tail_is_never_below_the_largest_score_and_says_its_interval(scores):
    found = calibrate(scores, 0.01, is_held_out=False)
    assert max(scores) <= found.threshold < np.inf
    assert found.basis == Basis.estimated
    assert found.false_alarm_rate == 0.01
    low, high = found.interval
    assert 0 <= low <= high <= 1


def test_one_score_fewer_has_no_tail():
    rng = np.random.default_rng(0)
    assert calibrate(rng.random(TAIL_FROM - 1), 0.01).basis == Basis.promised
    assert calibrate(rng.random(TAIL_FROM), 0.01).basis == Basis.estimated
    assert calibrate(rng.random(TAIL_FROM), 0.05).basis == Basis.promised


def test_estimated_rates_are_near_those_of_known_distributions():
    rng = np.random.default_rng(0)
    for distribution in (scipy.stats.norm, scipy.stats.gamma(3), scipy.stats.expon):
        made = [calibrate(distribution.rvs(size=60, random_state=rng), 0.01) for _ in range(100)]
        rates = distribution.sf([one.threshold for one in made])
        assert 0.005 < np.mean(rates) < 0.02
        # Small samples make tails look lighter than they are, so some intervals are too low.
        inside = [one.interval[0] <= rate <= one.interval[1] for one, rate in zip(made, rates, strict=True)]
        assert np.mean(inside) > 0.75


def test_tails_are_at_least_exponential():
    """The largest 12 of 60 equally spaced scores end in a wall; their threshold lies beyond."""
    tail = fit_tail(np.arange(60.0), 0.001)
    assert tail.threshold > 59 + 5


# Restoring.


@pytest.mark.parametrize("count", [5, 60, 120])
@pytest.mark.parametrize("is_held_out", [True, False])
def test_a_record_restores_the_calibration(count, is_held_out):
    made = calibrate(np.random.default_rng(0).normal(size=count), 0.01, is_held_out=is_held_out)
    record = json.loads(json.dumps(made.record()))
    again = Calibration.restore(made.scores, record)
    assert again.record() == made.record()
    assert again.threshold == made.threshold
    assert again.describe() == made.describe()


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_basis": "promised"},
        {"rate_basis": "certain"},
        {"is_held_out": 1},
        {"threshold": 0.0},
        {"false_alarm_rate": 0.01},
        {"false_alarm_rate": "much"},
    ],
)
def test_a_contradictory_record_is_refused(wrong):
    made = calibrate(range(1, 21), 0.01, is_held_out=False)
    with pytest.raises(ValueError):  # noqa: PT011
        Calibration.restore(made.scores, {**made.record(), **wrong})


def test_a_tail_below_the_largest_score_is_refused():
    with pytest.raises(ValueError, match="below the largest score"):
        Calibration(np.arange(60.0), 0.01, tail=Tail(58.0, 0.0, 0.1))


@pytest.mark.parametrize(
    ("count", "rate", "is_held_out", "words"),
    [
        (20, 0.01, False, ["20 good images", "1 false alarm in 21, or fewer, expected", "no guarantee"]),
        (20, 0.01, True, ["at most 1 false alarm in 21 promised", "below 14 %"]),
        (60, 0.01, True, ["1 false alarm in 100 estimated", "at most 1 in 61 promised"]),
        (100, 0.01, True, ["at most 1 false alarm in 100 promised", "below 3 %"]),
        (150, 0.02, False, ["about 1 false alarm in 50 expected"]),
    ],
)
def test_the_sentence_has_word_and_numbers(count, rate, is_held_out, words):
    sentence = calibrate(np.arange(float(count)), rate, is_held_out=is_held_out).describe()
    assert all(word in sentence for word in words), sentence


# How many fit.


@given(total=st.integers(FEWEST, 3000))
def test_all_fit_up_to_the_switch_and_most_calibrate_above(total):
    fit, held_out = split(total, None)
    assert fit + held_out == total
    if total <= SWITCH:
        assert held_out == 0
    else:
        assert fit == min(500, round(total * 3 / 5))


@pytest.mark.parametrize(("total", "holdout"), [(4, None), (5, 0.95), (5, 0.01), (0, None)])
def test_too_few_images_are_refused(total, holdout):
    with pytest.raises(DataError):
        split(total, holdout)


@pytest.mark.parametrize("holdout", [1, -0.2, 1.2, float("nan")])
def test_a_holdout_that_is_no_share_is_refused(holdout):
    with pytest.raises(ValueError, match="holdout"):
        split(100, holdout)


def test_a_holdout_of_zero_lets_all_images_fit():
    assert split(3, 0) == (3, 0)
    assert split(1000, 0) == (1000, 0)
