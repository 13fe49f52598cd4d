"""Measure speed and memory as ratios of two values of the same run (medians); some have bounds.

    python scripts/benchmark.py [training] [inspect] [speed] [memory] [large] [--out results/benchmarks.md]

training   triplets per second end to end, divided by those of the bare optimizer step on one batch in memory
           (h = 16, batch 256); bound: at least 0.85
inspect    the paper's method: reading, features, distance, score and map of 512×512 PNG files, divided by
           the bare network on one of them in memory (h = 16); bound: at most 1.5, without another TensorFlow
           trace for images of other sizes
speed      the score of one 512×512 image in memory, of both shipped networks, gray and color, divided by the
           bare network h = 16, alternately; and set-up from 100 such images divided by inspecting them
memory     peak memory of fitting to 400 good images divided by that with 100; bound: within 5 %
large      time and peak memory of inspecting one image of 3 megapixels, alternately with one of 512×512

All images are rendered here. Each benchmark has its own process, and so has each measurement of memory.
Prints a Markdown table.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import numpy as np
from measuring import seconds

from data_prep.surfaces import generator
from metricad import files
from metricad.data import images
from metricad.networks import SHIPPED
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Table
from metricad.versions import versions

if TYPE_CHECKING:
    import keras

REPEATS = 5
UNITS = 16
"""Size of the paper's network that is the reference for times."""

Row = tuple[str, str, str]


@dataclass(frozen=True)
class Scope:
    """Sizes and counts of the measurements."""

    side: int = measuring.SIDE
    set_up: int = measuring.SET_UP_IMAGES
    networks: tuple[str, ...] = SHIPPED
    timed: int = 30
    few: int = 100
    many: int = 400
    large: tuple[int, int] = (1536, 2048)
    large_fit: int = 20


FULL = Scope()
QUICK = Scope(128, 10, ("fast",), 3, 10, 20, (256, 384), 8)


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="benchmark", help=f"of {', '.join(BENCHMARKS)}; else all")
    parser.add_argument("--quick", action="store_true", help="tiny images, to see that it works")
    parser.add_argument("--network", action="append", default=[], help="networks in place of those that ship")
    parser.add_argument("--out", type=Path, help="file to write the page to as well")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(unknown)}; expected {', '.join(BENCHMARKS)}")
    if options.one:
        scope = QUICK if options.quick else FULL
        if options.network:
            scope = replace(scope, networks=tuple(options.network))
        print(json.dumps(BENCHMARKS[options.one](scope)))
        return
    rows: list[Row] = []
    for name in options.names or BENCHMARKS:
        rows += json.loads(_output([sys.executable, __file__, "--one", name, *_options(options)]))
        print(f"{name}: done", file=sys.stderr, flush=True)
    page = build(rows, options)
    print("\n".join(markdown.table(page.blocks[-1])))
    if options.out:
        files.write_text(options.out, markdown.render(page))


def _options(options: argparse.Namespace) -> list[str]:
    """Return the options that say what is measured."""
    networks = [part for name in options.network for part in ("--network", name)]
    return [*(["--quick"] if options.quick else []), *networks]


def build(rows: Sequence[Row], options: argparse.Namespace) -> Document:
    """Build the page; the table is its last block."""
    found = versions()
    return Document(
        "Speed and memory",
        [
            f"Made by: {shlex.join(['python', 'scripts/benchmark.py', *options.names, *_options(options)])}",
            f"Ratios of two values of the same run, medians, with {measuring.cores()} CPU cores, "
            f"TensorFlow {found['tensorflow']}, Keras {found['keras']}, metricad "
            f"{found.get('commit', found['metricad'])}. Images that are scored are in memory, one at a time, "
            "on all cores, and show a texture with four regions at positions that vary; brackets have the "
            "number of Gaussians of each feature map. Set-up is fitting to four fifths of the images and "
            "scoring the others for a threshold; inspecting is scoring each image once.",
            Table("Ratios", ["what", "measured", "bound"], [list(map(Cell, row)) for row in rows]),
        ],
    )


def training(_: Scope) -> list[Row]:
    """Compare a run with the default settings, start to end, with the same model's step on one batch.

    The bare step is timed after each of the run's rounds, so that both see the same machine.
    """
    import tensorflow as tf

    from metricad.networks import residual as network
    from metricad.training import runs, triplets
    from metricad.training import triplet_training as training
    from metricad.training.settings import Settings

    settings = Settings()
    textures = {
        generator.NAMES[n - 1]: [images.from_uint8(generator.render(n, i)[0]) for i in range(3)]
        for n in (1, 2, 5)
    }
    source = triplets.prepare("surfaces", textures)
    model = training.three_branches(network.build(settings.units))
    batch = [tf.constant(part[: settings.batch_size]) for part in settings.sample([source], 1)]
    target = tf.constant(np.tile(np.float32((0, 1)), (settings.batch_size, 1)))

    @tf.function(jit_compile=False)
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.abs(model(batch, training=True) - target))
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    step()
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = runs.start(Path(folder, "run"), settings, {})
        whole = seconds(
            lambda: training.train(
                run, [source], on_round=lambda _: bare.append(seconds(lambda: [step() for _ in range(50)]))
            )
        )
    steps = settings.rounds * settings.epochs * settings.triplets_per_round / settings.batch_size
    seconds_a_step = (whole - sum(bare)) / steps
    ratio = np.median(bare) / 50 / seconds_a_step
    rate = f"{settings.batch_size / seconds_a_step:.0f} triplets/s end to end"
    return [("training: end-to-end throughput over the bare step", f"{ratio:.3f} ({rate})", "≥ 0.85")]


