"""A detector with its threshold: made from a folder of good parts, then asked for verdicts."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import keras
import numpy as np

from metricad import adaptation, images, kinds, pretrained
from metricad.calibration import Calibration, calibrate, check_split, held_out_count
from metricad.detector import TripletDetector, image_score, peak
from metricad.errors import DataError
from metricad.prototype import Prototype
from metricad.region import Region
from metricad.tone import LOOK

T = TypeVar("T")

GOOD, DEFECT, ERROR = "good", "defect", "error"


@dataclass(frozen=True)
class Inspection:
    """What was found in one image; the fields but `path` and `verdict` are None where it could not be read.

    Attributes
    ----------
    path : str or None
    score : float
        Distance from the prototype: the largest, or as the detector's reduction has it.
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
        For the record: counts of images, share held out, seed, and synthetic defects if there were any.
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

        The same for every image, so that colors can be compared; the threshold is at two thirds. Where the
        score is a mean of features, a few of a good image may lie above it.
        """
        return {"low": 0.0, "high": 1.5 * self.threshold, "threshold": self.threshold}

    def inspect(self, image: np.ndarray, *, path: str | None = None) -> tuple[Inspection, np.ndarray]:
        """Judge one image, float32 (H, W) in [-1, 1]; return the verdict and the distance map (h', w')."""
        distance_map = self.detector.distance_map(image)
        score = image_score(distance_map, self.detector.reduction)
        row, column = peak(distance_map, self.detector.sampling)
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
        for path, read in zip(paths, _read_ahead(paths, self.detector.sampling.smallest), strict=True):
            try:
                image = read()
                inspection, distance_map = self.inspect(image, path=str(path))
            except DataError as error:
                message = str(error).removeprefix(f"{path}: ")
                yield Inspection(path=str(path), error=message), None, None
                continue
            yield inspection, image, self.detector.on_pixels(distance_map, image)


def fit_inspector(
    paths: Sequence[str | os.PathLike],
    model: keras.Model | None = None,
    *,
    prototype: Prototype | None = None,
    region: Region | None = None,
    false_alarm_rate: float = 0.01,
    holdout: float = 0.2,
    seed: int = 0,
    defects: int = 0,
    on_image: Callable[[], object] = lambda: None,
    on_step: Callable[[], object] = lambda: None,
) -> Inspector:
    """Make an inspector from images of good parts.

    Images are read one at a time; memory does not grow with their number. To adapt the prototype, some,
    `adaptation.MOST_IMAGES` at most, are held at once.

    Parameters
    ----------
    paths : sequence of path
        Image files of good parts, of any sizes from the receptive field up.
    model : keras.Model, optional
        As `network.build` or `hypercolumn.build` makes it; the network that ships when not given.
    prototype : Prototype, optional
        An empty one of the kind wanted. When not given, what suits the network: `kinds.AutoPrototype`, or the
        paper's mean with Euclidean distance on the paper's network.
    region : Region, optional
        Where images are judged; everywhere when not given.
    false_alarm_rate : float
        Largest share of good images that the threshold may call defects.
    holdout : float in (0, 1)
        Share of the images kept from the prototype for setting the threshold.
    seed : int
        Chooses which images are held out, and draws the synthetic defects.
    defects : int
        Synthetic ones to adapt the prototype with, see `adaptation.adapt`; 0 leaves it as it is.
    on_image : function, optional
        Called after each image, for a progress bar.
    on_step : function, optional
        Called after each synthetic defect.

    Raises
    ------
    DataError
        An image cannot be used, or there are too few for the rate.
    ValueError
        The prototype cannot be adapted.
    """
    check_split(len(paths), holdout=holdout, false_alarm_rate=false_alarm_rate)
    held_out, fitted = _split(list(map(Path, paths)), holdout, seed)
    model = pretrained.load() if model is None else model
    empty = kinds.suited_to(model) if prototype is None else prototype
    triplet = TripletDetector(model, empty, tone=kinds.tone_for(model), region=region)

    def stream(chosen: Sequence[Path], use: Callable[[np.ndarray], object]) -> Iterator[object]:
        return for_each(chosen, use, smallest=triplet.sampling.smallest, on_image=on_image)

    def some(count: int) -> Iterator[np.ndarray]:
        """So many of the images to learn from, at random."""
        order = np.random.default_rng(seed).permutation(len(fitted))[:count]
        chosen = [fitted[i] for i in np.sort(order)]
        return for_each(chosen, lambda image: image, smallest=triplet.sampling.smallest)

    if not triplet.is_prepared:
        triplet.prepare(list(some(LOOK)))
    for _ in stream(fitted, triplet.update):
        pass
    if defects:
        adaptation.adapt(triplet, some(adaptation.MOST_IMAGES), count=defects, seed=seed, on_step=on_step)
    calibrated = calibrate(stream(held_out, triplet.score), false_alarm_rate)
    fitted_on = {
        "fit_images": len(fitted),
        "held_out_images": len(held_out),
        "holdout": holdout,
        "seed": seed,
        **({"synthetic_defects": defects} if defects else {}),
    }
    return Inspector(triplet, calibrated, fitted_on)


def for_each(
    paths: Sequence[str | os.PathLike],
    use: Callable[[np.ndarray], T],
    *,
    smallest: int,
    on_image: Callable[[], object] = lambda: None,
) -> Iterator[T]:
    """Read image files one after the other and give what a function makes of each.

    Parameters
    ----------
    paths : sequence of path
    use : function
        Of an image, float32 (H, W) in [-1, 1].
    smallest : int
        Least height and width, in pixels.
    on_image : function, optional
        Called after each image, for a progress bar.

    Raises
    ------
    DataError
        A file cannot be read, or `use` has refused its image; the file is named.
    """
    for path, read in zip(paths, _read_ahead(paths, smallest), strict=True):
        image = read()
        try:
            yield use(image)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        on_image()


def _split(paths: list[Path], holdout: float, seed: int) -> tuple[list[Path], list[Path]]:
    order = np.random.default_rng(seed).permutation(len(paths))
    count = held_out_count(len(paths), holdout)
    return [paths[i] for i in np.sort(order[:count])], [paths[i] for i in np.sort(order[count:])]


def _read_ahead(paths: Sequence[str | os.PathLike], smallest: int) -> Iterator[Callable[[], np.ndarray]]:
    """Yield for each path a function that gives its image; the next file is decoded meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        pending = None
        for path in paths:
            upcoming = reader.submit(images.read, path, minimum_size=smallest)
            if pending is not None:
                yield pending.result
            pending = upcoming
        if pending is not None:
            yield pending.result
