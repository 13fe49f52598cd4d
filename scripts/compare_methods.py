"""Compare published methods with metricad on labeled surfaces: AUROC, time, memory and size on one page.

    python scripts/compare_methods.py --data surfaces:plain_weave --data surfaces:cast_metal \
      --data dagm2007/class1 --data PREPARED/magnetic_tile --data-dir PREPARED --work WORK \
      --epochs cae-kde=10 --epochs autoencoder=30 --weights none --out results

Every method runs on every surface in its own process, so that its peak memory can be measured. What is done
is kept in the work folder: after an interruption, repeat the command. What was done with other images,
settings or software is done again. Writes methods.md and methods.csv.

With --engine ray the processes run beside each other, so times are longer. Machines must share all folders.
"""

import argparse
import hashlib
import json
import os
import resource
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import portalocker
import rivals

from metricad import files, methods
from metricad.batch import Engine, tasks
from metricad.cli import display
from metricad.data import datasets
from metricad.evaluation import candidates, comparison
from metricad.evaluation import results as records
from metricad.evaluation.protocol import Method
from metricad.evaluation.results import Result, Study
from metricad.metrics.image import auroc_interval
from metricad.networks import SHIPPED, WITH_IMAGENET, efficientnet
from metricad.reporting import markdown, report
from metricad.reporting.document import Cell, Document, Section, Table
from metricad.training import runs
from metricad.versions import versions

PAPER = "paper"
"""Name of the paper's method: the network of a run, and the mean of good features."""

CONTROLS = ("untrained", "variation")
"""Controls that are always measured: the default with an untrained network, and per-pixel variation."""