def inspect(scope: Scope) -> list[Row]:
    """Compare `Inspector.inspect_files` with the bare network, alternating image by image."""
    import tensorflow as tf

    from metricad.inspection.fit import fit_inspector
    from metricad.networks import residual as network

    model = network.build(UNITS, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        paths = _render(Path(folder), 60, size=lambda _: scope.side)
        part = fit_inspector(paths[:30], model, false_alarm_rate=0.2, holdout=0.2)
        pixels = tf.constant(images.read(paths[0])[np.newaxis, :, :, np.newaxis])
        bare_network = tf.function(lambda: model(pixels, training=False), jit_compile=False)
        bare_network()
        ratios, milliseconds = [], []
        for _ in range(REPEATS):
            bare = seconds(lambda: [bare_network() for _ in paths])
            whole = seconds(lambda: [None for _ in part.inspect_files(paths)])
            bare = (bare + seconds(lambda: [bare_network() for _ in paths])) / 2
            ratios.append(whole / bare)
            milliseconds.append((1000 * whole / len(paths), 1000 * bare / len(paths)))
        odd = _render(Path(folder, "odd"), 20, size=lambda i: scope.side - 10 + 7 * i)
        with _traced(part.detector.to_distances) as traces:
            for _ in part.inspect_files(odd):
                pass
    whole, bare = np.median(milliseconds, axis=0)
    return [
        (
            "inspect: read, features, distance, score and map over the bare network",
            f"{np.median(ratios):.2f} ({whole:.1f} ms and {bare:.1f} ms)",
            "≤ 1.5",
        ),
        ("inspect: TensorFlow traces for 20 more image sizes", str(len(traces)), "0"),
    ]


@contextmanager
def _traced(model: "keras.Model") -> Iterator[list]:
    """Yield a list that grows at each trace of a compiled model, because only traces call its layers."""
    import keras

    traces, call = [], keras.layers.Layer.__call__

    def counted(self: "keras.layers.Layer", *given: object, **named: object) -> object:
        if self is model:
            traces.append(self)
        return call(self, *given, **named)

    with mock.patch.object(keras.layers.Layer, "__call__", counted):
        yield traces


def speed(scope: Scope) -> list[Row]:
    """Compare the scores of inspectors with the bare network, and set-up with inspection."""
    from metricad.inspection.detector import PartDetector
    from metricad.networks import factory, pretrained, residual

    shown = {
        "gray": measuring.regions(scope.set_up, (scope.side, scope.side)),
        "color": measuring.regions(scope.set_up, (scope.side, scope.side), is_colored=True),
    }
    bare = factory.extractor(residual.build(UNITS, seed=0))
    works: dict[str, Callable[[int], object]] = {"bare": lambda k: bare(shown["gray"][k])}
    detectors, set_up = {}, {}
    for name in scope.networks:
        for kind, good in shown.items():
            key = f"{name}, {kind}"
            detectors[key] = PartDetector(pretrained.load(name))
            set_up[key] = measuring.set_up(detectors[key], good)
            works[key] = lambda k, good=good, detector=detectors[key]: detector.score(good[k])
    taken = measuring.in_turns(works, min(scope.timed, scope.set_up))
    rows = [
        (
            f"speed: score, {key}, over the bare network ({measuring.components(detector)})",
            f"{taken[key] / taken['bare']:.2f} "
            f"({1000 * taken[key]:.1f} ms and {1000 * taken['bare']:.1f} ms)",
            "",
        )
        for key, detector in detectors.items()
    ]
    rows += [
        (f"speed: color over gray, {name}", f"{taken[f'{name}, color'] / taken[f'{name}, gray']:.2f}", "")
        for name in scope.networks
    ]
    return rows + [
        (
            f"speed: set-up from {scope.set_up} images over inspecting them, {key}",
            f"{fit / inspection:.2f} ({fit:.1f} s and {inspection:.1f} s)",
            "",
        )
        for key, (fit, inspection) in set_up.items()
    ]


def memory(scope: Scope) -> list[Row]:
    """Compare peak resident memory of processes that fit an inspector to few and to many image files."""
    with tempfile.TemporaryDirectory() as folder:
        paths = _write(Path(folder), measuring.regions(scope.many, (scope.side, scope.side)))
        name = scope.networks[0]
        peaks = [_fit(name, paths[:count])["peak"] for count in (scope.few, scope.many)]
    few, many = peaks
    return [
        (
            f"memory: peak of fitting {name} to {scope.many} images over that with {scope.few}",
            f"{many / few - 1:+.1%} ({few:.0f} MiB and {many:.0f} MiB)",
            "± 5 %",
        )
    ]


def large(scope: Scope) -> list[Row]:
    """Inspect large images with an inspector fitted to large images and with one fitted to small ones."""
    name, rows = scope.networks[0], []
    size = "×".join(map(str, scope.large))
    usual = (scope.side, scope.side)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("gray", "color"):
            shown = {
                shape: _write(
                    Path(folder, kind, str(shape[1])),
                    measuring.regions(scope.large_fit, shape, is_colored=kind == "color"),
                )
                for shape in (usual, scope.large)
            }
            parts = {shape: Path(folder, f"{kind}-{shape[1]}.metricad") for shape in shown}
            made = {shape: _fit(name, paths, parts[shape]) for shape, paths in shown.items()}
            small = (parts[usual], shown[usual][0])
            alone = _inspect([small])
            for fitted_to in (scope.large, usual):
                one = (parts[fitted_to], shown[scope.large][0])
                peak = _inspect([one])["peak"]
                usually, taken = _inspect([small, one])["seconds"]
                fit = made[fitted_to]
                halved = ", halved" if fit["is_halved"] else ""
                of = f"{kind} image of {size}, {name} fitted to {fitted_to[0]}×{fitted_to[1]}{halved}"
                chosen = f"({fit['components']})"
                rows.append(
                    (
                        f"large: score of a {of} {chosen}, over one of {usual[0]}×{usual[1]}",
                        f"{taken / usually:.2f} ({1000 * taken:.0f} ms and {1000 * usually:.0f} ms)",
                        "",
                    )
                )
                rows.append(
                    (
                        f"large: peak memory of inspecting a {of}",
                        f"{peak:.0f} MiB ({alone['peak']:.0f} MiB with one of {usual[0]}×{usual[1]})",
                        "",
                    )
                )
    return rows


_PEAK = """
import json, resource, sys, time
import measuring
import numpy as np
from metricad import fit_inspector, load_inspector, load_shipped_network, read_image, save_inspector

def tell(**found):
    print(json.dumps(found | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""

_FIT = """
name, path, *good = sys.argv[1:]
part = fit_inspector(good, load_shipped_network(name), false_alarm_rate=0.5, holdout=0.2)
if path:
    save_inspector(part, path)
tell(components=measuring.components(part.detector), is_halved=part.detector.settings["is_halved"])
"""

_INSPECT = """
parts = [load_inspector(path) for path in sys.argv[1::2]]
shown = [read_image(path, color=part.detector.channels == 3) for part, path in zip(parts, sys.argv[2::2])]
works = {k: lambda _, k=k: parts[k].inspect(shown[k]) for k in range(len(parts))}
tell(seconds=list(measuring.in_turns(works, 7).values()))
"""


def _fit(name: str, good: Sequence[Path], path: Path | None = None) -> dict:
    """Fit an inspector in its own process; return what was chosen, and the peak memory in MiB."""
    return json.loads(_output([sys.executable, "-c", _PEAK + _FIT, name, path or "", *good]))


def _inspect(pairs: Sequence[tuple[Path, Path]]) -> dict:
    """Measure median seconds of inspectors, each on its image, alternately in one process, and peak MiB."""
    words = [word for pair in pairs for word in pair]
    return json.loads(_output([sys.executable, "-c", _PEAK + _INSPECT, *words]))


def _output(command: Sequence[object]) -> str:
    """Run a process that can import the scripts; return the last line that it prints."""
    # A process is credited with the memory of the one that it is started from: that one has to stay small.
    found = [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, found))}
    done = subprocess.run(
        list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return done.stdout.splitlines()[-1]


def _render(folder: Path, count: int, size: Callable[[int], int]) -> list[Path]:
    return _write(
        folder, [images.from_uint8(generator.render(1, i % 40, size=size(i))[0]) for i in range(count)]
    )


def _write(folder: Path, shown: Sequence[np.ndarray]) -> list[Path]:
    paths = [folder / f"{i:04d}.png" for i in range(len(shown))]
    for path, image in zip(paths, shown, strict=True):
        images.write(path, images.to_uint8(image))
    return paths


BENCHMARKS: dict[str, Callable[[Scope], list[Row]]] = {
    "training": training,
    "inspect": inspect,
    "speed": speed,
    "memory": memory,
    "large": large,
}

if __name__ == "__main__":
    main()
