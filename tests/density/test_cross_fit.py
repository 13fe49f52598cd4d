"""Densities fitted without each fold, and without some images."""

import numpy as np
import pytest

from metricad.density.sampling import VectorSample
from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.density import cross_fit

pytestmark = pytest.mark.tf


def test_folds_repeat_the_choice_of_the_number_of_components(monkeypatch):
    monkeypatch.setattr(cross_fit, "WEIGHT", 20)
    rng = np.random.default_rng(0)
    sample = VectorSample(rng)
    for image in range(6):
        sample.update(rng.normal(size=(10, 10, 2)).astype(np.float32), image)
    fitted = cross_fit.Mixtures(sample, (1, 2), np.array([0, 1, 0, 1, 0, 1]), 0)
    fitted._likelihoods = {1: np.zeros(6), 2: np.array([8.0, 9, 8, 9, 8, -90])}
    assert [fitted.without([image]).components for image in range(6)] == [1, 1, 1, 1, 1, 2]
