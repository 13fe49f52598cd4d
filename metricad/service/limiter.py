"""Limit the number of requests: some are processed, some wait, all others get an error."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class BusyError(Exception):
    """All places are taken, or no worker became free in time."""


class WorkerQueue:
    """Queue with a limited number of worker threads and a limited number of waiting requests.

    A request takes its place before its body is read. So the queue also limits the memory for bodies.

    Parameters
    ----------
    workers : int
        Number of requests processed at the same time.
    queue : int
        Number of further requests that wait for a worker, with their body in memory.
    patience : float
        Longest wait for a worker, in seconds. Work that has started is never stopped: a thread cannot be
        stopped, and the limit on image size bounds its time.
    """

    def __init__(self, *, workers: int, queue: int, patience: float) -> None:
        self._places = workers + queue
        self._patience = patience
        self._taken = 0
        self._free = asyncio.Semaphore(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="inspect")

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place during the block; raise BusyError if there is none."""
        if self._taken == self._places:
            raise BusyError(f"all {self._places} places are taken")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread when a worker is free; return its result or raise its error.

        Raises
        ------
        BusyError
            No worker was free in time. The work was not started.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise BusyError(f"no worker was free within {self._patience:g} s") from None
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, work)
        # Released when the work ends: the waiting request may be canceled earlier.
        future.add_done_callback(lambda _: self._free.release())
        return await asyncio.shield(future)

    def close(self) -> None:
        """Stop the threads after the started work is done."""
        self._pool.shutdown()
