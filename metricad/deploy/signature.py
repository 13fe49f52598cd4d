"""Sign parts with a private key, check signatures with the public one: Ed25519, in a file beside the part.

What is signed is the SHA-256 of the part: of a bundle's file, or the checksum of an export (see `sealed`).
"""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metricad import files
from metricad.errors import BundleError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SUFFIX = ".sig"
"""Suffix of a signature's file. It is added to the whole name of the part."""

_MOST_BYTES = 2**16


def read_private(path: str | os.PathLike[str]) -> "Ed25519PrivateKey":
    """Read a private key, as 'openssl genpkey -algorithm ed25519' writes it.

    Raises
    ------
    BundleError
        The file is missing or holds no such key, or cryptography is not installed.
    """
    _, serialization, ed25519 = _cryptography()
    key = _read(path, lambda content: serialization.load_pem_private_key(content, None), "private")
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise BundleError(
            f"{path}: no private Ed25519 key; make one with 'openssl genpkey -algorithm ed25519'"
        )
    return key


def read_public(path: str | os.PathLike[str]) -> "Ed25519PublicKey":
    """Read a public key, as 'openssl pkey -pubout' writes it; see `read_private`."""
    _, serialization, ed25519 = _cryptography()
    key = _read(path, serialization.load_pem_public_key, "public")
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise BundleError(f"{path}: no public Ed25519 key; make it with 'openssl pkey -pubout' of the other")
    return key


def write(path: str | os.PathLike[str], digest: str, key: "Ed25519PrivateKey") -> Path:
    """Write the signature of a part beside it, and return its path."""
    target = beside(path)
    files.write_text(target, base64.b64encode(key.sign(_message(digest))).decode("ascii") + "\n")
    return target


def check(path: str | os.PathLike[str], digest: str, key: "Ed25519PublicKey") -> None:
    """Check the signature of a part.

    Raises
    ------
    BundleError
        There is no signature, or it is not of this part and this key.
    """
    exceptions, _, _ = _cryptography()
    beside_it = beside(path)
    try:
        content = files.read_whole(beside_it, most_bytes=_MOST_BYTES)
    except FileNotFoundError as error:
        raise BundleError(f"{path}: not signed: expected {beside_it.name} beside it; sign it anew") from error
    try:
        key.verify(base64.b64decode(content.strip(), validate=True), _message(digest))
    except (exceptions.InvalidSignature, ValueError) as error:
        raise BundleError(
            f"{path}: the signature in {beside_it.name} is not of this part and this key; do not use the part"
        ) from error


def beside(path: str | os.PathLike[str]) -> Path:
    """Return where the signature of a part is."""
    path = Path(path)
    if path.suffix == ".xml" and (path.parent / "model.xml") == path:
        path = path.parent  # the file in an OpenVINO folder will do for the folder
    return path.with_name(path.name + SUFFIX)


def _message(digest: str) -> bytes:
    return f"metricad part {digest}\n".encode("ascii")


def _read(path: str | os.PathLike[str], load: Callable[[bytes], Any], kind: str) -> Any:
    try:
        return load(files.read_whole(path, most_bytes=_MOST_BYTES))
    except (ValueError, TypeError) as error:
        raise BundleError(
            f"{path}: no {kind} key; expected an Ed25519 key in PEM format, without a password"
        ) from error


def _cryptography() -> tuple[Any, Any, Any]:
    try:
        from cryptography import exceptions
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise BundleError(
            "signatures need cryptography: install it with pip install 'metricad[sign]'"
        ) from error
    return exceptions, serialization, ed25519
