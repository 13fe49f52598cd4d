"""Find the images of DAGM 2007 in a copy, in the present layout or that of the competition.

The present layout has ``Class1/Train`` and ``Class1/Test``, each with good and defective images, which are
listed in ``Label/Labels.txt``. The competition's layout has ``Class1`` with good images and ``Class1_def``
with defective ones, whose ``labels.txt`` gives an ellipse for each. It has no split, so all images are
`train`.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep import sources
from data_prep.dagm2007 import ellipses, labels
from metricad.errors import DataError

CLASSES = tuple(f"class{number}" for number in range(1, 11))
SPLITS = ("train", "test")

# Numbers of the original, class 1 to 10: images in each split, and defective ones among them.
_IMAGES = (575,) * 6 + (1150,) * 4
_DEFECTS = {
    "train": (79, 66, 66, 82, 70, 83, 150, 150, 150, 150),
    "test": (71, 84, 84, 68, 80, 67, 150, 150, 150, 150),
}
_FOLDER = re.compile(r"class(10|[1-9])(_def)?", re.IGNORECASE)
_DEPTH = 3
_NORMAL, _DEFECT = "normal", "defect"  # names for the competition's folders
_EXPECTED = (
    "folders like Class1/Train and Class1/Test, or Class1 and Class1_def, as the unpacked archives have them"
)


@dataclass(frozen=True)
class Inspected:
    """One image: name in the data set, class, file, and mask or ellipse of its defect.

    A good image has neither a mask file nor an ellipse; a defective one has one of the two.
    """

    name: str
    surface: str
    image: Path
    mask: Path | None = None
    ellipse: ellipses.Ellipse | None = None

    @property
    def defective(self) -> bool:
        """Whether the image has a defect."""
        return self.mask is not None or self.ellipse is not None


def find(root: Path, classes: Collection[str] = CLASSES) -> tuple[dict[str, list[Inspected]], list[str]]:
    """List the images of some classes in a folder, and what is missing in the copy.

    Returns
    -------
    splits : dict
        `train`, `test` or both, each with images in the order of the lists.
    notes : list of str
        Notes for the user about an incomplete copy.

    Raises
    ------
    DataError
        No images were found, a list is damaged or names missing files, or a complete split has other numbers
        of defective images than the original.
    """
    homes = _homes(root)
    found = [surface for surface in classes if surface in homes]
    missing = [surface for surface in classes if surface not in homes]
    if not found:
        wanted = "DAGM 2007 classes" if len(classes) > 1 else "".join(classes)
        there = f" (it has {', '.join(homes)})" if homes else ""
        raise DataError(f"{root}: no {wanted} here{there}; expected {_EXPECTED}")
    notes = [f"not in this copy: {', '.join(missing)}"] if missing else []
    splits: dict[str, list[Inspected]] = defaultdict(list)
    for surface in found:
        by_split = _read_class(surface, homes[surface])
        notes.extend(_check_counts(surface, by_split, in_one=not set(SPLITS) & set(homes[surface])))
        for split, images in by_split.items():
            splits[split].extend(images)
    return {split: splits[split] for split in SPLITS if split in splits}, notes


def _homes(root: Path) -> dict[str, dict[str, Path]]:
    """Map each class to its folders: by split in the present layout, by condition in the competition's."""
    homes: dict[str, dict[str, Path]] = defaultdict(dict)
    for folder in sources.walk(root, depth=_DEPTH):
        if not (match := _FOLDER.fullmatch(folder.name)):
            continue
        surface, inside = f"class{match[1]}", sources.children(folder)
        parts = {split: inside[split] for split in SPLITS if split in inside and not match[2]}
        # If Class1.zip was unpacked into a folder Class1, the outer folder only contains the inner one.
        if not parts and any(name.endswith(".png") for name in inside):
            parts = {_DEFECT if match[2] else _NORMAL: folder}
        together = set(homes[surface]) | set(parts)
        if set(homes[surface]) & set(parts) or (together & set(SPLITS) and together & {_NORMAL, _DEFECT}):
            raise DataError(
                f"{root}: {surface} exists twice, once in {folder}; expected one copy of each class: "
                "give the folder of one of them"
            )
        homes[surface] |= parts
    return {surface: homes[surface] for surface in CLASSES if homes.get(surface)}


def _read_class(surface: str, home: Mapping[str, Path]) -> dict[str, list[Inspected]]:
    by_split: dict[str, list[Inspected]] = {}
    for split in (split for split in SPLITS if split in home):
        by_split[split] = [
            Inspected(f"{surface}/{split}/{listed.image.name}", surface, listed.image, mask=listed.mask)
            for listed in labels.read(home[split])
        ]
    if by_split:
        return by_split
    normal = _read_normal(surface, home[_NORMAL]) if _NORMAL in home else ()
    defective = _read_defective(surface, home[_DEFECT]) if _DEFECT in home else ()
    return {"train": [*normal, *defective]}


def _read_normal(surface: str, folder: Path) -> Iterator[Inspected]:
    for path in _numbered(folder).values():
        yield Inspected(f"{surface}/{path.name}", surface, path)


def _read_defective(surface: str, folder: Path) -> Iterator[Inspected]:
    images = _numbered(folder)
    path = sources.children(folder).get("labels.txt")
    if path is None:
        raise DataError(
            f"{folder}: no labels.txt; expected the ellipse around each defect, as the original has it"
        )
    marked = ellipses.read(path)
    if odd := set(images) ^ set(marked):
        number = min(odd)
        lacks = f"image {number} has no ellipse" if number in images else f"there is no image {number}"
        raise DataError(f"{path}: {lacks}; expected an ellipse for each image: complete the copy")
    for number, image in images.items():
        yield Inspected(f"{surface}_def/{image.name}", surface, image, ellipse=marked[number])


def _numbered(folder: Path) -> dict[int, Path]:
    """Map the numbers of ``1.png``, ``2.png`` … to their files, in ascending order."""
    files = (path for name, path in sources.children(folder).items() if name.endswith(".png"))
    return dict(sorted((int(path.stem), path) for path in files if path.stem.isdecimal()))


def _check_counts(
    surface: str, by_split: Mapping[str, Sequence[Inspected]], *, in_one: bool
) -> Iterator[str]:
    """Check the counts of a complete copy against the original; yield notes about an incomplete one."""
    index = CLASSES.index(surface)
    # The competition's layout has no split: train and test are together.
    parts = {"train": SPLITS} if in_one else {split: (split,) for split in SPLITS}
    for split, original in parts.items():
        if split not in by_split:
            yield f"{surface} has no {split} split in this copy"
            continue
        images, defects = len(by_split[split]), sum(image.defective for image in by_split[split])
        known_images = len(original) * _IMAGES[index]
        known_defects = sum(_DEFECTS[part][index] for part in original)
        if images > known_images or (images == known_images and defects != known_defects):
            raise DataError(
                f"{surface}, {split}: {images} images, {defects} of them defective; expected "
                f"{known_images} and {known_defects}, as the original has: get the copy again"
            )
        if images < known_images:
            yield f"{surface}, {split}: {images} of the original's {known_images} images in this copy"
