"""What many tests start from: a folder of good images, a run, an inspector, and the command line.

TensorFlow is imported only by the fixtures that need it.
"""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from metricad.data import images

# As the command line has it: whichever test imports TensorFlow first.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# The same examples on every machine, however busy it is.
settings.register_profile(
    "metricad", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("metricad")

GOOD_IMAGES = 30
SIDE = 64


def texture(rng: np.random.Generator, *, side: int = SIDE) -> np.ndarray:
    """Draw a striped surface with a little noise: float32 (side, side) in [-1, 1]."""
    row, column = np.mgrid[:side, :side]
    wave = 0.4 * np.sin(0.8 * row + 0.3 * column + rng.uniform(0, 6))
    return np.clip(wave + 0.03 * rng.standard_normal((side, side)), -1, 1).astype(np.float32)


def scratched(image: np.ndarray, row: int, column: int, *, side: int = 6) -> np.ndarray:
    """Copy an image with a square of black and white stripes whose upper left pixel is given."""
    marked = image.copy()
    marked[row : row + side, column : column + side : 2] = 1
    marked[row : row + side, column + 1 : column + side : 2] = -1
    return marked


def surface(
    rng: np.random.Generator, shape: tuple[int, int], *, scratch: bool = False, color: bool = False
) -> np.ndarray:
    """Draw a striped surface of any shape as an 8-bit image file holds it, scratched somewhere or not."""
    image = texture(rng, side=max(shape))[: shape[0], : shape[1]]
    if scratch:
        image = scratched(image, *(int(rng.integers(side - 20)) for side in shape), side=12)
    if color:
        image = colored(rng, image)
    return images.from_uint8(images.to_uint8(image))


def colored(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Give an image (H, W) in [-1, 1] a color and a little noise in it: float32 (H, W, 3)."""
    tinted = image[..., np.newaxis] * (0.9, 0.8, 0.6) + (0.0, -0.1, -0.3)
    return np.clip(tinted + 0.02 * rng.standard_normal((*image.shape, 3)), -1, 1).astype(np.float32)


def make_part(
    network, kind: str, shape: tuple[int, int] = (96, 96), *, color: bool = False, **options: object
):
    """Fit an inspector to a few surfaces of a shape."""
    from metricad.inspection.detector import PartDetector
    from metricad.inspection.inspector import Inspector
    from metricad.scoring.calibration import calibrate

    rng = np.random.default_rng(7)
    good = [surface(rng, shape, color=color) for _ in range(20)]
    detector = PartDetector(network, kind, **options).fit(good[:8])
    return Inspector(detector, calibrate([detector.score(one) for one in good[8:]], 0.1), {"fit_images": 8})


def assert_near(inspector, found: tuple, expected: tuple) -> None:
    """Hold that a score and its maps agree by as much as `export.compare` asks for."""
    from metricad.deploy import export

    score, *maps = expected
    least = abs(score) if inspector.detector.standardize is None else max(abs(score), export.SMALLEST_SCORE)
    np.testing.assert_allclose(found[0], score, rtol=0, atol=1e-4 * least)
    for one, other in zip(found[1:], maps, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * max(least, np.abs(maps[0]).max()))


def assert_outputs(found: dict, inspector, image: np.ndarray) -> None:
    """Hold that one image's outputs, by the names of `graph.OUTPUTS`, are what the library says of it."""
    expected, anomaly = inspector.inspect(image)
    placed = inspector.detector.on_pixels(anomaly, image)
    given = found["score"], found["distance_map"], found["anomaly_map"]
    assert_near(inspector, given, (expected.score, anomaly, placed))
    assert tuple(found["peak"]) == (expected.peak_row, expected.peak_col)
    assert inspector.detector.features.sources[found["source"]].name == expected.source
    assert bool(found["is_defect"]) == (expected.verdict == "defect")


def assert_same(one, other, image: np.ndarray) -> str:
    """Hold that an inspector and its export say the same of an image; give the verdict."""
    (expected, anomaly), (found, others) = one.inspect(image), other.inspect(image)
    assert replace(found, score=expected.score) == expected
    placed, again = (each.detector.on_pixels(anomaly, image) for each in (one, other))
    assert_near(one, (found.score, others, again), (expected.score, anomaly, placed))
    return found.verdict


def save(path: Path, image: np.ndarray) -> Path:
    """Write an image in [-1, 1] as an 8-bit PNG."""
    images.write(path, images.to_uint8(image))
    return path


def make_run(folder: Path, *, units: int = 4, seed: int = 3) -> Path:
    """Make a finished run in no time; its network is untrained, which is enough to see a scratch."""
    from metricad.networks import residual
    from metricad.training import runs
    from metricad.training.settings import Settings

    run = runs.start(folder, Settings(units=units, seed=seed), {"seen": []})
    runs.finish(run, residual.build(units, seed=seed))
    return run


def repack(source: Path, target: Path, *, manifest: dict | None = None, **members: bytes | None) -> Path:
    """Copy a bundle with other entries in its manifest and other members, whose checksums are made right.

    Members are named as in ``density0__00``; None leaves one out.
    """
    with zipfile.ZipFile(source) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents |= {f"{name.replace('__', '/')}.npy": content for name, content in members.items()}
    contents = {name: content for name, content in contents.items() if content is not None}
    description = json.loads(contents.pop("manifest.json"))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    description |= {"sha256": sums} | (manifest or {})
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("manifest.json", json.dumps(description))
        for name, content in contents.items():
            archive.writestr(name, content)
    return target


@dataclass(frozen=True)
class Outcome:
    """How a command line ended and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def good_folder(tmp_path_factory):
    """Thirty good images of one surface."""
    folder = tmp_path_factory.mktemp("surface") / "good"
    rng = np.random.default_rng(0)
    for number in range(GOOD_IMAGES):
        save(folder / f"{number:03}.png", texture(rng))
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A finished run of a small network."""
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="session")
def fitted(good_folder, run_folder):
    """An inspector of the good surface."""
    from metricad.inspection.fit import fit_inspector
    from metricad.training import runs

    return fit_inspector(
        images.find([good_folder]), runs.load_network(run_folder), false_alarm_rate=0.1, holdout=0.3
    )


@pytest.fixture(scope="session")
def part(fitted, tmp_path_factory):
    """The same inspector as a file."""
    from metricad.inspection import bundle

    path = tmp_path_factory.mktemp("parts") / "part.metricad"
    bundle.save(fitted, path)
    return path


@pytest.fixture(scope="session")
def free_part(tmp_path_factory):
    """An inspector of color images of any size, made as for the accurate network; and its file.

    Two and three components in place of those that good images would choose: a graph of many takes long to
    export.
    """
    from metricad.inspection import bundle
    from metricad.inspection import fit_detector as fitting
    from metricad.networks import hypercolumn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "FINE", (2,))
        patch.setattr(fitting, "COARSE", (3,))
        inspector = make_part(hypercolumn.build_three_scales(2, seed=1), "mixture", color=True)
    path = tmp_path_factory.mktemp("free") / "free.metricad"
    bundle.save(inspector, path)
    return inspector, path


