"""Run units of work as Ray tasks, each after the unit it needs; a task whose worker or node dies is repeated.

What units write must be on disks that all machines of the cluster share.
"""

import importlib
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from metricad.batch import cluster, workers
from metricad.batch.workers import THREADS, Failure, Queue, Unit
from metricad.errors import RunError

RETRIES = 3
"""Times that a unit is repeated because its worker or node died."""


@dataclass(frozen=True)
class Resources:
    """What Ray keeps free for each unit.

    Attributes
    ----------
    cores, gpus : float
    memory : float
        In GiB; 0 asks for none.
    """

    cores: float = 1.0
    gpus: float = 0.0
    memory: float = 0.0

    @classmethod
    def read(cls, text: str) -> "Resources":
        """Read ``cores=2,gpus=0.5,memory=4``; raises ValueError for anything else."""
        try:
            found = {
                name: float(number) for name, _, number in (each.partition("=") for each in text.split(","))
            }
            if min(found.values()) < 0:
                raise ValueError
            return cls(**found)
        except (TypeError, ValueError):
            raise ValueError(
                f"expected resources such as cores=2,gpus=0.5,memory=4; received {text!r}"
            ) from None


def run(
    units: Sequence[Unit],
    work: tuple[str, str],
    context: object,
    *,
    jobs: int | None,
    address: str | None = None,
    resources: Resources = Resources(),
    prepare: Callable[[], object] | None = None,
    on_start: Callable[[Unit], object],
    on_done: Callable[[Unit, float], object],
    on_failure: Callable[[Unit, Failure], object],
) -> None:
    """Run units in order as `workers.run` does, but on Ray.

    Parameters
    ----------
    units, work, context, prepare, on_start, on_done, on_failure
        See `workers.run`.
    jobs : int, optional
        Number of units at a time; by default as many as the cluster has the cores for.
    address : str, optional
        See `cluster.connected`.
    resources : Resources

    Raises
    ------
    MetricadError
        There is no such cluster, or no machine of it has these resources.
    """
    queue = Queue(units, on_failure)
    with cluster.connected(address) as ray:
        settings: dict[str, Any] = {
            "num_cpus": resources.cores,
            "num_gpus": resources.gpus,
            "max_retries": RETRIES,
        }
        cluster.check_fits(ray, **asdict(resources))
        if resources.memory:
            settings["memory"] = int(resources.memory * 2**30)
        task = ray.remote(do).options(**settings)
        most = jobs or max(1, int(ray.cluster_resources().get("CPU", 1) / max(resources.cores, 1e-9)))
        shared = ray.put(context)
        running: dict[Any, tuple[Unit, float]] = {}
        while True:
            for unit in queue.ready()[: most - len(running)]:
                queue.waiting.remove(unit)
                running[task.remote(unit, work, shared, prepare, resources.cores)] = unit, time.perf_counter()
                on_start(unit)
            if not running:
                return
            (answered,), _ = ray.wait(list(running))
            unit, began = running.pop(answered)
            try:
                failure = ray.get(answered)
            except ray.exceptions.RayError as error:
                failure = Failure(
                    f"its worker died {1 + RETRIES} times ({' '.join(str(error).split())[:200]})"
                )
            queue.end(unit, failure)
            if failure is None:
                on_done(unit, time.perf_counter() - began)


@dataclass(frozen=True)
class Command:
    """A unit that is a command line: a process of its own.

    Attributes
    ----------
    name : str
    words : tuple of str
    needs : None
    """

    name: str
    words: tuple[str, ...]
    needs: None = None


def run_command(unit: Command, folder: str) -> None:
    """Run a command line in a folder; raises RunError if it fails."""
    status = subprocess.run(unit.words, cwd=folder, check=False).returncode
    if status:
        raise RunError(f"{unit.name}: the process left with {status}; it says why")


def do(
    unit: Unit,
    work: tuple[str, str],
    context: object,
    prepare: Callable[[], object] | None,
    cores: float,
) -> Failure | None:
    """Do a unit in a worker of Ray."""
    limits = dict.fromkeys(THREADS, str(max(1, int(cores))))
    for name, value in (limits | {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}).items():
        os.environ.setdefault(name, value)  # TensorFlow reads them when it starts
    if prepare is not None:
        prepare()
    module, name = work
    return workers.attempt(getattr(importlib.import_module(module), name), unit, context)
