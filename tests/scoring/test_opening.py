"""The opening of a map: what no window fits into is lowered to the level of the threshold."""

import math

import numpy as np
import pytest

from tests.helpers import COLLECTING

if not COLLECTING:
    import tensorflow as tf

    from metricad.scoring.opening import DIRECTIONS, Lowered, Opening

WINDOWS = ((4, 0), (3, 5), (2, 9))


LEVEL = 0.5


def opened_simply(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Place each window everywhere inside: the reference."""
    found = np.full(values.shape, -np.inf)
    for side, steps in WINDOWS:
        for rows, columns in DIRECTIONS:
            count = round(steps / math.hypot(rows, columns))
            shape = np.zeros((side + count * rows, side + count * abs(columns)), bool)
            for i in range(count + 1):
                left = i * columns if columns >= 0 else count - i
                shape[i * rows : i * rows + side, left : left + side] = True
            for row in range(values.shape[0] - shape.shape[0] + 1):
                for column in range(values.shape[1] - shape.shape[1] + 1):
                    at = np.s_[row : row + shape.shape[0], column : column + shape.shape[1]]
                    if inside[at][shape].all():
                        found[at] = np.where(shape, np.maximum(found[at], values[at][shape].min()), found[at])
    return found


@pytest.mark.parametrize("is_whole", [True, False])
def test_it_is_what_windows_fit_into(is_whole):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(17, 21)).astype(np.float32)
    inside = np.ones((17, 21), bool)
    if not is_whole:
        inside[5:9, 9:] = False
        inside[0, :4] = False
    expected = opened_simply(values, inside)
    expected = np.where(np.isfinite(expected), np.maximum(expected, np.minimum(values, LEVEL)), values)
    found = Opening(WINDOWS, 1.0, LEVEL)(values[np.newaxis], inside[np.newaxis].astype(np.float32))
    np.testing.assert_array_equal(found.numpy()[0][inside], expected[inside])


def test_a_map_smaller_than_the_windows_stays():
    values = np.random.default_rng(0).normal(size=(1, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(Opening([(5, 7)], 0.0, 0.0)(values, np.ones_like(values)), values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_stay(value):
    values = np.zeros((1, 9, 9), np.float32)
    values[0, 4, 4] = value
    found = Opening([(2, 0)], 0.0, 0.0)(values, np.ones_like(values)).numpy()
    np.testing.assert_array_equal(found[0, 4, 4], value)


def test_scores_above_the_threshold_are_lowered():
    scores, lowered = np.float32([1, 3, 3, np.nan, 4]), np.float32([0, 1, 2.5, np.nan, np.nan])
    threshold = 2.000000001
    found = Lowered(threshold)(tf.constant(scores), tf.constant(lowered)).numpy()
    np.testing.assert_array_equal(found, np.float32([1, 2, 2.5, np.nan, np.nan]))
    assert float(Lowered(1.9999999)(scores[2:3], lowered[1:2]).numpy()[0]) <= 1.9999999


@pytest.mark.parametrize("given", [(), [(0, 1)], [(1, -1)], [(1, 5000)], [(1.5, 1)], [(True, 0)]])
def test_wrong_windows(given):
    with pytest.raises(ValueError, match="windows"):
        Opening(given, 0.0, 0.0)


@pytest.mark.parametrize("wrong", [{"threshold": np.nan, "level": 0.0}, {"threshold": 0.0, "level": np.inf}])
def test_numbers_that_are_not_finite(wrong):
    with pytest.raises(ValueError, match="finite"):
        Opening([(1, 0)], **wrong)
