"""The scoreboard: the paper's method, what ships, their controls and the baselines on labelled surfaces.

    python scripts/scoreboard.py --data surfaces --data dagm2007/class1 --data PREPARED/magnetic_tile \
      --data-dir PREPARED --paper grid/networks/h16-cifar100-0 --adapt

Writes scoreboard.md and scoreboard.csv into results/ and prints the summary. Rows are whatever
`metricad evaluate` puts side by side; `--method cae-kde --epochs cae-kde=30` adds published methods.
"""

import argparse
import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import rivals
import tensorflow as tf

from data_prep.surfaces import generator
from metricad import comparison, datasets, display, files, markdown, methods, metrics, report
from metricad import results as records
from metricad.document import Cell, Document, Section, Table
from metricad.evaluation import Method, Protocol
from metricad.images import from_uint8
from metricad.inspection.detector import Features, TripletDetector
from metricad.networks import residual as network
from metricad.networks.factory import extractor
from metricad.options import SHIPPED
from metricad.results import Result, Study

METRICS: dict[str, Callable[[Result], float | None]] = {
    "AUROC": lambda one: one.auroc,
    "AP": lambda one: one.average_precision,
    "pixel AUROC": lambda one: one.pixel_auroc,
    "AUPRO": lambda one: one.aupro,
}
SET_UP_IMAGES = 100
SIDE = 512
_TIMED = 15
_RENDERED = 10  # different images; the others are these, rolled round, as time does not depend on them

Surface = tuple[str, str]


