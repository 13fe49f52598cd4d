"""Inspectors of a batch: checked once, then loaded by every worker from the same bytes."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metricad.deploy import loading, sealed
from metricad.errors import BundleError, DataError
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import ImageJudge


@dataclass(frozen=True)
class Part:
    """An inspector's file.

    Attributes
    ----------
    path : str
        Absolute.
    sha256 : str
        Checksum of what was there when the batch began.
    contents : mapping of str to bytes, optional
        Its files by their paths beside `path`, for machines that do not have them.
    """

    path: str
    sha256: str
    contents: Mapping[str, bytes] | None = None

    @property
    def name(self) -> str:
        """Name of the part: of its file, without suffix."""
        return Path(self.path).stem

    def carried(self) -> "Part":
        """Return the same part with the contents of its files."""
        path = Path(self.path)
        found = sealed.parts_of(path).values()
        return replace(
            self, contents={str(each.relative_to(path.parent)): each.read_bytes() for each in found}
        )

    def load(self) -> Inspector[ImageJudge]:
        """Load the inspector; it uses one thread.

        Raises
        ------
        BundleError
            It is not what was there when the batch began, or cannot be loaded here.
        """
        if self.contents is None:
            return self._checked(Path(self.path))
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.contents.items():
                file = Path(folder, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            return self._checked(Path(folder, Path(self.path).name))

    def _checked(self, path: Path) -> Inspector[ImageJudge]:
        inspector = loading.load(path, threads=1)
        if inspector.part_sha256 != self.sha256:
            raise BundleError(f"{self.path}: was replaced while the batch ran; run it again")
        return inspector


def check(paths: Sequence[Path], *, key: Path | None = None) -> list[Part]:
    """Load each inspector once, so that what is wrong with one is said before the work.

    Raises
    ------
    BundleError
        One cannot be loaded, or is not signed with `key`.
    DataError
        Two have the same name.
    """
    found: dict[str, Part] = {}
    for path in paths:
        if path.stem in found:
            raise DataError(
                f"two parts are called {path.stem!r}: {found[path.stem].path} and {path}; rename one"
            )
        inspector = loading.load(path, threads=1, key=key)
        found[path.stem] = Part(str(path.absolute()), str(inspector.part_sha256))
    return list(found.values())
