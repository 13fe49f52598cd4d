"""Seconds by stage, whoever works at it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from metricad.inspection import timing
from metricad.inspection.timing import StageTimer


@pytest.fixture
def now(monkeypatch):
    """A time that passes only when it is told to, for each thread by itself."""

    class Now(threading.local):
        seconds = 0.0

    now = Now()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now.seconds)
    return now


def test_what_a_stage_takes_adds_up(now):
    watch = StageTimer()
    for stage, seconds in [("network", 2.0), ("score", 0.5), ("network", 1.0)]:
        with watch(stage):
            now.seconds += seconds
        now.seconds += 10  # between stages
    assert watch.seconds == {"network": 3.0, "score": 0.5}
    assert list(watch.seconds) == ["network", "score"]


def test_a_stage_that_fails_took_its_time_too(now):
    watch = StageTimer()

    def fail():
        with watch("read"):
            now.seconds += 4
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert watch.seconds == {"read": 4.0}


def test_a_stage_within_another_counts_for_both(now):
    watch = StageTimer()
    with watch("all"):
        now.seconds += 1
        with watch("part"):
            now.seconds += 2
    assert watch.seconds == {"part": 2.0, "all": 3.0}


def test_threads_that_work_side_by_side_add_up(now):
    watch = StageTimer()
    together = threading.Barrier(4)

    def work(seconds):
        with watch("network"):
            together.wait()
            now.seconds += seconds

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, [1.0, 2.0, 3.0, 4.0]))
    assert watch.seconds == {"network": 10.0}


def test_no_second_is_lost_between_many_threads(now):
    watch = StageTimer()

    def work(_):
        for _ in range(500):
            with watch("score"):
                now.seconds += 1

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(work, range(8)))
    assert watch.seconds == {"score": 4000.0}