@pytest.fixture(scope="session")
def registered_part(tmp_path_factory):
    """An inspector of gray images of one odd size, which it halves, with a mask; and its file."""
    from metricad.inspection import bundle
    from metricad.inspection import fit_detector as fitting
    from metricad.networks import hypercolumn
    from metricad.preprocessing.regions import MaskRegion

    mask = np.zeros((141, 159), bool)
    mask[29:115, 41:120] = True
    mask[60:83, 70:101] = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "LARGE", 140)
        network = hypercolumn.build(2, seed=1)
        inspector = make_part(network, "positional", mask.shape, region=MaskRegion(mask), score="top-10%")
    path = tmp_path_factory.mktemp("registered") / "registered.metricad"
    bundle.save(inspector, path)
    return inspector, path


def exporter(part, folder: Path, **options: object) -> Callable[[str], Path]:
    """Make a function that exports a part to a format, once, and gives the path."""
    from metricad.deploy import export

    inspector, path = part

    @functools.cache
    def exported(format: str) -> Path:
        target = folder / f"{format}{export.FORMATS[format][0]}"
        export.export(inspector, target, format=format, bundle=path, **options)
        return target

    return exported


@pytest.fixture(scope="session")
def free_export(free_part, tmp_path_factory) -> Callable[[str], Path]:
    """Export that part, which takes float32, to a format, once for all tests."""
    return exporter(free_part, tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def registered_export(registered_part, tmp_path_factory) -> Callable[[str], Path]:
    """Export that part, to take uint8, to a format, once for all tests."""
    return exporter(registered_part, tmp_path_factory.mktemp("exports"), input_type="uint8")


_EXPORTING = """
import sys
from pathlib import Path
from metricad.deploy import native_output

native_output.load_tensorflow()

import numpy as np
from metricad.deploy import export, exported
from metricad.inspection import bundle

part, folder = map(Path, sys.argv[1:])
for format, (suffix, _) in export.FORMATS.items():
    path = folder / f"{format}{suffix}"
    export.export(bundle.load(part), path, format=format, bundle=part)
    exported.load(path).inspect(np.zeros((90, 80), np.float32))
"""


@pytest.fixture(scope="session")
def exporting(part, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Export the part of the good surface to every format and read it back, in a process of its own."""
    folder = tmp_path_factory.mktemp("exports")
    command = [sys.executable, "-W", "default", "-c", _EXPORTING, part, folder]
    return folder, subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.fixture(scope="session")
def part_export(exporting) -> Callable[[str], Path]:
    """Path of that part, a mean as in the paper, in a format."""
    from metricad.deploy import export

    return lambda format: exporting[0] / f"{format}{export.FORMATS[format][0]}"


@pytest.fixture
def written(part_export, monkeypatch):
    """Writing takes no time: it gives what was exported of that part before, whatever is to be exported."""
    from metricad.deploy import export

    def write(model, text, path, format):
        before = part_export(format)
        shutil.copytree(before, path) if before.is_dir() else shutil.copyfile(before, path)

    for format, (suffix, _) in export.FORMATS.items():
        monkeypatch.setitem(export.FORMATS, format, (suffix, functools.partial(write, format=format)))


@pytest.fixture
def run_metricad(monkeypatch, capfd) -> Callable[..., Outcome]:
    """Run ``metricad`` with these arguments in this process."""
    from metricad.cli import app as cli
    from metricad.cli import console
    from metricad.deploy import native_output

    native_output.load_tensorflow()

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["metricad", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            console.run(cli.app, prog="metricad")
        return Outcome(leaving.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def refused(run_metricad) -> Callable[..., str]:
    """Run ``metricad`` with arguments that must be refused; give the one line that says why."""

    def run(*arguments: object) -> str:
        outcome = run_metricad(*arguments)
        assert outcome.status == 2, outcome
        assert outcome.out == ""
        assert outcome.err.startswith("error: "), outcome.err
        assert outcome.err.endswith("\n")
        assert outcome.err.count("\n") == 1, outcome.err
        return outcome.err

    return run
