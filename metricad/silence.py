"""What the C++ below some library prints on standard error of its own accord, and nobody asked for."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_lock = threading.Lock()


@contextlib.contextmanager
def standard_error() -> Iterator[None]:
    """Let nothing reach this process's standard error during the block; errors travel as exceptions."""
    with _lock:  # two at once would each restore what the other has put in place
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            saved = os.dup(2)
        except OSError:  # closed: there is nothing to silence
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)
