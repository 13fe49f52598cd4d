"""Export on the command line, and inspecting with what was exported."""

import json

import numpy as np
import pytest

from metricad.deploy import sealed
from tests.cli.test_startup import statuses
from tests.helpers import COLLECTING, save, scratched, texture

if not COLLECTING:
    from metricad.deploy import export as exporting
    from metricad.inspection import bundle

pytestmark = pytest.mark.tf

FORMATS = {"onnx": "part.onnx", "openvino": "part", "litert": "part.tflite", "saved-model": "part"}


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Images as they come along the line: good, scratched, and one that is none."""
    folder = tmp_path_factory.mktemp("line")
    rng = np.random.default_rng(9)
    for number in range(5):
        save(folder / f"{number}.png", texture(rng, side=70 + 9 * number))
    save(folder / "scratched.png", scratched(texture(rng), 20, 30))
    (folder / "bad.png").write_bytes(b"no image")
    return folder


def verdicts(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_exported_says_the_same(run_metricad, part, written, line, tmp_path, format):
    out = tmp_path / FORMATS[format]
    done = run_metricad("export", part, "--format", format, "--out", out)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"{out}: {format}, the same as part.metricad on 4 images; largest difference ")
    command = ["inspect", line, "--format", "jsonl", "--workers", 2]
    expected = run_metricad("inspect", part, *command[1:])
    found = run_metricad("inspect", out, *command[1:])
    assert expected.status == found.status == 2  # of the bad file
    for one, other in zip(verdicts(expected.out), verdicts(found.out), strict=True):
        if one["error"] is None:
            assert other.pop("score") == pytest.approx(one.pop("score"), rel=1e-4)
            for box, same in zip(one.pop("defects"), other.pop("defects"), strict=True):
                assert same == pytest.approx(box, rel=1e-3)
        assert one.pop("part_sha256") == bundle.checksum(part)
        assert other.pop("part_sha256") == sealed.check(sealed.read(out), out)
        assert (one.pop("part"), other.pop("part")) == ("part", out.stem)
        assert one | {"time": other["time"]} == other


@pytest.mark.parametrize(("name", "format"), [("a.onnx", "onnx"), ("a.tflite", "litert"), ("a", "openvino")])
def test_the_name_tells_the_format(run_metricad, part, written, tmp_path, name, format):
    assert f"{name}: {format}, the same" in run_metricad("export", part, "--out", tmp_path / name).out


def test_what_is_asked_for_is_exported(run_metricad, part, tmp_path, monkeypatch):
    asked = []

    def export(inspector, path, **options):
        asked.append((inspector.threshold, path, options))
        return exporting.Comparison(3, 2e-7)

    monkeypatch.setattr(exporting, "export", export)
    out = tmp_path / "part.onnx"
    done = run_metricad("export", part, "--out", out, "--input-type", "uint8")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        f"{out}: onnx, the same as part.metricad on 3 images; largest difference 2.0e-07 of the score\n"
    )
    ((threshold, path, options),) = asked
    assert (threshold, path) == (bundle.load(part).threshold, out)
    assert options == {"format": "onnx", "input_type": "uint8", "bundle": part, "images": None}


def test_inspecting_with_an_export_does_without_tensorflow(part_export, line, tmp_path):
    scratched = str(line / "scratched.png")
    inspect = ["inspect", str(part_export("onnx")), scratched, "--fail-on-defect"]
    assert statuses([inspect], tmp_path) == ([1], "")


def test_images_to_compare_on_can_be_given(run_metricad, refused, part, written, good_folder, line, tmp_path):
    out = tmp_path / "part.onnx"
    done = run_metricad("export", part, "--out", out, "--compare", good_folder)
    assert "on 30 images" in done.out
    assert "bad.png: not a readable image" in refused(
        "export", part, "--out", tmp_path / "b.onnx", "--compare", line
    )
    assert list(tmp_path.iterdir()) == [out]


def test_heat_maps_are_those_of_the_bundle(run_metricad, part, part_export, line, tmp_path):
    from skimage.io import imread

    for name, inspector in (("a", part), ("b", part_export("onnx"))):
        run_metricad("inspect", inspector, line / "scratched.png", line / "3.png", "--maps", tmp_path / name)
    for name in ("scratched.png.png", "3.png.png"):
        one, other = (imread(tmp_path / folder / name).astype(int) for folder in "ab")
        assert np.abs(one - other).max() <= 2


def test_a_profile_tells_the_stages_on_standard_error(run_metricad, part, line):
    done = run_metricad("inspect", part, line / "0.png", line / "1.png", "--profile", "--format", "csv")
    assert len(done.out.splitlines()) == 3
    for stage in ("read", "network and distance", "score", "2 images in", "per second"):
        assert stage in done.err


def test_what_is_not_installed_is_told_in_a_line(refused, part, line, monkeypatch):
    import metricad.inspection.bundle

    def missing(path, check):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    monkeypatch.setattr(metricad.inspection.bundle, "load", missing)
    assert "this needs tensorflow, which is not installed here" in refused("inspect", part, line)
