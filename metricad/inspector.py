"""A detector with its threshold: made from a folder of good parts, then asked for verdicts."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from metricad import images, network
from metricad.calibration import Calibration, calibrate, check_split, held_out_count
from metricad.detector import TripletDetector, image_score, peak, place
from metricad.errors import DataError
from metricad.prototype import MeanPrototype, Prototype

GOOD, DEFECT, ERROR = "good", "defect", "error"


@dataclass(frozen=True)
class Inspection:
    """What was found in one image; the fields but `path` and `verdict` are None where it could not be read.

    Attributes
    ----------
    path : str or None
    score : float
        Largest distance from the prototype.
    threshold : float
        Above it the verdict is ``defect``.
    percentile : float
        Share of the held-out good images that score at most as much, in percent.
    verdict : {"good", "defect", "error"}
    peak_row, peak_col : int
        Pixel at which the distance is largest.
    error : str or None
        Why the image could not be inspected.
    """

    path: str | None
    score: float | None = None
    threshold: float | None = None
    percentile: float | None = None
    verdict: str = ERROR
    peak_row: int | None = None
    peak_col: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Inspector:
    """A fitted detector, its calibration, and what both were made from.

    Attributes
    ----------
    detector : TripletDetector
    calibration : Calibration
    fitted_on : dict
        For the record: counts of images, share held out, seed.
    """

    detector: TripletDetector
    calibration: Calibration
    fitted_on: dict = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """Above it an image is a defect."""
        return self.calibration.threshold

    def map_scale(self) -> dict[str, float]:
        """Range and outline that `images.overlay` draws all of this part's maps with.

        The same for every image, so that colors can be compared; the threshold is at two thirds.
        """
        return {"low": 0.0, "high": 1.5 * self.threshold, "threshold": self.threshold}

    def inspect(self, image: np.ndarray, *, path: str | None = None) -> tuple[Inspection, np.ndarray]:
        """Judge one image, float32 (H, W) in [-1, 1]; return the verdict and the distance map (h', w')."""
        distance_map = self.detector.distance_map(image)
        score = image_score(distance_map)
        row, column = peak(distance_map)
        inspection = Inspection(
            path=path,
            score=score,
            threshold=self.threshold,
            percentile=self.calibration.percentile(score),
            verdict=DEFECT if score > self.threshold else GOOD,
            peak_row=row,
            peak_col=column,
        )
        return inspection, distance_map

    def inspect_files(
        self, paths: Sequence[str | os.PathLike]
    ) -> Iterator[tuple[Inspection, np.ndarray | None, np.ndarray | None]]:
        """Judge image files one after the other; a bad file is reported and the rest goes on.

        Yields
        ------
        inspection : Inspection
        image : float32 (H, W), or None for a bad file
        anomaly_map : float32 (H, W), or None for a bad file
        """
        for path, read in zip(paths, _read_ahead(paths), strict=True):
            try:
                image = read()
                inspection, distance_map = self.inspect(image, path=str(path))
            except DataError as error:
                message = str(error).removeprefix(f"{path}: ")
                yield Inspection(path=str(path), error=message), None, None
                continue
            yield inspection, image, place(distance_map, image.shape)


def fit_inspector(
    paths: Sequence[str | os.PathLike],
    model: keras.Model,
    *,
    prototype: Prototype | None = None,
    false_alarm_rate: float = 0.01,
    holdout: float = 0.2,
    seed: int = 0,
    on_image: Callable[[], object] = lambda: None,
) -> Inspector:
    """Make an inspector from images of good parts.

    Images are read one at a time; memory does not grow with their number.

    Parameters
    ----------
    paths : sequence of path
        Image files of good parts, of any sizes from the receptive field up.
    model : keras.Model
        As `network.build` makes it, or `training.load_network` loads it.
    prototype : Prototype, optional
        An empty one of the kind wanted; the paper's mean with Euclidean distance when not given.
    false_alarm_rate : float
        Largest share of good images that the threshold may call defects.
    holdout : float in (0, 1)
        Share of the images kept from the prototype for setting the threshold.
    seed : int
        Chooses which images are held out.
    on_image : function, optional
        Called after each image, for a progress bar.

    Raises
    ------
    DataError
        An image cannot be used, or there are too few for the rate.
    """
    check_split(len(paths), holdout=holdout, false_alarm_rate=false_alarm_rate)
    held_out, fitted = _split(list(map(Path, paths)), holdout, seed)

    triplet = TripletDetector(model, MeanPrototype() if prototype is None else prototype)

    def stream(chosen: Sequence[Path], use: Callable[[np.ndarray], object]) -> Iterator[object]:
        for path, read in zip(chosen, _read_ahead(chosen), strict=True):
            image = read()
            try:
                yield use(image)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
            on_image()

    for _ in stream(fitted, triplet.update):
        pass
    calibrated = calibrate(stream(held_out, triplet.score), false_alarm_rate)
    fitted_on = {
        "fit_images": len(fitted),
        "held_out_images": len(held_out),
        "holdout": holdout,
        "seed": seed,
    }
    return Inspector(triplet, calibrated, fitted_on)


def _split(paths: list[Path], holdout: float, seed: int) -> tuple[list[Path], list[Path]]:
    order = np.random.default_rng(seed).permutation(len(paths))
    count = held_out_count(len(paths), holdout)
    return [paths[i] for i in np.sort(order[:count])], [paths[i] for i in np.sort(order[count:])]


def _read_ahead(paths: Sequence[str | os.PathLike]) -> Iterator[Callable[[], np.ndarray]]:
    """Yield for each path a function that gives its image; the next file is decoded meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        pending = None
        for path in paths:
            upcoming = reader.submit(images.read, path, minimum_size=network.RECEPTIVE_FIELD)
            if pending is not None:
                yield pending.result
            pending = upcoming
        if pending is not None:
            yield pending.result