def main() -> None:
    """Evaluate, measure costs, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, action="append", help="as of 'metricad evaluate'")
    parser.add_argument("--data-dir", help="as of 'metricad evaluate'")
    parser.add_argument("--paper", metavar="RUN", help="run folder of the paper's method")
    parser.add_argument("--adapt", action="store_true", help="also the default adapted to each surface: slow")
    parser.add_argument("--method", action="append", choices=methods.COMPARED, help="also published methods")
    rivals.add_options(parser)
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the two files")
    parser.add_argument("--keep", type=Path, help="results to keep for 'metricad report', with heat maps")
    options = parser.parse_args()
    networks = [options.paper] if options.paper else []
    networks += [*SHIPPED, *([SHIPPED[0] + methods.ADAPTED] if options.adapt else [])]
    surfaces = [s for source in options.data for s in datasets.load(source, data_dir=options.data_dir)]
    protocol, epochs = Protocol(), rivals.epochs(parser, options)
    compared = [
        methods.of_name(name, epochs=epochs.get(name), weights=options.weights)
        for name in options.method or []
    ]
    tasks = comparison.plan(surfaces, [], networks, compared=compared)
    with display.progress("images", sum(task.step_count for task in tasks)) as advance:
        study = comparison.run(tasks, networks, protocol=protocol, on_image=advance)
    if options.keep:
        records.save(options.keep, study)
    costs = {key(method): measure(method) for method in tasks[0].methods}
    document = build(study, costs, command=command(options), protocol=protocol)
    files.write_text(options.out / "scoreboard.md", markdown.render(document))
    files.write_text(options.out / "scoreboard.csv", report.to_csv(study))
    print("\n".join(markdown.table(document.blocks[-1])))


def key(one: Result | Method) -> str:
    """What a row is called; it tells a method of one result from that of another."""
    named = one.name if isinstance(one, Method) else one.method
    match one.role:
        case "trained":
            return f"{one.network}: {named}"
        case "untrained":
            return f"untrained {one.network}: {named}"
        case _:
            return named


def command(options: argparse.Namespace) -> str:
    """The command line without the folders of this machine."""
    words = ["python", "scripts/scoreboard.py"]
    for source in options.data:
        place = f"PREPARED/{Path(source).resolve().name}" if Path(source).is_dir() else source
        words += ["--data", place]
    words += ["--data-dir", "PREPARED"] if options.data_dir else []
    words += ["--paper", f"RUNS/{Path(options.paper).resolve().name}"] if options.paper else []
    words += ["--adapt"] if options.adapt else []
    return shlex.join([*words, *rivals.words(options)])


def measure(method: Method) -> dict[str, float]:
    """Time and size of a method on rendered 512×512 images, the bare network of the paper timed in turns.

    Returns
    -------
    dict of str to float
        ``milliseconds`` of a score, ``ratio`` to the bare network h = 16, ``set_up`` seconds from 100 images
        of which a fifth sets the threshold, ``bytes`` of weights and prototype.
    """
    rendered = [from_uint8(generator.render(1, i, size=SIDE)[0]) for i in range(_RENDERED)]
    images = [np.roll(rendered[i % _RENDERED], 37 * i, axis=1) for i in range(SET_UP_IMAGES)]
    detector = method.make()
    began = time.perf_counter()
    detector.fit(iter(images[SET_UP_IMAGES // 5 :]))
    for image in images[: SET_UP_IMAGES // 5]:
        detector.score(image)
    set_up = time.perf_counter() - began
    inner = getattr(detector, "detector", detector)
    if isinstance(inner, TripletDetector):
        inner.extractor = Features(inner.model)  # as an inspector has them, where nothing else shares them
    bare = extractor(network.build(16, seed=0))
    bare(images[0])
    scored, passed = [], []
    for image in images[:_TIMED]:
        scored.append(_seconds(lambda image=image: detector.score(image)))
        passed.append(_seconds(lambda image=image: bare(image)))
    return {
        "milliseconds": 1000 * float(np.median(scored)),
        "ratio": float(np.median(scored) / np.median(passed)),
        "set_up": set_up,
        "bytes": rivals.size_of(detector),
    }


def build(study: Study, costs: dict[str, dict], *, command: str, protocol: Protocol) -> Document:
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
            f"Made by: {command}",
            "One setting for all surfaces. Each surface's good images are shared out to the prototype "
            f"({1 - protocol.holdout:.0%}), the threshold ({protocol.holdout:.0%}) and the test, see the "
            "table of images; an image's score is the maximum of its map. Adaptation, where it is, sees the "
            "prototype's images alone. Untrained networks have seed 0 where their trained ones ship, else "
            "the seed of their training; the adaptation has seed 0.",
            f"Costs are of {SIDE}×{SIDE} images on one machine's CPU: milliseconds of a score, as inspection "
            "takes them, that as a multiple of the paper's bare network h = 16 timed in turns, weights and "
            f"prototype as the program holds them, and seconds from {SET_UP_IMAGES} good images in memory "
            "to a threshold.",
            _summary(rows, surfaces, by_place, costs),
        ],
        [
            *(Section(name, [table]) for name, table in tables.items()),
            *(Section("By kind of defect", [table]) for table in kinds if table),
            Section("Images and versions", [_images(study), _versions(study)]),
        ],
    )


def by_dataset(surfaces: Sequence[Surface]) -> dict[str, list[Surface]]:
    """Surfaces of each data set."""
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
            header.append(name)
            for row, cells in zip(rows, body, strict=True):
                found = [getattr(by_place[row, s], metric) for s in group if (row, s) in by_place]
                cells.append(_cell(take(found) if found and None not in found else None, "{:.3f}".format))
    styles = {
        "ms, 512×512": ("milliseconds", "{:.1f}".format),
        "× bare network": ("ratio", "{:.2f}".format),
        "model, kB": ("bytes", lambda size: f"{size / 1000:.0f}"),
        "set-up, s": ("set_up", "{:.1f}".format),
    }
    for name, (cost, style) in styles.items():
        header.append(name)
        for row, cells in zip(rows, body, strict=True):
            cells.append(_cell(costs.get(row, {}).get(cost), style))
    return Table("AUROC by surface, and what it costs", header, body)


def _table(
    caption: str, rows: Sequence[str], surfaces: Sequence[Surface], values: dict, style: Callable
) -> Table:
    """Surfaces below each other, methods side by side, and the mean of each data set."""
    body, footer = [], []
    for dataset, group in by_dataset(surfaces).items():
        for surface in group:
            body.append([Cell(surface[1]), *(_cell(values.get((row, surface)), style) for row in rows)])
        if len(group) > 1:
            found = [[values.get((row, surface)) for surface in group] for row in rows]
            means = [None if None in each else float(np.mean(each)) for each in found]
            footer.append([Cell(f"{dataset.split('/')[0]}, mean"), *(_cell(mean, style) for mean in means)])
    return Table(caption, ["surface", *rows], body, footer)


def _kinds(rows: Sequence[str], surface: Surface, by_place: dict) -> Table | None:
    """AUROC of each kind of defect against all good images, where there are several kinds."""
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
    """AUROC of one kind of defect against all good test images."""
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
        "for the prototype",
        "for the threshold",
        "good tested",
        "defects tested",
    ]
    return Table("Images", header, list(body.values()))


def _versions(study: Study) -> Table:
    rows = [[Cell(name), Cell(version)] for name, version in {**study.versions, "cores": _cores()}.items()]
    return Table("Versions", ["package", "version"], rows)


def _cores() -> str:
    return str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def _cell(value: float | None, style: Callable[[float], str]) -> Cell:
    return Cell("–") if value is None else Cell(style(value), float(value))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")  # that several networks are traced is no news
    main()
