"""An inspector: detector and threshold. It inspects single images and many files."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypedDict, TypeVar

import numpy as np

from metricad.data import images
from metricad.data.levels import Levels
from metricad.errors import DataError, InspectorError
from metricad.inspection.interface import ImageJudge
from metricad.scoring import defect_boxes
from metricad.scoring.calibration import Calibration
from metricad.scoring.defect_boxes import DefectBox

T = TypeVar("T")
Judge = TypeVar("Judge", bound=ImageJudge, covariant=True)
Draw = Callable[["Inspection", np.ndarray, np.ndarray], object]

GOOD, DEFECT, ERROR, NONE = "good", "defect", "error", "none"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Inspection:
    """Result for one image: the record that every verb and the service give, see docs/records.md.

    If the image could not be judged, only the first five fields, `verdict` and `error` are set.

    Attributes
    ----------
    time : str
        When it was judged, in UTC (ISO 8601). Two results that differ only in it are equal.
    path : str or None
        None for an image that came as an array or over HTTP.
    sha256 : str or None
        SHA-256 of the file, or of the body of the request; None for an array and a file that cannot be read.
    part, part_sha256 : str or None
        Those of the `Inspector`.
    score : float
        In standard deviations of the scores of good images; for the paper's method, a distance.
    threshold : float or None
        The verdict is ``defect`` if the score is above it. An inspector without a threshold gives neither it,
        nor a percentile, a rate or areas of defects, and the verdict ``none``.
    percentile : float
        Percentage of the good images that set the threshold with the same score or a lower one.
    verdict : {"good", "defect", "error", "none"}
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

    time: str = field(default_factory=_now, compare=False, kw_only=True)
    path: str | None
    sha256: str | None = field(default=None, kw_only=True)
    part: str | None = field(default=None, kw_only=True)
    part_sha256: str | None = field(default=None, kw_only=True)
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
    defects: list[DefectBox] | None = None
    error: str | None = None

    def record(self) -> dict[str, Any]:
        """Return the values by the names in `FIELDS`, in this order, as JSON can hold them."""
        return asdict(self)


FIELDS = tuple(one.name for one in fields(Inspection))
"""Names of what is recorded of every inspection."""

_Judged = tuple[Inspection, np.ndarray | None, np.ndarray | None]


class MapScale(TypedDict):
    """Map values of the first and the last color, and of the outline; see `images.overlay`."""

    low: float
    high: float
    threshold: float | None


