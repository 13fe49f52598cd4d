"""Data sets that are whole or not there: built in a hidden folder beside their place, then moved."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from metricad.errors import DataError


@contextlib.contextmanager
def publishing(root: Path, place: str) -> Iterator[Path]:
    """Give an empty folder to build in, and move what was built to its place when all went well.

    Parameters
    ----------
    root : Path
        Where data sets are kept. Made if it is missing, and taken away again if nothing was built.
    place : str
        Where below `root` the data set goes; it is built at the same `place` below the folder given.
        What stands there already is replaced, and only once the new one is complete.

    Raises
    ------
    DataError
        `root` is a file.
    """
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    if not missing and not root.is_dir():
        raise DataError(f"{root}: a file; expected a folder to put the data set in")
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that moving it is one step within one file system.
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=root) as staging:
            yield Path(staging)
            _move(Path(staging, place), root / place, aside=Path(staging, "replaced"))
    except BaseException:  # Ctrl-C as well
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _move(built: Path, target: Path, *, aside: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.replace(aside)
    try:
        built.replace(target)
    except OSError:
        if aside.exists():
            aside.replace(target)
        raise
