"""Drift: how often it is called where there is none, and how soon where there is some."""

import numpy as np
import pytest

from metricad.monitoring import drift
from metricad.monitoring.drift import BETS, DEFECTS, DriftTest
from metricad.scoring.calibration import Calibration


def stream(rng, count, *, shift=0.0, spread=1.0, defects=0.0):
    """Scores of parts: good ones about 10, and defects far above."""
    scores = 10 + shift + spread * rng.standard_normal(count)
    return np.where(rng.random(count) < defects, 10 + rng.uniform(4, 40, count), scores)


def calibrated(rng, count=60, **options):
    calibration = Calibration(np.sort(stream(rng, count)), max(0.02, 1.001 / (count + 1)))
    return DriftTest(calibration.scores, calibration.threshold, **options)


def alarm(test, scores):
    """How many scores it takes to alarm; None for never."""
    for number, score in enumerate(scores, start=1):
        test.update(score)
        if test.alarm is not None:
            return number
    return None


def delays(seed, *, before=0, streams=20, length=400, count=60, **change):
    rng = np.random.default_rng(seed)
    found, kinds = [], set()
    for _ in range(streams):
        test = calibrated(rng, count)
        assert alarm(test, stream(rng, before)) is None
        found.append(alarm(test, stream(rng, length, **change)) or np.inf)
        kinds.add(test.alarm)
    return np.median(found), kinds


# The level.


@pytest.mark.parametrize("defects", [0.0, 0.05])
def test_streams_without_drift_alarm_no_more_often_than_stated(defects):
    """At a level at which few streams tell: 200 of 250 images, at most 10 expected to alarm."""
    rng = np.random.default_rng(0)
    level, streams = 0.05, 200
    alarms = sum(
        alarm(calibrated(rng, level=level, seed=seed), stream(rng, 250, defects=defects)) is not None
        for seed in range(streams)
    )
    assert alarms <= level * streams + 2.6 * np.sqrt(level * (1 - level) * streams)


def test_a_long_stream_without_drift_does_not_find_out_its_small_calibration():
    """Ranked against 20 calibration scores alone, some of such streams do alarm."""
    rng = np.random.default_rng(1)
    assert [alarm(calibrated(rng, 20), stream(rng, 10_000, defects=0.05)) for _ in range(3)] == [None] * 3


