"""Do shards in processes of this machine, with joblib's loky."""

import contextlib
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence

from metricad.batch import work
from metricad.batch.shards import Shard
from metricad.batch.work import Job, Outcome
from metricad.errors import RunError

_DEATHS = 3  # of a process in a row, without a shard done between them, that end the batch
_LOOK_SECONDS = 0.5

_watched: list[int] = []


def run(job: Job, shards: Sequence[Shard], *, workers: int) -> Iterator[Outcome]:
    """Do shards, `workers` at a time; yield what came of each, in any order.

    Raises
    ------
    RunError
        A process died again and again, usually because memory ran out.
    """
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = {shard.name: shard for shard in shards}
    deaths = 0
    while left:
        try:
            with warnings.catch_warnings(), parallel_config("loky", inner_max_num_threads=1):
                warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
                calls = (delayed(_attempt)(job, shard, os.getpid()) for shard in list(left.values()))
                with contextlib.closing(
                    Parallel(workers, return_as="generator_unordered")(calls)
                ) as outcomes:
                    for outcome in outcomes:
                        del left[outcome.shard.name]
                        deaths = 0
                        yield outcome
        except TerminatedWorkerError as error:
            deaths += 1
            if deaths == _DEATHS:
                raise RunError(
                    f"a worker process died {_DEATHS} times; with too little memory give fewer --workers, "
                    "then run the same command again: what is done is kept"
                ) from error
            # One of the first ones was being done: try them last.
            for name in list(left)[: 2 * workers]:
                left[name] = left.pop(name)


def _attempt(job: Job, shard: Shard, parent: int) -> Outcome:
    if not _watched and os.getpid() != parent:  # one worker works in the process of its parent
        _watched.append(parent)
        threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    return work.attempt(job, shard)


def _end_with_parent(parent: int) -> None:
    # If the parent is killed, a worker must not go on beside those of a second run.
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
