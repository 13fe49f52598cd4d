"""Units of work in processes: order, failures, deaths. The units' work stands at the end of this file."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from metricad.batch import workers
from metricad.errors import DataError
from tests.helpers import ROOT

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Unit:
    name: str
    action: str = "write"
    needs: str | None = None


def work(unit, folder):
    """What the workers of these tests do."""
    if unit.action == "refuse":
        raise DataError(f"{unit.name}: bad data")
    if unit.action == "break":
        raise ZeroDivisionError("by accident")
    if unit.action == "die":
        os._exit(9)
    died = Path(folder) / f"{unit.name}.died"
    if unit.action == "die once" and not died.exists():
        died.touch()
        os._exit(9)
    if unit.action == "full":
        raise OSError(28, "No space left on device", "there")
    if unit.action == "sleep":
        time.sleep(0.5)
    (Path(folder) / unit.name).write_text(f"{os.getpid()} {time.monotonic()}")


class Log:
    def __init__(self):
        self.lines = []
        self.failures = {}
        self.most = self.running = 0

    def start(self, unit):
        self.lines.append(f"start {unit.name}")
        self.running += 1
        self.most = max(self.most, self.running)

    def done(self, unit, seconds):
        assert seconds > 0
        self.lines.append(f"done {unit.name}")
        self.running -= 1

    def failure(self, unit, failure):
        self.running -= f"start {unit.name}" in self.lines
        self.failures[unit.name] = failure


@pytest.fixture
def run(tmp_path, monkeypatch):
    # The workers import this file by its name.
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])

    def run(*units, jobs=2):
        log = Log()
        workers.run(
            units, ("tests.batch.test_workers", "work"), str(tmp_path), jobs=jobs,
            on_start=log.start, on_done=log.done, on_failure=log.failure,
        )  # fmt: skip
        return log, {path.name: path.read_text().split() for path in tmp_path.iterdir()}

    return run


def test_units_run_after_what_they_need_as_many_at_a_time_as_there_are_jobs(run):
    log, files = run(
        Unit("b", needs="a"), Unit("a", "sleep"), Unit("c", "sleep"), Unit("d", "sleep", "met before")
    )
    assert sorted(files) == ["a", "b", "c", "d"]
    assert log.lines.index("done a") < log.lines.index("start b")
    assert log.lines[:2] == ["start a", "start c"]  # in their order but for those that have to wait
    assert log.most == 2
    assert len({process for process, _ in files.values()}) == 2
    assert str(os.getpid()) not in {process for process, _ in files.values()}
    assert log.failures == {}


def test_what_fails_is_reported_and_the_others_go_on(run):
    log, files = run(
        Unit("bad", "refuse"),
        Unit("after bad", needs="bad"),
        Unit("after that", needs="after bad"),
        Unit("broken", "break"),
        Unit("full", "full"),
        Unit("good"),
    )
    assert sorted(files) == ["good"]
    messages = {name: failure.message for name, failure in log.failures.items()}
    assert messages.pop("full").startswith("there: no space left on the device")
    assert messages == {
        "bad": "bad: bad data",
        "after bad": "not begun: bad failed",
        "after that": "not begun: after bad failed",
        "broken": "ZeroDivisionError: by accident",
    }
    assert log.failures["bad"].traceback == ""
    assert "in work" in log.failures["broken"].traceback


@pytest.mark.slow
def test_a_process_that_dies_takes_only_its_unit_with_it(run):
    log, files = run(Unit("a"), Unit("deadly", "die"), Unit("b", "sleep"), Unit("c"), jobs=1)
    assert sorted(files) == ["a", "b", "c"]
    assert list(log.failures) == ["deadly"]
    assert "its process ended with 9" in log.failures["deadly"].message
    assert files["a"][0] != files["b"][0] == files["c"][0]


def test_without_units_nothing_is_begun(run):
    log, files = run()
    assert (log.lines, files) == ([], {})


def test_the_environment_is_as_it_was(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    run(Unit("a"))
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
