"""Deep features and nearest neighbours: how far an image's features lie from those of good images."""

import os
from collections.abc import Iterable
from typing import Self

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from metricad.networks import imagenet

_BACKBONE = "Xception"


class DeepFeatureKnnDetector:
    """Mean squared distance of an image's deep features to those of its nearest good images.

    The deep-feature baseline of Saeedi and Giusti, "Anomaly Detection for Industrial Inspection using
    Convolutional Autoencoder and Deep Feature-based One-class Classification" (2022): Xception (Chollet,
    2017) trained on ImageNet, global max pooling of its last layer before the classifier, standardised
    features, k nearest neighbours. Follows `interface.Detector`.

    Departures: images are gray, repeated on three channels, and resized to a square of Xception's own input
    size, since the source names none; where fewer good images than `neighbours` are given, all of them count.

    The method has no map: `anomaly_map` is the score everywhere, and `has_map` is False.

    Parameters
    ----------
    neighbours : int
        k, at least 1.
    side : int
        Height and width, in pixels, that images are resized to; at least 71.
    weights, seed
        See `imagenet.load`.

    Raises
    ------
    ValueError
        A setting is out of its range.
    DataError
        The weights cannot be had.
    """

    has_map = False

    def __init__(
        self,
        *,
        neighbours: int = 15,
        side: int = 299,
        weights: str | os.PathLike[str] = imagenet.IMAGENET,
        seed: int = 0,
    ) -> None:
        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, received {neighbours}")
        self.neighbours = neighbours
        self.side = imagenet.checked_side(side, _BACKBONE)
        self._backbone = imagenet.load(_BACKBONE, weights=weights, seed=seed)
        self._scaler: StandardScaler
        self._nearest: NearestNeighbors

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Learn from good images, float32 (H, W) in [-1, 1], one at a time; features alone are kept."""
        embeddings = [self.embedding(image) for image in images]
        if not embeddings:
            raise ValueError("no images to fit to; expected at least one good image")
        self._scaler = StandardScaler().fit(embeddings)
        count = min(self.neighbours, len(embeddings))
        self._nearest = NearestNeighbors(n_neighbors=count).fit(self._scaler.transform(embeddings))
        return self

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """The score at every pixel, for want of a map: float32 (H, W)."""
        return np.full(image.shape, self.score(image), np.float32)

    def score(self, image: np.ndarray) -> float:
        """Mean of the squared Euclidean distances to the nearest good images' standardised features."""
        distances, _ = self._nearest.kneighbors(self._scaler.transform([self.embedding(image)]))
        return float(np.square(distances).mean())

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """Maximum of each of Xception's features over the image, not standardised: float32 (2048,)."""
        return self._backbone.features(image, self.side)[0].max(axis=(0, 1))
