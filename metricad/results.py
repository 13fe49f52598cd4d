"""What an evaluation found, on disk: numbers as JSON, one picture for each result beside it."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from metricad import files
from metricad.errors import DataError
from metricad.versions import versions

FORMAT = "metricad-results"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Result:
    """One method on one surface.

    Attributes
    ----------
    dataset, surface, method, role, network, units, seed, threshold
        See `datasets.Surface` and `evaluation.Method`.
    fit_normals, test_normals, test_defects : int
        Images the prototype was made from, and those the AUROC was taken over.
    auroc : float
    seconds_to_fit, milliseconds_per_image : float
        Wall time with reading.
    scores : list of {"name", "kind", "score"}
        Each test image's score.
    """

    dataset: str
    surface: str
    method: str
    role: str
    network: str | None
    units: int | None
    seed: int | None
    threshold: float | None
    fit_normals: int
    test_normals: int
    test_defects: int
    auroc: float
    seconds_to_fit: float
    milliseconds_per_image: float
    scores: list[dict]

    @property
    def defect(self) -> list[bool]:
        """Which test images are defects, in the order of `scores`."""
        return [row["kind"] != "good" for row in self.scores]

    @property
    def score_values(self) -> list[float]:
        """The scores alone."""
        return [row["score"] for row in self.scores]


@dataclass(frozen=True)
class Example:
    """A defective image with its map: the middle one of the surface's defects, in the order of their names.

    Attributes
    ----------
    name : str
    image : uint8 (H, W)
    anomaly_map : float32 (H, W)
    mask : bool (H, W), or None
    """

    name: str
    image: np.ndarray
    anomaly_map: np.ndarray
    mask: np.ndarray | None


def save(path: str | os.PathLike, results: Sequence[Result], examples: Sequence[Example]) -> None:
    """Write results as JSON, and the examples beside it as ``<stem>.examples.npz``.

    Only names below a data set's folder are written, no path of the machine.
    """
    path = Path(path)
    arrays = {}
    for number, example in enumerate(examples):
        arrays |= {
            f"{number}/image": example.image,
            f"{number}/map": example.anomaly_map.astype(np.float32),
            f"{number}/name": np.array(example.name),
        }
        if example.mask is not None:
            arrays[f"{number}/mask"] = example.mask
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": versions(),
        "protocol": "prototype from fit_normals good images; AUROC over all others and all defects",
        "results": [asdict(result) for result in results],
    }
    # Both are written before either is moved: what fails leaves the old pair together.
    with files.replacing(_examples_path(path)) as pictures, files.replacing(path) as numbers:
        np.savez_compressed(pictures, **arrays)
        numbers.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load(path: str | os.PathLike) -> tuple[list[Result], list[Example | None]]:
    """Read results; an example is None where the pictures' file is not at hand.

    Raises
    ------
    DataError
        The file is missing, damaged, no results, or of an unknown version.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; make it with 'metricad evaluate'")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or document["format_version"] != FORMAT_VERSION:
            raise DataError(f"{path}: expected {FORMAT} version {FORMAT_VERSION}; evaluate again")
        results = [Result(**record) for record in document["results"]]
        if not results:
            raise DataError(f"{path}: holds no results; evaluate again")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no results of metricad, or damaged ({error}); evaluate again") from error
    return results, _load_examples(_examples_path(path), len(results))


def _load_examples(path: Path, count: int) -> list[Example | None]:
    if not path.is_file():
        return [None] * count
    try:
        # NumPy would leave a damaged file open that it opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return [
                Example(
                    str(arrays[f"{number}/name"]),
                    arrays[f"{number}/image"],
                    arrays[f"{number}/map"].astype(np.float32),
                    arrays.get(f"{number}/mask"),
                )
                for number in range(count)
            ]
    except Exception as error:  # zipfile, zlib and NumPy's header parser each raise kinds of their own
        raise DataError(f"{path}: damaged ({error}); evaluate again") from error


def _examples_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.examples.npz")
