"""Find the Kylberg textures in an unpacked archive of the plain or the rotated set.

Every texture has its own folder, at any level below the given folder. File names look like
``blanket1-d-p011.png``: texture, photograph a to d, patch number. The rotated set adds ``-r180``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep import sources
from metricad.errors import DataError

SAMPLES = ("a", "b", "c", "d")
TEXTURES = 28
PATCHES = 160
ROTATIONS = 12

# The texture is taken from the folder's name. File names are less reliable: a few have a dot instead of the
# first dash (rice1.b-p001).
_STEM = re.compile(r".+?[-.](?P<sample>[a-d])-p\d+(-r(?P<rotation>\d+))?", re.IGNORECASE)
# Archives of single textures unpack to folders such as blanket1-with-rotations.
_FOLDER_SUFFIX = re.compile(r"-with(out)?-rotations$", re.IGNORECASE)
_DEPTH = 4
_EXPECTED = (
    "one folder per texture with files like blanket1/blanket1-d-p011.png, as the unpacked archive has them"
)


@dataclass(frozen=True)
class Patch:
    """One image: texture, photograph it was cut from, rotation in degrees, and file."""

    texture: str
    sample: str
    rotation: int
    path: Path

    @property
    def name(self) -> str:
        """Name in the data set, such as ``blanket1/blanket1-d-p011.png``."""
        return f"{self.texture}/{self.path.name}"


def find(root: Path) -> list[Patch]:
    """List the patches in a folder, sorted by texture and file name.

    Raises
    ------
    DataError
        There are no patches, a file in a texture's folder has another name, or a texture is there twice.
    """
    homes: dict[str, Path] = {}
    patches: list[Patch] = []
    for folder in sources.walk(root, depth=_DEPTH):
        files = [path for name, path in sources.children(folder).items() if name.endswith(".png")]
        if not any(_STEM.fullmatch(path.stem) for path in files):
            continue
        texture = _FOLDER_SUFFIX.sub("", folder.name)
        if texture in homes:
            raise DataError(
                f"{root}: texture {texture} exists twice, in {homes[texture]} and in {folder}; "
                "expected one of the plain and the rotated set: give the folder of one of them"
            )
        homes[texture] = folder
        patches.extend(_patch(texture, path) for path in files)
    if not patches:
        zipped = any(
            name.endswith(".zip")
            for folder in sources.walk(root, depth=_DEPTH)
            for name in sources.children(folder)
        )
        remedy = "unpack the zip files there first" if zipped else "give the folder that holds them"
        raise DataError(f"{root}: no Kylberg textures here; expected {_EXPECTED}; {remedy}")
    return sorted(patches, key=lambda patch: patch.name)


def _patch(texture: str, path: Path) -> Patch:
    match = _STEM.fullmatch(path.stem)
    if match is None:
        raise DataError(
            f"{path}: not a Kylberg file name; expected one like {texture}-d-p011.png: move it elsewhere"
        )
    return Patch(texture, match["sample"].lower(), int(match["rotation"] or 0), path)


def notes(patches: Sequence[Patch]) -> list[str]:
    """Describe which textures or patches of the original are missing in a copy."""
    textures = {patch.texture for patch in patches}
    expected = PATCHES * (ROTATIONS if any(patch.rotation for patch in patches) else 1)
    if len(textures) == TEXTURES and len(patches) == TEXTURES * expected:
        return []
    return [
        f"a partial copy: {len(patches)} images of {len(textures)} textures; "
        f"the original has {expected} of each of {TEXTURES}"
    ]
