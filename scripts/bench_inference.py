"""Measure inference on this machine: speed, share of peak performance, and loss of throughput end to end.

    python scripts/bench_inference.py [--quick] [--rounds 5] [--out results]

Writes inference.md. Everything is rendered and fitted here; the runtimes of metricad[export] are needed.
Each group of measurements has its own process, whose number of threads is set before any import. Compared
items are measured alternately in the same process, in several rounds; the page shows medians.
"""

import argparse
import json
import logging
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from metricad import files
from metricad.deploy import exported, runtimes, sealed
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Section, Table
from metricad.versions import versions

if TYPE_CHECKING:
    import keras

NETWORK = "network"
"""The bare network of the paper: pixels to features, no distance."""

TITLES = {
    NETWORK: "the paper's network alone",
    "paper": "paper: its network and the mean",
    "fast": "fast, mixture",
    "accurate": "accurate, mixture",
}
JUDGED = ("score", "peak", "source", "distance_map")
"""Outputs that a judgement is made of."""

SUFFIXES = {"onnx": ".onnx", "openvino": "", "litert": ".tflite"}
RUNTIMES = {"bundle": "TensorFlow", "onnx": "ONNX Runtime", "openvino": "OpenVINO", "litert": "LiteRT"}
IN_LINE = {"bundle": "TensorFlow", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}

SHARE, LOSS, START = 0.65, 0.15, 1.5
"""Targets: least share of the peak, greatest loss end to end, seconds to a first verdict."""

_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
_SETS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
_DIFFERENT = 50  # images that the files of a line are copies of: writing PNG takes longer than reading it


@dataclass(frozen=True)
class Scope:
    """Sizes and counts of the measurements."""

    side: int = 512
    units: int = 16
    networks: tuple[str, ...] = (NETWORK, "paper", "fast", "accurate")
    in_line: tuple[str, ...] = ("paper", "accurate")
    threads: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] = (1, 8)
    rounds: int = 5
    files: int = 100  # a round
    product: int = 3000


FULL = Scope()
QUICK = Scope(96, 2, (NETWORK, "paper"), ("paper",), (1,), (1, 2), 1, 4, 64)


