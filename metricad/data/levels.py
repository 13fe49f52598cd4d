"""The range of gray levels or colors of image files: found on good images, then asked of every other image.

Cameras write 10, 12 or 14 bits into 16-bit files. Scaled by the range of the type, such an image is nearly
black. The file often does not say its range, so it is found on the good images: the fewest bits that hold the
largest level. Levels moved to the upper bits of a file (left-justified) fill its type and need no care.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from metricad.data.picture import Picture
from metricad.errors import DataError

BITS = (8, 10, 12, 14, 16, 24, 32)
"""Numbers of bits that cameras and files have."""


@dataclass(frozen=True)
class Levels:
    """Type of the levels in a file, and how many of its bits are used.

    Attributes
    ----------
    container : {"uint8", "uint16", "uint32", "float"}
    bits : int or None
        White is 2 to the power of this, less 1. None for floats, whose white is 1.
    """

    container: str
    bits: int | None

    def __post_init__(self) -> None:
        width = {"uint8": 8, "uint16": 16, "uint32": 32, "float": None}[self.container]
        fits = self.bits is None if width is None else isinstance(self.bits, int) and 1 <= self.bits <= width
        if not fits:
            raise ValueError(f"{self.bits} bits do not fit {self.container} levels")

    @property
    def white(self) -> int:
        """The level that stands for white."""
        return 1 if self.bits is None else 2**self.bits - 1

    def check(self, picture: Picture, name: str) -> None:
        """Raise DataError if a picture's levels have another type or range."""
        received = container(picture.pixels, name)
        if received != self.container:
            raise DataError(
                f"{name}: {_words(received, picture.bits)}, expected {self}, as the good images have: "
                "save it as these, or fit again"
            )
        if picture.bits not in (None, self.bits):
            raise DataError(
                f"{name}: says that its levels have {picture.bits} bits; expected {self}, as the good images "
                "have: save it as these, or fit again"
            )
        largest = picture.pixels.max(initial=0)
        if self.bits is not None and largest > self.white:
            raise DataError(
                f"{name}: a level of {largest}; expected {self.white} at most, as the good images have "
                f"{self}; fit again with --bits if this is right"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes, for JSON."""
        return {"container": self.container, "bits": self.bits}

    @classmethod
    def from_dict(cls, found: dict[str, Any] | None) -> Self | None:
        """Restore what `to_dict` returned; None stays None. Raises KeyError, TypeError or ValueError."""
        return None if found is None else cls(found["container"], found["bits"])

    def __str__(self) -> str:
        return _words(self.container, self.bits)


def container(pixels: np.ndarray, name: str) -> str:
    """Name the type of levels; raises DataError for types that hold no gray levels or colors."""
    if pixels.dtype == bool:
        return "uint8"
    if pixels.dtype.kind == "f":
        return "float"
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 4:
        raise DataError(f"{name}: expected unsigned integers or floats, received {pixels.dtype}")
    return pixels.dtype.name


def find(pictures: Iterable[tuple[str, Picture]], *, bits: int | None = None) -> Levels:
    """Find the levels of good images. Pictures are taken from the iterable only as far as needed.

    Parameters
    ----------
    pictures : iterable of (name, Picture)
    bits : int, optional
        Number of bits, if it is known. The default is what the files say, else the fewest of `BITS` that hold
        the largest level. 8-bit and float files need no search.

    Raises
    ------
    DataError
        There are no pictures, or their types do not hold this number of bits.
    """
    largest, kind = 0, ""
    for name, picture in pictures:
        kind = kind or container(picture.pixels, name)
        bits = picture.bits if bits is None else bits
        if bits is not None or kind in ("uint8", "float"):
            break
        largest = max(largest, int(picture.pixels.max(initial=0)))
    if not kind:
        raise DataError("no images to find the range of levels on; expected one at least")
    if kind == "float" and bits is None:
        return Levels(kind, None)
    bits = (8 if kind == "uint8" else next(n for n in BITS if largest < 2**n)) if bits is None else bits
    try:
        return Levels(kind, bits)
    except ValueError as error:
        raise DataError(f"--bits {bits} does not fit these images, which have {kind} levels") from error


def _words(container: str, bits: int | None) -> str:
    if bits is None:
        return "float levels" if container == "float" else f"{container.removeprefix('uint')}-bit levels"
    stored = int(container.removeprefix("uint"))
    return f"{bits}-bit levels" + ("" if bits == stored else f" in {stored}-bit files")
