"""Compare the paper's method, the shipped networks, controls and baselines on labeled surfaces.

    python scripts/scoreboard.py --data surfaces --data dagm2007/class1 --data PREPARED/magnetic_tile \
      --data PARTS --data-dir PREPARED --paper grid/networks/h16-cifar100-0

Writes scoreboard.md and scoreboard.csv into results/ and prints the summary. It has the methods of `metricad
evaluate`; `--method cae-kde --epochs cae-kde=30` adds published methods. PARTS is a folder of parts in the
MVTec layout; the page has one mean over them. Methods that take color images get them. After an interruption,
repeat the command: what is done is kept in scoreboard.training/ beside the page until that is written.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import numpy as np
import rivals
import tensorflow as tf

from metricad import files, methods, metrics
from metricad.cli import display
from metricad.data import datasets
from metricad.data.channels import to_luminance
from metricad.evaluation import candidates, comparison
from metricad.evaluation import results as records
from metricad.evaluation.protocol import Method, Protocol
from metricad.evaluation.results import Result, Study
from metricad.inspection.interface import Detector
from metricad.networks import SHIPPED
from metricad.networks import residual as network
from metricad.networks.factory import extractor
from metricad.reporting import markdown, report
from metricad.reporting.document import Cell, Document, Section, Table
from metricad.versions import versions

METRICS: dict[str, Callable[[Result], float | None]] = {
    "AUROC": lambda one: one.auroc,
    "AP": lambda one: one.average_precision,
    "pixel AUROC": lambda one: one.pixel_auroc,
    "AUPRO": lambda one: one.aupro,
}
TIMED = 15
"""Number of images that the time of a score is measured on."""

Surface = tuple[str, str]


def main() -> None:
    """Evaluate, measure costs, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, action="append", help="as of 'metricad evaluate'")
    parser.add_argument("--data-dir", help="as of 'metricad evaluate'")
    parser.add_argument("--paper", metavar="RUN", help="run folder of the paper's method")
    parser.add_argument(
        "--method", action="append", choices=list(methods.Method), help="also published methods"
    )
    rivals.add_options(parser)
    parser.add_argument("--side", type=int, default=measuring.SIDE, help="pixels, of images for timing")
    parser.add_argument("--set-up", type=int, default=measuring.SET_UP_IMAGES, help="good images for timing")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the two files")
    parser.add_argument("--keep", type=Path, help="results to keep for 'metricad report', with heat maps")
    options = parser.parse_args()
    files.check_writable(options.out, folder=True)
    networks = [*([options.paper] if options.paper else []), *SHIPPED]
    surfaces = [s for source in options.data for s in datasets.load(source, data_dir=options.data_dir)]
    protocol, epochs = Protocol(), rivals.epochs(parser, options)
    compared = candidates.of_names(
        options.method or [], epochs=epochs, weights=options.weights, sides=options.resize
    )
    tasks = comparison.plan(surfaces, [], networks, compared=compared)
    work, identity = options.out / "scoreboard.training", comparison.checksums(networks)
    with display.progress("images", sum(task.step_count for task in tasks)) as advance:
        study = comparison.run(
            tasks,
            networks,
            protocol=protocol,
            checkpoints=work,
            finished=work,
            identity=identity,
            on_image=advance,
        )
    if options.keep:
        records.save(options.keep, study)
    costs = {
        key(method): kept(
            work,
            [key(method), method.settings, options.side, options.set_up, identity, versions()],
            partial(measure, method, side=options.side, count=options.set_up),
        )
        for method in tasks[0].methods
    }
    document = build(study, costs, options, protocol=protocol)
    files.write_text(options.out / "scoreboard.md", markdown.render(document))
    files.write_text(options.out / "scoreboard.csv", report.to_csv(study))
    shutil.rmtree(work, ignore_errors=True)
    print("\n".join(markdown.table(document.blocks[-1])))
    for problem in study.problems():
        print(problem, file=sys.stderr)


def kept(work: Path, decisive: Sequence[object], make: Callable[[], dict]) -> dict:
    """Return what `make` returns, or what it returned before with all the same that decides it."""
    words = json.dumps(decisive, sort_keys=True)
    path = work / f"{hashlib.sha256(words.encode()).hexdigest()[:16]}.cost.json"
    if not path.is_file():
        files.write_text(path, json.dumps(make()))
    return json.loads(path.read_text())


def key(one: Result | Method) -> str:
    """Return the unique name of a method."""
    named = one.name if isinstance(one, Method) else one.method
    match one.role:
        case "trained":
            return f"{one.network}: {named}"
        case "untrained":
            return f"untrained {one.network}: {named}"
        case _:
            return named


def command(options: argparse.Namespace) -> str:
    """Return the command line without the folders of this machine."""
    words = ["python", "scripts/scoreboard.py", *rivals.sources(options)]
    words += ["--paper", f"RUNS/{Path(options.paper).resolve().name}"] if options.paper else []
    return shlex.join([*words, *rivals.words(options)])