@dataclass(frozen=True)
class Inspector(Generic[Judge]):
    """A fitted detector with its calibration and a record of how both were made.

    Attributes
    ----------
    detector : ImageJudge
    calibration : Calibration or None
        None for an inspector without a threshold, which gives scores and no verdicts.
    fitted_on : dict
        Record for later: numbers of images, share held out, seed, and synthetic defects if used; without a
        calibration, the largest value of the maps of the images fitted to.
    levels : Levels or None
        Range of the levels of the good images' files, which every other file must have. None asks for none:
        then a file is scaled by the range that it says, else by that of its type.
    part, part_sha256 : str or None
        Name without suffix and SHA-256 of the file that it was loaded from; of an export, the SHA-256 over
        all its files. `deploy.loading` sets them. None for an inspector that is in no file.
    """

    detector: Judge
    calibration: Calibration | None
    fitted_on: dict[str, Any] = field(default_factory=dict)
    levels: Levels | None = None
    part: str | None = None
    part_sha256: str | None = None

    def check_threshold(self) -> None:
        """Raise InspectorError if there is no threshold."""
        _ = self.calibrated

    @property
    def calibrated(self) -> Calibration:
        """The calibration; raises InspectorError if there is none."""
        if self.calibration is None:
            raise InspectorError(
                f"{self.part or 'the inspector'} has no threshold, so it gives scores without verdicts; "
                "expected a threshold: set one with 'metricad calibrate PART GOOD'"
            )
        return self.calibration

    @property
    def threshold(self) -> float:
        """Image scores above it are defects; raises the error of `calibrated`."""
        return self.calibrated.threshold

    def map_scale(self) -> MapScale:
        """Return the color range and the outline level that `images.overlay` uses for all maps of this part.

        They are the same for every image, so that colors can be compared. The outline is drawn at two thirds
        of the range, where the map has the value that corresponds to the threshold. Without a threshold,
        nothing is outlined, and there the largest value is that of good images.
        """
        if self.calibration is None:
            outline = float(self.fitted_on["largest_on_good"])
        else:
            outline = self.detector.map_value(self.threshold)
        # The largest standard scores of good images lie around 0; so a threshold below 1 is only a little
        # above.
        return {
            "low": min(0.0, outline - 1.0),
            "high": max(1.5 * outline, outline + 0.5),
            "threshold": None if self.calibration is None else outline,
        }

    def changed(self, **changes: Any) -> "Inspector[Judge]":
        """Return an inspector that differs in these attributes, and so is no longer the one in the file."""
        return replace(self, part=None, part_sha256=None, **changes)

    def inspect(
        self, image: np.ndarray, *, path: str | None = None, sha256: str | None = None
    ) -> tuple[Inspection, np.ndarray]:
        """Judge an image, float32 (H, W) or (H, W, 3) in [-1, 1]; return verdict and anomaly map (h', w').

        `path` and `sha256` are for the record: where the image comes from.
        """
        found = self.detector.judge(image)
        row, column = found.peak
        inspection = Inspection(
            path=path,
            sha256=sha256,
            part=self.part,
            part_sha256=self.part_sha256,
            score=found.score,
            verdict=NONE,
            peak_row=row,
            peak_col=column,
            size_class=self.detector.score_name,
            source=found.source,
        )
        if (given := self.calibration) is not None:
            is_good = found.score <= given.threshold
            inspection = replace(
                inspection,
                threshold=given.threshold,
                percentile=given.percentile(found.score),
                verdict=GOOD if is_good else DEFECT,
                false_alarm_rate=given.false_alarm_rate,
                rate_basis=str(given.basis),
                defects=[] if is_good else self._boxes(found.anomaly, image),
            )
        return inspection, found.anomaly

    def failed(self, path: str | None, sha256: str | None, error: str) -> Inspection:
        """Return the record of an image that could not be judged."""
        return Inspection(path, sha256=sha256, part=self.part, part_sha256=self.part_sha256, error=error)

    def _boxes(self, anomaly: np.ndarray, image: np.ndarray) -> list[DefectBox]:
        outline = self.detector.map_value(self.threshold)
        return defect_boxes.find(self.detector.on_pixels(anomaly, image), outline)

    def picture(self, inspection: Inspection, image: np.ndarray, anomaly: np.ndarray) -> np.ndarray:
        """Draw the anomaly map (h', w') over its image, with boxes around defects: uint8 (H, W, 3)."""
        boxes = [(one.row, one.col, one.height, one.width) for one in inspection.defects or []]
        anomaly_map = self.detector.on_pixels(anomaly, image)
        return images.overlay(image, anomaly_map, **self.map_scale(), boxes=boxes)

    def inspect_files(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        workers: int = 1,
        draw: Draw | None = None,
        page: int | None = None,
        read_bytes: Callable[[str | os.PathLike[str]], bytes] = images.read_bytes,
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
        read_bytes : function, optional
            Reads a file that is elsewhere; raises DataError if it is missing.

        Yields
        ------
        inspection : Inspection
        image : float32 (H, W) or (H, W, 3), or None for a bad file
        anomaly_map : float32 (h', w'), or None for a bad file
        """

        def read(path: str | os.PathLike[str]) -> tuple[str | None, np.ndarray | DataError]:
            """Return the SHA-256 of a file, and its image or why there is none."""
            sha256 = None
            try:
                with self.detector.timer("read"):
                    content = read_bytes(path)
                    sha256 = hashlib.sha256(content).hexdigest()
                return sha256, self.read(path, page=page, content=content)
            except DataError as error:
                return sha256, error

        def judge(
            path: str | os.PathLike[str], opened: Future[tuple[str | None, np.ndarray | DataError]]
        ) -> _Judged:
            sha256, image = opened.result()
            try:
                if isinstance(image, DataError):
                    raise image
                inspection, anomaly_map = self.inspect(image, path=str(path), sha256=sha256)
            except MemoryError as error:
                reason = f"too large for this machine's memory: {error}"
                return self.failed(str(path), sha256, reason), None, None
            except DataError as error:
                return self.failed(str(path), sha256, str(error).removeprefix(f"{path}: ")), None, None
            if draw is not None:
                with self.detector.timer("write"):
                    draw(inspection, image, anomaly_map)
            return inspection, image, anomaly_map

        with ThreadPoolExecutor(max_workers=workers) as judges:
            judged: deque[Future[_Judged]] = deque()
            for path, opened in _read_ahead(paths, read, count=workers):
                judged.append(judges.submit(judge, path, opened))
                if len(judged) > workers:
                    yield judged.popleft().result()
            while judged:
                yield judged.popleft().result()

    def read(
        self, path: str | os.PathLike[str], *, page: int | None = None, content: bytes | None = None
    ) -> np.ndarray:
        """Read an image file as this inspector takes it; parameters and errors of `images.read`."""
        detector = self.detector
        with detector.timer("read"):
            return images.read(
                path,
                minimum_size=detector.grid.smallest,
                color=detector.channels == 3,
                levels=self.levels,
                page=page,
                content=content,
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
    read: Callable[[str | os.PathLike[str]], T],
    *,
    count: int = 1,
) -> Iterator[tuple[str | os.PathLike[str], Future[T]]]:
    """Yield each path with the future of what `read` gives. Read `count` more files meanwhile, in threads."""
    with ThreadPoolExecutor(max_workers=count) as readers:
        ahead: deque[tuple[str | os.PathLike[str], Future[T]]] = deque()
        for path in paths:
            ahead.append((path, readers.submit(read, path)))
            if len(ahead) > count:
                yield ahead.popleft()
        yield from ahead
