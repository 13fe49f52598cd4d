"""Find the images of a batch: in folders, by globs, below URLs, or in a list of paths."""

import contextlib
import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metricad.data import images
from metricad.errors import DataError, MetricadError

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_GLOB = re.compile(r"[*?\[]")
_LISTS = (".parquet", ".csv")
PATH, PART = "path", "part"
"""Columns of a list: paths or URLs of images, and the names of their parts."""


@dataclass(frozen=True)
class Source:
    """The images of a batch.

    Attributes
    ----------
    paths : dict of (str or None) to list of str
        Sorted absolute paths or URLs, each once, by the name of their part; None if all parts inspect them.
    skipped : Counter of str
        Number of files left out, by suffix.
    """

    paths: dict[str | None, list[str]]
    skipped: Counter[str] = field(default_factory=Counter)


def find(source: str) -> Source:
    """Find images; those of kinds that are not read are listed too, and become errors.

    Parameters
    ----------
    source : str
        A folder, a glob, a URL of fsspec (of a folder, with or without a glob), or a list: a .parquet or .csv
        file or URL with the columns `PATH` and, for several parts, `PART`. Relative paths of a list are below
        its folder.

    Raises
    ------
    DataError
        There is no such source, or it has no images; or the list has other columns or empty cells.
    MetricadError
        A package for this kind of URL is not installed.
    """
    source = local(source)
    if source.lower().endswith(_LISTS) and not Path(source).is_dir():
        found = _listed(source)
    elif is_url(source):
        found = _below(source)
    elif _GLOB.search(source) and not Path(source).exists():
        matches = glob.iglob(os.path.abspath(source), recursive=True)  # noqa: PTH100, PTH207 (a text, not a path)
        found = _sifted(each for each in matches if not _is_folder(each))
    else:
        search = images.search([os.path.abspath(source)])  # noqa: PTH100 (links keep their own names)
        found = Source({None: sorted(map(str, search.paths + search.others))}, search.skipped)
    if not any(found.paths.values()):
        raise DataError(f"{source}: no images; expected a folder, glob, URL or list of images")
    return found


def is_url(path: str) -> bool:
    """Whether this is a URL and no path of this machine."""
    return _URL.match(path) is not None


def local(path: str) -> str:
    """Return the path that a ``file://`` URL stands for; anything else as it is."""
    return filesystem(path)[1] if path.startswith("file://") else path


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL or path, and the path in it.

    Raises
    ------
    MetricadError
        There is no such kind of URL, or its package is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise MetricadError(
            f"{url}: cannot be opened ({' '.join(str(error).split())}); install the package for such URLs"
        ) from error


@contextlib.contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn what a file system raises during the block into one line: each has types of errors of its own.

    Raises
    ------
    MetricadError
        The URL cannot be reached, for example without credentials.
    """
    try:
        yield
    except (OSError, MetricadError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise MetricadError(f"{url}: cannot be reached ({type(error).__name__}: {reason})") from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read an image file or URL; a missing one is a DataError, a failing connection is not."""
    if not is_url(str(path)):
        return images.read_bytes(path)
    files, inside = filesystem(str(path))
    try:
        return files.cat_file(inside)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected an image") from error


def _below(url: str) -> Source:
    files, inside = filesystem(url)
    with reaching(url):
        names = files.glob(inside) if _GLOB.search(inside) else files.find(inside)
    return _sifted((files.unstrip_protocol(name) for name in names), root=files.unstrip_protocol(inside))


def _sifted(names: Iterable[str], *, root: str = "") -> Source:
    """Take what is an image by its suffix, and count the rest."""
    found, skipped = [], Counter[str]()
    for name in names:
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (a million names)
        if "/." in name[len(root) :]:
            skipped["hidden"] += 1
        elif suffix in images.SUFFIXES or suffix in images.UNSUPPORTED:
            found.append(name)
        else:
            skipped[suffix] += 1
    return Source({None: sorted(set(found))}, skipped)


def _is_folder(path: str) -> bool:
    return os.path.splitext(path)[1].lower() not in images.SUFFIXES and Path(path).is_dir()  # noqa: PTH122


def _listed(source: str) -> Source:
    import pyarrow
    from pyarrow import csv, parquet

    files, inside = filesystem(source)
    try:
        with reaching(source):
            content = pyarrow.BufferReader(files.cat_file(inside))
        if source.lower().endswith(".csv"):
            as_text = csv.ConvertOptions(column_types=dict.fromkeys((PATH, PART), pyarrow.string()))
            table = csv.read_csv(content, convert_options=as_text)
        else:
            table = parquet.read_table(content)
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such file; expected a list of images") from error
    except pyarrow.ArrowException as error:
        raise DataError(f"{source}: no list of images ({' '.join(str(error).split())[:200]})") from error
    if PATH not in table.column_names:
        raise DataError(f"{source}: no column {PATH!r}; expected one with the paths or URLs of images")
    columns = [table[name].to_pylist() for name in (PATH, PART) if name in table.column_names]
    if not all(isinstance(cell, str) and cell for column in columns for cell in column):
        raise DataError(f"{source}: empty cells, or no text; expected a {PATH} (and {PART}) in every row")
    folder = source.rpartition("/")[0] if is_url(source) else os.path.dirname(os.path.abspath(source))  # noqa: PTH100, PTH120
    found: dict[str | None, set[str]] = {}
    parts = columns[1] if len(columns) > 1 else [None] * len(table)
    for path, part in zip(columns[0], parts, strict=True):
        found.setdefault(part, set()).add(_absolute(local(path), folder))
    return Source({part: sorted(paths) for part, paths in found.items()})


def _absolute(path: str, folder: str) -> str:
    if is_url(path) or os.path.isabs(path):  # noqa: PTH117
        return path
    return f"{folder}/{path}" if is_url(folder) else os.path.normpath(os.path.join(folder, path))  # noqa: PTH118
