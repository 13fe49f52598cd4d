"""Export an inspector to another format, and check that it gives the same results there."""

import hashlib
import logging
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np
import scipy
import tensorflow as tf

from metricad import files
from metricad.deploy import exported, graph, sealed
from metricad.deploy.metadata import KEY, Description
from metricad.deploy.runtimes import PIXELS, Run
from metricad.deploy.sealed import DESCRIPTION, OPENVINO
from metricad.errors import BundleError, DataError, ExportError
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector
from metricad.inspection.method_detector import Fitted, MethodDetector
from metricad.preprocessing.regions import MaskRegion
from metricad.scoring.score import AREA
from metricad.scoring.score_names import OWN, SCORES
from metricad.versions import versions

if TYPE_CHECKING:
    import onnx

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.2, "int8": 1.0}
"""Largest relative difference of a score at which an export of a precision is kept."""

SMALLEST_SCORE = 5.0
"""Lower limit of the standard score that differences are divided by; thresholds lie near it."""

FASTER = {"bfloat16": ("openvino",), "int8": ("onnx", "openvino")}
"""Reduced precisions and the formats that support them."""

_OPSET = 18  # ONNX version that ONNX Runtime and OpenVINO have supported for years
_GENERATED = ((0, 0), (1, 3), (62, 31), (93, 138))  # rows and columns added to the smallest image size


Change = Callable[["onnx.ModelProto"], "onnx.ModelProto"]


@dataclass(frozen=True)
class Comparison:
    """Differences between the export and the bundle on some images.

    Attributes
    ----------
    images : int
    difference : float
        Largest difference of a score or a map value, divided by the score. Map values are divided by the
        map's largest absolute value if that is larger than the score, because standard scores of very good
        places lie far below 0.
    """

    images: int
    difference: float


def export(
    inspector: Inspector[Fitted],
    path: str | os.PathLike[str],
    *,
    format: str,
    input_type: str = "float32",
    precision: str = "float32",
    samples: Sequence[np.ndarray] = (),
    bundle: str | os.PathLike[str] | None = None,
    images: Iterable[np.ndarray] | None = None,
) -> Comparison:
    """Export an inspector, run the export, and keep it only if its results agree with the inspector's.

    Parameters
    ----------
    inspector : Inspector
        Inspector, as returned by `bundle.load`.
    path : path
        File to write, with the suffix of the format; for ``openvino`` and ``saved-model`` a new folder.
    format : {"onnx", "litert", "openvino", "saved-model"}
    input_type : {"float32", "uint8"}
        Data type of the pixels; see `graph.build`.
    precision : {"float32", "bfloat16", "int8"}
        Precision of the network. `reduced_precision.export` measures the cost of less than float32.
    samples : sequence of float32 (H, W) in [-1, 1]
        Good images. For int8, the ranges of the network's values are learned from them.
    bundle : path, optional
        File that the inspector was loaded from; its name and checksum are stored in the export.
    images : iterable of float32 (H, W) in [-1, 1], optional
        Images to compare on. The default is generated textures of several sizes.

    Raises
    ------
    DataError
        The inspector cannot be exported, or an image does not fit it.
    InspectorError
        It has no threshold.
    ExportError
        The results of the runtime differ. Nothing is written.
    """
    inspector.check_threshold()
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, received {format!r}")
    if precision not in TOLERANCE:
        raise ValueError(f"precision must be one of {', '.join(TOLERANCE)}, received {precision!r}")
    if format not in FASTER.get(precision, FORMATS):
        raise DataError(f"{precision} is for {' and '.join(FASTER[precision])}, received {format}")
    suffix, write = FORMATS[format]
    path = Path(path)
    if path.suffix != suffix:
        expected = f"a name that ends in {suffix}" if suffix else "a folder's name, without a dot"
        raise DataError(f"{path}: {format} expects {expected}")
    if input_type == "uint8" and inspector.levels is not None and inspector.levels.bits != 8:
        raise DataError(f"uint8 pixels hold 8 bits, the part has {inspector.levels}; export it with float32")
    if not suffix and path.exists():
        raise DataError(f"{path}: is there already; remove it or choose another name")
    detector = inspector.detector
    if precision != "float32" and isinstance(detector, MethodDetector):
        raise DataError(
            f"{precision} is for metricad's own networks, not for the method {detector.choice.name}"
        )
    model = graph.build(inspector, input_type=input_type)
    description = Description(
        inspector.calibrated,
        detector.grid,
        score=detector.score_name,
        **_outlined(inspector),
        channels=detector.channels,
        input_type=input_type,
        precision=precision,
        sizes=graph.sizes(detector),
        mask=detector.region if isinstance(detector.region, MaskRegion) else None,
        levels=inspector.levels,
        facts={"fitted_on": inspector.fitted_on, "versions": versions(), **_source(bundle)},
    )
    with files.replacing(path) as temporary:
        if precision == "int8":
            own = cast(PartDetector, detector)
            pixels = [exported.to_pixels(image, description) for image in samples]
            write(
                model,
                description.to_text(),
                temporary,
                partial(quantised, pixels=pixels, network=own.network.name),
            )
        else:
            write(model, description.to_text(), temporary)
        sealed.seal(temporary)
        _, run = exported.open_runtime(temporary)
        chosen = generated(description) if images is None else images
        return compare(inspector, description, run(graph.OUTPUTS), chosen)


