"""Which methods run on which surfaces, and the run over all of them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metricad import evaluation, methods, runs
from metricad.datasets import Surface
from metricad.errors import DataError
from metricad.evaluation import Method
from metricad.results import Example, Result


@dataclass(frozen=True)
class Task:
    """One method on one surface."""

    method: Method
    surface: Surface

    @property
    def image_count(self) -> int:
        """Images that are read."""
        return len(self.surface.test) + (0 if self.method.is_fitted else len(self.surface.fit))


def plan(
    surfaces: Sequence[Surface],
    parts: Sequence[str | os.PathLike],
    networks: Sequence[str | os.PathLike],
    *,
    kinds: Sequence[str] = ("mean",),
    metric: str = "euclidean",
) -> list[Task]:
    """Put each network, with its controls, on every surface and each bundle on its own.

    A bundle belongs to the surface that has the name of its file; where there is only one surface, to that.

    Raises
    ------
    DataError
        A network was trained on test images, or a bundle belongs to no surface.
    RunError, BundleError
        A network or a bundle cannot be read.
    """
    every = list(methods.BASELINES)
    for run in networks:
        _, data = runs.read_config(run)
        for surface in surfaces:
            evaluation.check_unseen(surface, data["seen"])
        every.extend(methods.of_network(run, kinds, metric=metric))
    tasks = [Task(method, surface) for surface in surfaces for method in every]
    return tasks + [Task(methods.of_bundle(part), _own_surface(part, surfaces)) for part in parts]


def run(
    tasks: Sequence[Task], *, on_image: Callable[[], object] = lambda: None
) -> tuple[list[Result], list[Example]]:
    """Evaluate every task in turn; raises as `evaluation.evaluate` does."""
    pairs = [evaluation.evaluate(task.method, task.surface, on_image=on_image) for task in tasks]
    return [result for result, _ in pairs], [example for _, example in pairs]


def _own_surface(part: str | os.PathLike, surfaces: Sequence[Surface]) -> Surface:
    named = [surface for surface in surfaces if len(surfaces) == 1 or surface.name == Path(part).stem]
    if len(named) != 1:
        names = ", ".join(surface.name for surface in surfaces)
        raise DataError(
            f"{part}: no surface of this name in the data ({names}); name the file after its surface"
        )
    return named[0]
