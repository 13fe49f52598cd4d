"""Runtimes for exported files. Only SavedModel needs TensorFlow.

They are given the contents of the files and keep none of them open. So a file can be replaced or truncated
while its model runs.
"""

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metricad.deploy import metadata, native_output
from metricad.deploy.metadata import KEY
from metricad.deploy.sealed import DESCRIPTION, LITERT, OPENVINO, WEIGHTS
from metricad.errors import BundleError

PIXELS = "pixels"
"""Name of the input."""

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Function from pixels (N, H, W) or (N, H, W, 3) to the requested outputs by name. Thread-safe."""

Opened = tuple[str | None, Callable[[Sequence[str]], Run]]
"""Text of the description, and a function from output names to a `Run`."""

# OpenVINO's bindings initialize themselves at their first call, and may give Python to another thread
# meanwhile. If that one calls them too, both wait for each other for ever. So the first call of a process is
# made alone.
_first_call = threading.Lock()
_is_initialized = threading.Event()

_SHAPES = 4  # number of image sizes that OpenVINO compiles a plan for; compiling is slow


def open_onnx(contents: Mapping[str, bytes], path: Path, *, threads: int, workers: int) -> Opened:
    """Open an ONNX file with ONNX Runtime on the CPU.

    Parameters
    ----------
    contents : mapping of str to bytes
        The files, as `sealed.read` returns them.
    path : Path
        Where they come from, for errors.
    threads : int
        Total number of processor cores to use.
    workers : int
        Number of images that will be run at once.
    """
    with _installed("onnxruntime", path):
        import onnxruntime
    onnxruntime.disable_telemetry_events()  # on Windows; see metricad/__init__.py for other systems
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, threads // workers)
    options.log_severity_level = 3  # errors only: the other messages are about its optimizer
    (content,) = contents.values()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(outputs: Sequence[str]) -> Run:
        names = list(outputs)
        return lambda pixels: dict(zip(names, session.run(names, {PIXELS: pixels}), strict=True))

    return session.get_modelmeta().custom_metadata_map.get(KEY), run


def open_openvino(contents: Mapping[str, bytes], path: Path, *, threads: int, workers: int) -> Opened:
    """Open an OpenVINO model on the CPU; see `open_onnx`.

    It runs in float32 unless it was exported with less. Without this setting OpenVINO would use lower
    precision wherever the processor supports it. And by default it would bind its threads to cores, each
    process to the same ones, so that two processes would share one core.
    """
    with _installed("openvino", path):
        import openvino
    core = openvino.Core()
    model = core.read_model(contents[OPENVINO], contents[WEIGHTS])
    text = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if metadata.precision(text) == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": workers,
        "ENABLE_CPU_PINNING": False,
    }

    def run(outputs: Sequence[str]) -> Run:
        wanted = openvino.Model([model.output(name) for name in outputs], model.get_parameters(), KEY)
        compiled: dict[tuple[int, ...] | None, Any] = {}
        lock, requests = threading.Lock(), threading.local()

        def request(shape: tuple[int, ...] | None) -> Any:
            """Return this thread's request for images of a shape. A plan for a fixed shape is much faster."""
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
            with contextlib.nullcontext() if _is_initialized.is_set() else _first_call:
                found = request(pixels.shape).infer({PIXELS: pixels}, share_inputs=True)
                copied = {name: np.array(found[name]) for name in outputs}
            _is_initialized.set()
            return copied

        return infer

    return text, run


def open_litert(contents: Mapping[str, bytes], path: Path, *, threads: int, workers: int) -> Opened:
    """Open a LiteRT (TensorFlow Lite) file; see `open_onnx`."""
    with _installed("ai_edge_litert", path):
        from ai_edge_litert.interpreter import Interpreter
    content, text = contents[LITERT], contents.get(DESCRIPTION, b"").decode("utf-8")

    def interpreter() -> Interpreter:
        return Interpreter(model_content=content, num_threads=max(1, threads // workers))

    def run(outputs: Sequence[str]) -> Run:
        own = threading.local()  # an interpreter may be used by one thread only

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
    with native_output.suppress_stderr():  # the first interpreter of a process prints how it runs
        first = interpreter()
        first.resize_tensor_input(first.get_input_details()[0]["index"], shape)
        first.allocate_tensors()  # so that a damaged model is detected now
    return text, run


def open_saved_model(contents: Mapping[str, bytes], path: Path, *, threads: int, workers: int) -> Opened:
    """Open a SavedModel with TensorFlow, which must be installed and chooses its own threads."""
    with _installed("tensorflow", path):
        import tensorflow as tf
    with tempfile.TemporaryDirectory() as folder:  # TensorFlow reads files only
        for name, content in contents.items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        model = tf.saved_model.load(folder)
    signature = model.signatures["serving_default"]

    def run(outputs: Sequence[str]) -> Run:
        def infer(pixels: np.ndarray) -> dict[str, np.ndarray]:
            found = signature(**{PIXELS: tf.constant(pixels)})
            return {name: found[name].numpy() for name in outputs}

        return infer

    return contents.get(DESCRIPTION, b"").decode("utf-8"), run


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    with contextlib.suppress(AttributeError):  # not available on every system
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
