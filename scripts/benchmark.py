"""Speed and memory against their bounds: ratios of two things measured in one run, medians.

    python scripts/benchmark.py [training] [inspect] [prototype]

training   end-to-end triplets a second over those of the bare optimiser step on one batch in memory
           (h = 16, batch 256); bound: at least 0.85
inspect    reading, features, distance, score and map of 512×512 PNG files over the bare network on one
           of them in memory (h = 16); bound: at most 1.5, with one TensorFlow trace over all sizes
prototype  peak memory of `metricad prototype` with 500 good images over that with 50; bound: within 5 %

Everything is rendered here; nothing is needed but the project itself. Prints a Markdown table.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from data_prep.surfaces import generator

REPEATS = 5


def main() -> None:
    """Run the benchmarks that are named, or all."""
    chosen = sys.argv[1:] or list(BENCHMARKS)
    unknown = set(chosen) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"error: no benchmark {', '.join(unknown)}; expected {', '.join(BENCHMARKS)}")
    print("| what | measured | bound |\n| --- | ---: | ---: |")
    for name in chosen:
        for row in BENCHMARKS[name]():
            print(f"| {' | '.join(row)} |", flush=True)


def training() -> list[tuple[str, str, str]]:
    """Compare a run with the default settings, start to end, with the same model's step on one batch.

    The bare step is timed after each of the run's rounds, so that both see the same machine.
    """
    import tensorflow as tf

    from metricad import images, runs, training, triplets
    from metricad.networks import residual as network
    from metricad.settings import Settings

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
        whole = _seconds(
            lambda: training.train(
                run, [source], on_round=lambda _: bare.append(_seconds(lambda: [step() for _ in range(50)]))
            )
        )
    steps = settings.rounds * settings.epochs * settings.triplets_per_round / settings.batch_size
    seconds_a_step = (whole - sum(bare)) / steps
    ratio = np.median(bare) / 50 / seconds_a_step
    rate = f"{settings.batch_size / seconds_a_step:.0f} triplets/s end to end"
    return [("training: end-to-end throughput over the bare step", f"{ratio:.3f} ({rate})", "≥ 0.85")]


def inspect() -> list[tuple[str, str, str]]:
    """Compare `Inspector.inspect_files` with the bare network, image by image in turn."""
    import tensorflow as tf

    from metricad import images
    from metricad.inspection import fit as inspector
    from metricad.networks import residual as network

    model = network.build(16, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        paths = _render(Path(folder), 60)
        part = inspector.fit_inspector(paths[:30], model, false_alarm_rate=0.2)
        pixels = tf.constant(images.read(paths[0])[np.newaxis, :, :, np.newaxis])
        bare_network = tf.function(lambda: model(pixels, training=False), jit_compile=False)
        bare_network()
        ratios, milliseconds = [], []
        for _ in range(REPEATS):
            bare = _seconds(lambda: [bare_network() for _ in paths])
            whole = _seconds(lambda: [None for _ in part.inspect_files(paths)])
            bare = (bare + _seconds(lambda: [bare_network() for _ in paths])) / 2
            ratios.append(whole / bare)
            milliseconds.append((1000 * whole / len(paths), 1000 * bare / len(paths)))
        odd = _render(Path(folder, "odd"), 20, size=lambda i: 200 + 7 * i)
        for _ in part.inspect_files(odd):
            pass
        traces = part.detector.extractor.extract.trace_count()
    whole, bare = np.median(milliseconds, axis=0)
    return [
        (
            "inspect: read, features, distance, score and map over the bare network",
            f"{np.median(ratios):.2f} ({whole:.1f} ms and {bare:.1f} ms)",
            "≤ 1.5",
        ),
        ("inspect: TensorFlow traces over 21 image sizes", str(traces), "1"),
    ]


def prototype() -> list[tuple[str, str, str]]:
    """Compare the peak resident memory of two processes that make a prototype."""
    with tempfile.TemporaryDirectory() as folder:
        paths = _render(Path(folder), 500)
        few, many = (_peak_megabytes(paths[:count]) for count in (50, 500))
    change = many / few - 1
    return [
        (
            "prototype: peak memory with 500 images over that with 50",
            f"{change:+.1%} ({few:.0f} MB and {many:.0f} MB)",
            "± 5 %",
        )
    ]


_FIT = """
import resource, sys
from metricad import inspector, network
from metricad.prototype import GaussianPrototype
model = network.build(16, seed=0)
inspector.fit_inspector(sys.argv[1:], model, prototype=GaussianPrototype(), false_alarm_rate=0.1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def _peak_megabytes(paths: list[Path]) -> float:
    peaks = []
    for _ in range(3):
        command = [sys.executable, "-c", _FIT, *map(str, paths)]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        peaks.append(float(done.stdout))
    return float(np.median(peaks))


def _render(folder: Path, count: int, size: Callable[[int], int] = lambda i: 512) -> list[Path]:
    from metricad import images

    paths = [folder / f"{i:04d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        images.write(path, generator.render(1, i % 40, size=size(i))[0])
    return paths


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


BENCHMARKS = {"training": training, "inspect": inspect, "prototype": prototype}

if __name__ == "__main__":
    main()
