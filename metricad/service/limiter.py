"""How many requests may be underway: a few at work, a few waiting, and the rest is told to come back."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class BusyError(Exception):
    """All places are taken, or the wait for a worker was too long."""


class WorkerQueue:
    """A bounded number of workers, threads, before a bounded number of places to wait in.

    A request takes its place before its body is read: so this bounds the bodies held in memory, too.

    Parameters
    ----------
    workers : int
        Pieces of work done at the same time.
    queue : int
        Further requests that are read and wait for a worker.
    patience : float
        Seconds that one waits for a worker. Work that has begun is never cut off: a thread cannot be, and
        what it may cost is bounded by the size of the images.
    """

    def __init__(self, *, workers: int, queue: int, patience: float) -> None:
        self._places = workers + queue
        self._patience = patience
        self._taken = 0
        self._free = asyncio.Semaphore(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="inspect")

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while the block runs; BusyError where there is none."""
        if self._taken == self._places:
            raise BusyError(f"all {self._places} places are taken")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Do work in a thread as soon as a worker is free, and give what it returns or raises.

        Raises
        ------
        BusyError
            No worker was free in time; the work was not begun.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise BusyError(f"no worker was free within {self._patience:g} s") from None
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, work)
        # By the work's own end: whoever waits for it may be cancelled before.
        future.add_done_callback(lambda _: self._free.release())
        return await asyncio.shield(future)

    def close(self) -> None:
        """Let the threads go, after the work that has begun."""
        self._pool.shutdown()
