"""Suspects by detectors that have not seen them: a scratched part among good ones is found and shown."""

from pathlib import Path

import numpy as np
import pytest

from metricad.check import check
from tests.helpers import COLLECTING, save, scratched, texture

if not COLLECTING:
    from metricad.check import unseen
    from metricad.inspection import cross_validation, fit
    from metricad.networks import hypercolumn

pytestmark = pytest.mark.tf


def test_a_suspect_is_shown_where_it_is_scratched(tmp_path, monkeypatch):
    """Scores are given, because cross-validation takes long; see its own tests."""
    scored = []

    def scores(detector, images, folds):
        scored.append([Path(images.name(number)).stem for number in range(len(images))])
        return np.array([9.0 if name == "scratched" else int(name) / 100 for name in scored[-1]])

    monkeypatch.setattr(cross_validation, "fit", scores)
    rng = np.random.default_rng(0)
    for number in range(9):
        save(tmp_path / f"{number}.png", texture(rng, side=68))
    path = save(tmp_path / "scratched.png", scratched(texture(rng, side=68), 30, 20, side=12))
    found, sheet = unseen.score(check(sorted(tmp_path.iterdir())), hypercolumn.build(2, seed=1))
    assert [found.good[found.usable[number]].path for number in found.suspects.numbers] == [str(path)]
    assert list(map(len, scored)) == [10, 9]
    (shown,) = sheet
    assert (shown.path, shown.is_suspect) == (str(path), True)
    row, column = np.unravel_index(shown.anomaly_map.argmax(), shown.anomaly_map.shape)
    assert 22 <= row <= 50
    assert 12 <= column <= 40


def test_few_images_are_not_scored(tmp_path):
    paths = [save(tmp_path / f"{number}.png", np.zeros((68, 68))) for number in range(3)]
    found, sheet = unseen.score(check(paths), hypercolumn.build(2, seed=1))
    assert (found.suspects, sheet) == (None, [])


def test_suspects_are_those_of_an_inspector_that_is_fitted(tmp_path, monkeypatch):
    """Both have the images in the same order, so that the folds are the same."""
    seen = []

    def scores(detector, images, folds):
        seen.append(([Path(images.name(number)).stem for number in range(len(images))], folds.tolist()))
        return np.arange(len(images)) / 100.0

    monkeypatch.setattr(cross_validation, "fit", scores)
    rng = np.random.default_rng(0)
    for number in range(36):  # more than are left out one by one
        save(tmp_path / f"{number}.png", texture(rng, side=68))
    paths, network = sorted(tmp_path.iterdir()), hypercolumn.build(2, seed=1)
    found = check(paths)
    unseen.score(found, network)
    group = {image.path: number for image, number in zip(found.good, found.near.tolist(), strict=True)}
    groups = [group[str(path)] for path in paths]  # as the command line does
    fit.fit_inspector(paths, network, false_alarm_rate=0.2, groups=groups)
    (names, folds), (other_names, other_folds) = seen
    assert names == other_names == [str(number) for number in range(36)]
    assert folds == other_folds
