"""Exports in bfloat16 and int8: a threshold of their own, a cost that is measured, and refusals."""

import re
import shutil

import numpy as np
import pytest

from metricad.data import images
from metricad.deploy import exported
from metricad.errors import DataError
from tests.helpers import COLLECTING, save, scratched, texture

if not COLLECTING:
    from metricad.deploy import export, graph, reduced_precision
    from metricad.metrics.image import auroc

pytestmark = pytest.mark.tf


def eight_bit(image):
    return images.from_uint8(images.to_uint8(image))


@pytest.fixture(scope="module")
def more_good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("more")
    rng = np.random.default_rng(5)
    return [save(folder / f"{number:02}.png", texture(rng)) for number in range(33)]


@pytest.fixture(scope="module")
def labelled():
    rng = np.random.default_rng(6)
    good = [(eight_bit(texture(rng)), False) for _ in range(6)]
    return good + [(eight_bit(scratched(texture(rng), 20, 30)), True) for _ in range(5)]


@pytest.fixture(scope="module")
def int8(fitted, more_good, labelled, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "part.onnx"
    cost = reduced_precision.export(
        fitted, path, format="onnx", precision="int8", good=more_good, labelled=labelled, input_type="uint8"
    )
    return path, cost


def test_the_threshold_is_of_images_that_the_quantiser_has_not_seen(int8, more_good, fitted):
    path, cost = int8
    assert cost.images == 22
    made = exported.load(path)
    scores = sorted(made.inspect(images.read(one))[0].score for one in more_good[11:])
    np.testing.assert_allclose(made.calibration.scores, scores, rtol=1e-6)
    assert made.threshold == cost.inspector.threshold == pytest.approx(made.calibration.threshold)
    assert made.calibration.false_alarm_rate == fitted.calibration.false_alarm_rate
    above = sum(score > made.threshold for score in scores)
    assert above <= fitted.calibration.false_alarm_rate * len(scores)


def test_the_graph_judges_by_the_new_threshold(int8, fitted):
    path, cost = int8
    description, run = exported.open_runtime(path)
    judge = run(graph.OUTPUTS)
    rng = np.random.default_rng(8)
    for image in [texture(rng), scratched(texture(rng), 20, 30)]:
        found = judge(exported.to_pixels(eight_bit(image), description))
        assert found["is_defect"][0] == (found["score"][0] > cost.inspector.threshold)


def test_the_cost_is_what_was_measured(int8, more_good, labelled, fitted):
    path, cost = int8
    made = exported.load(path)
    full = np.array([fitted.inspect(images.read(one))[0].score for one in more_good[11:]])
    shares = np.abs(np.array([made.inspect(images.read(one))[0].score for one in more_good[11:]]) / full - 1)
    assert cost.median == pytest.approx(np.median(shares), rel=1e-3)
    assert cost.largest == pytest.approx(shares.max(), rel=1e-3)
    assert cost.largest > 1e-4  # eight bits are not thirty-two
    labels = [is_defect for _, is_defect in labelled]
    assert cost.aurocs[0] == auroc(labels, [fitted.inspect(image)[0].score for image, _ in labelled])
    assert cost.aurocs[1] == auroc(labels, [made.inspect(image)[0].score for image, _ in labelled])


@pytest.mark.slow
def test_bfloat16_is_remembered_by_the_file(fitted, more_good, tmp_path):
    path = tmp_path / "part"
    cost = reduced_precision.export(
        fitted, path, format="openvino", precision="bfloat16", good=more_good[:12]
    )
    found, _ = exported.open_runtime(path)
    assert found.precision == "bfloat16"
    assert cost.images == 12
    assert cost.aurocs is None
    # Where the processor has no such numbers nothing is lost; there is no more to say for every machine.
    assert 0 <= cost.median <= cost.largest < export.TOLERANCE["bfloat16"]


@pytest.mark.parametrize(
    ("format", "precision"), [("litert", "int8"), ("saved-model", "int8"), ("onnx", "bfloat16")]
)
def test_formats_without_a_precision_refuse_it(fitted, more_good, tmp_path, format, precision):
    with pytest.raises(DataError, match=f"{precision} is for .*, received {format}"):
        reduced_precision.export(
            fitted, tmp_path / "part", format=format, precision=precision, good=more_good
        )
    assert not list(tmp_path.iterdir())


def test_too_few_good_images_set_no_threshold(fitted, more_good, tmp_path):
    with pytest.raises(DataError, match="4 good images are too few"):
        reduced_precision.export(
            fitted, tmp_path / "a.onnx", format="onnx", precision="int8", good=more_good[:6]
        )
    assert not list(tmp_path.iterdir())


def test_the_command_line_tells_the_cost(run_metricad, refused, part, int8, more_good, tmp_path, monkeypatch):
    asked = []

    def export(inspector, path, **options):
        asked.append((path, options["precision"], options["format"], list(options["good"])))
        shutil.copyfile(int8[0], path)
        return int8[1]

    monkeypatch.setattr(reduced_precision, "export", export)
    out = tmp_path / "part.onnx"
    command = ["export", part, "--out", out, "--precision", "int8"]
    assert "--good images that took no part" in refused(*command)
    assert "give --precision" in refused("export", part, "--out", out, "--good", more_good[0])
    done = run_metricad(*command, "--good", more_good[0].parent)
    assert done.status == 0, done.err
    assert re.search(r"int8; scores of 22 good images differ by \d+\.\d % .*threshold .* before ", done.out)
    assert "AUROC 1.0000, in float32 1.0000" in done.out
    assert asked == [(out, "int8", "onnx", more_good)]
    assert run_metricad("inspect", out, more_good[0]).status == 0
