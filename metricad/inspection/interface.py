"""What evaluation asks of every method, and what an inspector asks of what stands behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from metricad.data.channels import to_luminance
from metricad.inspection.timing import StageTimer
from metricad.networks.feature_grid import FeatureGrid


class Detector(Protocol):
    """A method of anomaly detection; evaluation knows nothing else about it.

    Images are float32 (H, W) in [-1, 1]; also (H, W, 3) where a method has ``takes_color``.
    """

    def fit(self, images: Sequence[np.ndarray]) -> Self:
        """Learn from good images only, which may be read anew each time one is asked for."""

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """How far each pixel lies from good surface: float32 (H, W), larger is farther."""

    def score(self, image: np.ndarray) -> float:
        """How far the image lies from good surface; larger is farther."""


def as_taken(detector: Detector, image: np.ndarray) -> np.ndarray:
    """An image as a detector takes it: as it is where it takes color, else its luminance."""
    return image if getattr(detector, "takes_color", False) else to_luminance(image)


@dataclass(frozen=True)
class Judgement:
    """What the model says of one image, before any threshold.

    Attributes
    ----------
    score : float
        In standard deviations of good images' scores; a distance in the paper's method.
    peak : (int, int)
        Row and column of the pixel in the middle of the area that lies farthest from good surface.
    source : str
        Which kind of feature map contributes most there.
    anomaly : float32 (h', w')
        The anomaly map on the feature grid.
    """

    score: float
    peak: tuple[int, int]
    source: str
    anomaly: np.ndarray


class ImageJudge(Protocol):
    """What an inspector needs of its model: a fitted `PartDetector`, or one that was exported.

    Several threads may ask at once.
    """

    score_name: str
    timer: StageTimer

    @property
    def grid(self) -> FeatureGrid:
        """Where the places of the maps lie on an image's pixels."""

    @property
    def channels(self) -> int:
        """Channels of an image that count: 1 or 3."""

    def judge(self, image: np.ndarray) -> Judgement:
        """Judge an image, float32 (H, W) or (H, W, 3) in [-1, 1]; DataError where it cannot be judged."""

    def on_pixels(self, anomaly: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Put an image's anomaly map (h', w') on its pixels: float32 (H, W)."""

    def map_value(self, score: float) -> float:
        """Value of the anomaly map that corresponds to an image score: where a defect is outlined."""
