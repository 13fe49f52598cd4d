"""Suppress output of native libraries to standard error."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_lock = threading.Lock()


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
    """Suppress all output to standard error during the block; Python errors are still raised."""
    with _lock:  # two threads at once would restore each other's redirection
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            saved = os.dup(2)
        except OSError:  # closed, so there is nothing to suppress
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


def load_tensorflow() -> None:
    """Import TensorFlow without the messages that its C++ part prints during import.

    These messages come before TensorFlow's log level takes effect. The command line must print one line per
    error only. Python errors are still raised. Level 3, because TensorFlow calls it an error that a processor
    lacks some instructions.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with suppress_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # the search for GPUs also prints messages
