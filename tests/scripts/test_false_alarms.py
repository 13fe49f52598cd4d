"""What the script about false alarms counts, and what it expects."""

import numpy as np
import pytest

from metricad.scoring.calibration import calibrate
from tests.helpers import load_script


@pytest.fixture(scope="module")
def script():
    return load_script("false_alarms")


@pytest.mark.parametrize(("rate", "calibration"), [(0.01, 99), (0.05, 150), (0.1, 12)])
def test_the_expected_distribution_is_that_of_the_calibration(script, rate, calibration):
    """Against a simulation with numbers instead of images."""
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(4000):
        drawn = rng.random(calibration + 20)
        threshold = calibrate(drawn[:calibration], rate).threshold
        counts.append((drawn[calibration:] > threshold).sum())
    expected = script.expected(rate, calibration, 20)
    assert np.mean(counts) == pytest.approx(expected.mean(), abs=4 * expected.std() / np.sqrt(4000))
    assert np.std(counts) == pytest.approx(expected.std(), rel=0.1)
    assert expected.mean() / 20 <= rate


def score(fitted, others, *, drift=0.0, leak=0.5):
    """A score is the sample itself; those that were fitted to score lower, late ones higher."""
    late = drift * np.linspace(0, 1, len(others))
    return np.array(fitted) - leak, np.array(others) + late


def test_random_splits_keep_the_promise_and_leaks_and_drift_show(script):
    samples = list(np.random.default_rng(1).random(400))
    found = script.observe(samples, score, draws=3, splits=100, rng=np.random.default_rng(2))
    assert [one.rate for one in found] == [0.01, 0.05, 0.1]
    for one in found:
        assert (one.calibration, one.stream) == (200, 120)
        assert len(one.alarms) == 300
        low, high = script.interval(one)
        assert low - 0.002 <= np.mean(one.alarms) / one.stream <= high + 0.002
        # 80 images that were fitted to do not do for 1 %.
        assert [rate > 0.3 for rate in one.not_held_out] == [True] * (0 if one.rate == 0.01 else 3)
    drifting = script.observe(
        samples,
        lambda fitted, others: score(fitted, others, drift=2.0),
        draws=1,
        splits=1,
        rng=np.random.default_rng(2),
    )
    assert drifting[1].in_order[0] > 0.3


def test_a_rate_that_the_calibration_is_too_small_for_is_left_out(script):
    found = script.observe(list(range(100)), score, draws=1, splits=2, rng=np.random.default_rng(0))
    assert [one.rate for one in found] == [0.05, 0.1]  # 50 images do not do for 1 %


def test_a_threshold_that_is_off_by_one_rank_would_be_seen(script):
    found = script.observe(
        list(np.random.default_rng(1).random(400)), score, draws=3, splits=100, rng=np.random.default_rng(2)
    )
    one = found[0]
    _, high = script.interval(one)
    next_rank = script.stats.betabinom(one.stream, 3, one.calibration - 2)  # at 1 % of 200 it is 2 and 199
    assert next_rank.mean() / one.stream > high
