"""Run a grid: do its cells in parallel, skip finished ones, then merge the results.

The folder of a grid::

    plan.json                 settings that determine the results; other settings need another folder
    networks/<network>/       training run of each network
    evaluations/<judge>/<surface>/results.json  with costs and examples
    errors/<cell>.txt         error of a cell that failed
    results.json              all results, with results.costs.json and results.examples.npz
    report/                   see `report.write`
"""

import functools
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metricad import files
from metricad.batch import workers
from metricad.data import datasets
from metricad.data.datasets import Surface
from metricad.density import Kind
from metricad.deploy.native_output import load_tensorflow
from metricad.errors import DataError, RunError
from metricad.evaluation import candidates, comparison, protocol, results
from metricad.evaluation.results import Study
from metricad.networks import factory, residual
from metricad.reporting import report
from metricad.reproduction import grid as grids
from metricad.reproduction.grid import Cell, Grid
from metricad.training import runs, triplet_training

PLAN, LOCK, ERRORS = "plan.json", ".lock", "errors"


@dataclass(frozen=True)
class Place:
    """Paths and settings that a worker needs besides the cell."""

    grid: Grid
    data_dir: str | None
    out: str


@dataclass(frozen=True)
class Progress:
    """Callbacks of `reproduce`; by default they do nothing.

    Attributes
    ----------
    on_plan : function of (cells, done)
        Called once with all cells and the names of those already done.
    on_start : function of (cell)
    on_done : function of (cell, seconds)
    on_failure : function of (cell, failure)
    """

    on_plan: Callable[..., object] = lambda cells, done: None
    on_start: Callable[..., object] = lambda cell: None
    on_done: Callable[..., object] = lambda cell, seconds: None
    on_failure: Callable[..., object] = lambda cell, failure: None


def plan(grid: Grid, *, data_dir: str | os.PathLike[str] | None) -> list[Cell]:
    """Read the data and list the cells of a grid.

    Raises
    ------
    DataError
        A source cannot be read, or has no labels.
    """
    cells, _ = _plan(grid, data_dir)
    return cells


def estimate(cells: Sequence[Cell]) -> float:
    """Estimate the seconds for these cells on this machine with all cores; accurate to a factor of two.

    The network is timed on one image. The time is compared with that of the reference machine in `grid`.
    """
    features = factory.extractor(residual.build(16, seed=0))
    image = np.zeros((512, 512), np.float32)
    features(image)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        features(image)
        seconds.append(time.perf_counter() - began)
    return sum(cell.cost for cell in cells) * float(np.median(seconds)) / _REFERENCE_SECONDS


# For h = 16 on 512×512 pixels, on the reference machine of `grid`, in one process with both cores.
_REFERENCE_SECONDS = 0.045


def reproduce(
    grid: Grid,
    out: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    run: Callable[..., None] = workers.run,
    progress: Progress | None = None,
) -> tuple[Study, list[Cell]]:
    """Do all unfinished cells of a grid, then write its results and its report.

    Parameters
    ----------
    grid : Grid
    out : path
        A new folder, or the folder of the same grid.
    data_dir : path, optional
        See `datasets.load`.
    jobs : int, optional
        Number of cells run at once; by default one for each core.
    run : function
        Runs the cells: `workers.run`, or `tasks.run` on Ray.
    progress : Progress, optional

    Returns
    -------
    study : Study
        All results.
    missing : list of Cell
        Cells that failed; empty if the study is complete.

    Raises
    ------
    DataError
        A source cannot be read.
    RunError
        The folder holds another grid, another process uses it, or no cell could be evaluated.
    """
    out = Path(out)
    progress = progress or Progress()
    # Absolute paths, because the run may be continued from another working folder.
    grid = _absolute(grid)
    data_dir = None if data_dir is None else str(Path(data_dir).resolve())
    cells, description = _plan(grid, data_dir)
    with files.locked(out / LOCK, "another process works on this grid"):
        _keep_plan(out, grid, description)
        shutil.rmtree(out / ERRORS, ignore_errors=True)
        done = [cell for cell in cells if (out / cell.marker).is_file()]
        progress.on_plan(cells, {cell.name for cell in done})
        run(
            [cell for cell in cells if cell not in done],
            (__name__, "work"),
            Place(grid, data_dir, str(out)),
            jobs=jobs or (cores() if run is workers.run else None),
            prepare=load_tensorflow,
            on_start=progress.on_start,
            on_done=progress.on_done,
            on_failure=functools.partial(_note_failure, out, progress),
        )
        study, missing = collect(cells, out)
        results.save(out / "results.json", study)
        report.write(study, out / "report")
    return study, missing


def cores() -> int:
    """Return the default number of cells run at once: one for each core."""
    return os.cpu_count() or 1


def collect(cells: Sequence[Cell], out: Path) -> tuple[Study, list[Cell]]:
    """Merge the results of all cells; return them and the missing cells.

    Raises
    ------
    RunError
        There are no results.
    """
    missing = [cell for cell in cells if not (out / cell.marker).is_file()]
    there = [cell for cell in cells if cell not in missing]
    found = [results.load(out / cell.marker) for cell in there if cell.surface]
    if not found:
        raise RunError(f"{out}: no evaluation has succeeded; {out}/{ERRORS} says why")
    trained = comparison.study([], [out / cell.folder for cell in there if not cell.surface])
    return results.merge([*found, replace(trained, versions={})]), missing


