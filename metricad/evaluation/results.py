"""Results of an evaluation, in memory and on disk.

``<stem>.json`` holds the numbers. They depend only on data, seed and versions: a repeated run gives the same
file. Beside it are ``<stem>.costs.json`` with times and ``<stem>.examples.npz`` with pictures.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metricad import files
from metricad.errors import DataError
from metricad.versions import versions

FORMAT = "metricad-results"
FORMAT_VERSION = 2


@dataclass(frozen=True)
class Result:
    """Result of one method on one surface.

    Attributes
    ----------
    dataset, surface, method, role, network, units, seed
        See `datasets.Surface` and `protocol.Method`.
    is_known : bool or None
        Whether the network was trained on good images of this surface; None if nothing was trained.
    fit_normals, held_out_normals : int
        Numbers of good images that the density was fitted to, and that were held out for the threshold.
    test_normals, test_defects : int
        Numbers of test images.
    threshold, false_alarm_rate : float or None
        Threshold of the score and its false-alarm rate; None without enough held-out images.
    auroc, average_precision, f1_max, fpr_at_95_tpr : float
        See `metrics`.
    pixel_auroc, aupro : float or None
        See `metrics.PixelMetrics`; None without masks.
    scores : list of {"name", "kind", "score"}
        Score of each test image.
    architecture : str or None
        Name of the network in `factory`, if it is not the paper's.
    settings : dict
        Settings of a published method.
    masks : int or None
        Number of defects whose mask was found and used for the pixel metrics; None in old results.
    rate_basis : {"promised", "expected", "estimated"}
        What the false-alarm rate is based on; see `calibration.Basis`.
    left_out : list of {"name", "what", "reason"}
        Images of the surface that could not be used, the same for all methods evaluated together; ``what`` is
        ``image``, or ``mask`` if only the mask was left out.
    """

    dataset: str
    surface: str
    method: str
    role: str
    network: str | None
    units: int | None
    seed: int | None
    is_known: bool | None
    fit_normals: int
    held_out_normals: int
    test_normals: int
    test_defects: int
    threshold: float | None
    false_alarm_rate: float | None
    auroc: float
    average_precision: float
    f1_max: float
    fpr_at_95_tpr: float
    pixel_auroc: float | None
    aupro: float | None
    scores: list[dict[str, Any]]
    architecture: str | None = None  # missing in old results, which only had the paper's network
    settings: dict[str, Any] = field(default_factory=dict)
    masks: int | None = None
    rate_basis: str = "promised"
    left_out: list[dict[str, str]] = field(default_factory=list)

    @property
    def defect(self) -> list[bool]:
        """Whether each test image is a defect, in the order of `scores`."""
        return [row["kind"] != "good" for row in self.scores]

    @property
    def score_values(self) -> list[float]:
        """The scores without names."""
        return [row["score"] for row in self.scores]


@dataclass(frozen=True)
class Network:
    """How a network was trained.

    Attributes
    ----------
    name : str
        Name, as in `Result.network`.
    units, seed : int
    trained_on : list of str
        Descriptions of data sets, such as "dagm2007/all: 6 classes, 3000 images".
    settings : dict
        All settings of the training, see `settings.Settings`; empty for a shipped network.
    epoch_loss, epoch_accuracy : list of float
        Training loss and triplet accuracy after each epoch.
    """

    name: str
    units: int
    seed: int
    trained_on: list[str]
    settings: dict[str, Any]
    epoch_loss: list[float]
    epoch_accuracy: list[float]


@dataclass(frozen=True)
class Cost:
    """Times of a result.

    Attributes
    ----------
    seconds_to_fit : float
        Wall time including reading images.
    milliseconds_per_image : float
        Median time to score an image, without reading it.
    """

    seconds_to_fit: float
    milliseconds_per_image: float


@dataclass(frozen=True)
class Example:
    """A test image with its map, at reduced size for viewing.

    Attributes
    ----------
    name, kind : str
        See `datasets.Sample`.
    role : {"best", "median", "worst", "false alarm"}
        The defects with the highest, the median and the lowest score, and the good image with the highest.
    score : float
    image : uint8 (h, w)
    anomaly_map : float32 (h, w)
    mask : bool (h, w), or None
    """

    name: str
    kind: str
    role: str
    score: float
    image: np.ndarray
    anomaly_map: np.ndarray
    mask: np.ndarray | None


@dataclass(frozen=True)
class Study:
    """All results of an evaluation, as stored in the files.

    Attributes
    ----------
    results : list of Result
    examples : list of list of Example
        Examples of each result; an empty list if there are no pictures.
    costs : list of Cost or None
        Times of each result; None if their file is missing.
    networks : list of Network
    training_seconds : dict of str to float
        Wall time of each network's training.
    versions : dict of str to str
        Software that computed the numbers, see `versions.versions`.
    embeddings : list of float32 (images, components) or None
        Embeddings of each result's test images, in the order of `Result.scores`; None for results without.
        The list is empty if there are no embeddings at all.
    failed : list of {"dataset", "surface", "reason"}
        Surfaces that could not be evaluated.
    """

    results: list[Result]
    examples: list[list[Example]]
    costs: list[Cost | None]
    networks: list[Network] = field(default_factory=list)
    training_seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    embeddings: list[np.ndarray | None] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether all images, masks and surfaces were used."""
        return not self.failed and not any(result.left_out for result in self.results)

    def problems(self) -> list[str]:
        """Say which images, masks and surfaces could not be used, one line each."""
        said = [
            f"{result.surface}: {one['name']}: {one['reason']}; the {one['what']} is left out"
            for result in self.results
            for one in result.left_out
        ]
        return [*dict.fromkeys(said), *(f"not evaluated: {one['reason']}" for one in self.failed)]


