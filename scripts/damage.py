"""Damage a bundle and its exports at random, and see whether a verdict changes.

    python scripts/damage.py --count 500

Two small inspectors are made and exported to every format. A copy of one is damaged in one of five ways: bits
are flipped, sectors are overwritten with zeros or with ones, a file is cut off, or a file (for formats of one
file, its second half) is exchanged with that of the other inspector. Then a process of its own loads it and
judges images. It may refuse the copy, or judge as before; another verdict is a failure.

Then each tensor of numbers in the graphs is set to NaN, one at a time, as by a computation that went wrong
and not by damage of a file: no checksum is asked. The graph is run by its runtime alone ("bare") and in
metricad. Where the score is NaN, the first may not say good, and the second must say error.

Writes damage.md into results/; leaves with 1 after a failure.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from metricad import files
from metricad.deploy import exported, loading, native_output, runtimes, sealed
from metricad.deploy.metadata import Description
from metricad.errors import BundleError, InspectorError
from metricad.inspection.inspector import Inspector
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Section, Table
from metricad.versions import versions

SIDE = 96
SECTORS = (512, 4096)  # bytes
WAYS = ("flipped bits", "zeros", "ones", "cut off", "exchanged")
OUTCOMES = ("refused", "error of the image", "as before", "CHANGED")
PATIENCE = 120.0  # seconds that one copy may take
SUFFIXES = {"bundle": ".metricad", "onnx": ".onnx", "litert": ".tflite", "openvino": "", "saved-model": ""}
NO_EFFECT = 5e-4  # difference of a score in standard deviations; exports are kept up to this one


def main() -> int:
    """Make inspectors, damage them, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="of damaged copies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = [make(Path(folder, name), seed) for seed, name in enumerate(("one", "other"))]
        damaged = damage(*parts, count=options.count, seed=options.seed)
        poisoned = {name: poison(name, parts[0]) for name in SUFFIXES if name != "bundle"}
    files.write_text(options.out / "damage.md", markdown.render(page(damaged, poisoned, options)))
    changed = sum(count for (_, _, outcome), count in damaged.items() if outcome == "CHANGED")
    silent = sum(found["bare: GOOD"] + found["metricad: no error"] for found in poisoned.values())
    print(f"{changed} changed verdicts, {silent} good ones from NaN")
    return 1 if changed or silent else 0


def make(folder: Path, seed: int) -> Path:
    """Make an inspector, its bundle and its exports."""
    native_output.load_tensorflow()
    from metricad.deploy import export
    from metricad.inspection import bundle
    from metricad.inspection.detector import PartDetector
    from metricad.networks import pretrained
    from metricad.scoring.calibration import calibrate

    good = [texture(100 * (seed + 1) + number) for number in range(30)]
    detector = PartDetector(pretrained.load("fast"), "gaussian").fit(good[:10])
    inspector = Inspector(detector, calibrate([detector.score(one) for one in good[10:]], 0.05))
    bundle.save(inspector, folder / "bundle.metricad")
    for format, suffix in list(SUFFIXES.items())[1:]:
        export.export(inspector, folder / f"{format}{suffix}", format=format)
    return folder