def _outlined(inspector: Inspector[Fitted]) -> dict[str, Any]:
    """Return how scores become map values, and the names of the feature maps, for the description."""
    detector = inspector.detector
    if isinstance(detector, MethodDetector):
        center = detector.map_value(inspector.threshold) - inspector.threshold
        return {"center": center, "sources": (detector.choice.name,)}
    center = detector.map_value(0.0)
    sources = tuple(source.name for source in detector.features.sources)
    return {"center": center, "spread": detector.map_value(1.0) - center, "sources": sources}


def compare(
    inspector: Inspector[Fitted], description: Description, run: Run, images: Iterable[np.ndarray]
) -> Comparison:
    """Compare bundle and export on images; raise ExportError if they differ by more than `TOLERANCE`."""
    tolerance = TOLERANCE[description.precision]
    worst, count = 0.0, 0
    for count, image in enumerate(images, start=1):
        found = {name: value[0] for name, value in run(exported.to_pixels(image, description)).items()}
        expected = inspector.detector.judge(image)
        anomaly = expected.anomaly
        differences = {
            "score": found["score"] - expected.score,
            "distance map": np.abs(found["distance_map"] - anomaly).max(),
            "anomaly map": np.abs(found["anomaly_map"] - inspector.detector.on_pixels(anomaly, image)).max(),
            "peak": _lower(anomaly, found["peak"], expected.peak, description),
        }
        scale = abs(expected.score)
        if description.is_standardized:
            scale = max(scale, SMALLEST_SCORE)
        scale = max(scale, float(np.finfo(np.float32).tiny))
        for name, difference in differences.items():
            largest = max(float(np.abs(anomaly).max()), float(np.finfo(np.float32).tiny))
            if description.score != OWN:
                largest = max(scale, largest)
            share = abs(float(difference)) / (scale if name == "score" else largest)
            if not share <= tolerance:  # written so that NaN counts as a difference
                raise ExportError(
                    f"the exported {name} differs by {share:.1e} of the score on image {count} (score "
                    f"{found['score']:.6g}, expected {expected.score:.6g}); at most {tolerance:.0e} is kept: "
                    "nothing was written; try another format, and report this"
                )
            worst = max(worst, share)
        close = abs(expected.score - inspector.threshold) <= tolerance * scale
        if not close and bool(found["is_defect"]) != (expected.score > inspector.threshold):
            raise ExportError(
                f"the exported verdict differs on image {count}: nothing was written; report this"
            )
    if not count:
        raise DataError("no images to compare on; expected one at least")
    return Comparison(count, worst)