def merge(studies: Iterable[Study]) -> Study:
    """Merge studies in their order; a network in several studies is kept once.

    If versions differ, all are listed; studies without versions are left out of this.
    """
    studies = list(studies)
    named = {package: None for study in studies for package in study.versions}
    return Study(
        results=[result for study in studies for result in study.results],
        examples=[examples for study in studies for examples in study.examples],
        costs=[cost for study in studies for cost in study.costs],
        embeddings=if_any(
            [one for study in studies for one in study.embeddings or [None] * len(study.results)]
        ),
        networks=list({network.name: network for study in studies for network in study.networks}.values()),
        training_seconds={k: v for study in studies for k, v in study.training_seconds.items()},
        versions={
            package: " and ".join(
                dict.fromkeys(study.versions.get(package, "none") for study in studies if study.versions)
            )
            for package in named
        },
        failed=[one for study in studies for one in study.failed],
    )


def if_any(embeddings: list[np.ndarray | None]) -> list[np.ndarray | None]:
    """Return the list, or an empty list if all its items are None."""
    return embeddings if any(one is not None for one in embeddings) else []


def save(path: str | os.PathLike[str], study: Study) -> None:
    """Write the three files of a study. Paths are stored relative to the data set's folder."""
    path = Path(path)
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": study.versions,
        "networks": [asdict(network) for network in study.networks],
        "results": [asdict(result) for result in study.results],
        "failed": study.failed,
    }
    costs = {
        "training_seconds": study.training_seconds,
        "results": [cost and asdict(cost) for cost in study.costs],
    }
    # All files are written before any is renamed, and the numbers are renamed last. So if they exist, the
    # others do.
    with contextlib.ExitStack() as stack:
        numbers = stack.enter_context(files.replacing(path))
        times = stack.enter_context(files.replacing(_beside(path, "costs.json")))
        pictures = stack.enter_context(files.replacing(_beside(path, "examples.npz")))
        arrays: dict[str, Any] = {**_to_arrays(study.examples, study.embeddings)}
        np.savez_compressed(pictures, **arrays)
        times.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
        numbers.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load(path: str | os.PathLike[str]) -> Study:
    """Load a study; costs and examples are empty if their files are missing.

    Raises
    ------
    DataError
        A file is missing, damaged, no results file, or of an unknown version.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; make it with 'metricad evaluate'")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or document["format_version"] != FORMAT_VERSION:
            raise DataError(f"{path}: expected {FORMAT} version {FORMAT_VERSION}; evaluate again")
        results = [Result(**record) for record in document["results"]]
        networks = [Network(**record) for record in document["networks"]]
        named = dict(document["versions"])
        failed = list(document.get("failed", []))  # missing in old results
        if not results:
            raise DataError(f"{path}: holds no results; evaluate again")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no results of metricad, or damaged ({error}); evaluate again") from error
    costs, training_seconds = _load_costs(_beside(path, "costs.json"), len(results))
    examples, embeddings = _load_pictures(_beside(path, "examples.npz"), len(results))
    return Study(results, examples, costs, networks, training_seconds, named, embeddings, failed)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}.{suffix}")


def _load_costs(path: Path, count: int) -> tuple[list[Cost | None], dict[str, float]]:
    if not path.is_file():
        return [None] * count, {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        costs = [record and Cost(**record) for record in document["results"]]
        if len(costs) != count:
            raise ValueError(f"{len(costs)} costs of {count} results")
        return costs, dict(document["training_seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); evaluate again") from error


def _to_arrays(
    examples: Sequence[Sequence[Example]], embeddings: Sequence[np.ndarray | None]
) -> dict[str, np.ndarray]:
    arrays = {"count": np.array([len(shown) for shown in examples])}
    arrays |= {f"{number}/embedding": each for number, each in enumerate(embeddings) if each is not None}
    for number, shown in enumerate(examples):
        for place, example in enumerate(shown):
            key = f"{number}/{place}"
            arrays |= {
                f"{key}/image": example.image,
                f"{key}/map": example.anomaly_map.astype(np.float32),
                f"{key}/words": np.array([example.name, example.kind, example.role]),
                f"{key}/score": np.array(example.score),
            }
            if example.mask is not None:
                arrays[f"{key}/mask"] = example.mask
    return arrays


def _load_pictures(path: Path, count: int) -> tuple[list[list[Example]], list[np.ndarray | None]]:
    if not path.is_file():
        return [[] for _ in range(count)], []
    try:
        # Opened here, because NumPy would leave a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if len(arrays["count"]) != count:
                raise ValueError(f"examples of {len(arrays['count'])} results instead of {count}")
            examples = [
                [_example(arrays, f"{number}/{place}") for place in range(shown)]
                for number, shown in enumerate(arrays["count"])
            ]
            return examples, if_any([arrays.get(f"{number}/embedding") for number in range(count)])
    except Exception as error:  # zipfile, zlib and NumPy raise their own types of error
        raise DataError(f"{path}: damaged ({error}); evaluate again") from error


def _example(arrays: "np.lib.npyio.NpzFile", key: str) -> Example:
    name, kind, role = map(str, arrays[f"{key}/words"])
    return Example(
        name, kind, role, float(arrays[f"{key}/score"]), arrays[f"{key}/image"], arrays[f"{key}/map"],
        arrays.get(f"{key}/mask"),
    )  # fmt: skip