def texture(seed: int, *, is_scratched: bool = False) -> np.ndarray:
    """Draw stripes with a little noise: float32 (SIDE, SIDE) in [-1, 1]."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:SIDE, :SIDE]
    image = 0.4 * np.sin(0.8 * row + 0.3 * column + rng.uniform(0, 6)) + 0.03 * rng.standard_normal(
        (SIDE, SIDE)
    )
    if is_scratched:
        image[40:52, 50:62:2], image[40:52, 51:62:2] = 1, -1
    return np.rint(np.clip(image, -1, 1) * 127.5 + 127.5).astype(np.float32) / np.float32(127.5) - np.float32(
        1
    )


def images() -> list[np.ndarray]:
    """Two good images and two with a defect, which no inspector has seen."""
    return [texture(number, is_scratched=number % 2 == 1) for number in range(4)]


# Damaged files.


def damage(one: Path, other: Path, *, count: int, seed: int) -> Counter[tuple[str, str, str]]:
    """Count outcomes by format, way of damage and outcome."""
    rng = np.random.default_rng(seed)
    judge = Judge()
    expected = {name: judge(one / f"{name}{suffix}") for name, suffix in SUFFIXES.items()}
    for name, verdicts in expected.items():
        assert set(verdicts) == {"good", "defect"}, (name, verdicts)
    found: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            name = list(SUFFIXES)[number % len(SUFFIXES)]
            way = WAYS[number // len(SUFFIXES) % len(WAYS)]
            copy = Path(folder, f"{number}{SUFFIXES[name]}")
            source, source_of_other = (each / f"{name}{SUFFIXES[name]}" for each in (one, other))
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
            spoil(copy, source_of_other, way, rng)
            outcome = compared(judge(copy), expected[name])
            found[name, way, outcome] += 1
            if outcome == "CHANGED":
                print(f"CHANGED: {name}, {way}, number {number}", flush=True)
            shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
    judge.close()
    return found


def spoil(copy: Path, other: Path, way: str, rng: np.random.Generator) -> None:
    """Damage one file of a part in place."""
    names = [""] if copy.is_file() else sorted(sealed.parts_of(copy))
    name = names[rng.integers(len(names))]
    content = bytearray((copy / name).read_bytes())
    if way == "flipped bits":
        for _ in range(rng.integers(1, 9)):
            content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    elif way == "cut off":
        del content[rng.integers(len(content)) :]
    elif way == "exchanged":
        of_other = (other / name).read_bytes()
        content = bytearray(of_other if len(names) > 1 else content[: len(content) // 2])
        content += b"" if len(names) > 1 else of_other[len(content) :]
    else:
        size = SECTORS[rng.integers(len(SECTORS))]
        start = size * int(rng.integers(len(content) // size + 1))
        size = len(content[start : start + size])
        content[start : start + size] = (b"\0" if way == "zeros" else b"\xff") * size
    (copy / name).write_bytes(content)


def compared(found: list[str], expected: list[str]) -> str:
    """Tell what came of a damaged copy."""
    if found == ["refused"]:
        return "refused"
    if len(found) != len(expected) or any(
        one not in (two, "error") for one, two in zip(found, expected, strict=True)
    ):
        return "error of the image" if found == ["ended"] else "CHANGED"
    return "as before" if found == expected else "error of the image"


class Judge:
    """Loads parts and judges images in a process of its own, because native code may end it."""

    def __init__(self) -> None:
        self._start()

    def __call__(self, path: Path) -> list[str]:
        """Return the verdicts, or why there are none."""
        self._pipe.send(path)
        try:
            if self._pipe.poll(PATIENCE):
                return self._pipe.recv()
        except EOFError:
            pass
        print(f"the process ended or hung: {path.name}", flush=True)
        self.close()
        self._start()
        return ["ended"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=answer, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()


def answer(pipe: Connection) -> None:
    """Load and judge what is asked, until the process is killed."""
    native_output.load_tensorflow()
    while True:
        path = pipe.recv()
        try:
            inspector = loading.load(path)
        except BundleError:
            pipe.send(["refused"])
            continue
        verdicts = []
        for image in images():
            try:
                verdicts.append(inspector.inspect(image)[0].verdict)
            except InspectorError:
                verdicts.append("error")
        pipe.send(verdicts)


# Graphs that yield NaN.


def poison(format: str, folder: Path) -> Counter[str]:
    """Set each tensor of a graph to NaN and count what comes of it."""
    path = folder / f"{format}{SUFFIXES[format]}"
    description, clean = exported.open_runtime(path)
    pixels = [exported.to_pixels(image, description) for image in images()]
    outputs = ("score", "is_defect", "peak", "source", "distance_map")
    expected = [clean(outputs)(one) for one in pixels]
    found: Counter[str] = Counter()
    for run in TENSORS[format](path, outputs):
        found["tensors"] += 1
        try:
            answers = [run(one) for one in pixels]
        except Exception:  # each runtime raises its own types of error
            found["no answer"] += 1
            continue
        scores = [float(one["score"][0]) for one in answers]
        moved = [
            not abs(score - float(two["score"][0])) <= NO_EFFECT
            for score, two in zip(scores, expected, strict=True)
        ]
        if not any(moved):
            found["no effect"] += 1
            continue
        is_nan = [not np.isfinite(score) for score in scores]
        if not any(is_nan):
            found["another number"] += 1
            found["of it good"] += any(
                not one["is_defect"][0] and of_it for one, of_it in zip(answers, moved, strict=True)
            )
            continue
        found["NaN"] += 1
        said = [verdict(description, one, image) for one, image in zip(answers, images(), strict=True)]
        found["bare: GOOD"] += any(
            not one["is_defect"][0] and of_it for one, of_it in zip(answers, is_nan, strict=True)
        )
        found["metricad: no error"] += any(
            one != "error" and of_it for one, of_it in zip(said, is_nan, strict=True)
        )
    return found


def verdict(description: Description, answers: dict[str, np.ndarray], image: np.ndarray) -> str:
    """Judge what a graph has said of an image, as metricad does."""
    detector = exported.ExportedDetector(description, lambda _: answers)
    try:
        return Inspector(detector, description.calibration).inspect(image)[0].verdict
    except InspectorError:
        return "error"


def _onnx(path: Path, outputs: tuple[str, ...]) -> Iterator[runtimes.Run]:
    import onnx

    model = onnx.load(path)
    constants = [
        attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    for tensor in [*model.graph.initializer, *constants]:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        before = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(before, np.nan), tensor.name))
        yield _opened(runtimes.open_onnx, {"model.onnx": model.SerializeToString()}, path, outputs)
        tensor.CopyFrom(onnx.numpy_helper.from_array(before, tensor.name))


def _openvino(path: Path, outputs: tuple[str, ...]) -> Iterator[runtimes.Run]:
    contents = sealed.read(path)
    places = set(
        re.findall(rb'element_type="f32"[^>]*offset="(\d+)" size="(\d+)"', contents[sealed.OPENVINO])
    )
    for start, size in sorted((int(start), int(size)) for start, size in places):
        weights = bytearray(contents[sealed.WEIGHTS])
        weights[start : start + size] = np.full(size // 4, np.nan, np.float32).tobytes()
        changed = contents | {sealed.WEIGHTS: bytes(weights)}
        yield _opened(runtimes.open_openvino, changed, path, outputs)


def _litert(path: Path, outputs: tuple[str, ...]) -> Iterator[runtimes.Run]:
    from tensorflow.lite.python import schema_py_generated as schema

    contents = sealed.read(path)
    content = np.frombuffer(contents[sealed.LITERT], np.uint8)
    model = schema.Model.GetRootAs(bytes(contents[sealed.LITERT]), 0)
    places = set()
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            data = model.Buffers(tensor.Buffer())
            if tensor.Type() == schema.TensorType.FLOAT32 and data.DataLength():
                places.add((data._tab.Vector(data._tab.Offset(4)), data.DataLength()))
    for start, size in sorted(places):
        changed = content.copy()
        changed[start : start + size] = np.full(size // 4, np.nan, np.float32).view(np.uint8)
        yield _opened(runtimes.open_litert, contents | {sealed.LITERT: changed.tobytes()}, path, outputs)


def _saved_model(path: Path, outputs: tuple[str, ...]) -> Iterator[runtimes.Run]:
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    signature = model.signatures["serving_default"]
    for variable in signature.variables:
        if not variable.dtype.is_floating:
            continue
        before = variable.numpy()
        variable.assign(np.full_like(before, np.nan))

        def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
            answers = signature(**{runtimes.PIXELS: tf.constant(pixels)})
            return {name: answers[name].numpy() for name in outputs}

        yield run
        variable.assign(before)


TENSORS = {"onnx": _onnx, "openvino": _openvino, "litert": _litert, "saved-model": _saved_model}


def _opened(
    opener: Callable[..., runtimes.Opened],
    contents: dict[str, bytes],
    path: Path,
    outputs: tuple[str, ...],
) -> runtimes.Run:
    try:
        return opener(contents, path, threads=runtimes.cores(), workers=1)[1](outputs)
    except Exception as error:  # each runtime raises its own types of error
        reason = str(error)

        def fail(_: np.ndarray) -> dict[str, np.ndarray]:
            raise InspectorError(reason)

        return fail


# The page.


def page(
    damaged: Counter[tuple[str, str, str]], poisoned: dict[str, Counter[str]], options: argparse.Namespace
) -> Document:
    """Arrange the counts."""
    rows = [
        [Cell(name), *(Cell(str(sum(damaged[name, way, each] for way in WAYS))) for each in OUTCOMES)]
        for name in SUFFIXES
    ]
    ways = [
        [Cell(way), *(Cell(str(sum(damaged[name, way, each] for name in SUFFIXES))) for each in OUTCOMES)]
        for way in WAYS
    ]
    columns = (
        "tensors", "NaN", "bare: GOOD", "metricad: no error",
        "no answer", "no effect", "another number", "of it good",
    )  # fmt: skip
    nan = [[Cell(name), *(Cell(str(found[each])) for each in columns)] for name, found in poisoned.items()]
    used = ", ".join(f"{name} {version}" for name, version in versions().items() if name != "commit")
    return Document(
        "Damage",
        [f"`python scripts/damage.py --count {options.count} --seed {options.seed}`, with {used}."],
        [
            Section(
                "Damaged files",
                [
                    f"{options.count} damaged copies of a small inspector, each asked to judge two good "
                    "images and two with a defect. CHANGED must be 0: a verdict that the whole inspector "
                    "does not give.",
                    Table("By format", ["format", *OUTCOMES], rows),
                    Table("By damage", ["damage", *OUTCOMES], ways),
                    "What is judged as before was damaged where nothing is read, such as the dates in a zip.",
                ],
            ),
            Section(
                "Numbers that are not finite",
                [
                    "Each float32 tensor of a graph set to NaN, one at a time, past the checksum and the "
                    "check at export. Where the score becomes NaN, the bare graph must not say good, and "
                    "metricad must say error. The runtime may also fail (no answer). A tensor without effect "
                    "is a constant that decides nothing on these images. Some runtimes make another number "
                    "of NaN: an index into a map, a constant that they fold, a maximum. Nothing in the graph "
                    "can tell that number from a right one, and its verdict may be good; metricad refuses "
                    "such a file by its checksum.",
                    Table("By format", ["format", *columns], nan),
                    "A program that runs an exported file without metricad checks no checksum. A graph whose "
                    "numbers were changed to other finite ones gives other verdicts there.",
                ],
            ),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
