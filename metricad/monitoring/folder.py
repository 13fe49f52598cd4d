"""Find new, complete image files in a folder that is written to."""

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
"""How often a file that cannot be decoded is read again, `stable_seconds` apart, before that is reported."""


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


class WatchedFolder:
    """The new image files of a folder and of those below it.

    A file is identified by its path below the folder (with slashes), its size and its time of last change. It
    is complete when size and time have not changed for `stable_seconds` of watching: this computer's time is
    never compared with a file server's. Hidden files and folders are ignored.

    Only files that are in the folder are remembered. One that leaves it and comes back is new.

    Parameters
    ----------
    folder : path
    stable_seconds : float
        Time without a change after which a file is complete; 0 where files are moved into the folder whole.
    now : function, optional
        Seconds, which only rise.

    Raises
    ------
    DataError
        There is no such folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        stable_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(folder)
        if not self.path.is_dir():
            raise DataError(f"{folder}: no such folder; expected the one that images arrive in")
        self.stable_seconds = stable_seconds
        self.done: dict[str, Identity] = {}
        self.waiting: dict[str, _Waiting] = {}
        self._now = now
        self._device = self.path.stat().st_dev

    def scan(self) -> dict[str, Identity]:
        """All image files that are in the folder, by their path below it.

        Raises
        ------
        DataError
            The folder has gone.
        """
        try:
            # What is mounted may go and leave an empty folder: to forget what was in it would repeat it all.
            if self.path.stat().st_dev != self._device:
                raise FileNotFoundError
            return dict(_walk(self.path))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"{self.path}: the folder has gone while it was watched; bring it back, then start again"
            ) from error

    def ready(self, found: Mapping[str, Identity]) -> list[str]:
        """New files among those found that are complete, the oldest first."""
        now = self._now()
        self._forget(found)
        for path, identity in found.items():
            if self.done.get(path) == identity:
                continue
            known = self.waiting.get(path)
            if known is None or known.identity != identity:
                self.waiting[path] = _Waiting(identity, now)
        complete = [path for path, file in self.waiting.items() if now - file.since >= self.stable_seconds]
        return sorted(complete, key=lambda path: (self.waiting[path].identity.mtime_ns, path))

    def is_unchanged(self, path: str) -> bool:
        """Whether a file that is waiting is still there and the same."""
        try:
            now = (self.path / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return self.waiting[path].identity == (now.st_size, now.st_mtime_ns)

    def postpone(self, path: str) -> bool:
        """Wait once more for a file that could not be read; False when it has been tried often enough."""
        file = self.waiting[path]
        file.tries += 1
        file.since = self._now()
        return file.tries < TRIES

    def finish(self, path: str) -> None:
        """Count a file that was waiting as done."""
        self.done[path] = self.waiting.pop(path).identity

    def _forget(self, found: Mapping[str, Identity]) -> None:
        for path in self.waiting.keys() - found.keys():
            del self.waiting[path]
        for path in self.done.keys() - found.keys():
            # A listing may leave out a file while others come and go; only one that is gone is forgotten.
            if not os.path.lexists(self.path / path):
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
