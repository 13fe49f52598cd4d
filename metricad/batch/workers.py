"""Run units of work in parallel processes of this machine, each with its share of its threads.

joblib is not used: if one of its processes dies, it ends all pending work without naming the failed unit
(`TerminatedWorkerError`), and units cannot depend on each other. Here only the unit of the dead process
fails, and no worker outlives its parent.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Protocol

from metricad.errors import MetricadError, explain_os_error

THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
)  # fmt: skip
"""Variables that say how many threads a process may use."""


class Unit(Protocol):
    """Interface of a unit of work; it must be picklable."""

    @property
    def name(self) -> str:
        """Unique name."""

    @property
    def needs(self) -> str | None:
        """Name of the unit that must be done first, or None."""


@dataclass(frozen=True)
class Failure:
    """Why a unit failed: a one-line message, and the traceback of an unexpected error."""

    message: str
    traceback: str = ""


class Queue:
    """Units that wait, in order, each for the unit it needs; a unit that needs a failed one fails, too."""

    def __init__(self, units: Sequence[Unit], on_failure: Callable[[Unit, Failure], object]) -> None:
        self.waiting = list(units)
        self._unmet = {unit.name for unit in units}
        self._failed: set[str] = set()
        self._on_failure = on_failure

    def ready(self) -> list[Unit]:
        """Return the units that may begin now."""
        while lost := [unit for unit in self.waiting if unit.needs in self._failed]:
            for unit in lost:
                self.waiting.remove(unit)
                self.end(unit, Failure(f"not begun: {unit.needs} failed"))
        return [unit for unit in self.waiting if unit.needs not in self._unmet]

    def end(self, unit: Unit, failure: Failure | None) -> None:
        """Note that a unit is done or has failed."""
        if failure is None:
            self._unmet.discard(unit.name)
        else:
            self._failed.add(unit.name)
            self._on_failure(unit, failure)


@dataclass
class _Worker:
    process: BaseProcess
    pipe: connection.Connection
    unit: Unit | None = None
    began: float = 0.0


def run(
    units: Sequence[Unit],
    work: tuple[str, str],
    context: object,
    *,
    jobs: int,
    prepare: Callable[[], object] | None = None,
    on_start: Callable[[Unit], object],
    on_done: Callable[[Unit, float], object],
    on_failure: Callable[[Unit, Failure], object],
) -> None:
    """Run units in order, `jobs` at a time, each after the unit it needs.

    If a unit fails or its process dies, this is reported. All other units still run, except those that need
    it. When this process ends in any way, its workers end, too.

    Parameters
    ----------
    units : sequence of Unit
        A needed unit that is not in this list counts as done.
    work : (str, str)
        Module and name of the function that does ``work(unit, context)`` in a worker.
    context : object
        Passed to `work`; pickled once for each worker.
    jobs : int
        Number of processes; the cores of the machine are divided among them.
    prepare : function, optional
        Called first in each worker, before the module of `work` is imported.
    on_start, on_done, on_failure : function
        Called in this process; `on_done` gets the seconds of the unit.
    """
    queue = Queue(units, on_failure)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    workers: list[_Worker] = []
    try:
        while True:
            ready = queue.ready()
            idle = [worker for worker in workers if worker.unit is None]
            for unit in ready[: jobs - len(workers) + len(idle)]:
                worker = idle.pop() if idle else _begin(work, context, prepare, threads)
                if worker not in workers:
                    workers.append(worker)
                queue.waiting.remove(unit)
                worker.unit, worker.began = unit, time.perf_counter()
                on_start(unit)
                worker.pipe.send(unit)
            busy = {worker.pipe: worker for worker in workers if worker.unit}
            if not busy:
                return
            answered = connection.wait(list(busy))
            for worker in [worker for pipe, worker in busy.items() if pipe in answered]:
                done, failure = worker.unit, _receive(worker)
                assert done is not None
                queue.end(done, failure)
                if failure is None:
                    on_done(done, time.perf_counter() - worker.began)
                worker.unit = None
                if not worker.process.is_alive():
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.process.terminate()
            worker.process.join()


def _begin(
    work: tuple[str, str], context: object, prepare: Callable[[], object] | None, threads: int
) -> _Worker:
    # Spawned, not forked: TensorFlow does not survive a fork.
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_serve, args=(theirs, work, prepare), daemon=True)
    with _thread_limits(threads):
        process.start()
    theirs.close()  # so that the death of the worker is seen as end of file
    ours.send(context)
    return _Worker(process, ours)


def _receive(worker: _Worker) -> Failure | None:
    try:
        return worker.pipe.recv()
    except (EOFError, ConnectionError):
        worker.process.join()
        return Failure(
            f"its process ended with {worker.process.exitcode}; with too little memory run fewer --jobs"
        )


def _serve(pipe: connection.Connection, work: tuple[str, str], prepare: Callable[[], object] | None) -> None:
    """Main loop of a worker: do the units received through the pipe until it is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent, which ends its workers
    if prepare is not None:
        prepare()
    module, name = work
    function = getattr(importlib.import_module(module), name)
    try:
        context = pipe.recv()
        while True:
            pipe.send(attempt(function, pipe.recv(), context))
    except (EOFError, ConnectionError):
        return


def attempt(function: Callable[[Unit, object], object], unit: Unit, context: object) -> Failure | None:
    """Do a unit; return why it failed, or None."""
    try:
        function(unit, context)
    except (MetricadError, ValueError) as error:
        return Failure(str(error))
    except OSError as error:
        return Failure(explain_os_error(error))
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
    return None


def _end_with_parent() -> None:
    # If the parent is killed, a worker must not go on writing into a folder that a second run may use.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def _thread_limits(threads: int) -> Iterator[None]:
    # NumPy's linear algebra reads the environment when it is loaded, before any code of a worker runs. By
    # default the first process that uses a GPU reserves all of its memory.
    limits = dict.fromkeys(THREADS, str(threads)) | {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    saved = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
