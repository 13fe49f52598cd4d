"""What scripts measure time with: the images, and how often each piece of work is done."""

import json

import measuring
import numpy as np
import pytest

from metricad.data.channels import is_colored
from metricad.methods.variation import VariationDetector
from tests.helpers import COLLECTING, load_script

if not COLLECTING:
    from metricad.inspection.detector import PartDetector
    from metricad.networks import residual

pytestmark = pytest.mark.tf


def test_regions_are_the_same_every_time_and_lie_elsewhere_in_each_image():
    drawn = measuring.regions(12, (128, 160))
    assert [image.shape for image in drawn] == [(128, 160)] * 12
    np.testing.assert_array_equal(drawn, measuring.regions(12, (128, 160)))
    assert np.min(drawn) >= -1
    assert np.max(drawn) <= 1
    assert len({image.tobytes() for image in drawn}) == 12
    # The eleventh shows what the first does, shifted.
    assert np.array_equal(np.sort(drawn[0], axis=None), np.sort(drawn[10], axis=None))


def test_regions_have_colors():
    colored, gray = measuring.regions(1, (128, 128), is_colored=True)[0], measuring.regions(1, (128, 128))[0]
    assert colored.shape == (128, 128, 3)
    assert is_colored(colored)
    assert np.corrcoef(colored.mean(axis=-1).ravel(), gray.ravel())[0, 1] > 0.9


class Counting:
    """A detector that counts what it is asked."""

    def __init__(self):
        self.fitted, self.scored = 0, 0

    def fit(self, images):
        self.fitted += len(images)

    def score(self, image):
        self.scored += 1


def test_a_fifth_of_the_images_is_held_out_and_all_are_inspected():
    detector = Counting()
    set_up, inspection = measuring.set_up(detector, [np.zeros((4, 4))] * 10)
    assert (detector.fitted, detector.scored) == (8, 2 + 10)
    assert set_up > 0
    assert inspection > 0


def test_work_is_done_in_turns():
    done = []
    taken = measuring.in_turns({name: lambda k, name=name: done.append((name, k)) for name in "ab"}, 2)
    assert done == [("a", 0), ("b", 0), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert list(taken) == ["a", "b"]


def test_components_are_told_by_feature_map(free_part):
    inspector, _ = free_part
    expected = "network, 1/1: 2, network, 1/2: 3, network, 1/4: 3, color: 3"
    assert measuring.components(inspector.detector) == expected
    detector = PartDetector(residual.build(2, seed=0)).fit([np.zeros((64, 64), np.float32)])
    assert measuring.components(detector) == detector.description
    assert measuring.components(VariationDetector()) == "–"


@pytest.fixture(scope="module")
def benchmark():
    return load_script("benchmark")


def test_the_benchmarks_that_are_named_are_run_and_written(benchmark, tmp_path, monkeypatch, capsys):
    asked = []

    def output(command):
        asked.append(list(map(str, command))[2:])
        return json.dumps([["speed: made", "1.50", "≤ 2"]])

    monkeypatch.setattr(benchmark, "_output", output)
    monkeypatch.setattr(
        "sys.argv", ["benchmark.py", "speed", "large", "--quick", "--out", str(tmp_path / "b.md")]
    )
    benchmark.main()
    assert asked == [["--one", "speed", "--quick"], ["--one", "large", "--quick"]]
    text = (tmp_path / "b.md").read_text(encoding="utf-8")
    assert "Made by: python scripts/benchmark.py speed large --quick" in text
    assert text.count("| speed: made | 1.50 | ≤ 2 |") == 2
    assert capsys.readouterr().out.count("| speed: made | 1.50 | ≤ 2 |") == 2


def test_a_benchmark_that_is_none_is_refused(benchmark, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark.py", "sped"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "no benchmark sped" in capsys.readouterr().err
