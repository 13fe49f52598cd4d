"""An export says what the library says, in every format, or nothing is left of it."""

import hashlib
import shutil
import sys

import numpy as np
import pytest

from metricad.deploy import exported
from metricad.deploy.metadata import Description
from metricad.errors import BundleError, DataError, ExportError, InspectorError
from metricad.inspection.inspector import Inspector
from metricad.preprocessing.regions import ForegroundRegion
from tests.helpers import COLLECTING, assert_outputs, assert_same, make_part, surface

if not COLLECTING:
    from metricad.deploy import export, graph
    from metricad.inspection.detector import PartDetector
    from metricad.networks import residual

pytestmark = pytest.mark.tf

SHAPES = [(69, 71), (79, 399), (267, 89)]
"""Odd sizes, some of them very narrow."""

FORMATS = ["onnx", "litert", "openvino", "saved-model"]


# Parity.


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_odd_sizes_are_judged_alike(free_part, free_export, format):
    """In color, at three scales with line filters, by mixtures."""
    loaded = exported.load(free_export(format))
    rng = np.random.default_rng(0)
    verdicts = {
        assert_same(free_part[0], loaded, surface(rng, shape, scratch=number % 2 > 0, color=True))
        for number, shape in enumerate(SHAPES)
    }
    assert verdicts == {"good", "defect"}


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_part_in_register_is_judged_alike(registered_part, registered_export, format):
    """In gray, halved, by a Gaussian at each position, within a mask."""
    loaded = exported.load(registered_export(format))
    rng = np.random.default_rng(0)
    for scratch in (False, True):
        assert_same(registered_part[0], loaded, surface(rng, (141, 159), scratch=scratch))


@pytest.mark.parametrize("format", FORMATS)
def test_the_papers_method_is_judged_alike(fitted, part_export, format):
    loaded = exported.load(part_export(format))
    rng = np.random.default_rng(0)
    verdicts = {
        assert_same(fitted, loaded, surface(rng, shape, scratch=scratch))
        for shape in [(33, 33), (63, 41), (75, 131)]
        for scratch in (False, True)
    }
    assert verdicts == {"good", "defect"}


def test_parts_are_what_their_names_say(free_part, registered_part):
    free, registered = (inspector.detector for inspector, _ in (free_part, registered_part))
    assert free.channels == 3
    assert {"network", "lines", "color"} == {source.kind for source in free.features.sources}
    assert [density.components for density in free.densities[:3]] == [2, 3, 3]
    assert registered.channels == 1
    assert registered.settings["is_halved"]
    assert registered.needs_positions
    assert not registered.region.mask.all()


@pytest.mark.parametrize("format", FORMATS)
def test_every_output_is_right_of_every_image_of_a_batch(
    free_part, free_export, registered_part, registered_export, format
):
    rng = np.random.default_rng(0)
    for (inspector, _), path, dtype, shape, color in [
        (free_part, free_export(format), "float32", (75, 101), True),
        (registered_part, registered_export(format), "uint8", (141, 159), False),
    ]:
        batch = [surface(rng, shape, scratch=scratch, color=color) for scratch in (False, True)]
        _, run = exported.open_runtime(path)
        found = run(graph.OUTPUTS)(((np.stack(batch) + 1) * 127.5).round().astype(dtype))
        for number, image in enumerate(batch):
            assert_outputs({name: value[number] for name, value in found.items()}, inspector, image)


# What others find in the file.