def main() -> None:
    """Run the measurements, each in its own process, one after the other, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny images, to see that it works")
    parser.add_argument("--rounds", type=int, help="of each comparison; default: 5, with --quick 1")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the page")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    scope = QUICK if options.quick else FULL
    scope = replace(scope, rounds=options.rounds or scope.rounds)
    if options.task:
        name, folder, *numbers = options.task
        found = TASKS[name](scope, Path(folder), *map(int, numbers))
        files.write_text(Path(folder, f"{name}.json"), json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        made = _task(options, "make", folder)
        speeds = {threads: _task(options, "speed", folder, threads) for threads in scope.threads}
        starts = start(scope, Path(folder))
        line = _task(options, "line", folder, runtimes.cores())
    command = shlex.join(["python", "scripts/bench_inference.py", *_passed_on(options)])
    document = build(scope, facts() | made, speeds, starts, line, command=command)
    files.write_text(options.out / "inference.md", markdown.render(document))
    print(f"{options.out / 'inference.md'}: written")


def _task(options: argparse.Namespace, name: str, folder: str, threads: int | None = None) -> dict | list:
    """Run a task in its own process; `threads` limits every library there."""
    began = time.perf_counter()
    limits = {} if threads is None else dict.fromkeys(_LIMITS, str(threads))
    numbers = [] if threads is None else [str(threads)]
    command = [sys.executable, __file__, *_passed_on(options), "--task", name, folder, *numbers]
    subprocess.run(command, check=True, env=os.environ | limits)
    print(f"{name} {' '.join(numbers)}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return json.loads(Path(folder, f"{name}.json").read_text(encoding="utf-8"))


def _passed_on(options: argparse.Namespace) -> list[str]:
    rounds = ["--rounds", str(options.rounds)] if options.rounds else []
    return [*(["--quick"] if options.quick else []), *rounds]


def make(scope: Scope, folder: Path) -> dict[str, str]:
    """Render images; fit and export the inspectors, and the paper's network alone.

    Returns
    -------
    dict of str to str
        By title, what was chosen for each inspector.
    """
    from data_prep.surfaces import generator
    from metricad.data import images
    from metricad.deploy import export
    from metricad.inspection import bundle
    from metricad.inspection.fit import fit_inspector
    from metricad.networks import pretrained
    from metricad.networks import residual as network

    (folder / "line").mkdir()
    files_in_all = scope.rounds * scope.files
    count = min(_DIFFERENT, files_in_all)
    for k in range(count):
        path = folder / f"{k:02d}.png"
        images.write(path, generator.render(1 + k % 10, k, size=scope.side)[0])
        for copy in range(k, files_in_all, count):
            (folder / "line" / f"{copy:04d}.png").write_bytes(path.read_bytes())
    good = sorted(folder.glob("*.png"))[:10]
    paper = network.build(scope.units, seed=0)
    chosen = {}
    for name in scope.networks:
        if name == NETWORK:
            write_network(paper, folder)
            continue
        model = paper if name == "paper" else pretrained.load(name)
        kind = "mean" if name == "paper" else "mixture"
        made = fit_inspector(good, model, kind=kind, false_alarm_rate=0.5, holdout=0.3)
        chosen[TITLES[name]] = made.detector.description
        bundle.save(made, place(folder, name, "bundle"))
        for format in SUFFIXES:
            export.export(made, place(folder, name, format), format=format)
    return chosen


def write_network(model: "keras.Model", folder: Path) -> None:
    """Export a network alone, from gray levels (N, H, W) to ``features``, to each format."""
    import keras
    import tensorflow as tf

    from metricad.networks import factory

    pixels = keras.Input((None, None), name=runtimes.PIXELS)
    whole = keras.Model(pixels, {"features": model(keras.ops.expand_dims(pixels, -1))})
    smallest = factory.grid(model).smallest
    whole(np.zeros((1, smallest, smallest), np.float32))  # Keras exports no model that was never called
    paths = {format: place(folder, NETWORK, format) for format in SUFFIXES}
    paths["openvino"].mkdir()
    paths["openvino"] /= sealed.OPENVINO
    settings = {
        "onnx": {"opset_version": 18},
        "openvino": {},
        "litert": {"target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}},
    }
    logging.disable(logging.WARNING)  # the converters' account of their work
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for format, path in paths.items():
            whole.export(str(path), format=format, verbose=False, **settings[format])
    logging.disable(logging.NOTSET)


def place(folder: Path, name: str, format: str) -> Path:
    """Return the path of a network or an inspector."""
    return folder / f"{name}-{format}{SUFFIXES.get(format, '.metricad')}"


def speed(scope: Scope, folder: Path, threads: int) -> dict:
    """Measure milliseconds per image of every network and runtime, and the machine's peak GFLOP/s."""
    from threadpoolctl import threadpool_limits

    from metricad.networks import residual as network

    factors = np.random.default_rng(0).normal(size=(2, scope.product, scope.product)).astype(np.float32)
    peaks, rows = [], []
    with threadpool_limits(threads):
        for name in scope.networks:
            for batch in scope.batches:
                pixels = gray_levels(scope.side, batch)
                runs = dict(open_all(scope, folder, name, threads=threads, batch=batch))
                taken = {format: [] for format in runs}
                for run in runs.values():
                    run(pixels)  # makes a plan
                turns = max(1, max(scope.batches) // batch)
                for _ in range(scope.rounds):
                    peaks.append(2 * scope.product**3 / seconds(lambda: np.matmul(*factors)) / 1e9)
                    for format, run in runs.items():
                        run(
                            pixels
                        )  # while the last one's threads, which may still wait for more, go to sleep
                        each = [seconds(partial(run, pixels)) for _ in range(turns)]
                        taken[format].append(1000 * float(np.median(each)) / batch)
                medians = {format: float(np.median(values)) for format, values in taken.items()}
                rows.append({"network": name, "batch": batch, "milliseconds": medians})
    model = network.build(scope.units)
    return {
        "peak": max(peaks),
        "multiply_adds": multiply_adds(model, scope.side),
        "rows": rows,
        "profile": profile(place(folder, NETWORK, "openvino"), scope, threads),
    }


def open_all(
    scope: Scope, folder: Path, name: str, *, threads: int, batch: int
) -> Iterator[tuple[str, Callable[[np.ndarray], object]]]:
    """Open every format: functions from gray levels (N, H, W) to features or a judgement."""
    if name == NETWORK:
        import tensorflow as tf

        from metricad.networks import residual as network

        model = network.build(scope.units, seed=0)
        signature = [tf.TensorSpec((None, None, None), tf.float32)]
        graph = tf.function(lambda pixels: model(pixels[..., None], training=False), signature)
        yield "bundle", lambda pixels: graph(pixels).numpy()
    elif batch == 1:  # a bundle judges one image at a time
        from metricad.inspection import bundle

        detector = bundle.load(place(folder, name, "bundle")).detector
        yield "bundle", lambda pixels: detector.judge(pixels[0] * np.float32(2 / 255) - np.float32(1))
    openers = {"onnx": runtimes.open_onnx, "openvino": runtimes.open_openvino, "litert": runtimes.open_litert}
    for format, opener in openers.items():
        path = place(folder, name, format)
        _, run = opener(sealed.read(path), path, threads=threads, workers=1)
        yield format, run(["features"] if name == NETWORK else JUDGED)


def multiply_adds(model: object, side: int) -> int:
    """Count the multiply-adds of a Keras model's convolutions for one image of this height and width."""
    import keras

    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    shapes = keras.Model(model.input, [layer.output for layer in layers]).compute_output_shape(
        (1, side, side, 1)
    )
    return sum(
        shape[1] * shape[2] * int(np.prod(layer.kernel.shape))
        for layer, shape in zip(layers, shapes, strict=True)
    )


def profile(path: Path, scope: Scope, threads: int) -> list[tuple[str, str, float]]:
    """Measure milliseconds of each step of OpenVINO's plan, with its kernel, longest first."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path / sealed.OPENVINO)
    model.reshape([1, scope.side, scope.side])
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERF_COUNT": True,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(1 + scope.rounds):
        request.infer({runtimes.PIXELS: gray_levels(scope.side, 1)})
        for step in request.get_profiling_info():
            if step.real_time.total_seconds():
                key = f"{step.node_type} {step.node_name}", step.exec_type
                taken.setdefault(key, []).append(1000 * step.real_time.total_seconds())
    medians = [(*key, float(np.median(each))) for key, each in taken.items()]
    return sorted(medians, key=lambda step: -step[2])


_START = """
import resource, sys, time
from metricad.data import images
from metricad.{module} import load
image = images.read(sys.argv[2])
part = load(sys.argv[1])
part.inspect(image)
print(time.time())
for _ in range(10):
    part.inspect(image)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def start(scope: Scope, folder: Path) -> list[dict]:
    """Measure seconds from the start of a process to its first verdict, and peak memory after ten more."""
    # A process is credited with the memory of the one that it is started from: that one has to stay small.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tried = [(name, format) for name in scope.networks if name != NETWORK for format in RUNTIMES]
    taken = {each: [] for each in tried}
    for _ in range(min(3, scope.rounds)):
        for name, format in tried:
            code = _START.format(module="inspection.bundle" if format == "bundle" else "deploy.exported")
            command = [sys.executable, "-c", code, place(folder, name, format), folder / "00.png"]
            began = time.time()
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            verdict, peak = done.stdout.split()[-2:]
            taken[name, format].append((float(verdict) - began, max(own, int(peak) / 1024)))
    print("start: done", file=sys.stderr, flush=True)
    medians = {each: np.median(values, axis=0).tolist() for each, values in taken.items()}
    return [
        {"network": name, "format": format, "seconds": found[0], "mebibytes": found[1]}
        for (name, format), found in medians.items()
    ]


def line(scope: Scope, folder: Path, threads: int) -> dict:
    """Measure `Inspector.inspect_files`, decoding alone and the network alone, with equal numbers of threads.

    A round takes its share of the files, so that every way has seen each file once in the end.
    """
    from metricad.data import images
    from metricad.inspection import bundle

    paths = sorted((folder / "line").iterdir())
    ways = [
        (name, format, workers)
        for name in scope.in_line
        for format in IN_LINE
        for workers in sorted({1, threads})
    ]
    inspectors = {
        way: bundle.load(place(folder, way[0], way[1]))
        if way[1] == "bundle"
        else exported.load(place(folder, way[0], way[1]), workers=way[2], threads=threads)
        for way in ways
    }
    reading, decoding = [], []
    rounds = {way: [] for way in ways}
    for number in range(scope.rounds):
        chosen = paths[number * scope.files : (number + 1) * scope.files]
        reading.append(
            [1000 * seconds(partial(each, p)) for p in chosen for each in (images.read, images.decode)]
        )
        decoded = parallel(images.decode, chosen, threads)
        decoding.append(1000 * decoded / scope.files)
        # A few suffice for the network alone, as all of its images take as long.
        few = [images.read(path) for path in chosen[: max(2 * threads, scope.files // 4)]]
        for way, inspector in inspectors.items():
            judge = inspector.detector.judge
            parallel(judge, few[:threads], way[2])
            alone = parallel(judge, few, way[2]) / len(few) * scope.files
            began = time.perf_counter()
            for _ in inspector.inspect_files(chosen, workers=way[2]):
                pass
            rounds[way].append((time.perf_counter() - began, decoded, alone))
    read, decode = np.median(np.reshape(reading, (-1, 2)), axis=0)
    return {
        "files": len(paths),
        "threads": threads,
        "bytes": int(np.mean([path.stat().st_size for path in paths])),
        "read": float(read),
        "decode": float(decode),
        "decode_parallel": float(np.median(decoding)),
        "ways": [
            {
                "network": name,
                "format": format,
                "workers": workers,
                "seconds": np.sum(taken, axis=0).tolist(),
                "loss": float(
                    np.median([1 - max(decoded, alone) / whole for whole, decoded, alone in taken])
                ),
                "over_sum": float(np.median([whole / (decoded + alone) for whole, decoded, alone in taken])),
            }
            for (name, format, workers), taken in rounds.items()
        ],
    }


def parallel(use: Callable, items: Sequence, threads: int) -> float:
    """Measure seconds to apply a function to all items, in this number of threads."""
    with ThreadPoolExecutor(threads) as pool:
        return seconds(lambda: list(pool.map(use, items)))


def gray_levels(side: int, batch: int) -> np.ndarray:
    """Noise, float32 (N, H, W) from 0 to 255."""
    return np.random.default_rng(0).uniform(0, 255, (batch, side, side)).astype(np.float32)


def seconds(work: Callable[[], object]) -> float:
    """Measure the seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def facts() -> dict[str, str]:
    """Describe the machine, and the versions of the measured software."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not on every system
        told = ""
    lines = dict(map(str.strip, each.partition(":")[::2]) for each in told.splitlines() if ":" in each)
    flags = lines.get("flags", "").split()
    packages = ("onnxruntime", "openvino", "ai-edge-litert", "pillow")
    return {
        "processor": lines.get("model name") or platform.processor() or "unknown",
        "cores": str(runtimes.cores()),
        "instruction sets": ", ".join(each for each in _SETS if each in flags) or "unknown",
        **versions(),
        **{package: version(package) for package in packages},
    }


def build(
    scope: Scope,
    machine: dict[str, str],
    speeds: dict[int, dict],
    starts: Sequence[dict],
    line: dict,
    *,
    command: str,
) -> Document:
    """Build the page."""
    return Document(
        "Speed of inference",
        [
            f"Made by: {command}",
            f"Images of {scope.side}×{scope.side} pixels, float32. Values that are compared with each other "
            f"were measured alternately in one process; medians of {scope.rounds} rounds. Images are in "
            "memory unless files are mentioned.",
        ],
        [
            Section("Milliseconds per image, and images per second", [_speed_table(speeds)]),
            Section("Share of the machine's peak", _peak(speeds), [_profile(speeds)]),
            Section("Reading a PNG file", [_reading(line)]),
            Section("Start-up and memory", _starts(starts)),
            Section("End to end", _line(line)),
            Section("Machine and versions", [_plain("Machine", ["what", "found"], machine.items())]),
        ],
    )


def _speed_table(speeds: dict[int, dict]) -> Table:
    rows = []
    for threads, found in speeds.items():
        for row in found["rows"]:
            taken = row["milliseconds"]
            best = min(taken.values())
            cells = [
                Cell(
                    f"{taken[format]:.1f} ({1000 / taken[format]:.1f})",
                    taken[format],
                    _best(taken[format], best),
                )
                if format in taken
                else Cell("–")
                for format in RUNTIMES
            ]
            rows.append([Cell(TITLES[row["network"]]), _number(threads), _number(row["batch"]), *cells])
    return Table(
        "Milliseconds per image, in brackets images per second; a bundle judges one image at a time",
        ["what", "threads", "batch", *RUNTIMES.values()],
        rows,
    )


def _peak(speeds: dict[int, dict]) -> list[str | Table]:
    rows, best = [], 0.0
    for threads, found in speeds.items():
        for row in found["rows"]:
            if row["network"] == NETWORK:
                rates = {
                    format: 2 * found["multiply_adds"] / taken / 1e6
                    for format, taken in row["milliseconds"].items()
                }
                best = max(best, max(rates.values()) / found["peak"])
                cells = [
                    Cell(f"{rates[format]:.0f} ({rates[format] / found['peak']:.0%})", rates[format])
                    for format in RUNTIMES
                ]
                rows.append(
                    [_number(threads), _number(row["batch"]), _number(found["peak"], "{:.0f}"), *cells]
                )
    work = next(iter(speeds.values()))["multiply_adds"]
    return [
        f"The convolutions of the paper's network alone are {work / 1e9:.3f} G multiply-adds per image, two "
        "operations each; other operations are not counted. The peak is the best of all rounds of a large "
        "float32 matrix product in NumPy with the same number of threads. The best runtime reaches "
        f"{best:.0%}; target: {SHARE:.0%} or more.",
        Table(
            "GFLOP/s, and the share of the peak",
            ["threads", "batch", "peak", *RUNTIMES.values()],
            rows,
        ),
    ]


def _profile(speeds: dict[int, dict]) -> Section:
    threads, found = list(speeds.items())[-1]
    steps = found["profile"]
    whole = sum(taken for *_, taken in steps)
    rows = [
        [Cell(name), Cell(kernel), _number(taken, "{:.2f}"), Cell(f"{taken / whole:.0%}", taken)]
        for name, kernel, taken in steps
        if taken >= 0.01 * whole
    ]
    return Section(
        f"Where OpenVINO's time goes, {threads} {'threads' if threads > 1 else 'thread'}",
        [Table("Steps with at least 1 % of the time", ["step", "kernel", "ms", "share"], rows)],
    )


def _reading(line: dict) -> Table:
    rows = [
        ("decoded (images.decode)", f"{line['decode']:.2f}"),
        ("decoded and turned into float32 luminance (images.read)", f"{line['read']:.2f}"),
        (f"decoded, in {line['threads']} threads", f"{line['decode_parallel']:.2f}"),
    ]
    return _plain(f"Files of {line['bytes'] / 1024:.0f} KiB on average", ["what", "ms per file"], rows)


def _starts(starts: Sequence[dict]) -> list[str | Table]:
    slowest = {
        RUNTIMES[format]: max(row["seconds"] for row in starts if row["format"] == format)
        for format in ("onnx", "openvino")
    }
    rows = [
        [
            Cell(TITLES[row["network"]]),
            Cell(RUNTIMES[row["format"]]),
            _number(row["seconds"], "{:.2f}"),
            _number(row["mebibytes"], "{:.0f}"),
        ]
        for row in starts
    ]
    told = ", ".join(f"{name} {taken:.2f} s" for name, taken in slowest.items())
    return [
        "From the start of a Python process to its first verdict on a PNG file, and the peak memory of the "
        f"process after ten more, all cores. At most {told}; target: at most {START} s.",
        Table("Fresh processes", ["what", "runtime", "seconds", "peak MiB"], rows),
    ]


def _line(line: dict) -> list[str | Table]:
    rows = []
    for way in line["ways"]:
        whole, decoded, alone = way["seconds"]
        rows.append(
            [
                Cell(TITLES[way["network"]]),
                Cell(RUNTIMES[way["format"]]),
                _number(way["workers"]),
                _number(whole, "{:.2f}"),
                _number(decoded, "{:.2f}"),
                _number(alone, "{:.2f}"),
                _number(way["loss"], "{:.0%}"),
                _number(way["over_sum"], "{:.2f}"),
            ]
        )
    return [
        f"Inspector.inspect_files over {line['files']} PNG files, in seconds, compared with decoding alone "
        f"and the model alone, each with {line['threads']} threads, which the workers share. The loss is the "
        f"loss of throughput against the slower of the two; target: at most {LOSS:.0%}. If each of the two "
        "uses every core fully, the time cannot be below their sum; the last column is the time divided by "
        "that sum.",
        Table(
            "End to end",
            ["what", "runtime", "workers", "inspect", "decoding", "network", "loss", "over the sum"],
            rows,
        ),
    ]


def _plain(caption: str, header: Sequence[str], rows: Sequence[tuple[str, str]]) -> Table:
    return Table(caption, header, [[Cell(text) for text in row] for row in rows])


def _number(value: float, style: str = "{}") -> Cell:
    return Cell(style.format(value), float(value))


def _best(value: float, best: float) -> str:
    return "strong" if value == best else ""


TASKS = {"make": make, "speed": speed, "line": line}

if __name__ == "__main__":
    main()
