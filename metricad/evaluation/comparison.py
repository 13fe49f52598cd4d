"""Plan which methods run on which surfaces, and run them all; finished ones are kept if it is interrupted."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from metricad.data.datasets import Surface
from metricad.errors import DataError
from metricad.evaluation import candidates
from metricad.evaluation import results as records
from metricad.evaluation.protocol import Evaluation, Method, Protocol, evaluate, step_count
from metricad.evaluation.results import Cost, Network, Study, if_any
from metricad.evaluation.surface_checks import check_unseen
from metricad.networks import pretrained
from metricad.training import loading, runs
from metricad.versions import versions


@dataclass(frozen=True)
class Task:
    """Methods that run on the same surface."""

    methods: tuple[Method, ...]
    surface: Surface

    @property
    def step_count(self) -> int:
        """Number of images to read and epochs to train."""
        return step_count(self.methods, self.surface)


def plan(
    surfaces: Sequence[Surface],
    parts: Sequence[str | os.PathLike[str]],
    networks: Sequence[str | os.PathLike[str]],
    *,
    compared: Sequence[Method] = (),
    kinds: Sequence[str] | None = None,
    metrics: Sequence[str] = ("euclidean",),
) -> list[Task]:
    """Assign each network with its controls to every surface, and each bundle to its own surface.

    A bundle belongs to the surface with the name of its file. If there is only one surface, it belongs to
    that one.

    Parameters
    ----------
    surfaces : sequence of Surface
    parts : sequence of path
        Bundles.
    networks : sequence of str or path
        Names of shipped networks, and folders of runs; see `candidates.of_network`.
    compared : sequence of Method
        Other methods to compare with, see `candidates.of_name`.
    kinds, metrics : sequence of str
        Densities on the networks; by default the one that suits each network.

    Raises
    ------
    DataError
        A network was trained on test images, or no surface matches a bundle.
    RunError, BundleError
        A network or a bundle cannot be read.
    """
    every = [*candidates.BASELINES, *compared]
    for name in networks:
        if not loading.is_shipped(name):  # shipped networks were not trained on any of these data sets
            _, data = runs.read_config(name)
            for surface in surfaces:
                check_unseen(surface, data["seen"])
        every.extend(candidates.of_network(name, kinds, metrics=metrics))
    bundles: dict[int, list[Method]] = {number: [] for number in range(len(surfaces))}
    for part in parts:
        method = candidates.of_bundle(part)
        bundles[_own_surface(part, surfaces)].append(method)
    return [Task((*every, *bundles[number]), surface) for number, surface in enumerate(surfaces)]


def run(
    tasks: Sequence[Task],
    networks: Sequence[str | os.PathLike[str]] = (),
    *,
    protocol: Protocol | None = None,
    checkpoints: Path | None = None,
    finished: Path | None = None,
    identity: str = "",
    is_embedded: bool = False,
    on_image: Callable[[], object] = lambda: None,
) -> Study:
    """Evaluate all tasks one by one.

    A surface that cannot be evaluated is recorded, and the others are still done; if there are no others, the
    error of `evaluate` is raised.

    With a folder for finished tasks, the result of each is kept there. A task that was done before with the
    same methods, protocol, images and software is not done again.

    Parameters
    ----------
    tasks : sequence of Task
    networks : sequence of str or path
        Networks whose training is recorded.
    protocol : Protocol, optional
    checkpoints : path, optional
        See `evaluate`.
    finished : path, optional
        Folder for the results of finished tasks.
    identity : str
        Whatever else decides the results, such as the `checksums` of inspectors and networks.
    is_embedded
        See `evaluate`.
    on_image : function, optional
        Called after each image, and after each epoch of a method that trains.
    """
    protocol = protocol or Protocol()
    found: list[Evaluation] = []
    failed: list[dict[str, str]] = []
    for task in tasks:
        kept = None
        if finished is not None:
            kept = finished / f"{_digest(task, protocol, is_embedded=is_embedded, identity=identity)}.json"
        if kept is not None and kept.is_file():
            evaluations = _evaluations(records.load(kept))
            for _ in range(task.step_count):
                on_image()
        else:
            try:
                evaluations = evaluate(
                    task.methods,
                    task.surface,
                    protocol=protocol,
                    checkpoints=checkpoints,
                    is_embedded=is_embedded,
                    on_image=on_image,
                )
            except DataError as error:
                if len(failed) == len(tasks) - 1:
                    raise
                words = {"dataset": task.surface.dataset, "surface": task.surface.name, "reason": str(error)}
                failed.append(words)
                continue
            if kept is not None:
                records.save(kept, study(evaluations))
        found += evaluations
    return replace(study(found, networks), failed=failed)


def _digest(task: Task, protocol: Protocol, *, is_embedded: bool, identity: str) -> str:
    """Hash all that decides the result of a task, the pixels of all images and masks included."""
    methods = [
        [one.name, one.role, one.network, one.units, one.seed, one.settings, one.epochs, one.threshold]
        for one in task.methods
    ]
    words = [methods, asdict(protocol), is_embedded, identity, versions(), images_digest(task.surface)]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:16]


def images_digest(surface: Surface) -> str:
    """Hash the names of a surface and the pixels of all its images and masks."""
    digest = hashlib.sha256(json.dumps([surface.dataset, surface.name]).encode())
    for sample in (*surface.fit, *surface.test):
        digest.update(json.dumps([sample.name, sample.kind]).encode())
        for read in (sample.read, sample.read_mask):
            if read is not None:
                try:
                    digest.update(read().tobytes())
                except DataError as error:  # `evaluate` says what becomes of it
                    digest.update(str(error).encode())
    return digest.hexdigest()


def checksums(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Hash the files of inspectors and networks; names of shipped networks stand for themselves."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        digest.update(os.fsencode(path))
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _evaluations(done: Study) -> list[Evaluation]:
    """Return what `study` made a study of."""
    embeddings = done.embeddings or [None] * len(done.results)
    return [
        Evaluation(result, shown, cost or Cost(0.0, 0.0), embedding)
        for result, shown, cost, embedding in zip(
            done.results, done.examples, done.costs, embeddings, strict=True
        )
    ]


def study(evaluations: Sequence[Evaluation], networks: Sequence[str | os.PathLike[str]] = ()) -> Study:
    """Combine evaluations and the training records of networks."""
    logs = [(Path(run).resolve().name, runs.read_log(run)) for run in networks if not loading.is_shipped(run)]
    return Study(
        results=[one.result for one in evaluations],
        examples=[one.examples for one in evaluations],
        costs=[one.cost for one in evaluations],
        embeddings=if_any([one.embedding for one in evaluations]),
        networks=[_network(run) for run in networks],
        training_seconds={name: round(sum(record["seconds"] for record in log), 1) for name, log in logs},
    )


def _network(run: str | os.PathLike[str]) -> Network:
    if loading.is_shipped(run):
        return _shipped(str(run))
    settings, data = runs.read_config(run)
    log = runs.read_log(run)
    return Network(
        name=Path(run).resolve().name,
        units=settings.units,
        seed=settings.seed,
        trained_on=[_describe(source) for source in data["seen"]],
        # Lists as in JSON, so that a study read from a file equals the written one.
        settings={k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()},
        epoch_loss=[round(value, 6) for record in log for value in record["epoch_loss"]],
        epoch_accuracy=[round(value, 6) for record in log for value in record["epoch_accuracy"]],
    )


def _shipped(name: str) -> Network:
    return Network(
        name=name,
        units=pretrained.UNITS[name],
        seed=0,
        trained_on=list(pretrained.TRAINED_ON),
        settings={},
        epoch_loss=[],
        epoch_accuracy=[],
    )


def _describe(source: dict[str, Any]) -> str:
    plural = "" if source["classes"] == 1 else "es"
    return f"{source['dataset']}: {source['classes']} class{plural}, {source['images']} images"


def _own_surface(part: str | os.PathLike[str], surfaces: Sequence[Surface]) -> int:
    named = [
        number
        for number, surface in enumerate(surfaces)
        if len(surfaces) == 1 or surface.name == Path(part).stem
    ]
    if len(named) != 1:
        names = ", ".join(surface.name for surface in surfaces)
        raise DataError(
            f"{part}: no surface of this name in the data, or several of them ({names}); name the file after "
            "its surface"
        )
    return named[0]