@pytest.mark.parametrize(
    ("part", "pixels"),
    [
        ("free", ("tensor(float)", [None, None, None, 3])),
        ("registered", ("tensor(uint8)", [None, 141, 159])),
    ],
)
def test_an_onnx_file_has_the_inputs_and_outputs_that_are_promised(request, part, pixels):
    import onnxruntime

    path = request.getfixturevalue(f"{part}_export")("onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    sides = [side if isinstance(side, int) else None for side in given.shape]
    assert (given.name, given.type, sides) == ("pixels", *pixels)
    assert [(output.name, output.type, len(output.shape)) for output in session.get_outputs()] == [
        ("score", "tensor(float)", 1),
        ("is_defect", "tensor(bool)", 1),
        ("peak", "tensor(int32)", 2),
        ("source", "tensor(int32)", 1),
        ("distance_map", "tensor(float)", 3),
        ("anomaly_map", "tensor(float)", 3),
    ]
    assert [output.name for output in session.get_outputs()] == list(graph.OUTPUTS)


@pytest.mark.parametrize("format", FORMATS)
def test_the_description_survives(free_part, free_export, registered_part, registered_export, format):
    for (inspector, bundle), path in [
        (free_part, free_export(format)),
        (registered_part, registered_export(format)),
    ]:
        found, _ = exported.open_runtime(path)
        np.testing.assert_array_equal(found.calibration.scores, inspector.calibration.scores)
        assert found.calibration.threshold == inspector.threshold
        assert found.calibration.false_alarm_rate == 0.1
        assert found.grid == inspector.detector.grid
        assert found.score == inspector.detector.score_name
        assert found.sources == tuple(source.name for source in inspector.detector.features.sources)
        assert found.channels == inspector.detector.channels
        for score in (-1.0, 0.0, 2.5):
            expected = inspector.detector.map_value(score)
            assert exported.ExportedDetector(found, None).map_value(score) == pytest.approx(expected)
        assert found.facts["fitted_on"] == {"fit_images": 8}
        assert found.facts["bundle"] == bundle.name
        assert found.facts["bundle_sha256"] == hashlib.sha256(bundle.read_bytes()).hexdigest()
        assert "tensorflow" in found.facts["versions"]
    assert exported.open_runtime(free_export(format))[0].sizes is None
    assert exported.open_runtime(free_export(format))[0].input_type == "float32"
    assert exported.open_runtime(free_export(format))[0].mask is None
    assert found.sizes == ((141, 141), (159, 159))
    assert found.input_type == "uint8"
    np.testing.assert_array_equal(found.mask.mask, registered_part[0].detector.region.mask)


# What is refused, and leaves nothing behind.


def moved(inspector, step):
    """An inspector whose mean is elsewhere."""
    given = inspector.detector
    detector = PartDetector(given.network, "mean")
    detector.densities = [type(given.densities[0])(given.densities[0].dimensions)]
    detector.densities[0].mean.assign(given.densities[0].mean + step)
    detector.assemble()
    return Inspector(detector, inspector.calibration)


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_says_something_else_is_not_kept(fitted, written, tmp_path, format):
    path = tmp_path / f"a{export.FORMATS[format][0]}"
    assert export.export(fitted, path, format=format).images == 4
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(
        ExportError, match=r"the exported score differs by .* on image 1 .* nothing was written"
    ):
        export.export(moved(fitted, 1e-2), path, format=format)
    assert not list(tmp_path.iterdir())


def test_an_older_file_stays_when_its_successor_is_refused(fitted, written, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"older")
    with pytest.raises(InspectorError):
        export.export(moved(fitted, np.nan), tmp_path / "a.onnx", format="onnx")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]


@pytest.fixture(scope="module")
def said(fitted):
    """An image, its description, and what an export ought to say of it."""
    image = surface(np.random.default_rng(0), (75, 101), scratch=True)
    description = Description(fitted.calibration, fitted.detector.grid)
    found = graph.build(fitted)(exported.to_pixels(image, description))
    return image, description, {name: value.numpy() for name, value in found.items()}


def compare(inspector, said, **changed):
    image, description, outputs = said
    return export.compare(inspector, description, lambda pixels: outputs | changed, [image, image])


def test_what_is_within_the_tolerance_is_kept_and_counted(fitted, said):
    assert compare(fitted, said).images == 2
    assert compare(fitted, said).difference < 1e-5
    nearly = compare(fitted, said, score=said[2]["score"] * np.float32(1 + 5e-5))
    assert nearly.difference == pytest.approx(5e-5, rel=0.1)


@pytest.mark.parametrize("name", ["score", "distance_map", "anomaly_map"])
@pytest.mark.parametrize("by", [2e-4, -2e-4, np.nan, np.inf])
def test_one_number_that_differs_is_enough(fitted, said, name, by):
    changed = said[2][name].copy()
    changed.flat[-1] += np.float32(by) * said[2]["score"][0]
    with pytest.raises(ExportError, match=f"the exported {name.replace('_', ' ')} differs"):
        compare(fitted, said, **{name: changed})


def test_another_peak_is_a_difference(fitted, said):
    with pytest.raises(ExportError, match="the exported peak differs"):
        compare(fitted, said, peak=said[2]["peak"] + fitted.detector.grid.stride)