def work(cell: Cell, place: Place) -> None:
    """Do one cell. Files are written completely or not at all; interrupted training continues."""
    folder = Path(place.out) / cell.folder
    for leftover in folder.glob(f"{files.PARTIAL}*"):  # left over from a killed process
        shutil.rmtree(leftover, ignore_errors=True)
    if cell.surface is None:
        _train(cell, place, folder)
    else:
        _evaluate(cell, place, folder)


def _train(cell: Cell, place: Place, folder: Path) -> None:
    assert cell.network is not None
    settings = replace(place.grid.settings, units=cell.network.units, seed=cell.network.seed)
    triplet_training.train_network(
        folder,
        place.grid.sources(cell.network),
        data_dir=place.data_dir,
        normals=place.grid.normals,
        settings=settings,
        resume=(folder / runs.CONFIG).is_file(),
    )


def _evaluate(cell: Cell, place: Place, folder: Path) -> None:
    assert cell.surface is not None
    source, name = cell.surface
    kinds = place.grid.kinds
    if name in place.grid.in_register:
        kinds = (*kinds, "positional")
    surface = _surfaces(source, place.data_dir, place.grid.normals)[name]
    if Kind.positional_mean in kinds and not _has_one_size(surface):
        kinds = tuple(kind for kind in kinds if kind != Kind.positional_mean)
    judges = _judges(cell.network, cell.is_trained, kinds, place)
    found = protocol.evaluate(
        judges,
        surface,
        protocol=place.grid.protocol,
        # Keep pictures for one network of each setting and its first density, which is the paper's.
        pictured=[judges[0].name] if cell.network and cell.network.seed == place.grid.seeds[0] else [],
    )
    # Cells are evaluated one by one, at different times, so all of them must have used all images.
    for one in found[0].result.left_out:
        if one["what"] == "image":
            raise DataError(f"{name}: {one['name']}: {one['reason']}")
    results.save(folder / "results.json", comparison.study(found))


def _has_one_size(surface: Surface) -> bool:
    """Whether all images of a surface have the same height and width."""
    return len({sample.read().shape[:2] for sample in (*surface.fit, *surface.test)}) == 1


# Cells of one network are run one after the other, so each worker caches the last network.
@functools.lru_cache(maxsize=1)
def _judges(
    trained: grids.Trained | None, is_trained: bool, kinds: tuple[str, ...], place: Place
) -> list[protocol.Method]:
    metrics = place.grid.metrics
    if trained is None:
        return list(candidates.BASELINES)
    if is_trained:
        return candidates.of_trained(Path(place.out) / grids.NETWORKS / trained.name, kinds, metrics=metrics)
    return candidates.of_untrained(trained.units, trained.seed, kinds, name=trained.control, metrics=metrics)


@functools.lru_cache(maxsize=4)
def _surfaces(source: str, data_dir: str | None, normals: int | None) -> dict[str, Surface]:
    return {s.name: s for s in datasets.load(source, data_dir=data_dir, normals=normals)}


def _plan(grid: Grid, data_dir: str | os.PathLike[str] | None) -> tuple[list[Cell], list[dict[str, Any]]]:
    """Load the data and make the cells; also return a description of the data for the record."""
    roles = {
        "textures": grid.textures,
        "known": grid.known,
        "novel": grid.novel,
        "objects": [grid.objects] if grid.objects else [],
    }
    roles = {source: role for role, sources in roles.items() for source in sources}
    loaded = {s: datasets.load(s, data_dir=data_dir, normals=grid.normals) for s in roles}
    # Read the first images now, so that a damaged one is found before training and not after it.
    shapes = {s: math.prod(surfaces[0].fit[0].read().shape[:2]) for s, surfaces in loaded.items()}
    cells = grids.cells(grid, {s: loaded[s] for s in (*grid.known, *grid.novel)}, shapes)
    return cells, [
        {
            "role": roles[source],
            **datasets.describe(surfaces),
            "test": {surface.name: len(surface.test) for surface in surfaces if surface.test},
        }
        for source, surfaces in loaded.items()
    ]


def _absolute(grid: Grid) -> Grid:
    def whole(source: str) -> str:
        folder, colon, names = source.rpartition(":") if not Path(source).is_dir() else (source, "", "")
        path = Path(folder if colon else source)
        return f"{path.resolve()}{colon}{names}" if path.is_dir() else source

    return replace(
        grid,
        textures=tuple(map(whole, grid.textures)),
        known=tuple(map(whole, grid.known)),
        novel=tuple(map(whole, grid.novel)),
        objects=grid.objects and whole(grid.objects),
    )


def _keep_plan(out: Path, grid: Grid, description: list[dict[str, Any]]) -> None:
    """Write the plan into a new folder; raise an error if the folder has another plan."""
    path = out / PLAN
    # Sources are compared by their content, so that data may be moved.
    decisive = {k: v for k, v in asdict(grid).items() if k not in ("textures", "known", "novel", "objects")}
    text = json.dumps({"grid": decisive, "data": description}, indent=1) + "\n"
    if not path.is_file():
        if any(child.name != LOCK for child in out.iterdir()):
            raise RunError(f"{out}: exists and is not the folder of a grid; give a new folder")
        files.write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise RunError(
            f"{out}: holds a grid with other settings or other data ({PLAN}); repeat its options, or give "
            "a new folder"
        )


def _note_failure(out: Path, progress: Progress, cell: Cell, failure: workers.Failure) -> None:
    text = f"{failure.message}\n\n{failure.traceback}".rstrip() + "\n"
    files.write_text(out / ERRORS / f"{cell.folder.replace('/', '-')}.txt", text)
    progress.on_failure(cell, failure)
