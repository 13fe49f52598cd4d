"""Per-pixel variation: distance of each pixel from its mean in standard deviations.

The simplest baseline of Saeedi and Giusti (2022). It is the control that shows whether a surface needs a
learned method.
"""

from collections.abc import Iterable
from typing import Self

import numpy as np

from metricad.data import images as image_files

# One gray level, so that a pixel that never varied in good images does not dominate the score.
_SMALLEST_DEVIATION = 2 / 255


class VariationDetector:
    """Mean and standard deviation of every pixel; the score is the mean of the squared z-scores.

    The source uses the sum. The mean makes images of different sizes comparable. Images are resized to the
    size of the first good image.
    """

    def __init__(self) -> None:
        self.mean: np.ndarray
        self.deviation: np.ndarray

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Fit to good images, float32 (H, W) in [-1, 1], one at a time (Welford's update)."""
        count = 0
        mean: np.ndarray | None = None
        squares: np.ndarray | None = None
        for image in images:
            count += 1
            if mean is None or squares is None:
                mean, squares = image.astype(np.float64), np.zeros(image.shape)
                continue
            image = image_files.resize(image, mean.shape)
            step = image - mean
            mean += step / count
            squares += step * (image - mean)
        if mean is None or squares is None:
            raise ValueError("no images to fit to; expected at least one good image")
        self.mean = mean.astype(np.float32)
        self.deviation = np.maximum(np.sqrt(squares / count), _SMALLEST_DEVIATION).astype(np.float32)
        return self

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the squared z-score of every pixel: float32 (H, W)."""
        return image_files.resize(self._squared(image), image.shape)

    def score(self, image: np.ndarray) -> float:
        """Compute the mean of the squared z-scores."""
        return float(self._squared(image).mean())

    def _squared(self, image: np.ndarray) -> np.ndarray:
        resized = image_files.resize(image, self.mean.shape)
        return np.square((resized - self.mean) / self.deviation)
