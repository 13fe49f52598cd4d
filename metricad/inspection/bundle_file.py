"""The file of a bundle: a zip of a manifest and arrays, with checksums, bounds and without pickle.

The zip has ``manifest.json`` and ``.npy`` arrays. The manifest holds the version of the format, the versions
of the software that wrote it, and the SHA-256 of every other member.
"""

import hashlib
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from metricad import files
from metricad.errors import BundleError
from metricad.versions import versions

FORMAT = "metricad-bundle"
FORMAT_VERSION = 1
_MANIFEST = "manifest.json"
_MOST_BYTES = 2**31
_MOST_DIRECTORY = 2**20
_MOST_MANIFEST = 2**24
_FREE, _GROWTH = 2**28, 20  # bytes; masks are packed more densely than 20 to 1, and are small
_END = b"PK\x05\x06"  # signature of a zip's last record, which is 22 bytes long and may be followed by a note


def write(
    path: str | os.PathLike[str], description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write a description and arrays to one file. If writing fails, no partial file is left.

    Raises
    ------
    BundleError
        The file would be too large to be read again.
    """
    members = {f"{name}.npy": _to_bytes(array) for name, array in arrays.items()}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **description,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }
    with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
        for name, content in members.items():
            archive.writestr(name, content)
        archive.close()
        if (size := temporary.stat().st_size) > _MOST_BYTES:
            raise BundleError(
                f"{path}: would take {size / 2**30:.1f} GiB, a bundle at most {_MOST_BYTES / 2**30:.0f}; fit "
                "to fewer or smaller images, or with --resize"
            )


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the manifest of a bundle and check all members; raises the errors of `read`."""
    return read(Path(path))[0]


def checksum(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a bundle's file, in hexadecimal digits."""
    return hashlib.sha256(files.read_whole(path, most_bytes=_MOST_BYTES)).hexdigest()


def read(path: Path, check: Callable[[str], None] | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read the manifest and all other members, after all checks of the file.

    Parameters
    ----------
    path : Path
    check : function, optional
        Called with the SHA-256 of the file before it is opened; raises BundleError to refuse it.

    Raises
    ------
    BundleError
        The file is missing, is no bundle, is damaged, or has a version that this metricad does not know.
    """
    if not path.is_file():
        raise BundleError(f"{path}: no such file; make a bundle with 'metricad prototype'")
    try:
        content = files.read_whole(path, most_bytes=_MOST_BYTES)
        if check is not None:
            check(hashlib.sha256(content).hexdigest())
        _check_directory(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_sizes(archive, len(content))
            manifest = files.parse_json(archive.read(_MANIFEST))
            if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
                raise BundleError(f"{path}: a zip file, but no metricad bundle")
            _check_version(manifest.get("format_version"), path)
            members = {name: archive.read(name) for name in manifest["sha256"]}
            sums = {name: manifest["sha256"][name] for name in members}
    except BundleError:
        raise
    except Exception as error:  # each kind of damage raises its own type of error
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{path}: no metricad bundle, or a damaged one ({reason}); make it again"
        ) from error
    for name, digest in sums.items():
        if hashlib.sha256(members[name]).hexdigest() != digest:
            raise BundleError(f"{path}: damaged: the checksum of {name} is wrong; make the bundle again")
    return manifest, members


def _check_directory(content: bytes) -> None:
    """Raise ValueError if the directory of a zip is larger than that of any bundle; it is read whole."""
    end = content.rfind(_END)
    if end < 0 or len(content) < end + 22:
        raise ValueError("no zip file")
    (size,) = struct.unpack_from("<I", content, end + 12)
    if size > _MOST_DIRECTORY:
        raise ValueError(f"a directory of {size} bytes; {_MOST_DIRECTORY} at most are read")


def _check_sizes(archive: zipfile.ZipFile, packed: int) -> None:
    """Raise ValueError before anything is unpacked if the members declare more than a bundle can hold.

    No more than the declared size of a member is ever unpacked.
    """
    members = archive.infolist()
    total, most = sum(member.file_size for member in members), _FREE + _GROWTH * packed
    if total > most:
        raise ValueError(f"members of {total} bytes in {packed}; {most} at most are read")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise ValueError("a member with an unknown compression method")
    if archive.getinfo(_MANIFEST).file_size > _MOST_MANIFEST:
        raise ValueError("a manifest that is too large")


def _check_version(version: object, path: Path) -> None:
    if version == FORMAT_VERSION:
        return
    advice = "make the bundle again"
    if isinstance(version, int) and version > FORMAT_VERSION:
        advice = "another metricad made it: use that one, or make the bundle again"
    raise BundleError(f"{path}: bundle format {version}, expected {FORMAT_VERSION}; {advice}")


def _to_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def to_array(content: bytes) -> np.ndarray:
    """Read an array as `np.save` writes it, if its header says what is there."""
    try:
        file = io.BytesIO(content)
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("an unknown version")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        is_whole = math.prod(shape) * dtype.itemsize == len(content) - start
    except Exception as error:  # NumPy's header parser raises many types of error
        raise ValueError("no plain array") from error
    if dtype.kind not in "biuf" or min(shape, default=0) < 0 or not is_whole:
        raise ValueError("no plain array, or one of another size than it says")
    array = np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if is_fortran else "C")
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("numbers that are not finite")
    return array
