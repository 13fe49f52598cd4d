"""Where the time goes: seconds by stage, summed over threads."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimer:
    """A stopwatch for the stages of some work; several threads may run it at once.

    Attributes
    ----------
    seconds : dict
        By stage, in the order in which they were first seen. Threads that work side by side add up, so the
        sum can be more than has passed.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - began
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + taken
