"""The protocol that every method follows, and the paper's method: distance of features to a prototype."""

from collections.abc import Callable, Iterable
from typing import Protocol, Self

import keras
import numpy as np

from metricad import network
from metricad.prototype import Prototype


class Detector(Protocol):
    """A method of anomaly detection; evaluation knows nothing else about it.

    Images are float32 (H, W) in [-1, 1].
    """

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Learn from good images only."""

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """How far each pixel lies from good surface: float32 (H, W), larger is farther."""

    def score(self, image: np.ndarray) -> float:
        """How far the image lies from good surface; larger is farther."""


class TripletDetector:
    """Distance of a network's features to a prototype (the paper, sections 2.2 and 2.9).

    Parameters
    ----------
    model : keras.Model
        As `network.build` makes it.
    prototype : Prototype
        Fitted here by `fit` or `update`, or before.
    features : function, optional
        The model's, from an image to its features: `network.extractor(model)`, which is made when none is
        given, or `SharedFeatures` where several detectors stand on one network.
    """

    def __init__(
        self,
        model: keras.Model,
        prototype: Prototype,
        *,
        features: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.model = model
        self.prototype = prototype
        self.features = network.extractor(model) if features is None else features

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """See `Detector`; streams, so that any number of images can be given."""
        self.prototype.fit(self.features(image) for image in images)
        return self

    def update(self, image: np.ndarray) -> None:
        """Learn from one more good image, float32 (H, W) in [-1, 1].

        So that several detectors can learn from one stream of images, each in turn.
        """
        self.prototype.update(self.features(image))

    def distance_map(self, image: np.ndarray) -> np.ndarray:
        """Distance to the prototype at each feature: float32 (h', w')."""
        return self.prototype.distance(self.features(image))

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """See `Detector`."""
        return place(self.distance_map(image), image.shape)

    def score(self, image: np.ndarray) -> float:
        """See `Detector`."""
        return image_score(self.distance_map(image))


class SharedFeatures:
    """A network's features of the last image asked for, kept for the next to ask.

    Detectors that share one and are asked about the same image one after the other run the network once.
    The image is known again by identity: it must not be changed in between, as that would go unseen.

    Parameters
    ----------
    model : keras.Model
        As `network.build` makes it.
    """

    def __init__(self, model: keras.Model) -> None:
        self._extract = network.extractor(model)
        self._image: np.ndarray | None = None  # held, so that no other image can come to its address
        self._features: np.ndarray | None = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Features float32 (h', w', d) of an image float32 (H, W) in [-1, 1].

        They are shared: the array is read-only and must not be written to.
        """
        if image is not self._image:
            features = self._extract(image)
            features.flags.writeable = False
            self._image, self._features = image, features
        return self._features


def image_score(distance_map: np.ndarray) -> float:
    """Reduce a distance map to one number: its maximum (the paper, section 2.9)."""
    return float(distance_map.max())


def peak(distance_map: np.ndarray) -> tuple[int, int]:
    """Row and column, in pixels of the image, at the centre of the map's farthest feature."""
    row, column = np.unravel_index(np.argmax(distance_map), distance_map.shape)
    center = network.RECEPTIVE_FIELD // 2  # 15.5, the middle of an even side, to whole pixels
    return int(row * network.STRIDE + center), int(column * network.STRIDE + center)


def place(distance_map: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Put a distance map back on its image's pixels.

    The first feature sits at pixel 15.5, the centre of its receptive field, the next a stride further.
    Between centres the map is interpolated linearly; outside the outermost ones their value is kept.

    Parameters
    ----------
    distance_map : float32 (h', w')
    shape : (int, int)
        Height and width of the image, in pixels.

    Returns
    -------
    float32 (H, W)
    """
    rows, columns = (_linear_weights(*sizes) for sizes in zip(distance_map.shape, shape, strict=True))
    below, above, weight = rows
    stretched = distance_map[below] * (1 - weight)[:, None] + distance_map[above] * weight[:, None]
    below, above, weight = columns
    # Whole columns are gathered as rows of the transposed map: contiguous memory, twice as fast.
    turned = np.ascontiguousarray(stretched.T)
    return (turned[below] * (1 - weight)[:, None] + turned[above] * weight[:, None]).T


def _linear_weights(size: int, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel of one axis: the features before and after it and the weight of the latter."""
    first = (network.RECEPTIVE_FIELD - 1) / 2
    position = np.clip((np.arange(pixels) - first) / network.STRIDE, 0, size - 1)
    below = position.astype(int)
    above = np.minimum(below + 1, size - 1)
    return below, above, (position - below).astype(np.float32)
