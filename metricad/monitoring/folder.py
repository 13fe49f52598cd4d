"""Image files that arrive in a folder: which are new, and which are complete."""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from metricad.data import images
from metricad.errors import DataError

TRIES = 3
"""How often a file is read that cannot be decoded, a settling time apart, before that is reported."""


class Identity(NamedTuple):
    """Tells a file from another of its name: a new image under an old name is a new part."""

    size: int
    mtime_ns: int


@dataclass
class _Waiting:
    """A file that is new."""

    identity: Identity
    since: float
    tries: int = 0


class Arrivals:
    """The new image files of a folder and of those below it.

    A file is its path below the folder, with slashes, its size and its time of last change. It is complete
    when size and time have stood still while it was watched for the settling time: no clock is compared with
    that of a file server. Files and folders whose name begins with a dot are not there.

    What is remembered is what is in the folder. A file that leaves it and comes back has arrived anew.

    Parameters
    ----------
    folder : path
    settle : float
        Settling time in seconds; 0 where files are moved into the folder whole.
    clock : function, optional
        Seconds, which only rise.

    Raises
    ------
    DataError
        There is no such folder.
    """

    def __init__(
        self, folder: str | os.PathLike, *, settle: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{folder}: no such folder; expected the one that images arrive in")
        self.settle = settle
        self.done: dict[str, Identity] = {}
        self.waiting: dict[str, _Waiting] = {}
        self._clock = clock
        self._device = self.folder.stat().st_dev

    def scan(self) -> dict[str, Identity]:
        """All image files that are in the folder, by their path below it.

        Raises
        ------
        DataError
            The folder has gone.
        """
        try:
            # What is mounted may go and leave an empty folder: to forget what was in it would repeat it all.
            if self.folder.stat().st_dev != self._device:
                raise FileNotFoundError
            return dict(_walk(self.folder))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"{self.folder}: the folder has gone while it was watched; bring it back, then start again"
            ) from error

    def ready(self, found: Mapping[str, Identity]) -> list[str]:
        """New files among those found that are complete, the oldest first."""
        now = self._clock()
        self._forget(found)
        for path, identity in found.items():
            if self.done.get(path) == identity:
                continue
            known = self.waiting.get(path)
            if known is None or known.identity != identity:
                self.waiting[path] = _Waiting(identity, now)
        complete = [path for path, file in self.waiting.items() if now - file.since >= self.settle]
        return sorted(complete, key=lambda path: (self.waiting[path].identity.mtime_ns, path))

    def is_unchanged(self, path: str) -> bool:
        """Whether a file that is waiting is still there and the same."""
        try:
            now = (self.folder / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return self.waiting[path].identity == (now.st_size, now.st_mtime_ns)

    def postpone(self, path: str) -> bool:
        """Let a file settle once more that could not be read; False where that has been done enough."""
        file = self.waiting[path]
        file.tries += 1
        file.since = self._clock()
        return file.tries < TRIES

    def finish(self, path: str) -> None:
        """Count a file that was waiting as done."""
        self.done[path] = self.waiting.pop(path).identity

    def _forget(self, found: Mapping[str, Identity]) -> None:
        for path in self.waiting.keys() - found.keys():
            del self.waiting[path]
        for path in self.done.keys() - found.keys():
            # A listing may leave out a file while others come and go; only one that is gone is forgotten.
            if not os.path.lexists(self.folder / path):
                del self.done[path]


def _walk(folder: Path, below: str = "") -> Iterator[tuple[str, Identity]]:
    with os.scandir(folder / below) as entries:
        for entry in entries:
            path = below + entry.name
            if entry.name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # all may go at any time
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(folder, f"{path}/")
                elif path[path.rfind(".") :].lower() in images.SUFFIXES:
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield path, Identity(status.st_size, status.st_mtime_ns)
