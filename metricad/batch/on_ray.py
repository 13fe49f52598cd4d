"""Do shards on a Ray cluster: one actor a core, each with its inspectors loaded."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from metricad.batch import cluster, work
from metricad.batch.shards import Shard
from metricad.batch.work import Job, Outcome

TRIES = 3
"""Times that a shard is given to an actor, each with `TRIES` retries by Ray, before it counts as failed."""

PATIENCE = 60.0
"""Seconds, or three times the slowest shard so far, after which an idle actor also does a running shard: its
actor may wait for a machine that does not come back. Both write the same file."""

_TICK = 1.0  # seconds between two looks for such shards


class Worker:
    """Actor that does one shard after the other. It keeps loaded inspectors only, so it may restart."""

    def attempt(self, job: Job, shard: Shard) -> Outcome:
        """Do a shard."""
        return work.attempt(job, shard)


def run(
    job: Job, shards: Sequence[Shard], *, workers: int | None, address: str | None, gpus: float = 0
) -> Iterator[Outcome]:
    """Do shards on a cluster; yield what came of each, in any order.

    Parameters
    ----------
    job : Job
    shards : sequence of Shard
    workers : int, optional
        Number of actors; by default one for each core of the cluster.
    address : str, optional
        See `cluster.connected`.
    gpus : float
        GPUs of each actor, for inspectors that run in TensorFlow.

    Raises
    ------
    MetricadError
        There is no such cluster, or it has no such GPU.
    """
    with cluster.connected(address, cores=workers) as ray:
        cluster.check_fits(ray, cores=1, gpus=gpus)
        wanted = workers or int(ray.cluster_resources().get("CPU", 1))
        carried = ray.put(replace(job, parts=[part.carried() for part in job.parts]))
        settings = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": TRIES}
        make = ray.remote(Worker).options(**settings).remote
        yield from _share(ray, make, carried, shards, actors=min(wanted, len(shards)))


def _share(
    ray: Any, make: Callable[[], Any], job: Any, shards: Sequence[Shard], *, actors: int
) -> Iterator[Outcome]:
    """Give each idle actor the next shard until all are done."""
    waiting = deque(shards)
    left = {shard.name for shard in shards}
    tries: Counter[str] = Counter()
    idle = deque(make() for _ in range(actors))
    running: dict[Any, tuple[Any, Shard, float]] = {}
    slowest = 0.0
    while left:
        while idle:
            shard = _next(waiting, running, tries, left=left, patience=max(PATIENCE, 3 * slowest))
            if shard is None:
                break
            tries[shard.name] += 1
            actor = idle.pop()
            running[actor.attempt.remote(job, shard)] = actor, shard, time.monotonic()
        ready, _ = ray.wait(list(running), timeout=_TICK)
        for reference in ready:
            actor, shard, began = running.pop(reference)
            outcome = None
            try:
                outcome = ray.get(reference)
                slowest = max(slowest, time.monotonic() - began)
                idle.append(actor)
            except ray.exceptions.RayError as error:
                # Its node may be lost. A new actor may have to wait for one: those that work come first.
                idle.appendleft(make())
                is_elsewhere = any(other.name == shard.name for _, other, _ in running.values())
                if tries[shard.name] < TRIES:
                    waiting.append(shard)
                elif not is_elsewhere:
                    outcome = Outcome(shard, error=f"its worker died: {' '.join(str(error).split())[:200]}")
            if outcome is not None and shard.name in left:
                left.remove(shard.name)
                yield outcome


def _next(
    waiting: deque[Shard],
    running: dict[Any, tuple[Any, Shard, float]],
    tries: Counter[str],
    *,
    left: set[str],
    patience: float,
) -> Shard | None:
    """Take the next shard; if there is none, one that has been running for too long and only once."""
    while waiting:
        if (shard := waiting.popleft()).name in left:
            return shard
    late = time.monotonic() - patience
    return next((s for _, s, began in running.values() if began < late and tries[s.name] == 1), None)
