"""Exported inspectors read back: without TensorFlow, by several threads, and refused in one clear line."""

import json
import shutil
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from metricad.data import images
from metricad.data.levels import Levels
from metricad.deploy import exported, sealed
from metricad.deploy.metadata import KEY, Description
from metricad.errors import BundleError, DataError, InspectorError
from metricad.networks.feature_grid import FeatureGrid
from metricad.scoring.calibration import Calibration
from tests.helpers import AREA, COLLECTING, LARGE, SMALL, assert_same, defective, save, surface

if not COLLECTING:
    from metricad.inspection import bundle

FORMATS = ["onnx", "litert", "openvino", "saved-model"]


def refusal(path):
    """The line that says why a file is not read."""
    with pytest.raises(BundleError) as refused:
        exported.load(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()  # so in one line
    return line.removeprefix(f"{path}: ")


# What is no export.


@pytest.mark.parametrize("name", ["a.onnx", "a.tflite", "a.xml", "a"])
def test_a_missing_file_is_refused_with_what_to_do(tmp_path, name):
    assert refusal(tmp_path / name) == "no such file; make one with 'metricad export'"


def test_another_kind_of_file_is_refused(tmp_path, part):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.onnx").mkdir()
    expected = "expected a file that ends in .onnx, .tflite, .xml, or a folder of 'metricad export'"
    assert refusal(part) == refusal(tmp_path / "folder") == refusal(tmp_path / "a.onnx") == expected


@pytest.mark.slow
def test_what_is_exported_is_known_by_its_name(part, free_export, tmp_path):
    assert all(exported.is_exported(free_export(format)) for format in FORMATS)
    assert exported.is_exported(tmp_path / "not there yet.onnx")
    assert not any(exported.is_exported(path) for path in (part, tmp_path, tmp_path / "not there"))


@pytest.mark.parametrize("name", ["a.onnx", "a.xml", "a/model.xml", "a/saved_model.pb"])
@pytest.mark.parametrize(
    "content", [b"", b"some text", bytes(range(256)) * 9], ids=["empty", "text", "bytes"]
)
def test_something_else_under_such_a_name_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    line = refusal(path if path.parent == tmp_path else path.parent)
    assert line.startswith(("not written by 'metricad export'", "damaged, or no model of its kind ("))


@pytest.fixture
def copy(free_export, tmp_path):
    """Copy an export, so that something can be done to it."""

    def copy(format):
        path = free_export(format)
        target = tmp_path / path.name
        return shutil.copytree(path, target) if path.is_dir() else shutil.copy(path, target)

    return copy


def test_a_model_without_a_description_is_not_ours(copy, tmp_path):
    import onnx
    import openvino

    expected = "not written by 'metricad export'; expected a file that was"
    path = copy("onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    assert refusal(path) == expected
    openvino.save_model(openvino.Core().read_model(path), tmp_path / "bare.xml")
    assert refusal(tmp_path / "bare.xml") == expected
    path = copy("litert")
    path.write_bytes(path.read_bytes()[:-1000])
    assert refusal(path) == expected
    (tmp_path / "text.tflite").write_text("some text")
    assert refusal(tmp_path / "text.tflite") == expected
    with zipfile.ZipFile(tmp_path / "zip.tflite", "w") as archive:
        archive.writestr("labels.txt", "as TensorFlow Lite's own metadata has them")
    assert refusal(tmp_path / "zip.tflite") == expected
    path = copy("saved-model")
    (path / "metricad.json").unlink()
    assert refusal(path) == expected


WRONG = "damaged, or files of several exports are mixed: the checksum is wrong; export it again"


@pytest.mark.parametrize(
    ("format", "member"),
    [
        ("onnx", None),
        ("litert", None),
        ("openvino", "model.xml"),
        ("openvino", "model.bin"),
        ("saved-model", "saved_model.pb"),
        ("saved-model", "metricad.json"),
        ("saved-model", "variables/variables.data-00000-of-00001"),
    ],
)
def test_one_flipped_bit_anywhere_is_noticed(copy, format, member):
    path = copy(format)
    file = path / member if member else path
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    assert refusal(path) == WRONG


def test_a_truncated_model_is_refused(copy):
    path = copy("onnx")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(BundleError):
        exported.load(path)


def test_an_openvino_model_without_its_numbers_is_refused(copy):
    path = copy("openvino")
    (path / "model.bin").unlink()
    assert refusal(path).startswith("damaged, or no model of its kind (")


def test_a_litert_model_that_is_damaged_is_refused_when_it_is_opened(copy, tmp_path):
    """Also when its checksum is right."""
    content = copy("litert").read_bytes()
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(bytes(64) + content[64:])
    sealed.seal(damaged)
    assert refusal(damaged).startswith("damaged, or no model of its kind (")


def test_a_newer_description_is_refused_with_what_to_do(copy):
    import onnx

    expected = "export format 2, expected 1; a newer metricad wrote it: upgrade this one"
    path = copy("saved-model")
    text = path / "metricad.json"
    newer = json.dumps(json.loads(text.read_text()) | {"format_version": 2})
    text.write_text(newer)
    sealed.seal(path)
    assert refusal(path) == expected
    path = copy("onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=newer)
    onnx.save(model, path)
    sealed.seal(path)
    assert refusal(path) == expected


@pytest.mark.parametrize(
    ("format", "module", "package"),
    [
        ("onnx", "onnxruntime", "onnxruntime"),
        ("litert", "ai_edge_litert.interpreter", "ai-edge-litert"),
        ("openvino", "openvino", "openvino"),
        ("saved-model", "tensorflow", "tensorflow"),
    ],
)
def test_a_runtime_that_is_not_installed_is_named(free_export, monkeypatch, format, module, package):
    path = free_export(format)
    monkeypatch.setitem(sys.modules, module, None)
    line = refusal(path)
    assert line.startswith(f"needs {package}, which is not installed (")
    assert line.endswith(f"); install it with 'pip install {package}'")


# Images.


@pytest.fixture(scope="module")
def described():
    return Description(
        Calibration(np.linspace(1, 2, 20), 0.1),
        FeatureGrid(first=15.5, stride=2, smallest=32),
        input_type="uint8",
    )


@pytest.mark.parametrize(
    ("sizes", "shape", "expected"),
    [
        (None, (31, 90), "at least 32×32 pixels, received 31×90"),
        (((40, 41), (60, 61)), (40, 62), "40 to 41×60 to 61 pixels, received 40×62"),
        (((40, 40), (60, 60)), (41, 60), "40×60 pixels, received 41×60"),
        (((40, 40), (60, 60)), (60, 40), "40×60 pixels, received 60×40"),
    ],
)
def test_an_image_of_another_size_is_refused(described, sizes, shape, expected):
    with pytest.raises(DataError, match=f"^expected an image of {expected}$"):
        exported.to_pixels(np.zeros(shape, np.float32), replace(described, sizes=sizes))


@pytest.mark.parametrize("shape", [(40, 60), (41, 61), (40, 61)])
def test_an_image_of_a_size_that_suits_is_taken(described, shape):
    described = replace(described, sizes=((40, 41), (60, 61)))
    assert exported.to_pixels(np.zeros(shape, np.float32) - 1, described).shape == (1, *shape)


def test_every_gray_level_comes_through(described):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(2, axis=0).repeat(2, axis=1)
    for image in (images.from_uint8(levels), images.to_image(levels)):
        whole = exported.to_pixels(image, described)
        assert whole.dtype == np.uint8
        np.testing.assert_array_equal(whole[0], levels)
        fine = exported.to_pixels(image, replace(described, input_type="float32"))
        assert fine.dtype == np.float32
        np.testing.assert_allclose(fine[0], levels, atol=1e-4)


def test_finer_images_are_refused_where_whole_levels_are_expected_and_kept_elsewhere(described):
    levels = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64
    image = images.to_image(levels)
    with pytest.raises(
        DataError, match=r"between those of 8 bits.* export it again with --input-type float32"
    ):
        exported.to_pixels(image, described)
    fine = exported.to_pixels(image, replace(described, input_type="float32"))
    np.testing.assert_allclose(fine[0], levels / 257, atol=1e-4)


def test_files_that_do_not_suit_are_reported_and_the_rest_goes_on(registered_export, tmp_path):
    rng = np.random.default_rng(0)
    paths = [
        save(tmp_path / "good.png", surface(rng, (141, 159))),
        save(tmp_path / "turned.png", surface(rng, (159, 141))),
        save(tmp_path / "small.png", surface(rng, (20, 30))),
        tmp_path / "fine.png",
        save(tmp_path / "last.png", surface(rng, (141, 159))),
    ]
    images.write(paths[3], (rng.random((141, 159)) * 65535).astype(np.uint16))
    loaded = exported.load(registered_export("onnx"))
    found = [inspection for inspection, _, _ in loaded.inspect_files(paths)]
    assert [inspection.path for inspection in found] == list(map(str, paths))
    assert [inspection.error is None for inspection in found] == [True, False, False, False, True]
    assert found[1].error == "expected an image of 141×159 pixels, received 159×141"
    assert found[2].error == "expected at least 136×136 pixels, received 20×30"
    assert found[3].error.startswith("16-bit levels, expected 8-bit levels")
    assert loaded.levels == Levels("uint8", 8)


# Threads, and sizes.


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A dozen files of six sizes."""
    folder, rng = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0)
    shapes = [(69, 71), (75, 101), (83, 69), (71, 69), (91, 77), (101, 75)] * 2
    return [
        save(folder / f"{number:02}.png", surface(rng, shape, scratch=number % 3 > 0, color=True))
        for number, shape in enumerate(shapes)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_several_workers_say_what_one_says(free_export, mixed, format):
    files = [*mixed[:2], *mixed[6:8]] * 2  # of two sizes: OpenVINO plans for each
    alone = exported.load(free_export(format), workers=1, threads=1)
    together = exported.load(free_export(format), workers=3)
    expected = list(alone.inspect_files(files))
    found = list(together.inspect_files(files, workers=3))
    for (one, _, distances), (other, _, others) in zip(expected, found, strict=True):
        assert one.error is None
        assert replace(other, score=one.score) == one
        np.testing.assert_allclose(others, distances, rtol=0, atol=1e-5 * np.abs(distances).max())
    assert {one.verdict for one, _, _ in expected} == {"good", "defect"}


def test_each_thread_has_a_litert_interpreter_of_its_own(free_export, mixed, monkeypatch):
    """One is not for several at once, which need not show."""
    from ai_edge_litert import interpreter

    made = []

    class Counted(interpreter.Interpreter):
        def __init__(self, **options):
            made.append(threading.get_ident())
            super().__init__(**options)

    monkeypatch.setattr(interpreter, "Interpreter", Counted)
    loaded = exported.load(free_export("litert"), workers=3)
    together = threading.Barrier(3)
    image = images.read(mixed[0], color=True)

    def judge(_):
        together.wait()
        return [loaded.inspect(image)[0].score for _ in range(4)]

    made.clear()
    with ThreadPoolExecutor(3) as workers:
        scores = [score for scores in workers.map(judge, range(3)) for score in scores]
    assert len(made) == len(set(made)) == 3
    assert len(set(scores)) == 1


def test_openvino_is_given_a_plan_for_four_sizes_and_one_for_all_others(
    free_part, free_export, mixed, monkeypatch
):
    import openvino

    planned = []
    compile_model = openvino.Core.compile_model

    def counted(core, model, *settings):
        planned.append(str(model.input("pixels").partial_shape))
        return compile_model(core, model, *settings)

    monkeypatch.setattr(openvino.Core, "compile_model", counted)
    loaded = exported.load(free_export("openvino"), workers=3)
    with ThreadPoolExecutor(3) as workers:
        verdicts = workers.map(
            lambda path: assert_same(free_part[0], loaded, images.read(path, color=True)), mixed
        )
        assert set(verdicts) == {"good", "defect"}
    assert len(planned) == len(set(planned)) == 5
    assert planned[-1] == "[?,?,?,3]"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_a_defect_to_any_program_and_an_error_to_ours(
    free_export, format, value
):
    """The graph is given them as pixels, which is what a damaged weight makes of all that follows it."""
    description, opened = exported.open_runtime(free_export(format))
    pixels = np.full((1, *description.smallest, 3), 100, np.float32)
    pixels[0, 30, 30] = value
    assert opened(("is_defect",))(pixels)["is_defect"].tolist() == [True]
    image = np.full((*description.smallest, 3), value, np.float32)
    with pytest.raises(DataError):
        exported.load(free_export(format)).inspect(image)


def test_a_runtime_that_fails_is_an_error_of_the_image(free_export, mixed):
    description, _ = exported.open_runtime(free_export("onnx"))
    image = images.read(mixed[0], color=True)
    good = {"score": [0.0], "peak": [(3, 3)], "source": [0], "distance_map": [np.zeros((2, 2))]}
    assert exported.ExportedDetector(description, lambda pixels: good).judge(image).score == 0
    for changed in ({"score": [np.nan]}, {"peak": [(-1, 3)]}, {"source": [99]}, {"score": []}):
        detector = exported.ExportedDetector(description, lambda pixels, bad=good | changed: bad)
        with pytest.raises(InspectorError):
            detector.judge(image)


def test_the_file_in_an_openvino_folder_will_do(free_export, mixed):
    folder = free_export("openvino")
    image = images.read(mixed[0], color=True)
    expected, found = (exported.load(path).inspect(image)[0] for path in (folder, folder / "model.xml"))
    assert found == expected


def test_a_timer_says_where_the_time_goes(free_export, mixed):
    loaded = exported.load(free_export("onnx"))
    for _ in loaded.inspect_files(mixed[:2]):
        pass
    assert set(loaded.detector.timer.seconds) == {"read", "network and distance"}


# Without TensorFlow.

ALONE = """
import sys
heavy = {"tensorflow", "keras", "sklearn", "matplotlib"}
if sys.argv[3] == "not installed":
    sys.modules.update(dict.fromkeys(heavy))
from metricad.data import images
from metricad.deploy import exported
inspection, _ = exported.load(sys.argv[1]).inspect(images.read(sys.argv[2], color=True))
print(sorted(name for name in heavy if sys.modules.get(name)), inspection.verdict, inspection.score)
"""


@pytest.mark.parametrize("tensorflow", ["installed", "not installed"])
@pytest.mark.parametrize("format", ["onnx", "litert", "openvino"])
def test_tensorflow_is_neither_imported_nor_needed(free_part, free_export, mixed, format, tensorflow):
    command = [sys.executable, "-W", "error", "-c", ALONE, free_export(format), mixed[1], tensorflow]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""  # also of what a runtime has to tell of itself
    imported, verdict, score = done.stdout.rsplit(maxsplit=2)
    expected, _ = free_part[0].inspect(images.read(mixed[1], color=True))
    assert imported == "[]"
    assert verdict == expected.verdict
    assert float(score) == pytest.approx(expected.score, rel=1e-4)


def test_a_color_part_refuses_gray_images(free_export, mixed):
    loaded = exported.load(free_export("onnx"))
    with pytest.raises(DataError, match="expected a color image, received a gray one"):
        loaded.inspect(images.read(mixed[0]))


def test_an_export_is_no_bundle(free_export, tmp_path):
    with pytest.raises(BundleError, match="exported inspector cannot be saved as a bundle"):
        bundle.save(exported.load(free_export("onnx")), tmp_path / "part.metricad")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_small_defects_are_let_through_and_larger_ones_are_not(small_defects, small_defects_export, format):
    inspector, _ = small_defects
    made = exported.load(small_defects_export(format))
    assert made.fitted_on["fitted_on"]["min_defect"]["area"] == AREA
    found = [assert_same(inspector, made, defective(side)) for side in (SMALL, LARGE)]
    assert found == ["good", "defect"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_number_that_is_not_finite_is_no_small_defect(small_defects_export, format):
    description, run = exported.open_runtime(small_defects_export(format))
    pixels = exported.to_pixels(defective(SMALL), description)
    pixels[0, 40, 40] = np.nan
    assert run(["is_defect"])(pixels)["is_defect"][0]
