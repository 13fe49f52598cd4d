"""A watch on a line: images are judged as they arrive, each is one line of a journal, and drift is told."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
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
"""Seconds between two looks at the folder, at least; also how soon a watch notices that it is to stop."""

# Times the processor time of a look is waited: a folder of very many files is looked at less often.
_REST = 20


class Watch:
    """Judges each image of a folder once, however often the watch is killed and started again.

    The journal alone tells what has been done. An image is done when its line is on the disk; one whose line
    is not there is judged again. The map of an image is there before its line.

    Parameters
    ----------
    inspector : Inspector
        Or what has its interface; from the same file each time: lines of another threshold take no part in
        the drift test.
    watched : WatchedFolder
    journal : Journal
        What is in it is read here.
    drift_level : float in [0, 1)
        Largest probability that a stream without drift ever alarms; see `drift.DriftTest`.
    maps : path, optional
        Folder for heat maps, each under its image's path below the watched folder. It must lie elsewhere.

    Attributes
    ----------
    before : int
        Lines that were in the journal.
    drift : DriftTest
    drift_since : str or None
        Time of the line with which it has alarmed.

    Raises
    ------
    DataError
        The folder has gone, or the journal is none.
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
        self.drift = DriftTest(inspector.calibration.scores, inspector.threshold, level=drift_level)
        self.drift_since: str | None = None
        self.before = 0
        self._resume()

    def run(
        self, *, once: bool = False, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[dict[str, Any]]:
        """Judge what is in the folder and what arrives; give each line when it has been written.

        Parameters
        ----------
        once : bool
            End when what was in the folder at the start is done; what has changed meanwhile is left.
        stop : function
            Whether to end after the image that is being judged.

        Yields
        ------
        record : dict
            One line of the journal: the fields of an `Inspection`, time in UTC, the file's size in bytes and
            time of change in ns, and what the drift test says.

        Raises
        ------
        DataError
            The folder has gone, or the journal has been moved.
        OSError
            The disk is full, or a folder cannot be read.
        """
        first = self.folder.scan() if once else {}
        while not stop():
            began = time.thread_time()
            found = self.folder.scan()
            if once:
                found = {path: found[path] for path, identity in first.items() if found.get(path) == identity}
            ready = self.folder.ready(found)
            took = time.thread_time() - began
            for path in ready:
                if stop():
                    return
                record = self._inspect(path)
                if record is not None:
                    yield record
            if once and not self.folder.waiting:
                return
            _pause(max(INTERVAL, _REST * took), stop)

    def _resume(self) -> None:
        """Read what has been done; of files that are no longer there nothing is kept."""
        present = self.folder.scan()
        for record in self.journal.records():
            self.before += 1
            self._follow(record)
            path = record["path"]
            self.folder.done.pop(path, None)
            if present.get(path) == (record["size"], record["mtime_ns"]):
                self.folder.done[path] = present[path]

    def _inspect(self, path: str) -> dict[str, Any] | None:
        """Judge a file that is waiting and write its line; None where it must wait longer, or is gone."""
        file = self.folder.path / path
        try:
            detector = self.inspector.detector
            image = images.read(file, minimum_size=detector.grid.smallest, color=detector.channels == 3)
            if not self.folder.is_unchanged(path):
                return None
            found = self._judge(path, image)
        except DataError as error:
            if not self.folder.is_unchanged(path) or self.folder.postpone(path):
                return None
            found = Inspection(path, error=str(error).removeprefix(f"{file}: "))
        except MemoryError as error:
            found = Inspection(path, error=f"too large for this machine's memory: {error}")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {"time": now, **asdict(found), **self.folder.waiting[path].identity._asdict()}
        record |= self._follow(record)
        self.journal.append(record)
        self.folder.finish(path)
        return record

    def _judge(self, path: str, image: np.ndarray) -> Inspection:
        inspection, distance_map = self.inspector.inspect(image, path=path)
        if self.maps is not None:
            anomaly_map = self.inspector.detector.on_pixels(distance_map, image)
            picture = images.overlay(image, anomaly_map, **self.inspector.map_scale())
            images.write(self.maps / f"{path}.png", picture)
        return inspection

    def _follow(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Take a line's score into the drift test, and say what that finds."""
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
    """Sleep, but not long after it is to stop."""
    until = time.monotonic() + seconds
    while not stop() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, INTERVAL))
