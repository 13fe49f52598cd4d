"""Suspects by detectors that have not seen them: a scratched part among good ones is found and shown."""

import numpy as np
import pytest

from metricad.check import check, unseen
from metricad.inspection import cross_validation
from metricad.networks import hypercolumn
from tests.helpers import save, scratched, texture

pytestmark = pytest.mark.tf


def test_a_scratched_part_is_found_where_it_is_scratched(tmp_path, monkeypatch):
    monkeypatch.setattr(unseen, "MOST", 10)
    monkeypatch.setattr(cross_validation, "ONE_OUT", 0)
    monkeypatch.setattr(cross_validation, "FOLDS", 2)
    rng = np.random.default_rng(0)
    for number in range(12):
        save(tmp_path / f"{number:02}.png", texture(rng, side=68))
    path = save(tmp_path / "scratched.png", scratched(texture(rng, side=68), 30, 20, side=12))
    found, sheet = unseen.score(check(sorted(tmp_path.iterdir())), hypercolumn.build(2, seed=1))
    assert [found.good[found.usable[number]].path for number in found.suspects.numbers] == [str(path)]
    (shown,) = sheet
    assert (shown.path, shown.is_suspect) == (str(path), True)
    row, column = np.unravel_index(shown.anomaly_map.argmax(), shown.anomaly_map.shape)
    assert 22 <= row <= 50
    assert 12 <= column <= 40


def test_few_images_are_not_scored(tmp_path):
    paths = [save(tmp_path / f"{number}.png", np.zeros((68, 68))) for number in range(3)]
    found, sheet = unseen.score(check(paths), hypercolumn.build(2, seed=1))
    assert (found.suspects, sheet) == (None, [])