def test_differences_of_standard_scores_are_in_standard_deviations(registered_part):
    """A score may be near 0."""
    inspector, _ = registered_part
    image = surface(np.random.default_rng(0), (141, 159))
    found, anomaly = inspector.inspect(image)
    outputs = {
        "score": found.score,
        "peak": (found.peak_row, found.peak_col),
        "distance_map": anomaly,
        "anomaly_map": inspector.detector.on_pixels(anomaly, image),
        "is_defect": found.verdict == "defect",
    }
    description = Description(
        inspector.calibration,
        inspector.detector.grid,
        score="top-10%",
        spread=0.5,
        mask=inspector.detector.region,
    )
    assert abs(found.score) < 5

    def compared(step):
        changed = {name: np.array([value]) for name, value in outputs.items()}
        changed["score"] = changed["score"] + step
        return export.compare(inspector, description, lambda pixels: changed, [image])

    assert compared(0.9e-4 * max(abs(found.score), export.SMALLEST_SCORE)).difference > 0
    with pytest.raises(ExportError, match="the exported score differs"):
        compared(1.1e-4 * max(abs(found.score), export.SMALLEST_SCORE))


def test_another_verdict_is_a_difference(fitted, said):
    with pytest.raises(ExportError, match="the exported verdict differs on image 1"):
        compare(fitted, said, is_defect=~said[2]["is_defect"])


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_write_that_fails_leaves_nothing(fitted, tmp_path, monkeypatch, format):
    suffix, _ = export.FORMATS[format]
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def write(module, text, path, error=error):
            if not suffix:
                path.mkdir()
                path = path / "model.xml"
            path.write_text("half")
            raise error

        monkeypatch.setitem(export.FORMATS, format, (suffix, write))
        with pytest.raises(type(error)):
            export.export(fitted, tmp_path / f"a{suffix}", format=format)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "name", "expected"),
    [
        ("onnx", "a.tflite", r"a\.tflite: onnx expects a name that ends in \.onnx"),
        ("litert", "a", r"a: litert expects a name that ends in \.tflite"),
        ("openvino", "a.xml", r"a\.xml: openvino expects a folder's name, without a dot"),
        ("saved-model", "a.onnx", r"a\.onnx: saved-model expects a folder's name"),
    ],
)
def test_another_suffix_is_refused(fitted, tmp_path, format, name, expected):
    with pytest.raises(DataError, match=expected):
        export.export(fitted, tmp_path / name, format=format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["openvino", "saved-model"])
def test_a_folder_that_is_there_is_left_alone(fitted, tmp_path, format):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/mine").touch()
    with pytest.raises(DataError, match="a: is there already; remove it or choose another name"):
        export.export(fitted, tmp_path / "a", format=format)
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/mine"]


def test_an_unknown_format_is_refused(fitted, tmp_path):
    with pytest.raises(ValueError, match="must be one of onnx, litert, openvino, saved-model, received 'h5'"):
        export.export(fitted, tmp_path / "a.h5", format="h5")


def test_a_region_that_is_found_anew_is_refused(tmp_path):
    inspector = make_part(residual.build(2, seed=1), "mean", region=ForegroundRegion())
    with pytest.raises(DataError, match="kind 'foreground' is found anew"):
        export.export(inspector, tmp_path / "a.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("compared", "expected"),
    [
        ([], "no images to compare on; expected one at least"),
        ([np.zeros((20, 40), np.float32)], "at least 32×32 pixels, received 20×40"),
        ([np.full((40, 40), 0.001, np.float32)], "between those of 8 bits.* --input-type float32"),
    ],
    ids=["none", "too small", "too fine"],
)
def test_images_that_nothing_can_be_compared_on_are_refused(fitted, written, tmp_path, compared, expected):
    with pytest.raises(DataError, match=expected):
        export.export(fitted, tmp_path / "a", format="saved-model", input_type="uint8", images=compared)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "module", "expected"),
    [
        ("onnx", "tf2onnx", r"exporting needs tf2onnx: install it with pip install 'metricad\[export\]'"),
        (
            "openvino",
            "openvino",
            r"exporting needs openvino: install it with pip install 'metricad\[export\]'",
        ),
        ("litert", "ai_edge_litert.interpreter", "needs ai-edge-litert, which is not installed"),
    ],
)
def test_what_is_not_installed_is_named(fitted, part_export, tmp_path, monkeypatch, format, module, expected):
    if format == "litert":  # which only reading it back needs
        content = part_export(format).read_bytes()
        write = (".tflite", lambda model, text, path: path.write_bytes(content))
        monkeypatch.setitem(export.FORMATS, format, write)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BundleError, match=expected):
        export.export(fitted, tmp_path / f"a{export.FORMATS[format][0]}", format=format)
    assert not list(tmp_path.iterdir())


def test_nothing_is_printed_meanwhile(exporting):
    """By a command line, that is: after `native_output.load_tensorflow`."""
    folder, printed = exporting
    assert printed == ""
    assert len(list(folder.iterdir())) == len(FORMATS)