def test_ranks_are_uniform_and_independent_without_drift():
    rng = np.random.default_rng(2)
    ranks = []
    for seed in range(200):
        test = calibrated(rng, 30, seed=seed)
        scores = stream(rng, 60)
        ranks.append([test._rank(score) for score in scores[scores < test.threshold][:20]])
    ranks = np.array(ranks)
    counts = np.histogram(ranks, 10, (0, 1))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # χ² with 9 degrees of freedom, at 0.001
    neighbours = np.corrcoef(ranks[:, :-1].ravel(), ranks[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 3.3 / np.sqrt(200 * 19)


@pytest.mark.parametrize("values", [1, 2, 5])
def test_scores_of_few_values_are_no_drift(values):
    rng = np.random.default_rng(3)
    test = DriftTest(rng.integers(1, values + 1, 60).astype(float), float(values) + 0.5)
    assert alarm(test, rng.integers(1, values + 1, 1000).astype(float)) is None


def test_bets_are_fair():
    """Each multiplies its capital by 1 on average, over a rank that is uniform, or a defect in two images."""
    normal = np.linspace(-20, 20, 4001)[:, np.newaxis]
    density = np.exp(-(normal**2) / 2) / np.sqrt(2 * np.pi)
    factors = np.exp(drift._CONSTANT + normal * (drift._LINEAR + normal * drift._SQUARE))
    np.testing.assert_allclose((density * factors).sum(axis=0) * 0.01, 1, rtol=1e-9)
    assert np.exp([drift._IF_DEFECT, drift._IF_NONE]).mean() == pytest.approx(1)


def test_the_capital_at_the_start_is_one_and_none_is_made_of_nothing():
    test = DriftTest(np.arange(1.0, 20), 19.0)
    assert test.p_value == 1
    for _ in range(1000):  # at the threshold: good, and of no rank
        test.update(19.0)
    assert test.p_value == 1
    assert np.exp(test._capital).sum() + 1001**-0.5 <= 1


# What it notices.


@pytest.mark.parametrize("before", [0, 500])
@pytest.mark.parametrize(
    ("change", "kind", "most"),
    [({"shift": 1.0}, "higher", 70), ({"shift": -1.0}, "lower", 60), ({"shift": 2.0}, "higher", 40)],
)
def test_a_shift_is_noticed_within_some_tens_of_images(before, change, kind, most):
    delay, kinds = delays(4, before=before, **change)
    assert delay <= most
    assert kind in kinds


@pytest.mark.parametrize(
    ("change", "kind", "most"), [({"spread": 0.5}, "narrower", 100), ({"spread": 2.0}, "wider", 200)]
)
def test_a_change_of_spread_is_noticed(change, kind, most):
    delay, kinds = delays(5, before=500, **change)
    assert delay <= most
    assert kind in kinds


@pytest.mark.parametrize("before", [0, 500])
def test_a_shift_that_leaves_no_good_images_is_noticed(before):
    delay, kinds = delays(6, before=before, shift=8.0)
    assert delay <= 60
    assert kinds == {DEFECTS}


@pytest.mark.parametrize("offset", [-10.0, -13.0, -1000.0])
def test_scores_may_be_of_any_sign(offset):
    """Standard scores lie around 0, and so may their threshold."""
    rng = np.random.default_rng(9)
    for _ in range(5):
        good, later = stream(rng, 60), stream(rng, 200, shift=-1.0)
        threshold = float(np.sort(good)[-2])
        found = [alarm(DriftTest(good + by, threshold + by), later + by) for by in (0.0, offset)]
        assert found[1] == pytest.approx(found[0], abs=3)


def test_a_threshold_of_zero_is_one_like_others():
    test = DriftTest(np.linspace(-3, 0.5, 60), 0.0)
    assert alarm(test, np.random.default_rng(0).uniform(-3, 0, 300)) is None


def test_a_slow_drift_is_noticed_before_it_is_large():
    """A standard deviation in 1000 images."""
    rng = np.random.default_rng(7)
    found = [alarm(calibrated(rng), stream(rng, 2000) + np.arange(2000) / 1000) for _ in range(5)]
    assert np.median(found) < 1000


def test_one_defect_after_the_other_is_no_drift_while_they_are_few():
    rng = np.random.default_rng(8)
    assert alarm(calibrated(rng), stream(rng, 2000, defects=0.3)) is None


# How it is kept.


def test_the_same_scores_give_the_same_answer_bit_for_bit():
    rng = np.random.default_rng(9)
    calibration, scores = np.sort(stream(rng, 60)), stream(rng, 300, shift=0.7, defects=0.05)
    one, other = (DriftTest(calibration, calibration[-1]) for _ in range(2))
    for score in scores:
        one.update(score)
        other.update(float(repr(float(score))))
        assert one.p_value == other.p_value
    assert one.alarm == other.alarm is not None


def test_once_alarmed_it_stays_so_and_its_p_value_never_rises():
    rng = np.random.default_rng(10)
    test = calibrated(rng)
    assert alarm(test, stream(rng, 400, shift=-2)) is not None
    kind, reached = test.alarm, [test.p_value]
    for score in stream(rng, 5000, shift=9):  # so many that the capital leaves the range of a float
        test.update(score)
        reached.append(test.p_value)
    assert test.alarm == kind == "lower"
    assert np.all(np.diff(reached) <= 0)
    assert reached[0] < test.level
    assert reached[-1] >= 0


def test_memory_does_not_grow():
    rng = np.random.default_rng(11)
    test = calibrated(rng)
    sizes = test._counts.size, test._capital.size
    alarm(test, stream(rng, 1000))
    assert (test._counts.size, test._capital.size) == sizes
    assert test._counts.sum() == test._ranked > 900


def test_level_zero_never_alarms():
    rng = np.random.default_rng(12)
    test = calibrated(rng, level=0)
    assert alarm(test, stream(rng, 5000, shift=9)) is None
    assert test.p_value < 1e-9


@pytest.mark.parametrize("level", [-0.1, 1, np.nan])
def test_a_level_that_is_no_probability_is_refused(level):
    with pytest.raises(ValueError, match=r"drift level must lie in \[0, 1\)"):
        DriftTest(np.arange(1.0, 20), 19.0, level=level)


@pytest.mark.parametrize("threshold", [0.0, 1e-300])
def test_good_images_that_do_not_vary(threshold):
    test = DriftTest(np.full(30, threshold), threshold)
    assert alarm(test, np.full(200, threshold)) is None
    assert alarm(test, np.full(100, 1.0)) is not None
    assert test.alarm == DEFECTS


def test_each_kind_of_drift_has_a_name():
    assert {*BETS, DEFECTS} == {"higher", "lower", "wider", "narrower", "mostly defects"}
