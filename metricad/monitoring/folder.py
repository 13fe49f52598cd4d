"""Find new, complete image files in a folder while files are written to it."""

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
"""Number of times an unreadable file is read, `stable_seconds` apart, before it is reported."""


class Identity(NamedTuple):
    """Size and time of a file, to tell it from another of the same name: new content counts as a new part."""

    size: int
    mtime_ns: int


@dataclass
class _Waiting:
    """A new file that is not done yet."""

    identity: Identity
    since: float
    tries: int = 0


class WatchedFolder:
    """Finds new image files in a folder and its subfolders.

    A file is identified by its path below the folder (with slashes), its size and its modification time. It
    is complete when size and time have not changed for `stable_seconds`. This is measured with the local
    clock only, never against a file server's time. Hidden files and folders
    are ignored, linked ones followed.

    Only files that are still in the folder are remembered. A file that leaves it and comes back is new.

    Parameters
    ----------
    folder : path
    stable_seconds : float
        Time without a change after which a file is complete; 0 if complete files are moved into the folder.
    now : function, optional
        Clock in seconds that never goes back.

    Raises
    ------
    DataError
        The folder does not exist.
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
        """List all image files in the folder, by their path below it.

        Raises
        ------
        DataError
            The folder has disappeared.
        """
        try:
            # An unmounted drive may leave an empty folder. If all files were forgotten then, all would be
            # inspected again.
            if self.path.stat().st_dev != self._device:
                raise FileNotFoundError
            return dict(_walk(self.path))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"{self.path}: the folder disappeared while it was watched; restore it, then start again"
            ) from error

    def ready(self, found: Mapping[str, Identity]) -> list[str]:
        """Return the new files that are complete, the oldest first."""
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
        """Whether a waiting file still exists and has not changed."""
        try:
            now = (self.path / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return self.waiting[path].identity == (now.st_size, now.st_mtime_ns)

    def postpone(self, path: str) -> bool:
        """Wait again for a file that could not be read; return False after `TRIES` attempts."""
        file = self.waiting[path]
        file.tries += 1
        file.since = self._now()
        return file.tries < TRIES

    def finish(self, path: str) -> None:
        """Mark a waiting file as done."""
        self.done[path] = self.waiting.pop(path).identity

    def _forget(self, found: Mapping[str, Identity]) -> None:
        for path in self.waiting.keys() - found.keys():
            del self.waiting[path]
        for path in self.done.keys() - found.keys():
            # A directory listing may miss a file while others change, so forget only files that do not exist.
            if not os.path.lexists(self.path / path):
                del self.done[path]


_KINDS = images.SUFFIXES | images.UNSUPPORTED  # the latter get a line, too: they were not judged


def _walk(
    folder: Path, below: str = "", above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, Identity]]:
    status = (folder / below).stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link in a loop
        return
    with os.scandir(folder / below) as entries:
        for entry in entries:
            path = below + entry.name
            if entry.name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # entries may vanish at any time
                if entry.is_dir():
                    yield from _walk(folder, f"{path}/", above | {here})
                elif path[path.rfind(".") :].lower() in _KINDS:
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield path, Identity(status.st_size, status.st_mtime_ns)
