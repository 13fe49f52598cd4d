"""An export says what the library says, in every format, or nothing is left of it."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_outputs, assert_same, make_part, surface
from metricad.prototype import GaussianPrototype, MeanPrototype

from metricad import images, kinds
from metricad.deploy import export, exported, graph
from metricad.errors import BundleError, DataError, ExportError
from metricad.inspection.detector import TripletDetector
from metricad.inspection.inspector import Inspector
from metricad.networks import hypercolumn
from metricad.networks import residual as network
from metricad.preprocessing.regions import ForegroundRegion
from metricad.scoring.calibration import calibrate

SHAPES = [
    (69, 69), (71, 73), (73, 71), (75, 75), (77, 113), (79, 399), (81, 83), (85, 87), (89, 69), (93, 101),
    (97, 95), (99, 105), (117, 71), (123, 131), (135, 137), (139, 133), (143, 69), (201, 77), (267, 89),
    (393, 73),
]  # fmt: skip
"""Twenty odd sizes, some of them very narrow."""

FORMATS = list(export.FORMATS)


@pytest.fixture(scope="module")
def plain():
    """The part that is exported fastest."""
    return make_part(network.build(2, seed=1), MeanPrototype())


# Parity.


@pytest.mark.parametrize("format", FORMATS)
def test_twenty_odd_sizes_are_judged_alike(free_part, free_export, format):
    loaded = exported.load(free_export(format))
    rng = np.random.default_rng(0)
    verdicts = {
        assert_same(free_part[0], loaded, surface(rng, shape, scratch=number % 2 > 0))
        for number, shape in enumerate(SHAPES)
    }
    assert verdicts == {"good", "defect"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_part_in_register_is_judged_alike(registered_part, registered_export, format):
    loaded = exported.load(registered_export(format))
    rng = np.random.default_rng(0)
    for scratch in (False, True) * 3:
        assert_same(registered_part[0], loaded, surface(rng, (63, 75), scratch=scratch))


@pytest.mark.parametrize("format", FORMATS)
def test_real_images_are_judged_alike(free_part, free_export, format):
    folder = Path(os.environ.get("METRICAD_DATA", "")) / "dagm2007/Class1/Test"
    if "METRICAD_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("METRICAD_DATA names no folder with dagm2007/Class1/Test")
    loaded = exported.load(free_export(format))
    for path in images.find([folder])[:8]:
        assert_same(free_part[0], loaded, images.read(path))


@pytest.mark.parametrize("format", FORMATS)
def test_three_scales_with_lines_and_borders_are_judged_alike(tmp_path, format):
    model = hypercolumn.build_three_scales(2, seed=1)
    prototype = kinds.prototype_of("gaussian", hypercolumn.THREE_SCALES_GRID)
    rng = np.random.default_rng(0)

    def grain(strength):
        return (rng.normal(0, 0.1 * strength, (216, 220))).astype(np.float32)  # with room for borders

    detector = TripletDetector(model, prototype, evidence=kinds.evidence_for(model), gathers=True)
    detector.fit(grain(strength) for strength in rng.uniform(0.8, 1.2, 8))
    detector.evidence.exchange[1] += 2  # so that a border counts for more than the distance there
    inspector = Inspector(detector, calibrate([detector.score(grain(1)) for _ in range(12)], 0.1))
    bordered = grain(1)
    bordered[:, 110:] *= 2
    path = tmp_path / f"a{export.FORMATS[format][0]}"
    done = export.export(inspector, path, format=format, images=[bordered, grain(1)])
    assert 0 < done.difference < 5e-5
    loaded = exported.load(path)
    expected = detector.distance_map(bordered)
    np.testing.assert_allclose(loaded.detector.distance_map(bordered), expected, rtol=1e-4)
    for other in SHAPES[::4]:
        assert_same(inspector, loaded, surface(rng, other, scratch=True))
    detector.evidence.exchange[1] -= 50  # so that none counts
    assert (detector.distance_map(bordered) < 0.99 * expected).any()


def test_what_a_head_is_very_sure_of_is_judged_alike(tmp_path):
    """Distances that shrink to next to nothing, and those that are held at the most."""
    inspector = make_part(network.build(2, seed=1), GaussianPrototype(), head=True)
    inspector.detector.prototype.exchange[1] *= 20
    image = surface(np.random.default_rng(0), (96, 96), scratch=True)
    export.export(inspector, tmp_path / "a", format="openvino", images=[image])
    expected = inspector.detector.distance_map(image)
    found = exported.load(tmp_path / "a").detector.distance_map(image)
    assert expected.min() < 1e-6 * expected.max()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max())


@pytest.mark.parametrize("format", FORMATS)
def test_every_output_is_right_of_every_image_of_a_batch(
    free_part, free_export, registered_part, registered_export, format
):
    rng = np.random.default_rng(0)
    for (inspector, _), path, dtype, shape in [
        (free_part, free_export(format), "float32", (75, 101)),
        (registered_part, registered_export(format), "uint8", (63, 75)),
    ]:
        batch = [surface(rng, shape, scratch=scratch) for scratch in (False, True)]
        _, run = exported.open_runtime(path)
        found = run(graph.OUTPUTS)(((np.stack(batch) + 1) * 127.5).round().astype(dtype))
        for number, image in enumerate(batch):
            assert_outputs({name: value[number] for name, value in found.items()}, inspector, image)


# What others find in the file.


@pytest.mark.parametrize(
    ("part", "pixels"),
    [
        ("free", ("tensor(float)", [None, None, None])),
        ("registered", ("tensor(uint8)", [None, 63, 75])),
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
        assert found.reduction == inspector.detector.reduction
        assert found.facts["fitted_on"] == {"fit_images": 8}
        assert found.facts["bundle"] == bundle.name
        assert found.facts["bundle_sha256"] == hashlib.sha256(bundle.read_bytes()).hexdigest()
        assert "tensorflow" in found.facts["versions"]
    assert exported.open_runtime(free_export(format))[0].sizes is None
    assert exported.open_runtime(free_export(format))[0].input_type == "float32"
    assert exported.open_runtime(free_export(format))[0].mask is None
    assert found.sizes == ((63, 63), (75, 75))
    assert found.input_type == "uint8"
    np.testing.assert_array_equal(found.mask.mask, registered_part[0].detector.region.mask)


# What is refused, and leaves nothing behind.


def moved(inspector, step):
    """An inspector whose mean is elsewhere."""
    prototype = MeanPrototype().restore({"mean": inspector.detector.prototype.mean + step})
    return Inspector(TripletDetector(inspector.detector.model, prototype), inspector.calibration)


@pytest.mark.parametrize("format", ["openvino", "saved-model"])
def test_an_export_that_says_something_else_is_not_kept(plain, tmp_path, monkeypatch, format):
    build = graph.build
    monkeypatch.setattr(graph, "build", lambda part, **options: build(moved(part, 1e-2), **options))
    with pytest.raises(
        ExportError, match=r"the exported score differs by .* on image 1 .* nothing was written"
    ):
        export.export(plain, tmp_path / "a", format=format)
    assert not list(tmp_path.iterdir())


def test_an_older_file_stays_when_its_successor_is_refused(plain, tmp_path, monkeypatch):
    build = graph.build
    monkeypatch.setattr(graph, "build", lambda part, **options: build(moved(part, np.nan), **options))
    (tmp_path / "a.onnx").write_bytes(b"older")
    with pytest.raises(ExportError, match="the exported score differs by nan"):
        export.export(plain, tmp_path / "a.onnx", format="onnx")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]


@pytest.fixture(scope="module")
def said(plain):
    """An image, its description, and what an export ought to say of it."""
    image = surface(np.random.default_rng(0), (75, 101), scratch=True)
    detector = plain.detector
    description = export.Description(plain.calibration, detector.grid)
    found = graph.build(plain).inspect(exported.to_pixels(image, description))
    return image, description, {name: value.numpy() for name, value in found.items()}


def compare(inspector, said, **changed):
    image, description, outputs = said
    return export.compare(inspector, description, lambda pixels: outputs | changed, [image, image])


def test_what_is_within_the_tolerance_is_kept_and_counted(plain, said):
    assert compare(plain, said).images == 2
    assert compare(plain, said).difference < 1e-5
    nearly = compare(plain, said, score=said[2]["score"] * np.float32(1 + 5e-5))
    assert nearly.difference == pytest.approx(5e-5, rel=0.1)


@pytest.mark.parametrize("name", ["score", "distance_map", "anomaly_map"])
@pytest.mark.parametrize("by", [2e-4, -2e-4, np.nan, np.inf])
def test_one_number_that_differs_is_enough(plain, said, name, by):
    changed = said[2][name].copy()
    changed.flat[-1] += np.float32(by) * said[2]["score"][0]
    with pytest.raises(ExportError, match=f"the exported {name.replace('_', ' ')} differs"):
        compare(plain, said, **{name: changed})


def test_another_peak_is_a_difference(plain, said):
    with pytest.raises(ExportError, match="the exported peak differs"):
        compare(plain, said, peak=said[2]["peak"] + 2)


def test_another_verdict_is_a_difference(plain, said):
    with pytest.raises(ExportError, match="the exported verdict differs on image 1"):
        compare(plain, said, is_defect=~said[2]["is_defect"])


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_write_that_fails_leaves_nothing(plain, tmp_path, monkeypatch, format):
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
            export.export(plain, tmp_path / f"a{suffix}", format=format)
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
def test_another_suffix_is_refused(plain, tmp_path, format, name, expected):
    with pytest.raises(DataError, match=expected):
        export.export(plain, tmp_path / name, format=format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["openvino", "saved-model"])
def test_a_folder_that_is_there_is_left_alone(plain, tmp_path, format):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/mine").touch()
    with pytest.raises(DataError, match="a: is there already; remove it or choose another name"):
        export.export(plain, tmp_path / "a", format=format)
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/mine"]


def test_an_unknown_format_is_refused(plain, tmp_path):
    with pytest.raises(ValueError, match="must be one of onnx, litert, openvino, saved-model, received 'h5'"):
        export.export(plain, tmp_path / "a.h5", format="h5")


def test_a_region_that_is_found_anew_is_refused(tmp_path):
    inspector = make_part(network.build(2, seed=1), MeanPrototype(), region=ForegroundRegion())
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
def test_images_that_nothing_can_be_compared_on_are_refused(plain, tmp_path, compared, expected):
    with pytest.raises(DataError, match=expected):
        export.export(plain, tmp_path / "a", format="saved-model", input_type="uint8", images=compared)
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
def test_what_is_not_installed_is_named(plain, tmp_path, monkeypatch, format, module, expected):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BundleError, match=expected):
        export.export(plain, tmp_path / f"a{export.FORMATS[format][0]}", format=format)
    assert not list(tmp_path.iterdir())


QUIET = """
import sys
from pathlib import Path
from metricad import console

console.load_tensorflow()

import numpy as np
from metricad import bundle, export, exported

folder = Path(sys.argv[2])
for format, (suffix, _) in export.FORMATS.items():
    export.export(bundle.load(sys.argv[1]), folder / (format + suffix), format=format)
    exported.load(folder / (format + suffix)).inspect(np.zeros((90, 80), np.float32))
"""


def test_nothing_is_printed_meanwhile(part, tmp_path):
    """By a command line, that is: after `console.load_tensorflow`."""
    command = [sys.executable, "-W", "default", "-c", QUIET, part, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{format}{suffix}" for format, (suffix, _) in export.FORMATS.items()
    }
