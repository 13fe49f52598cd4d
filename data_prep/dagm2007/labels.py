"""Lists that tell defective images from good ones in the present layout of DAGM 2007."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep import sources
from metricad.errors import DataError


@dataclass(frozen=True)
class Listed:
    """One image in a list, and its mask file if it is defective."""

    image: Path
    mask: Path | None


def read(folder: Path) -> list[Listed]:
    """Read the ``Label/Labels.txt`` of a split; only images in the list are used.

    The first line is a single number. All other lines have tab-separated fields: the image's number, 1 if it
    is defective, its file, a flag, and the file of its mask or 0.

    Raises
    ------
    DataError
        There is no list, a line is damaged, or a file in it is missing.
    """
    beside = sources.children(folder)
    label_folder = beside.get("label")
    labels = sources.children(label_folder) if label_folder and label_folder.is_dir() else {}
    if "labels.txt" not in labels:
        raise DataError(
            f"{folder}: no Label/Labels.txt; expected the list of the images, as the original has it"
        )
    path = labels["labels.txt"]
    rows = list(_rows(path))
    if not rows:
        raise DataError(f"{path}: lists no images; expected one per line, as in the original")
    _check_there(path, [image for image, _ in rows], beside, "images")
    _check_there(path, [mask for _, mask in rows if mask], labels, "masks of defective images")
    return [Listed(beside[image.lower()], labels[mask.lower()] if mask else None) for image, mask in rows]


def _rows(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield the image file of each line, and its mask file or None."""
    seen = set()
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        fields = line.split()
        if len(fields) < 2:
            continue
        if len(fields) != 5 or fields[1] not in ("0", "1"):
            raise DataError(
                f"{path}, line {number}: expected number, 0 or 1, image file, flag, and mask file or 0, "
                f"between tabs. Received: {line.strip()!r}"
            )
        _, defective, image, _, mask = fields
        if (defective == "1") != (mask != "0"):
            raise DataError(
                f"{path}, line {number}: {image} is marked {defective} and has the mask {mask!r}; "
                "expected 1 with a mask file for a defective image, 0 with 0 for a good one"
            )
        if image.lower() in seen:
            raise DataError(f"{path}, line {number}: {image} is listed twice; expected each image once")
        seen.add(image.lower())
        yield image, mask if defective == "1" else None


def _check_there(path: Path, names: Sequence[str], there: Mapping[str, Path], what: str) -> None:
    missing = [name for name in names if name.lower() not in there]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of the {len(names)} {what} it lists are not there, the first is "
            f"{missing[0]}; expected all of them: complete the copy"
        )
