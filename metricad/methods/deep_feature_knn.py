"""Deep features and nearest neighbors: distance of an image's features to those of good images."""

import os
from collections.abc import Iterable
from typing import Self

import numpy as np

from metricad.methods.arrays import Arrays, NearestGood
from metricad.networks import imagenet


class DeepFeatureKnnDetector:
    """Score: mean squared distance of an image's deep features to those of its nearest good images.

    The deep-feature baseline of Saeedi and Giusti, "Anomaly Detection for Industrial Inspection using
    Convolutional Autoencoder and Deep Feature-based One-class Classification" (2022): Xception (Chollet,
    2017) trained on ImageNet, global max pooling of its last layer before the classifier, standardized
    features, k nearest neighbors. Follows `interface.Detector`.

    Differences: images are resized to a square of Xception's input size, because the source gives no size.
    Gray images are repeated on three channels. If there are fewer good images than `neighbors`, all of them
    are used.

    The method has no map: `anomaly_map` repeats the score at every pixel, and `has_map` is False.

    Parameters
    ----------
    neighbors : int
        Number of nearest neighbors, k, at least 1.
    side : int
        Height and width, in pixels, that images are resized to; at least 71 for Xception.
    backbone : str
        One of `imagenet.APPLICATIONS`.
    weights, seed
        See `imagenet.load`.

    Raises
    ------
    ValueError
        A setting is outside its range.
    DataError
        The weights cannot be loaded.
    """

    has_map = False
    takes_color = True

    def __init__(
        self,
        *,
        neighbors: int = 15,
        side: int = 299,
        backbone: str = "Xception",
        weights: str | os.PathLike[str] = imagenet.IMAGENET,
        seed: int = 0,
    ) -> None:
        if neighbors < 1:
            raise ValueError(f"neighbors must be at least 1, received {neighbors}")
        self.neighbors = neighbors
        self.side = imagenet.checked_side(side, backbone)
        self._backbone = imagenet.load(backbone, weights=weights, seed=seed)
        self._good: NearestGood

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Fit to good images, float32 (H, W) or (H, W, 3) in [-1, 1], one by one; only features are kept."""
        embeddings = [self.embedding(image) for image in images]
        if not embeddings:
            raise ValueError("no images to fit to; expected at least one good image")
        self._good = NearestGood(embeddings, self.neighbors)
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `fit` learned."""
        return self._good.arrays()

    def restore(self, arrays: Arrays) -> Self:
        """Take what `arrays` returned, in place of `fit`."""
        self._good = NearestGood.restore(arrays, self.neighbors)
        return self

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Return the score at every pixel, because the method has no map: float32 (H, W)."""
        return self.judge(image)[1]

    def score(self, image: np.ndarray) -> float:
        """Compute the mean squared Euclidean distance to the nearest good images' standardized features."""
        return self._good.distance(self.embedding(image))

    def judge(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute score and map at once."""
        score = self.score(image)
        return score, np.full(image.shape[:2], score, np.float32)

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """Compute the maximum of the last features over the image, not standardized: float32 (d,)."""
        return self._backbone.features(image, self.side)[0].max(axis=(0, 1))