def measure(method: Method, *, side: int, count: int) -> dict[str, float | str]:
    """Measure time and size of a method on rendered gray images, and on color images if it takes them.

    Parameters
    ----------
    method : Method
    side : int
        Height and width of the images, in pixels.
    count : int
        Good images that it is set up from.

    Returns
    -------
    dict of str to float or str
        ``milliseconds`` of a score, ``ratio`` to the bare network h = 16 of the paper timed in turns,
        ``set_up`` seconds from the images to a threshold, ``over_inspection``, that as a multiple of the time
        that inspecting these images takes, and ``components`` that were chosen; the same with ``color_``
        before it; ``bytes`` of weights and what was learned from gray images.
    """
    detector = method.make()
    found = _timed(detector, measuring.regions(count, (side, side)))
    found["bytes"] = rivals.size_of(detector)
    if getattr(detector, "takes_color", False) and not getattr(detector, "is_gray", False):
        colored = _timed(method.make(), measuring.regions(count, (side, side), is_colored=True))
        found |= {f"color_{name}": value for name, value in colored.items()}
    return found


def _timed(detector: Detector, images: Sequence[np.ndarray]) -> dict[str, float | str]:
    set_up, inspection = measuring.set_up(detector, images)
    bare = extractor(network.build(16, seed=0))
    light = [to_luminance(image) for image in images[:TIMED]]
    works = {"scored": lambda k: detector.score(images[k]), "passed": lambda k: bare(light[k])}
    taken = measuring.in_turns(works, len(light))
    return {
        "milliseconds": 1000 * taken["scored"],
        "ratio": taken["scored"] / taken["passed"],
        "set_up": set_up,
        "over_inspection": set_up / inspection,
        "components": measuring.components(detector),
    }


def build(
    study: Study, costs: dict[str, dict], options: argparse.Namespace, *, protocol: Protocol
) -> Document:
    """Put the page together; the summary is its last block before the sections."""
    rows = list(dict.fromkeys(map(key, study.results)))
    by_place = {(key(one), (one.dataset, one.surface)): one for one in study.results}
    surfaces = list(dict.fromkeys((one.dataset, one.surface) for one in study.results))
    on_surface = {
        (key(result), (result.dataset, result.surface)): cost
        for result, cost in zip(study.results, study.costs, strict=True)
        if cost
    }
    tables = {}
    for name, take in METRICS.items():
        values = {place: take(one) for place, one in by_place.items()}
        tables[name] = _table(name, rows, surfaces, values, "{:.3f}".format)
    times = {place: cost.milliseconds_per_image for place, cost in on_surface.items()}
    tables["Milliseconds per image"] = _table(
        "Milliseconds per image, at the surface's own size", rows, surfaces, times, "{:.1f}".format
    )
    kinds = [_kinds(rows, surface, by_place) for surface in surfaces]
    return Document(
        "Scoreboard",
        [
            f"Made by: {command(options)}",
            "All surfaces have the same settings. The training images of each surface are used for fitting "
            f"({1 - protocol.holdout:.0%}) and for the threshold ({protocol.holdout:.0%}); see the table of "
            "images. Methods that take color get color images, all others their luminance. The untrained "
            "network of a shipped one has seed 0, that of a trained one the seed of its training.",
            f"Costs are of {options.side}×{options.side} images, which show a texture with four regions, on "
            f"one machine's CPU with {measuring.cores()} cores: milliseconds of a score of a gray image; "
            "the same as a multiple of the paper's bare network h = 16, timed alternately; the seconds from "
            f"{options.set_up} good images in memory to a threshold (a fifth held out), and the same as a "
            "multiple of the time to inspect these images; both ratios for color images; the size of weights "
            "and density in memory, for gray images.",
            _summary(rows, surfaces, by_place, costs),
        ],
        [
            *(Section(name, [table]) for name, table in tables.items()),
            *(Section("By kind of defect", [table]) for table in kinds if table),
            Section("Images and versions", [_images(study), _components(costs), _versions(study)]),
        ],
    )


def by_dataset(surfaces: Sequence[Surface]) -> dict[str, list[Surface]]:
    """Group surfaces by data set."""
    groups: dict[str, list[Surface]] = {}
    for surface in surfaces:
        groups.setdefault(surface[0], []).append(surface)
    return groups


