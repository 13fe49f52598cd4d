"""A detector that is adapted to each surface after its prototype is made."""

from collections.abc import Iterable
from typing import Self

import numpy as np

from metricad import adaptation
from metricad.inspection.detector import TripletDetector


class AdaptedDetector:
    """A detector whose prototype gets a head, trained on the good images and synthetic defects on them.

    Follows `metricad.detector.Detector`.

    Parameters
    ----------
    detector : TripletDetector
        Not fitted yet; its prototype must be one that `adaptation.adapt` takes.
    defects : int
        Synthetic ones to draw.
    seed : int
        Draws them, and which images they are put on where there are many.
    """

    def __init__(
        self, detector: TripletDetector, *, defects: int = adaptation.DEFECTS, seed: int = 0
    ) -> None:
        self.detector = detector
        self._defects = defects
        self._seed = seed

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """See `Detector`; all images are held in memory, since they are gone through several times."""
        images = list(images)
        self.detector.fit(images)
        order = np.random.default_rng(self._seed).permutation(len(images))
        shuffled = (images[i] for i in order)
        adaptation.adapt(self.detector, shuffled, count=self._defects, seed=self._seed)
        return self

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """See `Detector`."""
        return self.detector.anomaly_map(image)

    def score(self, image: np.ndarray) -> float:
        """See `Detector`."""
        return self.detector.score(image)
