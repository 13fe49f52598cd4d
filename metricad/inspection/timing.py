"""Measure the time of each stage of the work, in seconds, summed over threads."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimer:
    """Stopwatch for the stages of some work; several threads may use it at once.

    Attributes
    ----------
    seconds : dict
        Seconds by stage, in the order of first use. Times of parallel threads are added, so the sum can be
        larger than the time that has passed.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the duration of the block to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - began
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + taken
