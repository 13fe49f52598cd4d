"""Results on disk: what is written comes back, what is damaged is refused, what takes time stands apart."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from metricad.errors import DataError
from metricad.evaluation import results
from metricad.evaluation.results import Cost, Example, Network, Result, Study


def result(**changes):
    fields = {
        "dataset": "made/small", "surface": "flat", "method": "mean euclidean", "role": "trained",
        "network": "h16-0", "units": 16, "seed": 0, "is_known": True, "fit_normals": 80,
        "held_out_normals": 20, "test_normals": 1, "test_defects": 1, "threshold": 0.5,
        "false_alarm_rate": 0.05, "auroc": 1.0, "average_precision": 1.0, "f1_max": 1.0,
        "fpr_at_95_tpr": 0.0, "pixel_auroc": None, "aupro": None,
        "scores": [{"name": "a", "kind": "good", "score": 0.1}, {"name": "b", "kind": "hole", "score": 2.0}],
    }  # fmt: skip
    return Result(**fields | changes)


def example(role="best", mask=None):
    return Example("b", "hole", role, 2.0, np.full((3, 4), 7, np.uint8), np.eye(3, 4, dtype=np.float32), mask)


NETWORK = Network("h16-0", 16, 0, ["made: 2 classes, 8 images"], {"rounds": 2}, [0.5, 0.25], [0.5, 1.0])


@pytest.fixture
def study():
    return Study(
        results=[result(), result(network=None, role="baseline", is_known=None)],
        examples=[[example(mask=np.eye(3, 4, dtype=bool)), example("worst")], []],
        costs=[Cost(1.5, 20.25), None],
        networks=[NETWORK],
        training_seconds={"h16-0": 12.5},
    )


def assert_same(found, expected):
    for field in ("results", "costs", "networks", "training_seconds", "versions"):
        assert getattr(found, field) == getattr(expected, field)
    assert [len(shown) for shown in found.examples] == [len(shown) for shown in expected.examples]
    for one, other in zip(
        *map(itertools.chain.from_iterable, (found.examples, expected.examples)), strict=True
    ):
        assert (one.name, one.kind, one.role, one.score) == (other.name, other.kind, other.role, other.score)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)
        assert (one.mask is None) == (other.mask is None)
        if one.mask is not None:
            np.testing.assert_array_equal(one.mask, other.mask)


def test_a_study_comes_back_as_it_was_written(study, tmp_path):
    path = tmp_path / "out" / "results.json"
    results.save(path, study)
    assert_same(results.load(path), study)
    assert sorted(child.name for child in path.parent.iterdir()) == [
        "results.costs.json", "results.examples.npz", "results.json",
    ]  # fmt: skip
    assert json.loads(path.read_text())["versions"]["metricad"]
    assert str(tmp_path) not in path.read_text()


def test_the_numbers_do_not_depend_on_the_time_they_took(study, tmp_path):
    for name, seconds in (("one", 1.0), ("two", 2.0)):
        slower = dataclasses.replace(
            study, costs=[Cost(seconds, seconds)] * 2, training_seconds={"h16-0": seconds}
        )
        results.save(tmp_path / name / "r.json", slower)
    for file in ("r.json", "r.examples.npz"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_without_the_files_beside_it_the_numbers_still_stand(study, tmp_path):
    path = tmp_path / "results.json"
    results.save(path, study)
    (tmp_path / "results.examples.npz").unlink()
    (tmp_path / "results.costs.json").unlink()
    found = results.load(path)
    assert found.results == study.results
    assert found.examples == [[], []]
    assert found.costs == [None, None]
    assert found.training_seconds == {}


def test_studies_are_put_together_in_their_order(study):
    other = Study(
        [result(surface="wood")], [[]], [None], [dataclasses.replace(NETWORK, name="h16-1"), NETWORK],
        {"h16-1": 3.0}, study.versions | {"numpy": "another", "commit": "abc"},
    )  # fmt: skip
    merged = results.merge([study, other])
    assert [one.surface for one in merged.results] == ["flat", "flat", "wood"]
    assert [len(shown) for shown in merged.examples] == [2, 0, 0]
    assert [one.name for one in merged.networks] == ["h16-0", "h16-1"]
    assert merged.training_seconds == {"h16-0": 12.5, "h16-1": 3.0}
    assert merged.versions["numpy"] == f"{study.versions['numpy']} and another"
    assert merged.versions["keras"] == study.versions["keras"]
    assert_same(results.merge([study]), study)
    assert results.merge([study, dataclasses.replace(other, versions={})]).versions == study.versions


def test_what_is_not_a_number_is_not_written(study, tmp_path):
    broken = dataclasses.replace(study, results=[result(auroc=float("nan"))], examples=[[]], costs=[None])
    with pytest.raises(ValueError, match="JSON"):
        results.save(tmp_path / "r.json", broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("results.json", lambda text: text[:-50], "damaged"),
        (
            "results.json",
            lambda text: text.replace(b'"format_version": 2', b'"format_version": 1'),
            "expected",
        ),
        ("results.json", lambda text: b"[1, 2]", "no results of metricad"),
        ("results.json", lambda text: b'{"format": "another"}', "no results of metricad|expected"),
        ("results.costs.json", lambda text: b"{}", "damaged"),
        (
            "results.costs.json",
            lambda text: b'{"results": [], "training_seconds": {}}',
            "0 costs of 2 results",
        ),
        ("results.examples.npz", lambda content: content[:300], "damaged"),
        ("results.examples.npz", lambda content: b"", "damaged"),
    ],
)
def test_a_damaged_file_is_named(study, tmp_path, name, damage, message):
    results.save(tmp_path / "results.json", study)
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{name}: .*({message}).*evaluate again"):
        results.load(tmp_path / "results.json")


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match=r"r\.json: no such file; make it with 'metricad evaluate'"):
        results.load(tmp_path / "r.json")
