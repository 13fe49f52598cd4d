"""Write data sets completely or not at all: build them in a hidden folder, then rename it."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from metricad.errors import DataError


@contextlib.contextmanager
def publishing(root: Path, place: str) -> Iterator[Path]:
    """Give an empty folder to build in, and move the result to its place on success.

    Parameters
    ----------
    root : Path
        Folder of all data sets. Created if missing, and removed again if nothing was built.
    place : str
        Path of the data set below `root`, and of the new build below the given folder. An existing data set
        is replaced only when the new one is complete.

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
        # On the same file system, so that moving is a single rename.
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=root) as staging:
            yield Path(staging)
            _move(Path(staging, place), root / place, aside=Path(staging, "replaced"))
    except BaseException:  # also after Ctrl-C
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
