"""A grid from plan to report, on small surfaces: skipped, resumed, killed, refused, incomplete."""

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from metricad.data import images
from metricad.density import MEANS
from metricad.errors import DataError, RunError
from metricad.evaluation import results
from metricad.training.settings import Settings
from metricad.versions import versions
from tests.helpers import COLLECTING, save, scratched, texture

if not COLLECTING:
    from metricad.batch import workers
    from metricad.evaluation.protocol import Protocol
    from metricad.reporting import report
    from metricad.reproduction import runner
    from metricad.reproduction.grid import Grid

pytestmark = pytest.mark.tf

TINY = Settings(rounds=3, epochs=1, triplets_per_round=32, batch_size=16, pyramid=(64, 48))


def make_surface(folder, draw, rng):
    """A labelled surface in the MVTec layout."""
    for number in range(12):
        save(folder / "train" / "good" / f"{number:02}.png", draw(rng))
    for number in range(3):
        save(folder / "test" / "good" / f"{number}.png", draw(rng))
        save(folder / "test" / "scratch" / f"{number}.png", scratched(draw(rng), 20, 30))
        mask = np.zeros((64, 64), np.uint8)
        mask[20:26, 30:36] = 255
        images.write(folder / "ground_truth" / "scratch" / f"{number}_mask.png", mask)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Textures, objects, a known and a novel surface."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    make_surface(root / "known" / "stripes", texture, rng)
    make_surface(root / "novel" / "crossed", lambda rng: texture(rng).T, rng)
    for name in ("cloth", "stone"):
        for number in range(2):
            save(root / "textures" / name / f"{number}.png", rng.uniform(-1, 1, (64, 64)))
    for name in ("cat", "dog"):
        for number in range(2):
            save(root / "objects" / name / f"{number}.png", rng.uniform(-1, 1, (32, 32)))
    return root


@pytest.fixture(scope="module")
def grid(data):
    return Grid(
        textures=(str(data / "textures"),),
        objects=str(data / "objects"),
        known=(str(data / "known"),),
        novel=(str(data / "novel"),),
        units=(2,),
        seeds=(0,),
        settings=TINY,
        in_register=("stripes",),
        protocol=Protocol(holdout=0.3, false_alarm_rate=0.25),
    )


class Log(list):
    """What was called on the way."""

    def progress(self):
        return runner.Progress(
            on_plan=lambda cells, done: self.append(("plan", len(cells), len(done))),
            on_start=lambda cell: self.append(("start", cell.name)),
            on_done=lambda cell, seconds: self.append(("done", cell.name)),
            on_failure=lambda cell, failure: self.append(("failure", cell.name, failure.message)),
        )


@pytest.fixture(scope="module")
def unbroken(grid, tmp_path_factory):
    """The folder of a grid that was run in one go, and what was called meanwhile."""
    out = tmp_path_factory.mktemp("grid") / "out"
    log = Log()
    # One thread for each process: their number decides how sums are rounded.
    with mock.patch("os.cpu_count", return_value=2):
        study, missing = runner.reproduce(grid, out, jobs=2, progress=log.progress())
    assert missing == []
    return out, study, log


