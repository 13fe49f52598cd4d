"""What `metricad evaluate` is asked for, in words: another process plans the same from it and does a part."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metricad.data import datasets
from metricad.data.datasets import Surface
from metricad.evaluation import candidates, comparison
from metricad.evaluation.comparison import Task
from metricad.evaluation.protocol import Protocol
from metricad.evaluation.results import Study


@dataclass(frozen=True)
class Request:
    """Surfaces, what is evaluated on them, and where finished surfaces are kept.

    Attributes
    ----------
    data : tuple of str
        See `datasets.load`, as are `data_dir` and `normals`.
    kept : Path
        Folder of finished surfaces, and of checkpoints of methods that train.
    parts, networks, kinds, metrics
        See `comparison.plan`.
    methods, epochs, weights, sides, settings
        See `candidates.of_names`.
    protocol, is_embedded
        See `comparison.run`.
    folder : str
        Working folder, which relative paths are below.
    """

    data: tuple[str, ...]
    kept: Path
    parts: tuple[Path, ...] = ()
    networks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    epochs: Mapping[str, int] = field(default_factory=dict)
    weights: str | None = None
    sides: tuple[int, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: tuple[str, ...] | None = None
    metrics: tuple[str, ...] = ("euclidean",)
    data_dir: Path | None = None
    normals: int | None = None
    protocol: Protocol = Protocol()  # noqa: RUF009 (frozen)
    is_embedded: bool = False
    folder: str = field(default_factory=os.getcwd)

    def surfaces(self) -> list[Surface]:
        """Load the surfaces."""
        return [
            surface
            for source in self.data
            for surface in datasets.load(source, data_dir=self.data_dir, normals=self.normals)
        ]

    def plan(self, surfaces: list[Surface]) -> list[Task]:
        """Return what is evaluated on each of these surfaces."""
        compared = candidates.of_names(
            self.methods,
            epochs=self.epochs,
            weights=self.weights,
            sides=self.sides,
            settings=self.settings,
        )
        return comparison.plan(
            surfaces, self.parts, self.networks, compared=compared, kinds=self.kinds, metrics=self.metrics
        )

    def run(self, tasks: list[Task], *, on_image: Callable[[], object] = lambda: None) -> Study:
        """Evaluate tasks of the plan; what is finished is kept and not done again."""
        return comparison.run(
            tasks,
            self.networks,
            protocol=self.protocol,
            checkpoints=self.kept,
            finished=self.kept,
            identity=comparison.checksums([*self.parts, *self.networks]),
            is_embedded=self.is_embedded,
            on_image=on_image,
        )


@dataclass(frozen=True)
class Cell:
    """One task of the plan, to be done in another process.

    Attributes
    ----------
    number : int
        In the plan.
    name : str
        Of its surface.
    needs : None
        Cells do not need each other.
    """

    number: int
    name: str
    needs: None = None


def work(cell: Cell, request: Request) -> None:
    """Do one task and keep its result."""
    os.chdir(request.folder)
    request.run([request.plan(request.surfaces())[cell.number]])
