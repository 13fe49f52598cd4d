"""Suspects: what stands apart from the rest, hardly ever a good image, and what is said of the rate."""

import numpy as np
import pytest

from metricad.scoring import suspects


@pytest.mark.parametrize("draw", ["normal", "exponential", "gumbel"])
@pytest.mark.parametrize(("count", "most"), [(10, 0.03), (20, 0.02), (200, 0.015)])
def test_hardly_any_good_score_stands_out(draw, count, most):
    rng = np.random.default_rng(0)
    rate = np.mean([suspects.stand_out(getattr(rng, draw)(size=count)).mean() for _ in range(200)])
    assert rate <= most


def test_a_tenth_of_defects_stands_out():
    scores = np.random.default_rng(0).gumbel(size=100)
    scores[90:] += 12
    assert np.flatnonzero(suspects.stand_out(scores)).tolist() == list(range(90, 100))


def test_few_and_equal_scores_do_not_stand_out():
    assert not suspects.stand_out([0.0] * (suspects.FEWEST - 2) + [100.0]).any()
    assert not suspects.stand_out([1.0] * 20).any()


def test_weak_defects_are_found_once_the_strong_ones_are_left_out():
    base = np.random.default_rng(1).standard_normal(40)
    strong, weak = [38, 39], [37]
    calls = []

    def score(numbers):
        calls.append(numbers.tolist())
        scores = base[numbers].copy()
        hides = set(strong) <= set(numbers.tolist())
        scores[np.isin(numbers, strong)] = 30
        scores[np.isin(numbers, weak)] = 2 if hides else 20
        return scores

    found = suspects.find(40, score)
    assert sorted(found.numbers) == [37, 38, 39]
    assert set(found.numbers[:2]) == {38, 39}
    assert calls == [list(range(40)), list(range(38)), list(range(37))]
    assert np.isfinite(found.scores).all()


def test_a_clean_set_is_scored_once():
    calls = []

    def score(numbers):
        calls.append(numbers)
        return np.linspace(0, 1, len(numbers))

    assert suspects.find(30, score).numbers == []
    assert len(calls) == 1


def test_suspects_count_as_alarms_until_confirmed():
    assert suspects.rate(99, 0) == 0.01
    assert suspects.rate(99, 4) == 0.05
