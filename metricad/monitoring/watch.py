"""Watch a folder: inspect images as they arrive, write one journal line for each, and report drift."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metricad.data import images
from metricad.errors import DataError
from metricad.inspection.inspector import Inspection, Inspector
from metricad.inspection.interface import ImageJudge
from metricad.monitoring.drift import LEVEL, DriftTest
from metricad.monitoring.folder import WatchedFolder
from metricad.monitoring.journal import Journal

INTERVAL = 0.25
"""Shortest time in seconds between two scans of the folder; also the delay until a watch notices a stop."""

# Pause between scans as a multiple of the processor time of a scan: large folders are scanned less often.
_REST = 20


class Watch:
    """Inspects each image of a folder exactly once, even if the watch is killed and started again.

    Only the journal tells what is done. An image is done when its line is on the disk; otherwise it is
    inspected again. The heat map of an image is written before its line.

    Parameters
    ----------
    inspector : Inspector
        Load it from the same file each time: lines with another threshold are not used in the drift test.
    watched : WatchedFolder
    journal : Journal
        Its existing lines are read here.
    drift_level : float in [0, 1)
        Largest probability of an alarm in a stream without drift; see `drift.DriftTest`.
    maps : path, optional
        Folder for heat maps, named like their images in the watched folder. It must be outside that folder.

    Attributes
    ----------
    before : int
        Number of lines that were in the journal at the start.
    drift : DriftTest
    drift_since : str or None
        Time of the line at which the drift test raised its alarm.

    Raises
    ------
    DataError
        The folder has disappeared, or the file is no journal.
    """

    def __init__(
        self,
        inspector: Inspector[ImageJudge],
        watched: WatchedFolder,
        journal: Journal,
        *,
        drift_level: float = LEVEL,
        maps: str | os.PathLike[str] | None = None,
    ) -> None:
        self.inspector = inspector
        self.folder = watched
        self.journal = journal
        self.maps = None if maps is None else Path(maps)
        self.drift = DriftTest(inspector.calibrated.scores, inspector.threshold, level=drift_level)
        self.drift_since: str | None = None
        self.before = 0
        self._resume()

    def run(
        self,
        *,
        once: bool = False,
        stop: Callable[[], bool] = lambda: False,
        renew: Callable[[], Inspector[ImageJudge] | None] = lambda: None,
    ) -> Iterator[dict[str, Any]]:
        """Inspect the images in the folder and all that arrive; yield each line after it is written.

        Parameters
        ----------
        once : bool
            Stop when the files present at the start are done. Files that change meanwhile are skipped.
        stop : function
            Returns whether to stop after the current image.
        renew : function
            Called between images; returns an inspector to go on with, or None to keep the one there is.

        Yields
        ------
        record : dict
            One line of the journal: the fields of an `Inspection`, the file's size in bytes and modification
            time in ns, and the result of the drift test.

        Raises
        ------
        DataError
            The folder has disappeared, or the journal was moved.
        OSError
            The disk is full, or a folder cannot be read.
        """
        first = self.folder.scan() if once else {}
        while not stop():
            self._use(renew())
            began = time.thread_time()
            found = self.folder.scan()
            if once:
                found = {path: found[path] for path, identity in first.items() if found.get(path) == identity}
            ready = self.folder.ready(found)
            took = time.thread_time() - began
            for path in ready:
                if stop():
                    return
                self._use(renew())
                record = self._inspect(path)
                if record is not None:
                    yield record
            if once and not self.folder.waiting:
                return
            _pause(max(INTERVAL, _REST * took), stop)

    def _use(self, inspector: Inspector[ImageJudge] | None) -> None:
        """Go on with another inspector, and with a drift test of its own."""
        if inspector is not None:
            self.drift = DriftTest(inspector.calibrated.scores, inspector.threshold, level=self.drift.level)
            self.inspector, self.drift_since = inspector, None

    def _resume(self) -> None:
        """Read the journal: mark unchanged files as done, and repeat the drift test."""
        present = self.folder.scan()
        for record in self.journal.records():
            self.before += 1
            self._follow(record)
            path = record["path"]
            self.folder.done.pop(path, None)
            if present.get(path) == (record["size"], record["mtime_ns"]):
                self.folder.done[path] = present[path]

    def _inspect(self, path: str) -> dict[str, Any] | None:
        """Inspect a waiting file and write its line; return None if it must wait or no longer exists."""
        file, sha256 = self.folder.path / path, None
        try:
            content = images.read_bytes(file)
            sha256 = hashlib.sha256(content).hexdigest()
            image = self.inspector.read(file, content=content)
            if not self.folder.is_unchanged(path):
                return None
            found = self._judge(path, sha256, image)
        except DataError as error:
            if not self.folder.is_unchanged(path) or self.folder.postpone(path):
                return None
            found = self.inspector.failed(path, sha256, str(error).removeprefix(f"{file}: "))
        except MemoryError as error:
            found = self.inspector.failed(path, sha256, f"too large for this machine's memory: {error}")
        record = {**found.record(), **self.folder.waiting[path].identity._asdict()}
        record |= self._follow(record)
        self.journal.append(record)
        self.folder.finish(path)
        return record

    def _judge(self, path: str, sha256: str, image: np.ndarray) -> Inspection:
        inspection, anomaly = self.inspector.inspect(image, path=path, sha256=sha256)
        if self.maps is not None:
            picture = self.inspector.picture(inspection, image, anomaly)
            images.write(self.maps / images.map_name(Path(path)), picture)
        return inspection

    def _follow(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Add the score of a line to the drift test, and return the result of the test."""
        if record["score"] is not None and record["threshold"] == self.inspector.threshold:
            self.drift.update(record["score"])
        if self.drift.alarm is not None and self.drift_since is None:
            self.drift_since = record["time"]
        return {
            "drift": self.drift.alarm,
            "drift_since": self.drift_since,
            "drift_p": self.drift.p_value,
        }


def _pause(seconds: float, stop: Callable[[], bool]) -> None:
    """Sleep, but return soon after a stop is requested."""
    until = time.monotonic() + seconds
    while not stop() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, INTERVAL))
