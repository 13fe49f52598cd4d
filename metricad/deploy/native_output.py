"""Suppress what native libraries print on standard error."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_lock = threading.Lock()


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
    """Let nothing reach standard error during the block; Python errors are raised as ever."""
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


def load_tensorflow() -> None:
    """Import TensorFlow without the lines that its C++ part prints meanwhile.

    They come before its own log level counts, and a command line that promises one line for each error
    cannot have them. Python errors are not touched: they travel as exceptions.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with suppress_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # looking for GPUs prints as well
