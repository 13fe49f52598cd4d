"""Load exported inspectors and run them without TensorFlow."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from metricad.data.channels import to_channels
from metricad.deploy import metadata, runtimes, sealed
from metricad.deploy.metadata import Description
from metricad.deploy.runtimes import Run
from metricad.errors import BundleError, DataError, InspectorError
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import Judgement
from metricad.inspection.timing import StageTimer
from metricad.scoring import anomaly_maps

_FILES = {".onnx": runtimes.open_onnx, ".tflite": runtimes.open_litert, ".xml": runtimes.open_openvino}
_FOLDERS = {sealed.OPENVINO: runtimes.open_openvino, "saved_model.pb": runtimes.open_saved_model}
_JUDGED = ("score", "peak", "source", "distance_map")
_STEP = 1e-3  # tolerance for whole gray levels, because of rounding


class ExportedDetector:
    """Model of an exported inspector, run by a runtime; follows `interface.ImageJudge`.

    Parameters
    ----------
    description : Description
    run : Run
        Returns the outputs needed for a judgement.
    """

    def __init__(self, description: Description, run: Run) -> None:
        self.grid = description.grid
        self.channels = description.channels
        self.score_name = description.score
        self.region = description.mask
        self.timer = StageTimer()
        self._description = description
        self._run = run

    def judge(self, image: np.ndarray) -> Judgement:
        """Judge an image; see `ImageJudge`."""
        pixels = to_pixels(image, self._description)
        with self.timer("network and distance"):
            try:
                found = {name: value[0] for name, value in self._run(pixels).items()}
            except MemoryError:
                raise
            except Exception as error:  # each runtime raises its own types of error
                raise InspectorError(
                    f"the runtime failed ({_line(error)}); export the inspector again"
                ) from error
        row, column = (int(each) for each in found["peak"])
        number, sources = int(found["source"]), self._description.sources
        is_inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
        judged = Judgement(
            float(found["score"]),
            (row, column),
            sources[number] if 0 <= number < len(sources) else "",
            found["distance_map"],
        )
        if not (is_inside and judged.source):
            raise InspectorError(
                "the runtime returned an impossible peak or source; export the inspector again"
            )
        return judged

    def on_pixels(self, anomaly: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Resample an anomaly map to pixels; see `ImageJudge`."""
        return anomaly_maps.on_pixels(anomaly, image, self.grid, self.region)

    def map_value(self, score: float) -> float:
        """Return the anomaly map's value that corresponds to an image score; see `ImageJudge`."""
        return score * self._description.spread + self._description.center


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether the path is an exported file or folder; only file names are checked."""
    return _opener(Path(path)) is not None


def needs_tensorflow(path: str | os.PathLike[str]) -> bool:
    """Whether TensorFlow is needed to run this bundle or export."""
    return _opener(Path(path)) in (None, runtimes.open_saved_model)


def load(
    path: str | os.PathLike[str],
    *,
    workers: int = 1,
    threads: int | None = None,
    check: Callable[[str], None] | None = None,
) -> Inspector[ExportedDetector]:
    """Load an inspector written by 'metricad export'.

    Parameters
    ----------
    path : path
        An .onnx or .tflite file, or the folder of an OpenVINO model or a SavedModel.
    workers : int
        Number of images that will be inspected at once.
    threads : int, optional
        Total number of processor cores to use; all by default.
    check : function, optional
        Called with the checksum before anything is opened; raises BundleError to refuse the part.

    Raises
    ------
    BundleError
        The file is missing, damaged or not from metricad, or its runtime is not installed.
    """
    found, run = open_runtime(path, workers=workers, threads=threads, check=check)
    detector = ExportedDetector(found, run(_JUDGED))
    return Inspector(detector, found.calibration, dict(found.facts), found.levels)


def open_runtime(
    path: str | os.PathLike[str],
    *,
    workers: int = 1,
    threads: int | None = None,
    check: Callable[[str], None] | None = None,
) -> tuple[Description, Callable[[Sequence[str]], Run]]:
    """Open an exported file: return its `Description` and a function from output names to a `Run`.

    Parameters and errors are those of `load`.
    """
    path = Path(path)
    if not path.exists():
        raise BundleError(f"{path}: no such file; make one with 'metricad export'")
    opener = _opener(path)
    if opener is None:
        raise BundleError(
            f"{path}: expected a file that ends in {', '.join(_FILES)}, or a folder of 'metricad export'"
        )
    try:
        contents = sealed.read(path)
        digest = sealed.check(contents, path)
        if check is not None:
            check(digest)
        threads = runtimes.cores() if threads is None else threads
        text, run = opener(contents, path, threads=threads, workers=workers)
    except BundleError:
        raise
    except Exception as error:  # each runtime raises its own types of error
        raise BundleError(
            f"{path}: damaged, or no model of its kind ({_line(error)}); export it again"
        ) from error
    return metadata.read(text, path), run


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def to_pixels(image: np.ndarray, found: Description) -> np.ndarray:
    """Convert an image in [-1, 1] to the input of a graph: levels (1, H, W), or (1, H, W, 3) for color.

    Raises
    ------
    DataError
        The image is too small, has another size than the part, holds numbers that are not finite, or has
        more than 8 bits where 8 are expected.
    """
    image = to_channels(image, found.channels)
    image = image[..., 0] if found.channels == 1 else image
    smallest = found.grid.smallest
    allowed = found.sizes or ((smallest, np.inf), (smallest, np.inf))
    if not all(least <= side <= most for side, (least, most) in zip(image.shape[:2], allowed, strict=True)):
        raise DataError(
            f"expected an image of {_sizes(allowed)} pixels, received {image.shape[0]}×{image.shape[1]}"
        )
    if not np.isfinite(image).all():
        raise DataError("holds numbers that are not finite; expected gray levels or colors")
    levels = (image[np.newaxis] + np.float32(1)) * np.float32(127.5)
    if found.input_type == "float32":
        return levels
    whole = np.rint(levels)
    if np.abs(levels - whole).max() > _STEP:
        raise DataError(
            "holds levels between those of 8 bits, as 16-bit images and the luminance of color do, and "
            "the inspector was exported for 8-bit levels; export it again with --input-type float32"
        )
    return whole.astype(np.uint8)


def _sizes(allowed: tuple[tuple[float, float], ...]) -> str:
    if any(np.isinf(most) for _, most in allowed):
        return "at least " + "×".join(f"{least}" for least, _ in allowed)
    return "×".join(f"{least}" if least == most else f"{least} to {most}" for least, most in allowed)


def _opener(path: Path) -> Callable[..., runtimes.Opened] | None:
    if path.is_dir():
        return next((opener for name, opener in _FOLDERS.items() if (path / name).is_file()), None)
    return _FILES.get(path.suffix)
