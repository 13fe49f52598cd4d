"""Patch bank: nearest neighbours of pre-trained features in a coreset of good ones (PatchCore)."""

import os
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import scipy.ndimage
import scipy.special
import tensorflow as tf
from sklearn.random_projection import GaussianRandomProjection

from metricad.data import images as image_files
from metricad.networks import imagenet

_NEIGHBOURHOOD = 3  # side, in features, of the window that each feature is averaged over
_PROJECTED = 128  # dimensions in which the coreset is chosen
_SAFELY = 1.001  # more than once, for what is lost in rounding
_SMOOTHING = 4.0  # pixels: standard deviation of the Gaussian that smooths the map


class PatchBankDetector:
    """Distance of pre-trained features to the nearest in a bank of good ones, wherever those lay.

    Roth, Pemula, Zepeda, Schölkopf, Brox and Gehler, "Towards Total Recall in Industrial Anomaly Detection"
    (PatchCore, 2022). The layers at the ends of the second and third stage of a pre-trained network are
    averaged over 3×3 neighbours and joined on the finer grid, bilinearly. Of all good images' features a
    tenth is kept, chosen greedily (the next is the one farthest from those chosen) after a random projection
    to 128 dimensions. The map is the Euclidean distance of each feature to its nearest in the bank, enlarged
    and smoothed by a Gaussian of 4 pixels; the image's score is the greatest distance before smoothing,
    weighed by how lonely its nearest neighbour is in the bank, see `reweighted`. Follows
    `interface.Detector`.

    Good images are kept, `side` pixels wide, until the bank is filled: features of all of them would take ten
    times the memory of the bank, so they are computed once to choose from, in 128 dimensions, and again
    where one was chosen. At the defaults 400 images take less than 1 GB beside the network, the bank 0.2 GB.

    Departures: ResNet50 stands for the source's Wide ResNet-50-2, which Keras does not have, but whose layers
    have the same number of features (512 and 1024); the joined 1536 features are not averaged down to 1024;
    images are gray, repeated on three channels, and resized to a square as a whole, where the source crops
    the middle out of a slightly larger one, since defects lie at borders too. Good features that are the
    same are kept once.

    Parameters
    ----------
    share : float in (0, 1]
        Of the good features to keep.
    neighbours : int
        In the bank, the nearest one included, that a score is weighed by; with 1 it is not weighed. The
        number is ours.
    side : int
        Height and width, in pixels, that images are resized to.
    backbone : str
        One of `imagenet.APPLICATIONS`.
    layers : sequence of str, optional
        Names of its layers, the one with the finest grid first; the ends of its second and third stage when
        not given.
    weights
        See `imagenet.load`.
    seed : int
        Of the projection and of the first feature chosen, and of random weights.

    Raises
    ------
    ValueError
        A setting is out of its range.
    DataError
        The weights cannot be had.
    """

    def __init__(
        self,
        *,
        share: float = 0.1,
        neighbours: int = 9,
        side: int = 224,
        backbone: str = "ResNet50",
        layers: Sequence[str] | None = None,
        weights: str | os.PathLike[str] = imagenet.IMAGENET,
        seed: int = 0,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], received {share}")
        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, received {neighbours}")
        self.share = share
        self.neighbours = neighbours
        self.side = imagenet.checked_side(side, backbone)
        self.seed = seed
        layers = imagenet.APPLICATIONS[backbone].stages[1:3] if layers is None else layers
        self._backbone = imagenet.load(backbone, weights=weights, layers=layers, seed=seed)
        self.bank: np.ndarray
        self._squares: np.ndarray

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Learn from good images, float32 (H, W) in [-1, 1]."""
        good = [image_files.resize(image, (self.side, self.side)) for image in images]
        if not good:
            raise ValueError("no images to fit to; expected at least one good image")
        dimensions = self._backbone.dimensions
        projection = GaussianRandomProjection(min(_PROJECTED, dimensions), random_state=self.seed)
        projection.fit(np.zeros((1, dimensions), np.float32))
        projected = [
            projection.transform(_vectors(self.features(image))).astype(np.float32) for image in good
        ]
        each = len(projected[0])
        points = np.concatenate(projected)
        first = int(np.random.default_rng(self.seed).integers(len(points)))
        chosen = np.sort(greedy_coreset(points, max(1, round(self.share * len(points))), first=first))
        owner, position = np.divmod(chosen, each)
        self.bank = np.concatenate(
            [_vectors(self.features(good[k]))[position[owner == k]] for k in np.unique(owner)]
        )
        self._squares = np.square(self.bank).sum(axis=1)
        return self

    def features(self, image: np.ndarray) -> np.ndarray:
        """Features of an image, averaged over neighbours and joined: float32 (h, w, d)."""
        layers = self._backbone.features(image, self.side)
        return imagenet.joined([averaged(layer) for layer in layers], interpolation="bilinear")

    def distance_map(self, image: np.ndarray) -> np.ndarray:
        """Distance of each feature to its nearest in the bank: float32 (h, w)."""
        return self._to_bank(self.features(image))[0]

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Distances on the image's pixels, smoothed: float32 (H, W)."""
        enlarged = image_files.resize(self.distance_map(image), (self.side, self.side))
        return image_files.resize(scipy.ndimage.gaussian_filter(enlarged, _SMOOTHING), image.shape)

    def score(self, image: np.ndarray) -> float:
        """Greatest distance of a feature to the bank, weighed, see `reweighted`."""
        features = self.features(image)
        distances, nearest = self._to_bank(features)
        farthest = np.unravel_index(np.argmax(distances), distances.shape)
        beside = self._beside(int(nearest[farthest]))
        return reweighted(np.linalg.norm(self.bank[beside] - features[farthest], axis=-1))

    def _to_bank(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each feature (h, w, d) to its nearest in the bank, and which that is: (h, w) each."""
        vectors = _vectors(features)
        # One product in float32: scikit-learn's search, in float64, takes twice the time.
        nearest = np.argmin(self._squares - 2 * (vectors @ self.bank.T), axis=1)
        shape = features.shape[:2]
        return np.linalg.norm(vectors - self.bank[nearest], axis=-1).reshape(shape), nearest.reshape(shape)

    def _beside(self, index: int) -> np.ndarray:
        """The nearest in the bank to one of its features, itself first."""
        distances = self._squares - 2 * (self.bank @ self.bank[index])
        distances[index] = -np.inf
        return np.argsort(distances, kind="stable")[: self.neighbours]


def averaged(features: np.ndarray) -> np.ndarray:
    """Average each feature of a map (h, w, d) with its neighbours in a 3×3 window, those that there are."""
    window = _NEIGHBOURHOOD
    return tf.nn.avg_pool2d(features[np.newaxis], window, strides=1, padding="SAME").numpy()[0]


def greedy_coreset(points: np.ndarray, count: int, *, first: int) -> np.ndarray:
    """Choose points that lie close to all others: each the farthest from those chosen before it.

    The greedy solution of the k-centre problem, at most twice as far from the farthest point as the best.

    Parameters
    ----------
    points : float32 (n, d)
    count : int
        How many to choose; fewer are where all others are copies of those.
    first : int
        Index of the one to begin with.

    Returns
    -------
    int (count,)
        Indices, in the order in which they were chosen.
    """
    chosen = np.empty(count, int)
    centres = np.empty((count, points.shape[1]), points.dtype)
    squares = np.square(points).sum(axis=1)
    chosen[0], centres[0] = first, points[first]
    distances = np.linalg.norm(points - points[first], axis=-1)
    nearest = np.zeros(len(points), int)  # which of the chosen that is the distance to
    for k in range(1, count):
        farthest = int(np.argmax(distances))
        if distances[farthest] == 0:
            return chosen[:k]
        # By the triangle inequality the new one can be nearer to a point than the old one is only where the
        # two lie less than twice the point's distance apart: that spares all but a few per cent of them.
        apart = squares[chosen[:k]] - 2 * (centres[:k] @ points[farthest]) + squares[farthest]
        half = np.sqrt(np.maximum(apart, 0)) / 2
        candidates = np.flatnonzero(half[nearest] < _SAFELY * distances)
        to_new = np.linalg.norm(points[candidates] - points[farthest], axis=-1)
        is_nearer = to_new < distances[candidates]
        distances[candidates[is_nearer]] = to_new[is_nearer]
        nearest[candidates[is_nearer]] = k
        chosen[k], centres[k] = farthest, points[farthest]
    return chosen


def reweighted(distances: np.ndarray) -> float:
    """Weigh a score by how lonely the nearest neighbour is (PatchCore, equation 7).

    Parameters
    ----------
    distances : float (b,)
        Of the test feature to its nearest in the bank, the score, and then to that one's neighbours there.

    Returns
    -------
    float
        The score times 1 - exp(score) / sum of exp(distances): less where the neighbours are as near. With
        no neighbours, the score as it is.
    """
    weight = 1 - scipy.special.softmax(distances.astype(np.float64))[0] if len(distances) > 1 else 1
    return float(weight * distances[0])


def _vectors(features: np.ndarray) -> np.ndarray:
    return features.reshape(-1, features.shape[-1])
