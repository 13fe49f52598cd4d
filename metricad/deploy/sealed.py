"""The files of an export: read whole into memory, with one SHA-256 over all of them.

The checksum stands in the description, which is part of these files. It is computed with zeros in its place.
So it covers weights, graph and description, and notices swapped, mixed and damaged files. Everybody can
compute it anew: only a signature (see `signature`) protects from changes that somebody made on purpose.
"""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from metricad import files
from metricad.errors import BundleError

OPENVINO = "model.xml"
"""File name of an OpenVINO model in its folder."""

WEIGHTS = "model.bin"
"""File name of the weights of an OpenVINO model."""

DESCRIPTION = "metricad.json"
"""File name of the description, in a folder or in a zip archive appended to a LiteRT model."""

LITERT = "model.tflite"
"""Name of a LiteRT model without its description in the contents of an export."""

UNSEALED = "sha256:" + 64 * "0"
"""Checksum in a description until `seal` puts in the right one."""

MOST_BYTES = 2**31
"""Largest size in bytes of all files of an export; 2 GiB, because ONNX files have this limit, too."""

_SAVED_MODEL = ("saved_model.pb", "fingerprint.pb", DESCRIPTION)  # and a folder of variables
_MOST_FILES = 100
_SEAL = re.compile(rb"sha256:([0-9a-f]{64})")


def read(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """Read all files of an export by their names below its folder; a single file has its suffix as name.

    Raises
    ------
    OSError
        A file is missing or cannot be read.
    ValueError
        There is too much to read, or something that is no plain file.
    """
    found: dict[str, bytes] = {}
    left = MOST_BYTES
    for name, file in parts_of(Path(path)).items():
        found[name] = files.read_whole(file, most_bytes=left)
        left -= len(found[name])
    if LITERT in found:
        model, text = _split(found[LITERT])
        found = {LITERT: model} | ({} if text is None else {DESCRIPTION: text})
    return found


def check(contents: Mapping[str, bytes], path: str | os.PathLike[str]) -> str:
    """Check the checksum of an export and return it, in hexadecimal digits.

    Raises
    ------
    BundleError
        There is no checksum, or it is wrong.
    """
    stated = _stated(contents)
    if stated is None:
        raise BundleError(f"{path}: not written by 'metricad export'; expected a file that was")
    if _digest(contents, stated) != stated:
        raise BundleError(
            f"{path}: damaged, or files of several exports are mixed: the checksum is wrong; export it again"
        )
    return stated.decode("ascii")


def seal(path: str | os.PathLike[str]) -> None:
    """Put the right checksum into the description of a new export."""
    contents = read(path)
    stated = _stated(contents)
    if stated is None:
        raise ValueError(f"{path}: no description with one checksum")
    right = _digest(contents, stated)
    for name, file in parts_of(Path(path)).items():
        if name == LITERT:
            text = contents[DESCRIPTION].replace(stated, right)
            file.write_bytes(contents[LITERT])
            # TensorFlow Lite's own metadata is in an appended zip archive, too.
            with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(DESCRIPTION, text)
        elif stated in contents[name]:
            file.write_bytes(contents[name].replace(stated, right))


def parts_of(path: Path) -> dict[str, Path]:
    """Return the files that belong to an export, by their names in its contents."""
    if path.suffix == ".xml" and not path.is_dir():
        return {OPENVINO: path, WEIGHTS: path.with_suffix(".bin")}
    if not path.is_dir():
        return {f"model{path.suffix}": path}
    if (path / OPENVINO).is_file():
        return {OPENVINO: path / OPENVINO, WEIGHTS: path / WEIGHTS}
    found = [path / name for name in _SAVED_MODEL if (path / name).is_file()]
    found += (path / "variables").glob("*")
    return {file.relative_to(path).as_posix(): file for file in found[:_MOST_FILES]}


def _split(content: bytes) -> tuple[bytes, bytes | None]:
    """Split a LiteRT file into its model and the description behind it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = archive.getinfo(DESCRIPTION)
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                return content, None
            with archive.open(member) as file:
                text = file.read(MOST_BYTES // 16)
            return content[: min(one.header_offset for one in archive.infolist())], text
    except Exception:  # each damage of the archive raises its own type of error
        return content, None


def _stated(contents: Mapping[str, bytes]) -> bytes | None:
    found = {name: _SEAL.findall(content) for name, content in contents.items()}
    seals = [one for each in found.values() for one in each]
    return seals[0] if len(seals) == 1 else None


def _digest(contents: Mapping[str, bytes], stated: bytes) -> bytes:
    total = hashlib.sha256()
    for name, content in sorted(contents.items()):
        total.update(f"{name} {len(content)}\n".encode())
        total.update(content.replace(b"sha256:" + stated, UNSEALED.encode()))
    return total.hexdigest().encode("ascii")
