"""Load inspectors from disk: bundles and exports."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from metricad.deploy import exported, native_output, sealed, signature
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import ImageJudge


def load(
    path: str | os.PathLike[str],
    *,
    workers: int = 1,
    threads: int | None = None,
    key: str | os.PathLike[str] | None = None,
) -> Inspector[ImageJudge]:
    """Load a bundle (a .metricad file) or a file or folder written by 'metricad export'.

    Its files are read whole and stay closed: what happens to them later does not matter. TensorFlow is
    imported only for a bundle or a SavedModel. The inspector says which file it is from, by name and SHA-256.

    Parameters
    ----------
    path : path
    workers : int
        Number of images that will be inspected at once; a runtime divides the processor cores among them.
    threads : int, optional
        Number of processor cores that a runtime uses; all by default. TensorFlow chooses itself.
    key : path, optional
        File of a public key; only a part with its signature is loaded then.

    Raises
    ------
    BundleError
        The file is missing, damaged, of an unknown version or not signed, or its runtime is not installed.
    """
    public = None if key is None else signature.read_public(key)
    digests: list[str] = []

    def check(digest: str) -> None:
        digests.append(digest)
        if public is not None:
            signature.check(path, digest, key=public)

    if exported.needs_tensorflow(path):
        native_output.load_tensorflow()
    inspector: Inspector[ImageJudge]
    if exported.is_exported(path):
        inspector = exported.load(path, workers=workers, threads=threads, check=check)
    else:
        from metricad.inspection import bundle

        inspector = bundle.load(path, check=check)
    return replace(inspector, part=Path(path).stem, part_sha256=digests[-1])


class PartFile:
    """A part on disk: loads it whole, again when asked, and notices when its files are replaced.

    Parameters
    ----------
    path, workers, key
        Parameters and errors of `load`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        workers: int = 1,
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        self.path = Path(path)
        self._load = partial(load, path, workers=workers, key=key)
        self._stamp = self._now()

    def load(self) -> Inspector[ImageJudge]:
        """Load the part as it is now on disk."""
        self._stamp = self._now()
        return self._load()

    def is_replaced(self) -> bool:
        """Whether the files have changed since they were loaded or since this was last true."""
        before, self._stamp = self._stamp, self._now()
        return self._stamp != before

    def _now(self) -> list[tuple[str, int, int, int] | None]:
        found: list[tuple[str, int, int, int] | None] = []
        for name, file in sealed.parts_of(self.path).items():
            try:
                status = file.stat()
                found.append((name, status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                found.append(None)
        return found