def _lower(
    anomaly: np.ndarray, found: Sequence[int], expected: Sequence[int], description: Description
) -> float:
    """Compute how much lower the map is at the found peak than at the expected one; 0 for equal maxima."""
    grid = description.grid
    values = anomaly
    if SCORES.get(description.score):
        weights = scipy.ndimage.uniform_filter(np.ones_like(anomaly), AREA, mode="constant")
        values = scipy.ndimage.uniform_filter(anomaly - anomaly.min(), AREA, mode="constant") / weights
    at = (tuple((np.array(each) - grid.middle) // grid.stride) for each in (expected, found))
    highest, other = (float(values[each]) for each in at)
    return highest - other


def generated(description: Description) -> Iterator[np.ndarray]:
    """Generate textures to compare on, with 8-bit gray levels; several sizes unless the part has one size."""
    rng = np.random.default_rng(0)
    for rows, columns in _GENERATED:
        shape = description.smallest
        if description.sizes is None:
            shape = (shape[0] + rows, shape[1] + columns)
        coarse = rng.normal(size=[side // 8 + 1 for side in shape]).repeat(8, axis=0).repeat(8, axis=1)
        light = 127.5 + 25 * coarse[: shape[0], : shape[1]] + rng.normal(scale=15, size=shape)
        if description.channels == 3:
            light = light[..., np.newaxis] + rng.normal(scale=15, size=(*shape, 3))
        yield np.clip(np.rint(light), 0, 255).astype(np.float32) * np.float32(2 / 255) - np.float32(1)


def _as_it_is(model: "onnx.ModelProto") -> "onnx.ModelProto":
    return model


def _source(bundle: str | os.PathLike[str] | None) -> dict[str, str]:
    if bundle is None:
        return {}
    digest = hashlib.sha256(Path(bundle).read_bytes()).hexdigest()
    return {"bundle": Path(bundle).name, "bundle_sha256": digest}


def quantised(model: "onnx.ModelProto", pixels: Sequence[np.ndarray], *, network: str) -> "onnx.ModelProto":
    """Quantize the network's convolutions to 8-bit weights and inputs, with ONNX Runtime's quantizer.

    Densities, color, line filters and the network's 1×1 projections are not quantized. Projections cost
    little time. Densities whiten features, so a rounding error of 8 bits would look like a defect.

    Parameters
    ----------
    model : onnx.ModelProto
    pixels : sequence of array (1, H, W)
        Good images in the form that the model takes. They set the ranges of the 8-bit values.
    network : str
        Name of the network in the model.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        """Reader that returns one image at each call of the quantizer."""

        def __init__(self) -> None:
            self._images = iter(pixels)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._images, None)
            return None if image is None else {PIXELS: image}

    def is_reduced(node: "onnx.NodeProto") -> bool:
        sides = next((list(one.ints) for one in node.attribute if one.name == "kernel_shape"), [])
        return f"/{network}" in node.name and sides != [1, 1]

    left = [node.name for node in model.graph.node if node.op_type == "Conv" and not is_reduced(node)]
    with tempfile.TemporaryDirectory() as folder, _quiet("root"):
        written = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            written,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=left,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(written)


@contextmanager
def _saved(model: keras.Model) -> Iterator[Path]:
    """Write a model as a SavedModel, from which the converters read it; yield its folder."""
    # An archive with one endpoint traces the model once; `model.export` traces each nested model again.
    archive = keras.export.ExportArchive()
    specification = keras.InputSpec(shape=model.input.shape, dtype=model.input.dtype, name=PIXELS)
    archive.add_endpoint("serve", partial(model, training=False), [specification])
    with tempfile.TemporaryDirectory() as folder, _quiet("tensorflow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # converters warn about the packages that they use
        archive.write_out(folder, verbose=False)
        yield Path(folder)


def _to_onnx(model: keras.Model, change: Change) -> "onnx.ModelProto":
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise _missing(error) from error
    signature = [tf.TensorSpec(model.input.shape, model.input.dtype, name=PIXELS)]
    function = tf.function(partial(model, training=False), signature, autograph=False)
    with _quiet("tf2onnx"), _quiet("tensorflow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made, _ = tf2onnx.convert.from_function(function, signature, opset=_OPSET)
    # Restore the order of the outputs, so that viewers of the file show the score first.
    outputs = {output.name: output for output in made.graph.output}
    del made.graph.output[:]
    made.graph.output.extend(outputs[name] for name in graph.OUTPUTS)
    onnx.checker.check_model(made)
    return change(made)


def _write_onnx(model: keras.Model, text: str, path: Path, change: Change = _as_it_is) -> None:
    made = _to_onnx(model, change)
    made.metadata_props.add(key=KEY, value=text)
    path.write_bytes(made.SerializeToString())


def _write_openvino(model: keras.Model, text: str, path: Path, change: Change | None = None) -> None:
    try:
        import openvino
    except ImportError as error:
        raise _missing(error) from error
    if change is None:
        with _saved(model) as folder:
            made = openvino.convert_model(folder)
    else:  # `change` works on ONNX models
        made = openvino.Core().read_model(_to_onnx(model, change).SerializeToString())
    made.set_rt_info(text, KEY)
    path.mkdir()
    openvino.save_model(made, path / OPENVINO, compress_to_fp16=False)


def _write_litert(model: keras.Model, text: str, path: Path) -> None:
    with _saved(model) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        # Other operations would need TensorFlow.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        path.write_bytes(converter.convert())
    # The zip archive is appended to the model, where TensorFlow Lite's own metadata is stored, too.
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(DESCRIPTION, text)


def _write_saved_model(model: keras.Model, text: str, path: Path) -> None:
    with _saved(model) as folder:
        shutil.copytree(folder, path)
    (path / DESCRIPTION).write_text(text, encoding="utf-8")


FORMATS: dict[str, tuple[str, Callable[..., None]]] = {
    "onnx": (".onnx", _write_onnx),
    "litert": (".tflite", _write_litert),
    "openvino": ("", _write_openvino),
    "saved-model": ("", _write_saved_model),
}
"""Suffix and writer of each format."""


def _missing(error: ImportError) -> BundleError:
    return BundleError(f"exporting needs {error.name}: install it with pip install 'metricad[export]'")


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Suppress the log of a converter during the block."""
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.ERROR)
    try:
        yield
    finally:
        found.setLevel(level)
