"""The protocol: what is fitted, what is scored, what is written."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from metricad import evaluation, results
from metricad.datasets import Sample, Surface
from metricad.errors import DataError
from metricad.evaluation import Method


class Brightness:
    """A detector that one can do in one's head: the score is the distance of the mean to the fitted mean."""

    def __init__(self):
        self.fitted = []

    def fit(self, images):
        self.fitted = [image.mean() for image in images]
        return self

    def anomaly_map(self, image):
        return np.abs(image - np.mean(self.fitted)).astype(np.float32)

    def score(self, image):
        return float(abs(image.mean() - np.mean(self.fitted)))


def sample(name, value, kind="good"):
    mask = None if kind == "good" else (lambda: np.eye(4, dtype=bool))
    return Sample(name, kind, lambda: np.full((4, 4), value, np.float32), mask)


@pytest.fixture
def surface():
    fit = tuple(sample(f"fit{i}", 0.1 * i) for i in range(3))
    good = [sample("good0", 0.1), sample("good1", 0.5)]
    defects = [sample(f"defect{i}", value, "hole") for i, value in enumerate((0.3, 0.8, -0.9))]
    return Surface("made", "flat", fit, (*good, *defects))


METHOD = Method("brightness", "trained", Brightness, network="run", units=4, seed=3)


def test_fits_the_good_images_and_scores_the_test_images(surface):
    seen = []
    result, example = evaluation.evaluate(METHOD, surface, on_image=lambda: seen.append(1))
    expected = [0.0, 0.4, 0.2, 0.7, 1.0]
    assert result.score_values == pytest.approx(expected, abs=1e-6)
    assert result.auroc == pytest.approx(roc_auc_score([0, 0, 1, 1, 1], expected))
    assert (result.fit_normals, result.test_normals, result.test_defects) == (3, 2, 3)
    assert (result.method, result.role, result.units, result.seed) == ("brightness", "trained", 4, 3)
    assert [row["kind"] for row in result.scores] == ["good", "good", "hole", "hole", "hole"]
    assert len(seen) == 8
    assert example.name == "defect1"  # the middle one by name, whatever its score
    np.testing.assert_allclose(example.anomaly_map, 0.7, atol=1e-6)
    np.testing.assert_array_equal(example.mask, np.eye(4, dtype=bool))


def test_a_fitted_detector_is_left_as_it_is(surface):
    ready = Brightness()
    ready.fitted = [0.5]
    method = Method("ready", "bundle", lambda: ready, is_fitted=True, threshold=0.25)
    result, _ = evaluation.evaluate(method, surface)
    assert ready.fitted == [0.5]
    assert (result.fit_normals, result.threshold) == (0, 0.25)


@pytest.mark.parametrize("kinds", [["good"], ["hole"], []])
def test_a_surface_without_both_kinds_is_refused(surface, kinds):
    test = tuple(one for one in surface.test if one.kind in kinds)
    with pytest.raises(DataError, match="an AUROC needs both"):
        evaluation.evaluate(METHOD, dataclasses.replace(surface, test=test))


def test_a_network_is_not_tested_on_what_it_was_trained_on(surface):
    def record(*names, dataset="made"):
        return [{"dataset": dataset, "labelled": {"flat": list(names)}}]

    evaluation.check_unseen(surface, record("fit0", "fit1"))
    evaluation.check_unseen(surface, record("good1", dataset="another"))
    with pytest.raises(DataError, match="1 test images of flat were trained on \\(good1"):
        evaluation.check_unseen(surface, record("fit0", "good1"))


def test_results_come_back_as_they_were_written(surface, tmp_path):
    result, example = evaluation.evaluate(METHOD, surface)
    bare, _ = evaluation.evaluate(dataclasses.replace(METHOD, name="bare"), surface)
    path = tmp_path / "out" / "results.json"
    results.save(path, [result, bare], [example, dataclasses.replace(example, mask=None)])
    found, examples = results.load(path)
    assert found == [result, bare]
    np.testing.assert_array_equal(examples[0].image, example.image)
    np.testing.assert_array_equal(examples[0].mask, example.mask)
    np.testing.assert_allclose(examples[0].anomaly_map, example.anomaly_map, rtol=1e-3)
    assert examples[1].mask is None
    document = json.loads(path.read_text())
    assert document["versions"]["metricad"]
    assert str(tmp_path) not in path.read_text()

    (path.parent / "results.examples.npz").unlink()
    assert results.load(path) == ([result, bare], [None, None])
