"""The runtimes by which exported files are run: none of them needs TensorFlow, but that of its own format."""

import contextlib
import os
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metricad.deploy import metadata, native_output
from metricad.deploy.metadata import KEY
from metricad.errors import BundleError

PIXELS = "pixels"
"""Name of the input."""

OPENVINO = "model.xml"
"""File in the folder of an OpenVINO model; its numbers lie beside it."""

DESCRIPTION = "metricad.json"
"""File in a folder, or in a zip behind a model, that holds the description."""

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Of pixels (N, H, W); gives the outputs asked for, by name. Several threads may call it at once."""

Opened = tuple[str | None, Callable[[Sequence[str]], Run]]
"""The description's text, and what makes a `Run` of the names of some outputs."""

_SHAPES = 4  # image sizes that OpenVINO is given a plan of its own for: each takes a while to make


def open_onnx(path: Path, *, threads: int, workers: int) -> Opened:
    """Open an ONNX file in ONNX Runtime, on the CPU.

    Parameters
    ----------
    path : Path
    threads : int
        Processor cores to use in all.
    workers : int
        Images that will be run at once.
    """
    with _installed("onnxruntime", path):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, threads // workers)
    options.log_severity_level = 3  # errors: the rest is about its own optimizer
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(outputs: Sequence[str]) -> Run:
        names = list(outputs)
        return lambda pixels: dict(zip(names, session.run(names, {PIXELS: pixels}), strict=True))

    return session.get_modelmeta().custom_metadata_map.get(KEY), run


def open_openvino(path: Path, *, threads: int, workers: int) -> Opened:
    """Open an OpenVINO model, its folder or the .xml file in it, on the CPU; see `open_onnx`.

    In full float32, unless it was exported for less: where a processor has faster, coarser numbers OpenVINO
    would take them unasked.
    """
    with _installed("openvino", path):
        import openvino
    core = openvino.Core()
    model = core.read_model(path / OPENVINO if path.is_dir() else path)
    text = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if metadata.precision(text) == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": workers,
    }

    def run(outputs: Sequence[str]) -> Run:
        wanted = openvino.Model([model.output(name) for name in outputs], model.get_parameters(), KEY)
        compiled: dict[tuple[int, ...] | None, Any] = {}
        lock, requests = threading.Lock(), threading.local()

        def request(shape: tuple[int, ...] | None) -> Any:
            """This thread's request for images of a shape; its own plan is much faster than one for any."""
            with lock:
                if shape not in compiled and len(compiled) >= _SHAPES:
                    shape = None
                if shape not in compiled:
                    planned = wanted.clone()
                    if shape is not None:
                        planned.reshape(list(shape))
                    compiled[shape] = core.compile_model(planned, "CPU", settings)
            own = vars(requests).setdefault("by_shape", {})
            if shape not in own:
                own[shape] = compiled[shape].create_infer_request()
            return own[shape]

        def infer(pixels: np.ndarray) -> dict[str, np.ndarray]:
            found = request(pixels.shape).infer({PIXELS: pixels}, share_inputs=True)
            return {name: np.array(found[name]) for name in outputs}

        return infer

    return text, run


def open_litert(path: Path, *, threads: int, workers: int) -> Opened:
    """Open a LiteRT (TensorFlow Lite) file; see `open_onnx`."""
    with _installed("ai_edge_litert", path):
        from ai_edge_litert.interpreter import Interpreter
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(DESCRIPTION).decode("utf-8")
    except (zipfile.BadZipFile, KeyError):
        text = None
    content = path.read_bytes()

    def interpreter() -> Interpreter:
        return Interpreter(model_content=content, num_threads=max(1, threads // workers))

    def run(outputs: Sequence[str]) -> Run:
        own = threading.local()  # an interpreter is for one thread

        def infer(pixels: np.ndarray) -> dict[str, np.ndarray]:
            if not hasattr(own, "runner"):
                own.interpreter = interpreter()
                own.runner = own.interpreter.get_signature_runner()
            found = own.runner(**{PIXELS: np.ascontiguousarray(pixels)})
            return {name: found[name] for name in outputs}

        return infer

    if not text:
        return None, run
    found = metadata.read(text, path)
    shape = (1, *found.smallest, *([3] if found.channels == 3 else []))
    with native_output.suppress_stderr():  # where the first of a process says by what means it runs
        first = interpreter()
        first.resize_tensor_input(first.get_input_details()[0]["index"], shape)
        first.allocate_tensors()  # so that a damaged model is found now
    return text, run


def open_saved_model(path: Path, *, threads: int, workers: int) -> Opened:
    """Open a SavedModel folder in TensorFlow, which must be installed and chooses its threads itself."""
    with _installed("tensorflow", path):
        import tensorflow as tf
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]

    def run(outputs: Sequence[str]) -> Run:
        def infer(pixels: np.ndarray) -> dict[str, np.ndarray]:
            found = signature(**{PIXELS: tf.constant(pixels)})
            return {name: found[name].numpy() for name in outputs}

        return infer

    text = path / DESCRIPTION
    return text.read_text(encoding="utf-8") if text.is_file() else None, run


def cores() -> int:
    """Processor cores that this process may use."""
    with contextlib.suppress(AttributeError):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _installed(module: str, path: Path) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        name = module.replace("_", "-")
        raise BundleError(
            f"{path}: needs {name}, which is not installed ({error}); install it with 'pip install {name}'"
        ) from error
