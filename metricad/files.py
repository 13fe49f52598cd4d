"""Write files completely or not at all, check outputs before work, read files and JSON within bounds."""

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import portalocker

from metricad.errors import RunError

PARTIAL = ".partial-"
"""Prefix of temporary folders. If the lock in one is free, it is left over from a killed process."""

_LOCK = ".lock"
_EXCLUSIVE = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
_YOUNG = 60.0
"""Age in seconds up to which a temporary folder is never a leftover: its lock may be about to be taken."""

_cleaned: set[Path] = set()


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path for a file or a new folder; rename it to `path` on success.

    It has the same name, in a temporary folder beside `path` that only this user can enter and whose name
    nobody can predict. After any failure, such as a full disk or Ctrl-C, it is removed and `path` is
    unchanged. What a killed process left beside `path` is removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clean(path.parent)
    folder = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent))
    temporary = folder / path.name
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        with contextlib.suppress(portalocker.LockException, OSError):  # not every file system has locks
            portalocker.lock(lock, _EXCLUSIVE)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        # Report the requested path, not the temporary one.
        if error.errno and error.filename in (None, temporary, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, other: str) -> Iterator[None]:
    """Lock a file of a folder for this process; the lock ends with the process.

    Parameters
    ----------
    path : Path
        Written if it is missing, like its folder.
    other : str
        What another process does there, for the error.

    Raises
    ------
    RunError
        Another process has locked it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            portalocker.lock(file, _EXCLUSIVE)
        except portalocker.AlreadyLocked:
            raise RunError(f"{path.parent}: {other}; wait for it or stop it") from None
        yield


def _clean(folder: Path) -> None:
    """Remove what killed processes left in a folder; once for each folder and process."""
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    for leftover in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(OSError, portalocker.LockException):
            status = leftover.lstat()
            if not stat.S_ISDIR(status.st_mode) or time.time() - status.st_mtime < _YOUNG:
                continue
            lock = os.open(leftover / _LOCK, os.O_RDWR)
            try:
                portalocker.lock(lock, _EXCLUSIVE)
                shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(lock)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_writable(path: str | os.PathLike[str], *, folder: bool = False) -> None:
    """Check before slow work that a file can be written, or a folder filled.

    Raises
    ------
    OSError
        A folder is where the file shall be or a file where the folder shall be, or the nearest existing
        folder above cannot be written. Nothing is left behind.
    """
    path = Path(path)
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_folder = folder
    else:
        if is_folder and not folder:
            raise IsADirectoryError(
                errno.EISDIR, "is a folder; expected the name of a file to write", str(path)
            )
        if folder and not is_folder:
            raise NotADirectoryError(
                errno.ENOTDIR, "is a file; expected the name of a folder to write to", str(path)
            )
    above = path if folder else path.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        message = f"cannot be written ({str(above)!r}: {reason}); give another name, or make it writable"
        raise type(error)(error.errno, message, str(path)) from None


def read_whole(path: str | os.PathLike[str], *, most_bytes: int) -> bytes:
    """Read a whole file into memory, so that it may be replaced afterwards.

    Raises
    ------
    ValueError
        It is no plain file, or longer than `most_bytes`.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{Path(path).name} is no plain file")
        content = file.read(most_bytes + 1) if status.st_size <= most_bytes else b""
    if status.st_size > most_bytes or len(content) > most_bytes:
        raise ValueError(f"{Path(path).name} has more than {most_bytes} bytes")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for its writer


def parse_json(text: str | bytes) -> Any:
    """Parse JSON that a program wrote; unlike `json.loads`, refuse what such a program never writes.

    Raises
    ------
    ValueError
        It is no JSON, holds NaN or infinite numbers or a key twice, or is nested too deeply.
    """
    try:
        return json.loads(
            text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_without_duplicates
        )
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number that is too large")
    return number


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that is there twice")
    return found
