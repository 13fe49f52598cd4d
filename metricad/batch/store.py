"""The folder or URL of results: shards, and files whose names begin with an underscore."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metricad import files
from metricad.batch import shards, sources
from metricad.errors import DataError

RUN, SUMMARY, LOG, MAPS = "_run.json", "_summary.json", "_log", "_maps"
_LOCK, _TEMPORARY = "_lock", "_partial"
_READERS = 8  # files read at once; over a network most of the time is waiting


@dataclass(frozen=True)
class Store:
    """Reads and writes files by their names in the results; each is written whole or not at all.

    Attributes
    ----------
    place : str
        An absolute path of a folder, or a URL.
    """

    place: str

    @classmethod
    def at(cls, place: str) -> "Store":
        """Return the store at a path or URL; raises OSError if nothing can be written there."""
        place = sources.local(place)
        if sources.is_url(place):
            return cls(place.rstrip("/"))
        files.check_writable(place, folder=True)
        return cls(str(Path(place).absolute()))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock a folder for this process; remove what killed ones left. A URL cannot be locked.

        Raises
        ------
        RunError
            Another process writes there.
        """
        if sources.is_url(self.place):
            yield
            return
        folder = Path(self.place)
        with files.locked(folder / _LOCK, "another batch writes there"):
            shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)

    def put(self, name: str, content: bytes) -> None:
        """Write a file: first under a temporary name, then renamed; to a URL with one put."""
        if sources.is_url(self.place):
            system, inside = sources.filesystem(f"{self.place}/{name}")
            system.pipe_file(inside, content)
            return
        target = Path(self.place, name)
        temporary = Path(self.place, _TEMPORARY, uuid.uuid4().hex)
        for folder in (temporary.parent, target.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # a renamed file may be empty after a power failure otherwise
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def get(self, name: str) -> bytes | None:
        """Read a file; None if there is none."""
        system, inside = sources.filesystem(f"{self.place}/{name}")
        try:
            with sources.reaching(self.place):
                return system.cat_file(inside)
        except FileNotFoundError:
            return None

    def shards(self) -> list[str]:
        """List the names of the shards that are done."""
        system, inside = sources.filesystem(self.place)
        system.invalidate_cache()
        try:
            found = (path.rpartition("/")[2] for path in system.ls(inside, detail=False))
        except FileNotFoundError:
            return []
        return sorted(n for n in found if n.startswith(shards.PREFIX) and n.endswith(shards.SUFFIX))

    def read(self, names: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Yield the names of shards, each with an Arrow table of these columns.

        Raises
        ------
        DataError
            A file is damaged, or no shard.
        """
        system, inside = sources.filesystem(self.place)

        def table(name: str) -> Any:
            import pyarrow
            from pyarrow import parquet

            try:
                with system.open(f"{inside}/{name}", "rb") as file:
                    return parquet.ParquetFile(file).read(list(columns))
            except (pyarrow.ArrowException, KeyError) as error:
                raise DataError(
                    f"{self.place}/{name}: damaged, or not of 'metricad batch'; delete it and run again"
                ) from error

        with ThreadPoolExecutor(_READERS) as readers:
            for start in range(0, len(names), 100):  # few tables in memory at once
                some = names[start : start + 100]
                yield from zip(some, readers.map(table, some), strict=True)
