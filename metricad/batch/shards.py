"""Cut images into shards, the units of work of a batch."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

SIZE = 256
"""Images of a shard: seconds to a minute of work, and a file that is not too small to read."""

PREFIX, SUFFIX = "part-", ".parquet"


@dataclass(frozen=True)
class Shard:
    """Images that one worker inspects with one inspector, and writes to one file.

    Attributes
    ----------
    part, part_sha256 : str
        Name and checksum of the inspector.
    paths : tuple of str
        Paths or URLs.
    """

    part: str
    part_sha256: str
    paths: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of its file: a hash of its inspector and its paths."""
        words = "\0".join((self.part, self.part_sha256, *self.paths))
        digest = hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()
        return f"{PREFIX}{digest[:32]}{SUFFIX}"


def cut(paths: Iterable[str], part: str, part_sha256: str, *, done: Collection[str] = ()) -> Iterator[Shard]:
    """Cut sorted paths into shards of `SIZE`; the last one may be smaller.

    Images that are done are left out first. Shards that are done are whole, so the cuts between the others
    stay where they were: a repeated run has the same shards, and new images make new ones.
    """
    left = (path for path in paths if shown(path) not in done)
    while some := tuple(islice(left, SIZE)):
        yield Shard(part, part_sha256, some)


def shown(path: str) -> str:
    """Return a path as rows have it: bytes that are not UTF-8 are escaped."""
    if path.isascii():
        return path
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
