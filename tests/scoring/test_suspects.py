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
    scores[90:] += 20
    assert np.flatnonzero(suspects.stand_out(scores)).tolist() == list(range(90, 100))


def test_few_and_equal_scores_do_not_stand_out():
    assert not suspects.stand_out([0.0] * (suspects.FEWEST - 2) + [100.0]).any()
    assert not suspects.stand_out([1.0] * 20).any()


def scores_of(base, strong=(), weak=()):
    """Scores of images, where strong defects among those fitted to hide the weak ones, and each other."""

    def score(numbers):
        def by_model(places, seen):
            hidden = len(set(strong) & set(seen)) > 1
            own = base[numbers[places]].copy()
            own[np.isin(numbers[places], strong)] = 4 if hidden else 30
            own[np.isin(numbers[places], weak)] = 2 if hidden else 20
            return own

        calls.append(numbers.tolist())
        everything = np.arange(len(numbers))
        return by_model(everything, numbers), lambda places: by_model(places, np.delete(numbers, places))

    calls = []
    return score, calls


def test_defects_that_hide_each_other_are_found_and_then_weak_ones():
    base = np.random.default_rng(1).normal(size=40).clip(-2, 2)
    score, calls = scores_of(base, strong=[37, 38, 39], weak=[36])
    found = suspects.find(40, score)
    assert sorted(found.numbers) == [36, 37, 38, 39]
    assert set(found.numbers[:3]) == {37, 38, 39}
    assert calls == [list(range(40)), list(range(37)), list(range(36))]
    assert (found.scores[[36, 37, 38, 39]] == [20, 30, 30, 30]).all()
    np.testing.assert_array_equal(found.scores[:36], base[:36])


def test_a_doubtful_image_that_is_not_far_from_the_others_is_kept():
    base = np.random.default_rng(1).normal(size=40).clip(-2, 2)
    base[0] = 4  # as far from models that have seen others like it as from those that have not
    score, calls = scores_of(base)
    found = suspects.find(40, score)
    assert (found.numbers, found.doubtful) == ([], [0])
    assert suspects.stand_out(base, suspects.DOUBTFUL).any()
    assert len(calls) == 1
    np.testing.assert_array_equal(found.scores, base)


def test_a_clean_set_is_scored_once():
    score, calls = scores_of(np.linspace(0, 1, 30))
    found = suspects.find(30, score)
    assert (found.numbers, found.doubtful) == ([], [])
    assert len(calls) == 1


def test_suspects_count_as_alarms_until_confirmed():
    assert suspects.rate(99, 0) == 0.01
    assert suspects.rate(99, 4) == 0.05