def _summary(rows: Sequence[str], surfaces: Sequence[Surface], by_place: dict, costs: dict) -> Table:
    header, body = ["method"], [[Cell(row)] for row in rows]
    for dataset, group in by_dataset(surfaces).items():
        named = f"{dataset.split('/')[0]}, mean of {len(group)}" if len(group) > 1 else group[0][1]
        columns = {named: ("auroc", np.mean)}
        if len(group) > 1:
            columns["lowest"] = ("auroc", np.min)
        columns["pixel AUROC"] = ("pixel_auroc", np.mean)
        for name, (metric, take) in columns.items():
            values = {place: getattr(one, metric) for place, one in by_place.items()}
            known = measured(rows, group, values)
            header.append(name if len(known) in (0, len(group)) else f"{name}, {len(known)} with masks")
            for row, cells in zip(rows, body, strict=True):
                cells.append(_cell(_over(known, row, values, take), "{:.3f}".format))
    styles = {
        "ms": ("milliseconds", "{:.1f}".format),
        "× bare network": ("ratio", "{:.2f}".format),
        "set-up, s": ("set_up", "{:.1f}".format),
        "× inspection": ("over_inspection", "{:.2f}".format),
        "color, × bare network": ("color_ratio", "{:.2f}".format),
        "color, × inspection": ("color_over_inspection", "{:.2f}".format),
        "model, kB": ("bytes", lambda size: f"{size / 1000:.0f}"),
    }
    for name, (cost, style) in styles.items():
        header.append(name)
        for row, cells in zip(rows, body, strict=True):
            cells.append(_cell(costs.get(row, {}).get(cost), style))
    return Table("AUROC by surface, and what it costs", header, body)


def _table(
    caption: str, rows: Sequence[str], surfaces: Sequence[Surface], values: dict, style: Callable
) -> Table:
    """Make a table with a row for each surface, a column for each method, and means of data sets."""
    body, footer = [], []
    for dataset, group in by_dataset(surfaces).items():
        for surface in group:
            body.append([Cell(surface[1]), *(_cell(values.get((row, surface)), style) for row in rows)])
        if len(group) > 1:
            known = measured(rows, group, values)
            count = "" if len(known) in (0, len(group)) else f" of {len(known)}"
            means = [_cell(_over(known, row, values, np.mean), style) for row in rows]
            footer.append([Cell(f"{dataset.split('/')[0]}, mean{count}"), *means])
    return Table(caption, ["surface", *rows], body, footer)


def measured(rows: Sequence[str], group: Sequence[Surface], values: dict) -> list[Surface]:
    """Return the surfaces on which any method has a value; without masks there are no pixel metrics."""
    return [surface for surface in group if any(values.get((row, surface)) is not None for row in rows)]


def _over(surfaces: Sequence[Surface], row: str, values: dict, take: Callable) -> float | None:
    """Apply a function such as the mean to the values of one method; None if a value is missing."""
    found = [values.get((row, surface)) for surface in surfaces]
    return None if None in found or not found else float(take(found))


def _kinds(rows: Sequence[str], surface: Surface, by_place: dict) -> Table | None:
    """Make a table of AUROCs of each kind of defect against all good images, if there are several kinds."""
    first = next(by_place[row, surface] for row in rows if (row, surface) in by_place)
    kinds = sorted({score["kind"] for score in first.scores} - {"good"})
    if len(kinds) < 2:
        return None
    body = []
    for kind in kinds:
        count = sum(score["kind"] == kind for score in first.scores)
        found = [by_place.get((row, surface)) for row in rows]
        values = [None if one is None else auroc_of_kind(one, kind) for one in found]
        body.append([Cell(kind), Cell(str(count)), *(_cell(value, "{:.3f}".format) for value in values)])
    return Table(f"AUROC: {surface[1]}", ["kind", "defects", *rows], body)


def auroc_of_kind(result: Result, kind: str) -> float:
    """Compute the AUROC of one kind of defect against all good test images."""
    chosen = [score for score in result.scores if score["kind"] in ("good", kind)]
    return metrics.auroc([score["kind"] == kind for score in chosen], [score["score"] for score in chosen])


def _images(study: Study) -> Table:
    body = {}
    for one in study.results:
        counts = (one.fit_normals, one.held_out_normals, one.test_normals, one.test_defects)
        texts = (one.surface, one.dataset, *map(str, counts))
        body[one.dataset, one.surface] = [Cell(text) for text in texts]
    header = [
        "surface",
        "data set",
        "fitted to",
        "for the threshold",
        "good tested",
        "defects tested",
    ]
    return Table("Images", header, list(body.values()))


def _components(costs: dict[str, dict]) -> Table:
    rows = [
        [Cell(name), *(Cell(cost.get(kind, "–")) for kind in ("components", "color_components"))]
        for name, cost in costs.items()
    ]
    return Table(
        "Gaussians that were chosen for the images that are timed", ["method", "gray", "color"], rows
    )


def _versions(study: Study) -> Table:
    rows = [[Cell(name), Cell(version)] for name, version in study.versions.items()]
    return Table("Versions", ["package", "version"], rows)


def _cell(value: float | None, style: Callable[[float], str]) -> Cell:
    return Cell("–") if value is None else Cell(style(value), float(value))


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")  # that several networks are traced is no news
    main()
