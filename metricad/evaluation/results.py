"""What an evaluation found, on disk.

``<stem>.json`` holds the numbers, which depend on data, seed and versions alone: whoever repeats a run gets
the same file. Beside it stand ``<stem>.costs.json``, what it took in time, and ``<stem>.examples.npz``, the
pictures.
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
    """One method on one surface.

    Attributes
    ----------
    dataset, surface, method, role, network, units, seed
        See `datasets.Surface` and `protocol.Method`.
    is_known : bool or None
        Whether the network was trained on good images of this surface; None where nothing was trained.
    fit_normals, held_out_normals : int
        Good images the density was fitted to, and those kept from it for the threshold.
    test_normals, test_defects : int
        Images the metrics were taken over.
    threshold, false_alarm_rate : float or None
        Threshold on the score and the rate it promises; None without enough held-out images.
    auroc, average_precision, f1_max, fpr_at_95_tpr : float
        See `metrics`.
    pixel_auroc, aupro : float or None
        See `metrics.PixelMetrics`; None without masks.
    scores : list of {"name", "kind", "score"}
        Each test image's score.
    architecture : str or None
        Shape of the network where it is another than the paper's.
    settings : dict
        Of a method that metricad is compared with.
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
    architecture: str | None = None  # results did not always say, when there was the paper's alone
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def defect(self) -> list[bool]:
        """Which test images are defects, in the order of `scores`."""
        return [row["kind"] != "good" for row in self.scores]

    @property
    def score_values(self) -> list[float]:
        """The scores alone."""
        return [row["score"] for row in self.scores]


@dataclass(frozen=True)
class Network:
    """How a network was trained.

    Attributes
    ----------
    name : str
        As in `Result.network`.
    units, seed : int
    trained_on : list of str
        Data sets, as in "dagm2007/all: 6 classes, 3000 images".
    settings : dict
        Every constant of the training, see `settings.Settings`; empty for a network that ships.
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
    """What a result took.

    Attributes
    ----------
    seconds_to_fit : float
        Wall time with reading; methods that share a network share it.
    milliseconds_per_image : float
        Median time of a score without reading.
    """

    seconds_to_fit: float
    milliseconds_per_image: float


@dataclass(frozen=True)
class Example:
    """A test image with its map, reduced to a size for looking at.

    Attributes
    ----------
    name, kind : str
        See `datasets.Sample`.
    role : {"best", "median", "worst", "false alarm"}
        The defects with the highest, the middle and the lowest score, and the good image with the highest.
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
    """All that was found, as it stands in the files.

    Attributes
    ----------
    results : list of Result
    examples : list of list of Example
        Of each result; empty ones where there are no pictures.
    costs : list of Cost or None
        Of each result; None where the file is not at hand.
    networks : list of Network
    training_seconds : dict of str to float
        Wall time of each network's training.
    versions : dict of str to str
        What computed the numbers, see `versions.versions`.
    embeddings : list of float32 (images, components) or None
        Of each result's test images, in the order of `Result.scores`, None where none were kept; empty
        where none were kept at all.
    """

    results: list[Result]
    examples: list[list[Example]]
    costs: list[Cost | None]
    networks: list[Network] = field(default_factory=list)
    training_seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    embeddings: list[np.ndarray | None] = field(default_factory=list)


def merge(studies: Iterable[Study]) -> Study:
    """Put several together, in their order; a network that stands in several is kept once.

    Versions that differ are all named; a study without versions has no part in them.
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
    )


def if_any(embeddings: list[np.ndarray | None]) -> list[np.ndarray | None]:
    """The same, or no list at all where there is none in it."""
    return embeddings if any(one is not None for one in embeddings) else []


def save(path: str | os.PathLike[str], study: Study) -> None:
    """Write a study's three files; of paths only names below a data set's folder are written."""
    path = Path(path)
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": study.versions,
        "networks": [asdict(network) for network in study.networks],
        "results": [asdict(result) for result in study.results],
    }
    costs = {
        "training_seconds": study.training_seconds,
        "results": [cost and asdict(cost) for cost in study.costs],
    }
    # All are written before any is moved, and the numbers last: where they stand the others do.
    with contextlib.ExitStack() as stack:
        numbers = stack.enter_context(files.replacing(path))
        times = stack.enter_context(files.replacing(_beside(path, "costs.json")))
        pictures = stack.enter_context(files.replacing(_beside(path, "examples.npz")))
        arrays: dict[str, Any] = {**_to_arrays(study.examples, study.embeddings)}
        np.savez_compressed(pictures, **arrays)
        times.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
        numbers.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load(path: str | os.PathLike[str]) -> Study:
    """Read a study; costs and examples are empty where their files are not at hand.

    Raises
    ------
    DataError
        A file is missing, damaged, no results, or of an unknown version.
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
        if not results:
            raise DataError(f"{path}: holds no results; evaluate again")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no results of metricad, or damaged ({error}); evaluate again") from error
    costs, training_seconds = _load_costs(_beside(path, "costs.json"), len(results))
    examples, embeddings = _load_pictures(_beside(path, "examples.npz"), len(results))
    return Study(results, examples, costs, networks, training_seconds, named, embeddings)


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
        # NumPy would leave a damaged file open that it opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if len(arrays["count"]) != count:
                raise ValueError(f"examples of {len(arrays['count'])} results instead of {count}")
            examples = [
                [_example(arrays, f"{number}/{place}") for place in range(shown)]
                for number, shown in enumerate(arrays["count"])
            ]
            return examples, if_any([arrays.get(f"{number}/embedding") for number in range(count)])
    except Exception as error:  # zipfile, zlib and NumPy's header parser each raise kinds of their own
        raise DataError(f"{path}: damaged ({error}); evaluate again") from error


def _example(arrays: "np.lib.npyio.NpzFile", key: str) -> Example:
    name, kind, role = map(str, arrays[f"{key}/words"])
    return Example(
        name, kind, role, float(arrays[f"{key}/score"]), arrays[f"{key}/image"], arrays[f"{key}/map"],
        arrays.get(f"{key}/mask"),
    )  # fmt: skip
