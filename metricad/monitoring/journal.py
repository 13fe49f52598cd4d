"""The journal of a watch: one JSON line for each image, whole or not there, written by one process."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import portalocker

from metricad.errors import DataError

_BEGINNING = b'{"time": '  # of each line, `Watch` puts it first: a file that begins otherwise is not ours
_BINARY = getattr(os, "O_BINARY", 0)  # where files have a text mode, as on Windows
_NEEDED = {"time", "path", "threshold", "score", "verdict", "size", "mtime_ns"}


class Journal:
    """A file of JSON lines that survives being killed, and from which a watch knows what it has done.

    A line is written in one go and is on the disk when `append` returns. What a process that was killed has
    left of its last line is cut off by `records`; a line that could not be written whole is cut off at once.

    Parameters
    ----------
    path : path
        Made if it is not there.

    Raises
    ------
    DataError
        Another process writes it, or it is no such file; nothing in it is touched then.
    OSError
        It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY, 0o666)
        try:
            self._check()
        except BaseException:
            self.close()
            raise
        self._end: int | None = None  # of the last whole line; known when the records have been read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process write it."""
        os.close(self._file)

    def records(self) -> Iterator[dict[str, Any]]:
        """Read all lines, one at a time; a half-written last one is cut off the file.

        Raises
        ------
        DataError
            A whole line is none of ours; the file is left as it is.
        """
        end = 0
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                yield self._parsed(line, number)
                end += len(line)
        os.ftruncate(self._file, end)
        self._end = end

    def append(self, record: Mapping[str, object]) -> None:
        """Write one line, of what JSON can hold; all `records` must have been read before.

        Raises
        ------
        OSError
            It could not be written, as on a full disk; the file ends with the line before.
        DataError
            The file has been moved or deleted.
        """
        if self._end is None:
            raise ValueError("a journal is appended to after its records have been read")
        self._check_place()
        # Escaped beyond ASCII: file names need not be UTF-8, and JSON must be.
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            rest = line
            while rest:  # once, but where the disk is full: then the second time says so
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):  # the next start does it, too
                os.ftruncate(self._file, self._end)
            error.filename = str(self.path)
            raise
        self._end += len(line)

    def _check(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise DataError(f"{self.path}: not a plain file; expected one to append JSON lines to")
        try:
            portalocker.lock(self._file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.AlreadyLocked as error:
            raise DataError(
                f"{self.path}: another watch is writing this file; stop it, or give another --out"
            ) from error
        self._check_place()
        os.lseek(self._file, 0, os.SEEK_SET)
        beginning = os.read(self._file, len(_BEGINNING))
        if not _BEGINNING.startswith(beginning):  # its last line might be cut off: it must be ours
            raise DataError(f"{self.path}: not written by 'metricad watch'; give another --out")

    def _check_place(self) -> None:
        try:
            in_place = os.path.samestat(os.fstat(self._file), self.path.stat())
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise DataError(
                f"{self.path}: was moved or deleted while it was being written, and tells which images are "
                "done; put it back, then start again"
            )

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
            if record.keys() >= _NEEDED:
                return record
        except (ValueError, AttributeError):
            pass
        raise DataError(
            f"{self.path}: line {number} is not of 'metricad watch'; mend it, or give another --out"
        )
