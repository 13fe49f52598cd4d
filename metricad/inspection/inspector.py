"""An inspector: detector and threshold. It inspects single images and many files."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from metricad.data import images
from metricad.data.levels import Levels
from metricad.errors import DataError
from metricad.inspection.interface import ImageJudge
from metricad.scoring import defect_boxes
from metricad.scoring.calibration import Calibration
from metricad.scoring.defect_boxes import DefectBox

T = TypeVar("T")
Judge = TypeVar("Judge", bound=ImageJudge, covariant=True)
Draw = Callable[["Inspection", np.ndarray, np.ndarray], object]

GOOD, DEFECT, ERROR = "good", "defect", "error"


@dataclass(frozen=True)
class Inspection:
    """Result for one image. If the image could not be read, only `path`, `verdict` and `error` are set.

    Attributes
    ----------
    path : str or None
    score : float
        In standard deviations of the scores of good images; for the paper's method, a distance.
    threshold : float
        The verdict is ``defect`` if the score is above it.
    percentile : float
        Percentage of the good images that set the threshold with the same score or a lower one.
    verdict : {"good", "defect", "error"}
    peak_row, peak_col : int
        Center pixel of the area with the largest anomaly.
    size_class : str
        How the anomaly map became the score, one of `score_names.SCORES`. It tells the size of defects that
        the score suits.
    source : str
        Kind of feature map that contributes most to the score.
    false_alarm_rate : float
        Share of good images that the threshold calls defects.
    rate_basis : {"promised", "expected", "estimated"}
        What this rate is based on, see `calibration.Basis`.
    defects : list of DefectBox
        Areas of the map above the outline, the largest value first; empty unless the verdict is ``defect``.
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
    size_class: str | None = None
    source: str | None = None
    false_alarm_rate: float | None = None
    rate_basis: str | None = None
    defects: list[DefectBox] = field(default_factory=list)
    error: str | None = None


_Judged = tuple[Inspection, np.ndarray | None, np.ndarray | None]