def main() -> None:
    """Run what is missing, merge, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, action="append", help="as of 'metricad evaluate'")
    parser.add_argument("--data-dir", help="as of 'metricad evaluate'")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--method", action="append", help="only these; all when not given")
    parser.add_argument("--most", type=int, help="images to fit to, good and defective ones to test; all")
    rivals.add_options(parser)
    parser.add_argument("--paper", metavar="RUN", help="run folder of the paper's method")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the two files")
    parser.add_argument("--engine", type=Engine, choices=list(Engine), default=Engine.local)
    parser.add_argument("--address", help="of a Ray cluster; by default one on this machine")
    parser.add_argument("--resources", default="cores=1", help="of each process on Ray")
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "SURFACE", "MARK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    surfaces = [
        rivals.fewer(surface, options.most)
        for source in options.data
        for surface in datasets.load(source, data_dir=options.data_dir)
    ]
    epochs = rivals.epochs(parser, options)
    if options.one:
        run_one(*options.one, surfaces, options, epochs)
        return
    own = [*SHIPPED, *(WITH_IMAGENET if options.weights == efficientnet.NAME else ())]
    own += [*([PAPER] if options.paper else ()), *CONTROLS]
    names = at_sides(options.method or [*own, *methods.Method], options.resize)
    for folder in (options.work, options.out):
        files.check_writable(folder, folder=True)
    commands = []
    for number, surface in enumerate(surfaces):
        images = comparison.images_digest(surface)
        for name in names:
            own = name.partition("@")[0]
            weights = Path(options.paper) / runs.WEIGHTS if name == PAPER else options.weights
            decisive = mark(name, images, epochs=epochs.get(own), weights=weights)
            if not is_done(place(options.work, name, number), decisive):
                words = (sys.executable, *sys.argv, "--one", name, str(number), decisive)
                commands.append(tasks.Command(f"{name} on {surface.name}", words))
    run(commands, options)
    places = [place(options.work, name, number) for number in range(len(surfaces)) for name in names]
    study = records.merge(map(records.load, places))
    for problem in [*study.problems(), *uneven(study)]:
        print(problem, file=sys.stderr)
    taken = [json.loads(each.with_suffix(".taken.json").read_text()) for each in places]
    document = build(study, taken, command=describe(options))
    files.write_text(options.out / "methods.md", markdown.render(document))
    files.write_text(options.out / "methods.csv", report.to_csv(study))
    records.save(options.work / "all.json", study)
    print("\n".join(markdown.table(document.blocks[-1])))


def run(commands: Sequence[tasks.Command], options: argparse.Namespace) -> None:
    """Run commands one after the other, or on Ray as many at once as there are cores for."""
    failed: list[str] = []
    with display.progress("methods on surfaces", len(commands)) as advance:
        if options.engine is Engine.ray:
            tasks.run(
                commands,
                (tasks.__name__, tasks.run_command.__name__),
                os.getcwd(),  # noqa: PTH109 (a text, for another machine)
                jobs=None,
                address=options.address,
                resources=tasks.Resources.read(options.resources),
                on_start=lambda command: None,
                on_done=lambda command, seconds: advance(),
                on_failure=lambda command, failure: failed.append(failure.message),
            )
        else:
            for command in commands:
                tasks.run_command(command, os.getcwd())  # noqa: PTH109
                advance()
    if failed:
        raise SystemExit("\n".join(failed))


def at_sides(names: Sequence[str], sides: Sequence[int]) -> list[str]:
    """Repeat the names of methods that are resized for each side in pixels, as METHOD@SIDE."""
    return [
        f"{name}@{side}" if side else name
        for name in names
        for side in (sides if sides and name in list(methods.Method) and candidates.is_resized(name) else [0])
    ]


def uneven(study: Study) -> list[str]:
    """Say on which surfaces some methods left out other images than others, one line each."""
    names: dict[str, set[tuple[str, ...]]] = {}
    for one in study.results:
        bad = sorted(each["name"] for each in one.left_out if each["what"] == "image")
        names.setdefault(one.surface, set()).add(tuple(bad))
    return [
        f"{surface}: not all methods left out the same images; remove these, then repeat the command"
        for surface, sets in names.items()
        if len(sets) > 1
    ]


def place(work: Path, name: str, number: int) -> Path:
    """Return the path of the results of a method on a surface."""
    return work / f"{number}-{name}.json"


def mark(name: str, images: str, *, epochs: int | None, weights: str | Path | None) -> str:
    """Hash all that decides the results of a method on a surface; `images` is `comparison.images_digest`."""
    words = [name, images, epochs, weights and comparison.checksums([weights]), versions()]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def is_done(path: Path, mark: str) -> bool:
    """Whether results are there that were decided by the same; the file of times and memory says so."""
    taken = path.with_suffix(".taken.json")
    return path.is_file() and taken.is_file() and json.loads(taken.read_text()).get("mark") == mark


def run_one(
    name: str,
    number: str,
    mark: str,
    surfaces: Sequence[datasets.Surface],
    options: argparse.Namespace,
    epochs: dict[str, int],
) -> None:
    """Evaluate one method on one surface; store results, times and memory.

    The process of an interrupted comparison may still be at it; it is waited for.
    """
    path = place(options.work, name, int(number))
    options.work.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        portalocker.lock(lock, portalocker.LockFlags.EXCLUSIVE)
        if not is_done(path, mark):
            _run(name, mark, surfaces[int(number)], path, options, epochs)


def _run(
    name: str,
    mark: str,
    surface: datasets.Surface,
    path: Path,
    options: argparse.Namespace,
    epochs: dict[str, int],
) -> None:
    own, _, side = name.partition("@")
    if own in list(methods.Method):
        sides = [int(side)] if side else []
        chosen = candidates.of_names([own], epochs=epochs, weights=options.weights, sides=sides)
    elif name == PAPER:
        chosen = [one for one in candidates.of_network(options.paper) if one.role == "trained"]
    elif name == "variation":
        chosen = candidates.BASELINES
    else:
        role = "untrained" if name == "untrained" else "trained"
        of = SHIPPED[0] if name == "untrained" else name
        chosen = [one for one in candidates.of_network(of) if one.role == role]
    made = []
    task = comparison.Task(tuple(keeping(one, made) for one in chosen), surface)
    checkpoints = path.with_suffix(f".{mark}.training")
    with display.progress(f"{name}, {surface.name}", task.step_count) as advance:
        study = comparison.run([task], checkpoints=checkpoints, on_image=advance)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    taken = {"peak_mib": peak, "bytes": rivals.size_of(made), "settings": chosen[0].settings, "mark": mark}
    records.save(path, study)
    files.write_text(path.with_suffix(".taken.json"), json.dumps(taken))  # last, as it says what is done
    shutil.rmtree(checkpoints, ignore_errors=True)


def keeping(method: Method, made: list) -> Method:
    """Return the same method; each detector it makes is added to `made`."""

    def make(**named: object) -> object:
        made.append(method.make(**named))
        return made[-1]

    return replace(method, make=make)


def build(study: Study, taken: Sequence[dict], *, command: str) -> Document:
    """Build the page: a summary, a table for each surface, the settings, the images."""
    rows: dict[str, dict[tuple[str, str], tuple]] = {}
    for result, cost, took in zip(study.results, study.costs, taken, strict=True):
        name = _name(result)
        rows.setdefault(name, {})[result.dataset, result.surface] = (result, cost, took)
    surfaces = list(dict.fromkeys((one.dataset, one.surface) for one in study.results))
    summary = [
        [Cell(name), *(_cell(found[s][0].auroc) if s in found else Cell("–") for s in surfaces)]
        for name, found in rows.items()
    ]
    return Document(
        "Published methods and metricad",
        [
            f"Made by: {command}",
            "All methods have the same protocol: a fifth of each surface's training images is held out for a "
            "threshold, unless that is too few for one, and the method is fitted to the rest; the table of "
            "images has the counts. Seed 0. Every method runs on every surface in its own process; its peak "
            "memory includes TensorFlow (about half a gibibyte). Brackets after a name say what differs from "
            "the paper.",
            Table("AUROC", ["method", *(name for _, name in surfaces)], summary),
        ],
        [
            *(Section(surface[1], [_surface(rows, surface)]) for surface in surfaces),
            Section("Settings", [_settings(rows)]),
            Section("Images and versions", [_images(study), _versions(study)]),
        ],
    )


def _name(result: Result) -> str:
    if result.role == "trained":
        is_paper = result.network not in (*SHIPPED, *WITH_IMAGENET)
        return "the paper's method" if is_paper else f"metricad {result.network}"
    return f"{SHIPPED[0]}, untrained" if result.role == "untrained" else result.method


def describe(options: argparse.Namespace) -> str:
    """Return the command line without the folders of this machine."""
    words = ["python", "scripts/compare_methods.py", *rivals.sources(options), "--work", "WORK"]
    most = ["--most", str(options.most)] if options.most else []
    paper = ["--paper", f"RUNS/{Path(options.paper).resolve().name}"] if options.paper else []
    return shlex.join([*words, *most, *rivals.words(options), *paper])


def _surface(rows: dict, surface: tuple[str, str]) -> Table:
    header = [
        "method",
        "AUROC",
        "95 % interval",
        "AP",
        "pixel AUROC",
        "AUPRO",
        "fit, s",
        "ms per image",
        "peak MiB",
        "model, kB",
    ]
    body = []
    for name, found in rows.items():
        if surface in found:
            result, cost, took = found[surface]
            low, high = auroc_interval(result.defect, result.score_values, rng=np.random.default_rng(0))
            numbers = (result.average_precision, result.pixel_auroc, result.aupro)
            others = (
                (cost.seconds_to_fit, "{:.1f}"),
                (cost.milliseconds_per_image, "{:.1f}"),
                (took["peak_mib"], "{:.0f}"),
                (took["bytes"] / 1000, "{:.0f}"),
            )
            body.append(
                [
                    Cell(name),
                    _cell(result.auroc),
                    Cell(f"{low:.3f} to {high:.3f}"),
                    *map(_cell, numbers),
                    *(_cell(value, style) for value, style in others),
                ]
            )
    return Table(surface[1], header, body)


def _settings(rows: dict) -> Table:
    body = []
    for name, found in rows.items():
        settings = next(iter(found.values()))[2]["settings"]
        body.append([Cell(name), Cell(", ".join(f"{k} {v}" for k, v in settings.items()) or "–")])
    return Table("Settings", ["method", "settings"], body)


def _images(study: Study) -> Table:
    body = {}
    for one in study.results:
        counts = (one.fit_normals, one.held_out_normals, one.test_normals, one.test_defects)
        body[one.dataset, one.surface] = [
            Cell(text) for text in (one.surface, one.dataset, *map(str, counts))
        ]
    header = ["surface", "data set", "fitted to", "for the threshold", "good tested", "defects tested"]
    return Table("Images", header, list(body.values()))


def _versions(study: Study) -> Table:
    return Table(
        "Versions", ["package", "version"], [list(map(Cell, pair)) for pair in study.versions.items()]
    )


def _cell(value: float | None, style: str = "{:.3f}") -> Cell:
    return Cell("–") if value is None else Cell(style.format(value), float(value))


if __name__ == "__main__":
    main()
