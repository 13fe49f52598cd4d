"""Convert the magnetic-tile data set to the folder layout of MVTec AD, which metricad and others read.

The original has a folder for each condition, ``MT_Free/Imgs``, ``MT_Blowhole/Imgs`` and so on, with ``.jpg``
images. Defective ones have masks as ``.png`` of the same name. There is no split.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import skimage

from data_prep import sources, staging
from data_prep.progress import track
from metricad.errors import DataError

NAME = "magnetic_tile"
KINDS = ("blowhole", "break", "crack", "fray", "uneven")
HELD_OUT = 4  # every fourth of the sorted good images is for testing

_NORMAL = "free"
_IMAGES = {
    _NORMAL: 952,
    "blowhole": 115,
    "break": 85,
    "crack": 57,
    "fray": 32,
    "uneven": 103,
}  # numbers of images in the original
_DEPTH = 3
_MARKS = ("train/good", "ground_truth")  # folders in every converted data set


@dataclass(frozen=True)
class Tile:
    """One image to convert: file and destination, and for a defective image those of its mask."""

    image: Path
    place: str
    mask: Path | None = None
    mask_place: str | None = None


def convert(source: Path, data_dir: Path, *, copy: bool = False, overwrite: bool = False) -> list[str]:
    """Convert the data set to ``data_dir/magnetic_tile/{train,test,ground_truth}``.

    Images are hard links if the file system allows it. They take no space and remain if the original is moved
    or deleted. Masks are written again with values 0 and 255.

    Parameters
    ----------
    source : Path
        Folder that contains ``MT_Free`` and the others, or one above it.
    data_dir : Path
        Folder for the new data set.
    copy : bool
        Copy the images even if links are possible.
    overwrite : bool
        Replace an existing conversion when the new one is complete.

    Returns
    -------
    list of str
        Lines for the user; the last one has the counts.

    Raises
    ------
    DataError
        The original is not as expected, or something else is in the place of the new folder. Then nothing is
        left behind.
    """
    data_dir = Path(data_dir).expanduser()
    target = data_dir / NAME
    if target.exists():
        if not all((target / mark).is_dir() for mark in _MARKS):
            raise DataError(f"{target}: exists and is no converted data set; choose another --data-dir")
        if not overwrite:
            return [
                "already converted, nothing done; --overwrite converts it again",
                f"{target}: {_closing_line(target)}",
            ]
    homes = _homes(sources.folder(source))
    tiles = _plan(homes)
    unmarked = []
    with staging.publishing(data_dir, NAME) as folder:
        place = _copy if copy else _link
        for tile in track(tiles, NAME):
            shape = sources.read_gray(tile.image).shape  # for its size, and to detect damage
            place(tile.image, _parent_made(folder / NAME / tile.place))
            if tile.mask is not None and tile.mask_place is not None:
                mask = sources.read_mask(tile.mask, shape)
                if not mask.any():
                    unmarked.append(tile.place)
                skimage.io.imsave(_parent_made(folder / NAME / tile.mask_place), mask, check_contrast=False)
    return [*_notes(homes, unmarked), f"{target}: {_closing_line(target)}"]


def _homes(root: Path) -> dict[str, Path]:
    """Map each kind to the folder of its images."""
    homes: dict[str, Path] = {}
    for folder in sources.walk(root, depth=_DEPTH):
        kind = folder.name.lower().removeprefix("mt_")
        if folder.name.lower() == f"mt_{kind}" and kind in _IMAGES:
            if kind in homes:
                raise DataError(f"{root}: {folder.name} exists twice; expected one copy: give its folder")
            homes[kind] = sources.children(folder).get("imgs", folder)
    if _NORMAL not in homes or len(homes) == 1:
        there = ", ".join(home.parent.name for home in homes.values()) or "none of them"
        raise DataError(
            f"{root}: expected the folders MT_Free/Imgs, MT_Blowhole/Imgs, MT_Break/Imgs and so on, as "
            f"the original has them. Received: {there}"
        )
    return homes


def _plan(homes: Mapping[str, Path]) -> list[Tile]:
    normal = _images(homes[_NORMAL])
    tiles = []
    for number, image in enumerate(normal, 1):
        split = "test" if number % HELD_OUT == 0 else "train"
        tiles.append(Tile(image, f"{split}/good/{image.name}"))
    for kind in (kind for kind in KINDS if kind in homes):
        beside = sources.children(homes[kind])
        for image in _images(homes[kind]):
            mask = beside.get(f"{image.stem}.png".lower())
            if mask is None:
                raise DataError(
                    f"{image}: no mask {image.stem}.png beside it; expected one: complete the copy"
                )
            place = f"{kind}/{image.stem}"
            tiles.append(
                Tile(image, f"test/{kind}/{image.name}", mask, mask_place=f"ground_truth/{place}_mask.png")
            )
    return tiles


def _images(folder: Path) -> list[Path]:
    images = [path for name, path in sources.children(folder).items() if name.endswith(".jpg")]
    if not images:
        raise DataError(f"{folder}: no .jpg images here; expected those of the original: complete the copy")
    return images


def _parent_made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, no hard links, or a file of another user
        _copy(source, target)


def _notes(homes: Mapping[str, Path], unmarked: list[str]) -> list[str]:
    lines = [
        f"split: of the sorted good images every {HELD_OUT}th is in test/good, the others in train/good; "
        "all defective ones are in test"
    ]
    for kind, known in _IMAGES.items():
        here = len(_images(homes[kind])) if kind in homes else 0
        if here != known:
            lines.append(
                f"note: {here} of the original's {known} images of MT_{kind.capitalize()} in this copy"
            )
    if unmarked:
        which = ", ".join(unmarked[:4]) + (" and others" if len(unmarked) > 4 else "")
        lines.append(f"note: {len(unmarked)} defective images have an empty mask: {which}")
    return lines


def _closing_line(target: Path) -> str:
    """Count the images in the converted folder."""
    count: Callable[[str], int] = lambda place: sum(1 for _ in (target / place).iterdir())  # noqa: E731
    kinds = [kind for kind in KINDS if (target / "test" / kind).is_dir()]
    each = {kind: count(f"test/{kind}") for kind in kinds}
    defects = sum(each.values())
    good = count("test/good") if (target / "test/good").is_dir() else 0
    listed = ", ".join(f"{number} {kind}" for kind, number in each.items())
    train = count("train/good")
    return (
        f"train {train} images ({train} good); "
        f"test {good + defects} images ({good} good, {defects} defects: {listed})"
    )
