"""What many tests start from: a folder of good images, a run, an inspector, and the command line.

TensorFlow is imported only by the fixtures that need it.
"""

import ast
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from metricad.data import images
from tests.helpers import (
    AREA,
    GOOD_IMAGES,
    Outcome,
    eagerly,
    exporter,
    make_part,
    make_run,
    once,
    save,
    smooth_images,
    texture,
)

# As the command line has it: whichever test imports TensorFlow first.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Marks: what tests need is told by their files (tf), their folders and the fixtures that they ask for.

NEED_TENSORFLOW = {
    "exporting", "fitted", "free_export", "free_part", "part", "part_export", "registered_export",
    "registered_part", "run_folder", "run_metricad", "small_defects",
}  # fmt: skip

CORE = {"density", "scoring"}
"""Folders whose tests are quick although they need TensorFlow, and matter most."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs TensorFlow, exports, the service or a browser; begin with files of slow tests."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & NEED_TENSORFLOW:
            item.add_marker(pytest.mark.tf)
        if any("export" in name for name in fixtures):
            item.add_marker(pytest.mark.export)
        if item.path.parent.name in CORE:
            item.add_marker(pytest.mark.core)
        if item.path.parent.name == "service":
            item.add_marker(pytest.mark.service)
        if fixtures & {"seen", "page"}:
            item.add_marker(pytest.mark.browser)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # so that no process waits for them at the end


# The same examples on every machine, however busy it is.
settings.register_profile(
    "metricad", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("metricad"), max_examples=20)
settings.load_profile("metricad")


@pytest.fixture(scope="module", autouse=True)
def run_later(request) -> None:
    """Run what a file of tests has under ``if not COLLECTING``: tests are collected without TensorFlow."""
    module = request.module
    for part in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        if isinstance(part, ast.If) and ast.unparse(part.test) == "not COLLECTING":
            exec(compile(ast.Module(part.body, []), module.__file__, "exec"), vars(module))


@pytest.fixture
def eager():
    """See `helpers.eagerly`."""
    with eagerly():
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder for what takes long to make, which all processes of a test run share; see `helpers.once`."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


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
def free_part(shared):
    """An inspector of color images of any size, made as for the accurate network; and its file.

    Two and three components in place of those that good images would choose: a graph of many takes long to
    export.
    """
    from metricad.inspection import bundle, fit_detector
    from metricad.networks import hypercolumn

    def make(path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit_detector, "FINE", (2,))
            patch.setattr(fit_detector, "COARSE", (3,))
            bundle.save(make_part(hypercolumn.build_three_scales(2, seed=1), "mixture", color=True), path)

    path = once(shared / "free.metricad", make)
    return bundle.load(path), path


@pytest.fixture(scope="session")
def registered_part(shared):
    """An inspector of gray images of one odd size, which it halves, with a mask; and its file."""
    from metricad.inspection import bundle, fit_detector
    from metricad.networks import hypercolumn
    from metricad.preprocessing.regions import MaskRegion

    mask = np.zeros((141, 159), bool)
    mask[29:115, 41:120] = True
    mask[60:83, 70:101] = False

    def make(path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit_detector, "LARGE", 140)
            network = hypercolumn.build(2, seed=1)
            region = MaskRegion(mask)
            inspector = make_part(network, "positional", mask.shape, region=region, score="top-10%")
        bundle.save(inspector, path)

    path = once(shared / "registered.metricad", make)
    return bundle.load(path), path


@pytest.fixture(scope="session")
def small_defects(shared):
    """An inspector of gray images of one size that lets small defects through; and its file."""
    from metricad.inspection import bundle, min_defect
    from metricad.networks import residual

    def make(path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(min_defect, "FACTORS", (4, 64))
            plain = make_part(residual.build(4, seed=3), "gaussian")
            bundle.save(min_defect.let_through(plain, smooth_images(8), AREA), path)

    path = once(shared / "small_defects.metricad", make)
    return bundle.load(path), path


@pytest.fixture(scope="session")
def small_defects_export(small_defects, shared) -> Callable[[str], Path]:
    """Export that part to a format, once for all tests."""
    return exporter(small_defects, shared / "small_defects")


@pytest.fixture(scope="session")
def free_export(free_part, shared) -> Callable[[str], Path]:
    """Export that part, which takes float32, to a format, once for all tests."""
    return exporter(free_part, shared / "free")


@pytest.fixture(scope="session")
def registered_export(registered_part, shared) -> Callable[[str], Path]:
    """Export that part, to take uint8, to a format, once for all tests."""
    return exporter(registered_part, shared / "registered", input_type="uint8")


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
def exporting(part, shared) -> tuple[Path, str]:
    """Export the part of the good surface to every format and read it back, in a process of its own.

    Gives the folder, and what was printed meanwhile.
    """

    def make(folder: Path) -> None:
        (folder / "exports").mkdir(parents=True)
        command = [sys.executable, "-W", "default", "-c", _EXPORTING, part, folder / "exports"]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        (folder / "printed").write_text(done.stdout)

    folder = once(shared / "exporting", make)
    return folder / "exports", (folder / "printed").read_text()


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
    from metricad.cli import app, console
    from metricad.deploy import native_output

    native_output.load_tensorflow()

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["metricad", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            console.run(app.app, prog="metricad")
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
