"""Interfaces: what evaluation needs of every method, and what an inspector needs of its model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from metricad.data.channels import to_luminance
from metricad.errors import InspectorError
from metricad.inspection.timing import StageTimer
from metricad.networks.feature_grid import FeatureGrid


class Detector(Protocol):
    """Interface of a method of anomaly detection; evaluation uses nothing else of it.

    Images are float32 (H, W) in [-1, 1]; also (H, W, 3) if the method has ``takes_color``.
    """

    def fit(self, images: Sequence[np.ndarray]) -> Self:
        """Fit to good images only. Items of `images` may be read from disk at each access."""

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute an anomaly value for each pixel: float32 (H, W), larger is farther from good."""

    def score(self, image: np.ndarray) -> float:
        """Compute the image score; larger is farther from good."""


def as_taken(detector: Detector, image: np.ndarray) -> np.ndarray:
    """Return the image unchanged if the detector takes color, else its luminance."""
    return image if getattr(detector, "takes_color", False) else to_luminance(image)


@dataclass(frozen=True)
class Judgement:
    """Result of the model for one image, without a threshold.

    Attributes
    ----------
    score : float
        In standard deviations of the scores of good images; for the paper's method, a distance.
    peak : (int, int)
        Row and column of the center pixel of the area with the largest anomaly.
    source : str
        Name of the feature map that contributes most there.
    anomaly : float32 (h', w')
        The anomaly map on the feature grid.

    Raises
    ------
    InspectorError
        The score or a value of the map is not finite. So no verdict can come from it.
    """

    score: float
    peak: tuple[int, int]
    source: str
    anomaly: np.ndarray

    def __post_init__(self) -> None:
        if not (np.isfinite(self.score) and np.isfinite(self.anomaly).all()):
            raise InspectorError(
                f"the inspector computed numbers that are not finite (score {self.score:g}), so there is no "
                "verdict; it is damaged, its network has diverged, or the image holds such numbers: make or "
                "export it again"
            )


class ImageJudge(Protocol):
    """Interface of an inspector's model: a fitted `PartDetector` or an exported one.

    Its methods may be called from several threads at once.
    """

    score_name: str
    timer: StageTimer

    @property
    def grid(self) -> FeatureGrid:
        """Feature grid: where the features of the maps lie on the pixels of an image."""

    @property
    def channels(self) -> int:
        """Number of channels that the model uses: 1 or 3."""

    def judge(self, image: np.ndarray) -> Judgement:
        """Judge an image, float32 (H, W) or (H, W, 3) in [-1, 1].

        Raises
        ------
        DataError
            The image does not fit.
        InspectorError
            The inspector fails on it.
        """

    def on_pixels(self, anomaly: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Resample an anomaly map (h', w') to the pixels of its image: float32 (H, W)."""

    def map_value(self, score: float) -> float:
        """Return the anomaly map's value that corresponds to an image score; defects are outlined there."""
