"""A published method as the model of an inspector: it judges images as metricad's own model does."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from metricad.data.channels import channels_of, to_channels, to_luminance
from metricad.inspection.detector import PartDetector
from metricad.inspection.interface import Judgement
from metricad.inspection.timing import StageTimer
from metricad.methods.choice import Choice
from metricad.networks.feature_grid import FeatureGrid
from metricad.preprocessing.regions import Region
from metricad.scoring.score_names import OWN

_GRID = FeatureGrid(first=0.0, stride=1, smallest=8)  # the maps of methods lie on the pixels of the image
_ABOVE = 0.001  # share of a good image's pixels above its level; its largest value may be noise or an edge
_SEEN = 8  # number of good images that tell whether the part is inspected in color


class MethodDetector:
    """A published method; follows `interface.Detector` and `interface.ImageJudge`.

    Score and map are those of the method. For the outline, each held-out good image has a level, which 0.1 %
    of the pixels of its map exceed; the outline is the level with the rank that the threshold has among
    their scores. A method without a map has its score at every pixel: its outline is the threshold, and a
    defect is outlined as a whole.

    Parameters
    ----------
    choice : Choice
        The method and its settings.
    is_gray : bool
        Use only the luminance, also of color images.
    checkpoint : path, optional
        Folder for checkpoints of a method that is trained; an interrupted training continues from there.
    on_epoch : function
        Called after each epoch.

    Attributes
    ----------
    shape : (int, int) or None
        Height and width of the good images, in pixels, if all have the same.
    outline : (float64 (n,), float64 (n,))
        Scores of held-out good images, and their levels, each in ascending order.
    """

    takes_color = True
    score_name = OWN
    region: Region | None = None

    def __init__(
        self,
        choice: Choice,
        *,
        is_gray: bool = False,
        checkpoint: Path | None = None,
        on_epoch: Callable[[], object] = lambda: None,
    ) -> None:
        self.choice = choice
        self.method = choice.make(checkpoint=checkpoint, on_epoch=on_epoch)
        self.is_gray = is_gray or not getattr(self.method, "takes_color", False)
        self.channels = 1
        self.shape: tuple[int, int] | None = None
        self.outline = np.zeros(1), np.zeros(1)
        self.timer = StageTimer()
        self._one = threading.Lock()

    @property
    def grid(self) -> FeatureGrid:
        """Feature grid: the pixels of the image."""
        return _GRID

    @property
    def has_map(self) -> bool:
        """Whether the map shows positions; some methods only have a score."""
        return bool(getattr(self.method, "has_map", True))

    @property
    def description(self) -> str:
        """The method, and what is not as published."""
        return self.choice.title

    def fit(self, images: Sequence[np.ndarray]) -> Self:
        """Fit the method to good images; see `Detector`.

        Raises
        ------
        DataError
            Gray and color images are mixed, or the method cannot use an image.
        """
        if not len(images):
            raise ValueError("no images to fit to; expected at least one good image")
        if not self.is_gray:
            numbers = np.unique(np.linspace(0, len(images) - 1, _SEEN).round().astype(int))
            self.channels = channels_of(images[int(number)] for number in numbers)
        shapes = set()

        def taken() -> Iterator[np.ndarray]:
            for image in images:
                shapes.add(image.shape[:2])
                yield self._taken(image)

        self.method.fit(taken())
        self.shape = next(iter(shapes)) if len(shapes) == 1 else None
        return self

    def measured(self, image: np.ndarray) -> tuple[float, float]:
        """Compute the score and the level of a held-out good image."""
        found = self.judge(image)
        return found.score, float(np.quantile(found.anomaly, 1 - _ABOVE))

    def calibrate(self, measured: Sequence[tuple[float, float]]) -> Self:
        """Set the outline with what was `measured` on held-out good images."""
        scores, levels = np.sort(np.array(measured, np.float64), axis=0).T
        self.outline = scores, levels
        return self

    def judge(self, image: np.ndarray) -> Judgement:
        """Judge an image; see `ImageJudge`. One image at a time, as methods are not made for threads."""
        taken = self._taken(image)
        with self.timer("method"), self._one:
            score, anomaly = self.method.judge(taken)
        peak = (image.shape[0] // 2, image.shape[1] // 2)
        if self.has_map:
            row, column = np.unravel_index(np.argmax(anomaly), anomaly.shape)
            peak = int(row), int(column)
        return Judgement(score, peak, self.choice.name, anomaly)

    def score(self, image: np.ndarray) -> float:
        """Compute the image score; see `Detector`."""
        return self.judge(image).score

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the anomaly map on pixels; see `Detector`."""
        return self.judge(image).anomaly

    def on_pixels(self, anomaly: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return the map, which lies on the pixels of its image; see `ImageJudge`."""
        return anomaly

    def map_value(self, score: float) -> float:
        """Return the level with the same rank among good images as a score; see `ImageJudge`.

        It is interpolated, and never beyond their smallest and largest value.
        """
        return float(np.interp(score, *self.outline))

    def _taken(self, image: np.ndarray) -> np.ndarray:
        """Return an image in the channels that the method was fitted to."""
        return to_channels(image, 3) if self.channels == 3 else to_luminance(image)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that was learned; weights of pre-trained networks are not among it."""
        scores, levels = self.outline
        learned = {f"method/{name}": array for name, array in self.method.arrays().items()}
        return {**learned, "outline/scores": scores, "outline/levels": levels}

    @classmethod
    def restore(
        cls,
        choice: Choice,
        arrays: Mapping[str, np.ndarray],
        *,
        channels: int,
        shape: tuple[int, int] | None,
    ) -> Self:
        """Restore a fitted method from its settings and `arrays`."""
        made = cls(choice, is_gray=channels == 1)
        made.channels = channels
        made.shape = shape
        made.method.restore(
            {key.removeprefix("method/"): one for key, one in arrays.items() if key.startswith("method/")}
        )
        made.outline = arrays["outline/scores"], arrays["outline/levels"]
        if any(one.ndim != 1 or not len(one) or (np.diff(one) < 0).any() for one in made.outline):
            raise ValueError("scores and levels that are no lists in ascending order")
        return made


Fitted = PartDetector | MethodDetector
"""What a bundle holds: metricad's own model, or a published method."""
