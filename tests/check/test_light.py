"""Brightness over time: outliers and drift are told, and an even series is left alone."""

import numpy as np
import pytest

from metricad.check.facts import ImageFacts
from metricad.check.light import FEWEST, follow


def brightness(values):
    course = follow([ImageFacts("", brightness=value, contrast=0.1, sharpness=1.0) for value in values])[0]
    return course.drift, course.apart


@pytest.mark.parametrize("seed", range(20))
def test_noise_neither_drifts_nor_stands_apart(seed):
    values = 0.5 + 0.01 * np.random.default_rng(seed).standard_normal(100)
    assert brightness(values) == (None, [])


def test_a_slow_change_is_drift():
    values = np.linspace(0.5, 0.4, 60) + 0.01 * np.random.default_rng(0).standard_normal(60)
    drift, apart = brightness(values)
    assert drift == pytest.approx(-0.075 / 0.45, rel=0.2)
    assert apart == []


def test_dark_and_bright_files_stand_apart():
    values = 0.5 + 0.01 * np.random.default_rng(0).standard_normal(50)
    values[7], values[30] = 0.2, 0.8
    assert brightness(values) == (None, [7, 30])


def test_tiny_changes_do_not_matter():
    assert brightness([0.5] * 40 + [0.501]) == (None, [])
    assert brightness(np.linspace(0.5, 0.505, 40)) == (None, [])


def test_few_files_are_not_judged():
    assert brightness([0.5] * (FEWEST - 2) + [0.1]) == (None, [])
