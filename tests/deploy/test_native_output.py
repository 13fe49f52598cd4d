"""Standard error is silent for a while, and never for good."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from metricad.deploy import native_output


def say(what):
    """As C++ does, past Python."""
    os.write(2, what.encode())


def test_only_what_is_said_meanwhile_is_lost(capfd):
    say("before\n")
    with native_output.suppress_stderr():
        say("lost\n")
    say("after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_an_error_travels_and_is_heard_of(capfd):
    def fail():
        with native_output.suppress_stderr():
            raise OSError("damaged")

    with pytest.raises(OSError, match="damaged"):
        fail()
    say("after\n")
    assert capfd.readouterr().err == "after\n"


def test_two_threads_at_once_leave_it_as_it_was(capfd):
    """The one that comes second must not take the silence for what is to be restored."""
    second_is_in, first_is_out = threading.Event(), threading.Event()

    def second():
        with native_output.suppress_stderr():
            second_is_in.set()
            first_is_out.wait()

    with ThreadPoolExecutor(1) as worker:
        with native_output.suppress_stderr():
            worker.submit(second)
            second_is_in.wait(0.2)  # it has to wait outside
        first_is_out.set()
    say("after\n")
    assert capfd.readouterr().err == "after\n"


def test_without_standard_error_there_is_nothing_to_do(monkeypatch):
    """As in a service that was started with it closed."""

    def closed(number):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(native_output.os, "dup", closed)
    monkeypatch.setattr(native_output.sys, "stderr", None)
    with native_output.suppress_stderr():
        done = True
    assert done
