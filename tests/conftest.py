"""What many tests start from: a folder of good images, a run, an inspector, and the command line.

TensorFlow is imported only by the fixtures that need it.
"""

import functools
import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from metricad import images

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


def surface(rng: np.random.Generator, shape: tuple[int, int], *, scratch: bool = False) -> np.ndarray:
    """Draw a striped surface of any shape as an 8-bit image file holds it, scratched somewhere or not."""
    image = texture(rng, side=max(shape))[: shape[0], : shape[1]]
    if scratch:
        image = scratched(image, *(int(rng.integers(side - 20)) for side in shape), side=12)
    return images.from_uint8(images.to_uint8(image))


def make_part(model, prototype, shape: tuple[int, int] = (96, 96), *, head: bool = False, **options: object):
    """Fit an inspector to surfaces of a shape in no time; a head, where there is to be one, is made up."""
    from metricad.head import of

    from metricad.inspection.detector import TripletDetector
    from metricad.inspection.inspector import Inspector
    from metricad.scoring.calibration import calibrate

    rng = np.random.default_rng(7)
    detector = TripletDetector(model, prototype, **options)
    good = [surface(rng, shape) for _ in range(8)]
    detector.fit(good)
    if head:
        detector.prototype = of(detector.prototype)
        inputs = detector.prototype.base.mean.shape[-1] + 1
        sizes = (inputs, 8), (8,), (8, 1), (1,)
        detector.prototype.layers = [rng.normal(size=size).astype(np.float32) for size in sizes]
        parts = (detector.prototype.parts(detector.features(image)) for image in good)
        farthest = np.mean([part.max(axis=(1, 2)) for part in parts], axis=0)
        # Not by their own deviation: these images are so alike that it would blow up every rounding.
        detector.prototype.exchange = np.array([farthest[1], 0.2])
    scores = [detector.score(surface(rng, shape)) for _ in range(12)]
    return Inspector(detector, calibrate(scores, 0.1), {"fit_images": 8})


def assert_outputs(found: dict, inspector, image: np.ndarray) -> None:
    """Hold that one image's outputs, by the names of `graph.OUTPUTS`, are what the library says of it."""
    expected, distances = inspector.inspect(image)
    near = {"rtol": 0, "atol": 5e-5 * expected.score}
    np.testing.assert_allclose(found["score"], expected.score, **near)
    np.testing.assert_allclose(found["distance_map"], distances, **near)
    np.testing.assert_allclose(found["anomaly_map"], inspector.detector.on_pixels(distances, image), **near)
    assert tuple(found["peak"]) == (expected.peak_row, expected.peak_col)
    assert bool(found["is_defect"]) == (expected.verdict == "defect")


def assert_same(one, other, image: np.ndarray) -> str:
    """Hold that two inspectors say the same of an image; give the verdict."""
    (expected, distances), (found, others) = one.inspect(image), other.inspect(image)
    near = {"rtol": 0, "atol": 5e-5 * expected.score}
    assert replace(found, score=expected.score) == expected
    np.testing.assert_allclose(found.score, expected.score, **near)
    np.testing.assert_allclose(others, distances, **near)
    placed, others = (each.detector.on_pixels(distances, image) for each in (one, other))
    np.testing.assert_allclose(others, placed, **near)
    return found.verdict


def save(path: Path, image: np.ndarray) -> Path:
    """Write an image in [-1, 1] as an 8-bit PNG."""
    images.write(path, images.to_uint8(image))
    return path


def make_run(folder: Path, *, units: int = 4, seed: int = 3) -> Path:
    """Make a finished run in no time; its network is untrained, which is enough to see a scratch."""
    from metricad import runs
    from metricad.networks import residual as network
    from metricad.settings import Settings

    run = runs.start(folder, Settings(units=units, seed=seed), {"seen": []})
    runs.finish(run, network.build(units, seed=seed))
    return run


def repack(source: Path, target: Path, *, manifest: dict | None = None, **members: bytes | None) -> Path:
    """Copy a bundle with other entries in its manifest and other members, whose checksums are made right.

    Members are named as in ``prototype__mean``; None leaves one out.
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
    from metricad import runs
    from metricad.inspection import fit as inspector

    return inspector.fit_inspector(
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
    """An inspector of images of any size, made as for the shipped network; and its file."""
    from metricad.prototype import GaussianPrototype

    from metricad.inspection import bundle
    from metricad.networks import hypercolumn
    from metricad.preprocessing.intensity import Tone

    prototype = GaussianPrototype(border=hypercolumn.GRID.border)
    options = {"tone": Tone("logarithmic"), "reduction": "top-1%"}
    inspector = make_part(hypercolumn.build(2, seed=1), prototype, **options)
    path = tmp_path_factory.mktemp("free") / "free.metricad"
    bundle.save(inspector, path)
    return inspector, path


@pytest.fixture(scope="session")
def registered_part(tmp_path_factory):
    """An inspector of images of one odd size, with a head and a mask; and its file."""
    from metricad.positional import PositionalPrototype

    from metricad.inspection import bundle
    from metricad.networks import residual as network
    from metricad.preprocessing.regions import MaskRegion

    mask = np.zeros((63, 75), bool)
    mask[9:50, 21:60] = True
    mask[20:33, 40:51] = False
    options = {"head": True, "gathers": True, "region": MaskRegion(mask), "reduction": "top-10%"}
    inspector = make_part(network.build(2, seed=1), PositionalPrototype(), mask.shape, **options)
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


@pytest.fixture
def run_metricad(monkeypatch, capfd) -> Callable[..., Outcome]:
    """Run ``metricad`` with these arguments in this process."""
    from metricad import cli, console

    console.load_tensorflow()

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
