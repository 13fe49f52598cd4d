"""What many tests start from: a folder of good images, a run, an inspector, and the command line.

TensorFlow is imported only by the fixtures that need it.
"""

import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
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


def save(path: Path, image: np.ndarray) -> Path:
    """Write an image in [-1, 1] as an 8-bit PNG."""
    images.write(path, images.to_uint8(image))
    return path


def make_run(folder: Path, *, units: int = 4, seed: int = 3) -> Path:
    """Make a finished run in no time; its network is untrained, which is enough to see a scratch."""
    from metricad import network, runs
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
    from metricad import inspector, runs

    return inspector.fit_inspector(
        images.find([good_folder]), runs.load_network(run_folder), false_alarm_rate=0.1, holdout=0.3
    )


@pytest.fixture(scope="session")
def part(fitted, tmp_path_factory):
    """The same inspector as a file."""
    from metricad import bundle

    path = tmp_path_factory.mktemp("parts") / "part.metricad"
    bundle.save(fitted, path)
    return path


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
