"""The journal of a watch: one JSON line per image, complete or absent, written by one process only."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import portalocker

from metricad import files
from metricad.errors import DataError

_BEGINNING = b'{"time": '  # start of each line, as `Watch` writes it; other files are not journals
_BINARY = getattr(os, "O_BINARY", 0)  # for systems with a text mode of files, such as Windows
_NUMBER, _COUNT = (int, float), (int,)
_NEEDED: dict[str, tuple[type, ...]] = {
    "time": (str,),
    "path": (str,),
    "verdict": (str,),
    "size": _COUNT,
    "mtime_ns": _COUNT,
    "score": (*_NUMBER, type(None)),
    "threshold": (*_NUMBER, type(None)),
}
_LONGEST = 2**20  # bytes of a line; paths have a few thousand at most


class Journal:
    """File of JSON lines that survives a killed process, and tells a watch which images are done.

    Each line is written in one call and is on the disk when `append` returns. If a process was killed while
    writing, `records` cuts off its incomplete last line. If writing fails, the incomplete line is cut off at
    once.

    Parameters
    ----------
    path : path
        Created if it does not exist.

    Raises
    ------
    DataError
        Another process writes this file, or it is no journal. It is not changed then.
    OSError
        The file cannot be opened.
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
        self._end: int | None = None  # end of the last complete line; known after reading the records

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, so that another process can write it."""
        os.close(self._file)

    def records(self) -> Iterator[dict[str, Any]]:
        """Read all lines, one at a time; cut off an incomplete last line.

        Raises
        ------
        DataError
            A complete line was not written by a watch. The file is not changed.
        """
        end = 0
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
                if not line.endswith(b"\n") and len(line) < _LONGEST:
                    break
                yield self._parsed(line, number)
                end += len(line)
        os.ftruncate(self._file, end)
        self._end = end

    def append(self, record: Mapping[str, object]) -> None:
        """Append one record as a JSON line; all `records` must have been read before.

        Raises
        ------
        OSError
            Writing failed, for example because the disk is full. The file then ends with the previous line.
        DataError
            The file was moved or deleted.
        """
        if self._end is None:
            raise ValueError("a journal is appended to after its records have been read")
        self._check_place()
        # Non-ASCII characters are escaped: file names may not be UTF-8, but JSON must be.
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            rest = line
            while rest:  # usually one write; if the disk is full, the second write raises the error
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):  # the next start tries again
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
        if not _BEGINNING.startswith(beginning):  # never cut off lines of other files
            raise DataError(f"{self.path}: not written by 'metricad watch'; give another --out")

    def _check_place(self) -> None:
        try:
            in_place = os.path.samestat(os.fstat(self._file), self.path.stat())
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise DataError(
                f"{self.path}: was moved or deleted during the watch, but it records which images are "
                "done; put it back, then start again"
            )

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        with contextlib.suppress(ValueError, LookupError, TypeError):
            record = files.parse_json(line)
            if all(type(record[key]) in types for key, types in _NEEDED.items()):
                return record
        raise DataError(
            f"{self.path}: line {number} is not from 'metricad watch'; repair it, or give another --out"
        )
