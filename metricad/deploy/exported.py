"""Exported inspectors, read back: the same verdicts without TensorFlow."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from metricad.deploy import description, runtimes
from metricad.inspection import tiles
from metricad.scoring import maps
from metricad.clock import Clock
from metricad.deploy.description import Description
from metricad.errors import BundleError, DataError
from metricad.inspection.inspector import Inspector
from metricad.deploy.runtimes import Run

_FILES = {".onnx": runtimes.open_onnx, ".tflite": runtimes.open_litert, ".xml": runtimes.open_openvino}
_FOLDERS = {runtimes.OPENVINO: runtimes.open_openvino, "saved_model.pb": runtimes.open_saved_model}
_STEP = 1e-3  # of a gray level, by which levels may miss whole ones through rounding


class ExportedDetector:
    """Distance to good surface, by a runtime; follows `inspection.DistanceDetector`.

    Parameters
    ----------
    description : Description
    run : Run
        Gives `distance_map`, float32 (N, h', w').
    """

    def __init__(self, description: Description, run: Run) -> None:
        self.grid = description.grid
        self.reduction = description.reduction
        self.region = description.mask
        self.clock = Clock()
        self._description = description
        self._run = run

    def distance_map(self, image: np.ndarray) -> np.ndarray:
        """See `DistanceDetector`."""
        if image.size > tiles.LARGE and self._description.sizes is None:
            return tiles.distance_map(self._distances, image, self.grid)
        return self._distances(image)

    def _distances(self, image: np.ndarray) -> np.ndarray:
        pixels = to_pixels(image, self._description)
        with self.clock("network and distance"):
            return self._run(pixels)["distance_map"][0]

    def on_pixels(self, distance_map: np.ndarray, image: np.ndarray) -> np.ndarray:
        """See `DistanceDetector`."""
        return maps.on_pixels(distance_map, image, self.grid, self.region)


def is_exported(path: str | os.PathLike) -> bool:
    """Whether there is an exported file or folder, going by names alone."""
    return _opener(Path(path)) is not None


def needs_tensorflow(path: str | os.PathLike) -> bool:
    """Whether an inspector, exported or not, is one that TensorFlow has to run."""
    return _opener(Path(path)) in (None, runtimes.open_saved_model)


def load(path: str | os.PathLike, *, workers: int = 1, threads: int | None = None) -> Inspector:
    """Read what 'metricad export' wrote.

    Parameters
    ----------
    path : path
        An .onnx or .tflite file, or the folder of an OpenVINO model or a SavedModel.
    workers : int
        Images that will be inspected at once.
    threads : int, optional
        Processor cores to use in all; those that there are when not given.

    Raises
    ------
    BundleError
        It is missing, damaged or not from metricad, or its runtime is not installed.
    """
    found, run = open_runtime(path, workers=workers, threads=threads)
    return Inspector(ExportedDetector(found, run(["distance_map"])), found.calibration, dict(found.facts))


def open_runtime(path: str | os.PathLike, *, workers: int = 1, threads: int | None = None) -> tuple:
    """Open an exported file: its `Description`, and what makes a `Run` of the names of some outputs.

    See `load`.
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
        text, run = opener(path, threads=runtimes.cores() if threads is None else threads, workers=workers)
    except BundleError:
        raise
    except Exception as error:  # each runtime raises kinds of its own
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{path}: damaged, or no model of its kind ({reason}); export it again") from error
    return description.read(text, path), run


def to_pixels(image: np.ndarray, found: Description) -> np.ndarray:
    """Turn an image, float32 (H, W) in [-1, 1], into what a graph takes: gray levels (1, H, W).

    Raises
    ------
    DataError
        It is too small, of another size than the part's, or finer than 8 bits where those are expected.
    """
    smallest = found.grid.smallest
    allowed = found.sizes or ((smallest, np.inf), (smallest, np.inf))
    if not all(least <= side <= most for side, (least, most) in zip(image.shape, allowed, strict=True)):
        raise DataError(
            f"expected an image of {_sizes(allowed)} pixels, received {image.shape[0]}×{image.shape[1]}"
        )
    levels = (image[np.newaxis] + np.float32(1)) * np.float32(127.5)
    if found.input_type == "float32":
        return levels
    whole = np.rint(levels)
    if np.abs(levels - whole).max() > _STEP:
        raise DataError(
            "holds gray levels between those of 8 bits, as color and 16-bit images do, and the inspector was "
            "exported for 8-bit gray; export it again with --input-type float32"
        )
    return whole.astype(np.uint8)


def _sizes(allowed: tuple[tuple[float, float], ...]) -> str:
    if any(np.isinf(most) for _, most in allowed):
        return "at least " + "×".join(f"{least}" for least, _ in allowed)
    return "×".join(f"{least}" if least == most else f"{least} to {most}" for least, most in allowed)


def _opener(path: Path) -> Callable | None:
    if path.is_dir():
        return next((opener for name, opener in _FOLDERS.items() if (path / name).is_file()), None)
    return _FILES.get(path.suffix)