@pytest.fixture
def finished(unbroken, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(unbroken[0], tmp_path / "out")


@pytest.fixture
def at_once(monkeypatch):
    """Work in this process and leave out the report: another process would first import TensorFlow."""

    def run(units, work, context, *, on_start, on_done, on_failure, **_):
        for unit in units:
            on_start(unit)
            failure = workers.attempt(runner.work, unit, context)
            on_done(unit, 0.0) if failure is None else on_failure(unit, failure)

    monkeypatch.setitem(runner.reproduce.__kwdefaults__, "run", run)
    monkeypatch.setattr(report, "write", lambda study, out: None)


CELLS = 2 + 2 * (2 + 1 + 1)
MILESTONES = 2 * TINY.rounds + 2 * (2 + 1 + 1)


def test_every_network_is_tested_on_every_surface(unbroken):
    out, study, log = unbroken
    assert log[0] == ("plan", CELLS, 0)
    assert sorted(name for what, name, *_ in log[1:] if what == "start") == sorted(
        name for what, name, *_ in log[1:] if what == "done"
    )
    found = {(one.network, one.surface, one.method, one.role) for one in study.results}
    trained = ["h2-0", "h2-objects-0"]
    untrained = ["untrained-h2-0"]
    metrics = ("euclidean", "manhattan")
    methods = [*(f"{kind} {metric}" for kind in MEANS for metric in metrics), "gaussian"]
    assert found == {
        *((n, s, m, "trained") for n in trained for s in ("stripes", "crossed") for m in methods),
        *((n, s, m, "untrained") for n in untrained for s in ("stripes", "crossed") for m in methods),
        *((n, "stripes", "positional", "trained") for n in trained),
        *((n, "stripes", "positional", "untrained") for n in untrained),
        *((None, s, "per-pixel variation", "baseline") for s in ("stripes", "crossed")),
    }  # fmt: skip
    known = {(one.surface, one.is_known) for one in study.results if one.role == "trained"}
    assert known == {("stripes", True), ("crossed", False)}
    for one in study.results:
        assert (one.fit_normals, one.held_out_normals) == (8, 4)
        assert (one.test_normals, one.test_defects) == (3, 3)
        assert one.threshold > 0
    assert [network.name for network in study.networks] == trained
    assert [len(network.trained_on) for network in study.networks] == [2, 3]
    assert study.versions == versions()
    assert all(len(network.epoch_loss) == 3 for network in study.networks)
    pictured = {one.network for one, shown in zip(study.results, study.examples, strict=True) if shown}
    assert pictured == {"h2-0", "h2-objects-0"}
    assert results.load(out / "results.json").results == study.results
    assert {"report.md", "report.html", "report.csv", "report.json"} <= {
        path.name for path in (out / "report").iterdir()
    }
    assert not list(out.rglob(".partial*"))


def test_no_path_of_the_machine_is_in_the_results(unbroken, data):
    out, _, _ = unbroken
    for path in [out / "results.json", *(out / "report").glob("report.*")]:
        assert str(data.parent) not in path.read_text(), path


def test_what_is_done_is_not_done_again(unbroken, grid, finished, at_once):
    shutil.rmtree(finished / "evaluations" / "h2-0" / "novel-crossed")
    shutil.rmtree(finished / "networks" / "h2-objects-0")
    (finished / "networks" / "h2-objects-0").mkdir()
    (finished / "networks" / "h2-objects-0" / ".partial-x").mkdir()  # left by a process that was killed
    log = Log()
    _, missing = runner.reproduce(grid, finished, progress=log.progress())
    assert missing == []
    assert log == [
        ("plan", CELLS, CELLS - 2),
        ("start", "train h2-objects-0"),
        ("done", "train h2-objects-0"),
        ("start", "evaluate h2-0 on crossed"),
        ("done", "evaluate h2-0 on crossed"),
    ]
    assert (finished / "results.json").read_bytes() == (unbroken[0] / "results.json").read_bytes()
    assert not list(finished.rglob(".partial*"))


def test_moved_data_is_the_same_data(grid, finished, data, tmp_path, monkeypatch, at_once):
    """And sources may be given relative to where one is."""
    shutil.copytree(data, tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    here = {"textures": ("textures",), "known": ("known",), "novel": ("novel:crossed",)}
    moved = replace(grid, **here, objects="objects")
    log = Log()
    runner.reproduce(moved, finished, progress=log.progress())
    assert log == [("plan", CELLS, CELLS)]


def test_another_grid_needs_another_folder(grid, finished, tmp_path):
    for other in (replace(grid, seeds=(0, 1)), replace(grid, known=grid.novel, novel=grid.known)):
        with pytest.raises(RunError, match="holds a grid with other settings or other data"):
            runner.reproduce(other, finished)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="exists and is not the folder of a grid"):
        runner.reproduce(grid, tmp_path / "used")


def test_a_folder_in_which_another_process_works_is_left_alone(grid, finished):
    fcntl = pytest.importorskip("fcntl")
    with (finished / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process works on this grid"):
            runner.reproduce(grid, finished)


def test_a_cell_that_fails_is_reported_and_the_rest_is_there(grid, finished, data, tmp_path, at_once):
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    there = {name: (str(moved / name),) for name in ("textures", "known", "novel")}
    changed = replace(grid, **there, objects=str(moved / "objects"))
    for judge in ("h2-0", "h2-objects-0"):
        shutil.rmtree(finished / "evaluations" / judge / "novel-crossed")
    (moved / "novel" / "crossed" / "test" / "good" / "1.png").write_bytes(b"no image")
    log = Log()
    study, missing = runner.reproduce(changed, finished, progress=log.progress())
    assert [cell.name for cell in missing] == [
        "evaluate h2-0 on crossed",
        "evaluate h2-objects-0 on crossed",
    ]
    failures = [one for one in log if one[0] == "failure"]
    assert len(failures) == 2
    assert all("1.png" in message for _, _, message in failures)
    noted = sorted((finished / "errors").iterdir())
    assert [path.name for path in noted] == [
        "evaluations-h2-0-novel-crossed.txt",
        "evaluations-h2-objects-0-novel-crossed.txt",
    ]
    assert "1.png" in noted[0].read_text()
    assert len(study.results) == len(results.load(finished / "results.json").results)
    assert not any(one.network == "h2-0" and one.surface == "crossed" for one in study.results)

    save(moved / "novel" / "crossed" / "test" / "good" / "1.png", texture(np.random.default_rng(5)))
    _, missing = runner.reproduce(changed, finished)
    assert missing == []
    assert not (finished / "errors").exists()


def test_without_any_evaluation_there_is_nothing_to_report(tmp_path):
    with pytest.raises(RunError, match="no evaluation has succeeded"):
        runner.collect([], tmp_path)


def test_bad_data_is_found_before_anything_is_trained(grid, data, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        runner.reproduce(replace(grid, novel=("nowhere",)), tmp_path / "out")
    with pytest.raises(DataError, match="no labeled test images"):
        runner.reproduce(replace(grid, novel=grid.textures), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_estimate_grows_with_the_work(grid):
    cells = runner.plan(grid, data_dir=None)
    assert len(cells) == CELLS
    assert 0 < runner.estimate(cells[:2]) < 60


# Killed at random moments.

RUN = """
import os, pickle, sys
from metricad.deploy import native_output
if __name__ == "__main__":
    native_output.load_tensorflow()
    from metricad.reporting import report
    from metricad.reproduction import runner
    grid = pickle.loads(bytes.fromhex(sys.argv[1]))
    os.cpu_count = lambda: 1
    runner.reproduce(grid, sys.argv[2], jobs=1)
"""


def children(process):
    """Process numbers of a process's children."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        if parent == process:
            found.append(int(status.parent.name))
    return found


def is_alive(number):
    status = Path("/proc") / str(number) / "stat"
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers of a killed process in /proc")
def test_killed_again_and_again_it_ends_like_an_unbroken_run(grid, unbroken, tmp_path, monkeypatch):
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(RUN)
    command = [sys.executable, str(script), pickle.dumps(grid).hex(), str(out)]
    rng = random.Random(0)
    kills = 0
    # On a machine that halts this process at times, a grid may come to its end between two looks at it.
    while kills < 2 and (reached := milestones(out)) < MILESTONES:
        steps = min(rng.randint(2, 4), MILESTONES - reached)
        run_and_kill(command, out, steps=steps, after=rng.uniform(0, 0.4))
        assert milestones(out) > reached  # what was reached is kept, and some of it was new
        kills += 1
    assert kills >= 2
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    runner.reproduce(grid, out, jobs=1)
    for name in ("results.json", "results.examples.npz"):
        assert (out / name).read_bytes() == (unbroken[0] / name).read_bytes(), name
    assert not list(out.rglob(".partial*"))
    assert (out / "report" / "report.html").is_file()


def run_and_kill(command, out, *, steps, after):
    """Start a grid and kill it some seconds after it has come so many steps further; wait for its workers."""
    reached = milestones(out)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: milestones(out) >= reached + steps)
    time.sleep(after)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # A worker that outlives its parent would write into the folder of the next run.
    wait_until(lambda: not any(map(is_alive, workers)))


def milestones(out):
    """Rounds of training and evaluations that a grid has finished."""
    rounds = sum(len(log.read_text().splitlines()) for log in out.glob("networks/*/log.jsonl"))
    return rounds + len(list(out.glob("evaluations/*/*/results.json")))
