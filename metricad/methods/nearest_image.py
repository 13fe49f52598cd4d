"""Nearest image: Euclidean distance of all pixels to the most similar good image."""

from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np

from metricad.data import images as image_files


class NearestImageDetector:
    """Score: Euclidean distance of an image's pixels to those of the nearest good image.

    A baseline of Saeedi and Giusti, "Anomaly Detection for Industrial Inspection using Convolutional
    Autoencoder and Deep Feature-based One-class Classification" (2022). Follows `interface.Detector`.

    All good images are kept, four bytes per pixel: 400 of 1024×1024 take 1.7 GB. A smaller `side` takes less.

    Differences: the source does not resize. Here images of different sizes are resized to that of the first
    good image, or all to `side`. The source has no map. Here it is the squared difference to the nearest
    image; its sum is the square of the score for images of that size.

    Parameters
    ----------
    side : int, optional
        Height and width, in pixels, that images are resized to.

    Raises
    ------
    ValueError
        The side is less than 1.
    """

    def __init__(self, *, side: int | None = None) -> None:
        if side is not None and side < 1:
            raise ValueError(f"side must be at least 1 pixel, received {side}")
        self.side = side
        self._good: list[np.ndarray] = []

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Store good images, float32 (H, W) in [-1, 1]."""
        good: list[np.ndarray] = []
        for image in images:
            shape = (self.side, self.side) if self.side else (good[0] if good else image).shape
            good.append(image_files.resize(image, shape))
        if not good:
            raise ValueError("no images to fit to; expected at least one good image")
        self._good = good
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `fit` learned."""
        return {"good": np.stack(self._good)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take what `arrays` returned, in place of `fit`."""
        self._good = list(arrays["good"])
        return self

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the squared difference of every pixel to the nearest good image: float32 (H, W)."""
        return self.judge(image)[1]

    def score(self, image: np.ndarray) -> float:
        """Compute the Euclidean distance to the nearest good image."""
        return self._nearest(image)[0]

    def judge(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute score and map at once."""
        distance, nearest = self._nearest(image)
        differences = image_files.resize(image, nearest.shape) - nearest
        return distance, image_files.resize(np.square(differences), image.shape)

    def _nearest(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        resized = image_files.resize(image, self._good[0].shape)
        # One after the other, because a matrix of all differences would double the memory.
        distances = [float(np.linalg.norm(resized - good)) for good in self._good]
        nearest = int(np.argmin(distances))
        return distances[nearest], self._good[nearest]