@dataclass(frozen=True)
class Inspector(Generic[Judge]):
    """A fitted detector with its calibration and a record of how both were made.

    Attributes
    ----------
    detector : ImageJudge
    calibration : Calibration
    fitted_on : dict
        Record for later: numbers of images, share held out, seed, and synthetic defects if used.
    levels : Levels or None
        Range of the levels of the good images' files, which every other file must have. None asks for none:
        then a file is scaled by the range that it says, else by that of its type.
    """

    detector: Judge
    calibration: Calibration
    fitted_on: dict[str, Any] = field(default_factory=dict)
    levels: Levels | None = None

    @property
    def threshold(self) -> float:
        """Image scores above it are defects."""
        return self.calibration.threshold

    def map_scale(self) -> dict[str, float]:
        """Return the color range and the outline level that `images.overlay` uses for all maps of this part.

        They are the same for every image, so that colors can be compared. The outline is drawn at two thirds
        of the range, where the map has the value that corresponds to the threshold.
        """
        outline = self.detector.map_value(self.threshold)
        # The largest standard scores of good images lie around 0; so a threshold below 1 is only a little
        # above.
        return {
            "low": min(0.0, outline - 1.0),
            "high": max(1.5 * outline, outline + 0.5),
            "threshold": outline,
        }

    def inspect(self, image: np.ndarray, *, path: str | None = None) -> tuple[Inspection, np.ndarray]:
        """Judge an image, float32 (H, W) or (H, W, 3) in [-1, 1]; return verdict and anomaly map (h', w')."""
        found = self.detector.judge(image)
        row, column = found.peak
        is_good = found.score <= self.threshold
        inspection = Inspection(
            path=path,
            score=found.score,
            threshold=self.threshold,
            percentile=self.calibration.percentile(found.score),
            verdict=GOOD if is_good else DEFECT,
            peak_row=row,
            peak_col=column,
            size_class=self.detector.score_name,
            source=found.source,
            false_alarm_rate=self.calibration.false_alarm_rate,
            rate_basis=str(self.calibration.basis),
            defects=[] if is_good else self._boxes(found.anomaly, image),
        )
        return inspection, found.anomaly

    def _boxes(self, anomaly: np.ndarray, image: np.ndarray) -> list[DefectBox]:
        outline = self.detector.map_value(self.threshold)
        return defect_boxes.find(self.detector.on_pixels(anomaly, image), outline)

    def picture(self, inspection: Inspection, image: np.ndarray, anomaly: np.ndarray) -> np.ndarray:
        """Draw the anomaly map (h', w') over its image, with boxes around defects: uint8 (H, W, 3)."""
        boxes = [(one.row, one.col, one.height, one.width) for one in inspection.defects]
        anomaly_map = self.detector.on_pixels(anomaly, image)
        return images.overlay(image, anomaly_map, **self.map_scale(), boxes=boxes)

    def inspect_files(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        workers: int = 1,
        draw: Draw | None = None,
        page: int | None = None,
    ) -> Iterator[tuple[Inspection, np.ndarray | None, np.ndarray | None]]:
        """Inspect image files. A bad file is reported, and inspection goes on with the next one.

        Files are read ahead while others are inspected. Results come in the order of the files.

        Parameters
        ----------
        paths : sequence of path
        workers : int
            Number of images inspected at once, each in its own thread.
        draw : function, optional
            Called with inspection, image and anomaly map in the same threads. Use it for slow work such as
            writing a heat map.
        page : int, optional
            Page of each TIFF, from 1. The default is the only one.

        Yields
        ------
        inspection : Inspection
        image : float32 (H, W) or (H, W, 3), or None for a bad file
        anomaly_map : float32 (h', w'), or None for a bad file
        """

        def judge(path: str | os.PathLike[str], read: Future[np.ndarray]) -> _Judged:
            try:
                image = read.result()
                inspection, anomaly_map = self.inspect(image, path=str(path))
            except DataError as error:
                message = str(error).removeprefix(f"{path}: ")
                return Inspection(path=str(path), error=message), None, None
            if draw is not None:
                with self.detector.timer("write"):
                    draw(inspection, image, anomaly_map)
            return inspection, image, anomaly_map

        with ThreadPoolExecutor(max_workers=workers) as judges:
            judged: deque[Future[_Judged]] = deque()
            for path, read in _read_ahead(paths, partial(self.read, page=page), count=workers):
                judged.append(judges.submit(judge, path, read))
                if len(judged) > workers:
                    yield judged.popleft().result()
            while judged:
                yield judged.popleft().result()

    def read(self, path: str | os.PathLike[str], *, page: int | None = None) -> np.ndarray:
        """Read an image file as this inspector takes it; raises the errors of `images.read`."""
        detector = self.detector
        with detector.timer("read"):
            return images.read(
                path,
                minimum_size=detector.grid.smallest,
                color=detector.channels == 3,
                levels=self.levels,
                page=page,
            )


def for_each(
    paths: Sequence[str | os.PathLike[str]],
    use: Callable[[np.ndarray], T],
    *,
    read: Callable[[str | os.PathLike[str]], np.ndarray],
    on_image: Callable[[], object] = lambda: None,
) -> Iterator[T]:
    """Read image files one by one and yield the result of a function for each.

    Parameters
    ----------
    paths : sequence of path
    use : function
        Called with each image.
    read : function
        Reads a file, such as `Inspector.read`.
    on_image : function, optional
        Called after each image, for a progress bar.

    Raises
    ------
    DataError
        A file cannot be read, or `use` rejects its image. The message names the file.
    """
    for path, ahead in _read_ahead(paths, read):
        image = ahead.result()
        try:
            yield use(image)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        on_image()


def _read_ahead(
    paths: Sequence[str | os.PathLike[str]],
    read: Callable[[str | os.PathLike[str]], np.ndarray],
    *,
    count: int = 1,
) -> Iterator[tuple[str | os.PathLike[str], Future[np.ndarray]]]:
    """Yield each path with the future of its image. Read `count` more files meanwhile, in threads."""
    with ThreadPoolExecutor(max_workers=count) as readers:
        ahead: deque[tuple[str | os.PathLike[str], Future[np.ndarray]]] = deque()
        for path in paths:
            ahead.append((path, readers.submit(read, path)))
            if len(ahead) > count:
                yield ahead.popleft()
        yield from ahead
