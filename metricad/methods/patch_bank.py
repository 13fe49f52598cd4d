"""Patch bank: nearest neighbors of pre-trained features in a coreset of good ones (PatchCore)."""

import os
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import scipy.ndimage
import scipy.special
import tensorflow as tf
from sklearn.random_projection import GaussianRandomProjection

from metricad.data import images as image_files
from metricad.methods.arrays import Arrays
from metricad.networks import imagenet

_NEIGHBORHOOD = 3  # side, in features, of the window over which each feature is averaged
_PROJECTED = 128  # dimensions in which the coreset is chosen
_SAFELY = 1.001  # slightly above 1 to allow for rounding
_SMOOTHING = 4.0  # pixels: standard deviation of the Gaussian that smooths the map


class PatchBankDetector:
    """Distance of pre-trained features to the nearest one in a bank of good features from all positions.

    Roth, Pemula, Zepeda, Schölkopf, Brox and Gehler, "Towards Total Recall in Industrial Anomaly Detection"
    (PatchCore, 2022). The last layers of the second and third stage of a pre-trained network are averaged
    over 3×3 neighbors and joined on the finer grid with bilinear interpolation. A tenth of all good images'
    features is kept. It is chosen greedily (the next feature is the one farthest from those chosen) after a
    random projection to 128 dimensions. The map is the Euclidean distance of each feature to the nearest one
    in the bank, enlarged and smoothed by a Gaussian of 4 pixels. The score of an image is the largest
    distance before smoothing. It is weighted by the distances within the bank around the nearest feature, see
    `reweighted`. Follows `interface.Detector`.

    Good images are kept, `side` pixels wide, until the bank is complete. Features of all images would take
    ten times the memory of the bank. So they are computed once for the choice, in 128 dimensions, and again
    for the images with chosen features. At the defaults 400 images take less than 1 GB besides the network,
    and the bank takes 0.2 GB.

    Differences: ResNet50 replaces the source's Wide ResNet-50-2, which Keras does not have; its layers have
    the same number of features (512 and 1024). The joined 1536 features are not averaged down to 1024. Images
    are resized to a square as a whole; the source crops the center of a slightly larger image, but defects
    also lie at borders. Gray images are repeated on three channels. Equal good features are kept once.

    Parameters
    ----------
    share : float in (0, 1]
        Share of the good features to keep.
    most : int, optional
        Largest number of features to keep. If `share` gives more, they are chosen among fewer good features,
        drawn at random, so that time is bounded, too. The default is no bound, as in the source.
    neighbors : int
        Number of neighbors in the bank used to weight the score, including the nearest one; 1 turns weighting
        off. The default is our choice.
    side : int
        Height and width, in pixels, that images are resized to.
    backbone : str
        One of `imagenet.APPLICATIONS`.
    layers : sequence of str, optional
        Names of its layers, the one with the finest grid first. The default is the last layers of its second
        and third stage.
    weights
        See `imagenet.load`.
    seed : int
        Seed of the projection, of the first chosen feature, and of random weights.

    Raises
    ------
    ValueError
        A setting is outside its range.
    DataError
        The weights cannot be loaded.
    """

    takes_color = True

    def __init__(
        self,
        *,
        share: float = 0.1,
        most: int | None = None,
        neighbors: int = 9,
        side: int = 224,
        backbone: str = "ResNet50",
        layers: Sequence[str] | None = None,
        weights: str | os.PathLike[str] = imagenet.IMAGENET,
        seed: int = 0,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], received {share}")
        if most is not None and most < 1:
            raise ValueError(f"most must be at least 1, received {most}")
        if neighbors < 1:
            raise ValueError(f"neighbors must be at least 1, received {neighbors}")
        self.share = share
        self.most = most
        self.neighbors = neighbors
        self.side = imagenet.checked_side(side, backbone)
        self.seed = seed
        layers = imagenet.APPLICATIONS[backbone].stages[1:3] if layers is None else layers
        self._backbone = imagenet.load(backbone, weights=weights, layers=layers, seed=seed)
        self.bank: np.ndarray
        self._squares: np.ndarray

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Fit to good images, float32 (H, W) or (H, W, 3) in [-1, 1]."""
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
        rng, drawn = np.random.default_rng(self.seed), np.arange(len(points))
        if self.most is not None and round(self.share * len(points)) > self.most:
            drawn = np.sort(rng.choice(len(points), round(self.most / self.share), replace=False))
            points = points[drawn]
        first = int(rng.integers(len(points)))
        count = max(1, round(self.share * len(points)))
        chosen = np.sort(drawn[greedy_coreset(points, count, first=first)])
        owner, position = np.divmod(chosen, each)
        self.bank = np.concatenate(
            [_vectors(self.features(good[k]))[position[owner == k]] for k in np.unique(owner)]
        )
        return self._complete()

    def _complete(self) -> Self:
        self._squares = np.square(self.bank).sum(axis=1)
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `fit` learned."""
        return {"bank": self.bank}

    def restore(self, arrays: Arrays) -> Self:
        """Take what `arrays` returned, in place of `fit`."""
        self.bank = arrays["bank"]
        return self._complete()

    def features(self, image: np.ndarray) -> np.ndarray:
        """Compute the features of an image, averaged over neighbors and joined: float32 (h, w, d)."""
        layers = self._backbone.features(image, self.side)
        return imagenet.joined([averaged(layer) for layer in layers], interpolation="bilinear")

    def distance_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the distance of each feature to the nearest one in the bank: float32 (h, w)."""
        return self._to_bank(self.features(image))[0]

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the smoothed distances on the image's pixels: float32 (H, W)."""
        return self._placed(self.distance_map(image), image)

    def _placed(self, distances: np.ndarray, image: np.ndarray) -> np.ndarray:
        enlarged = image_files.resize(distances, (self.side, self.side))
        return image_files.resize(scipy.ndimage.gaussian_filter(enlarged, _SMOOTHING), image.shape[:2])

    def score(self, image: np.ndarray) -> float:
        """Compute the largest distance of a feature to the bank, weighted; see `reweighted`."""
        features = self.features(image)
        return self._weighted(features, *self._to_bank(features))

    def judge(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute score and map at once."""
        features = self.features(image)
        distances, nearest = self._to_bank(features)
        return self._weighted(features, distances, nearest), self._placed(distances, image)

    def _weighted(self, features: np.ndarray, distances: np.ndarray, nearest: np.ndarray) -> float:
        farthest = np.unravel_index(np.argmax(distances), distances.shape)
        beside = self._beside(int(nearest[farthest]))
        return reweighted(np.linalg.norm(self.bank[beside] - features[farthest], axis=-1))

    def _to_bank(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest feature in the bank for each feature (h, w, d): distance and index, (h, w)
        each.
        """
        vectors = _vectors(features)
        # One float32 matrix product: scikit-learn's search uses float64 and takes twice as long.
        nearest = np.argmin(self._squares - 2 * (vectors @ self.bank.T), axis=1)
        shape = features.shape[:2]
        return np.linalg.norm(vectors - self.bank[nearest], axis=-1).reshape(shape), nearest.reshape(shape)

    def _beside(self, index: int) -> np.ndarray:
        """Return the indices of the features in the bank nearest to one of them, itself first."""
        distances = self._squares - 2 * (self.bank @ self.bank[index])
        distances[index] = -np.inf
        return np.argsort(distances, kind="stable")[: self.neighbors]


def averaged(features: np.ndarray) -> np.ndarray:
    """Average each feature of a map (h, w, d) with its existing neighbors in a 3×3 window."""
    window = _NEIGHBORHOOD
    return tf.nn.avg_pool2d(features[np.newaxis], window, strides=1, padding="SAME").numpy()[0]


def greedy_coreset(points: np.ndarray, count: int, *, first: int) -> np.ndarray:
    """Choose points close to all others: each is the point farthest from those chosen before it.

    This is the greedy solution of the k-center problem. Its largest distance is at most twice the optimum.

    Parameters
    ----------
    points : float32 (n, d)
    count : int
        Number of points to choose; fewer if all others are copies of chosen points.
    first : int
        Index of the first point.

    Returns
    -------
    int (count,)
        Indices in the order of choice.
    """
    chosen = np.empty(count, int)
    centers = np.empty((count, points.shape[1]), points.dtype)
    squares = np.square(points).sum(axis=1)
    chosen[0], centers[0] = first, points[first]
    distances = np.linalg.norm(points - points[first], axis=-1)
    nearest = np.zeros(len(points), int)  # which chosen point this distance refers to
    for k in range(1, count):
        farthest = int(np.argmax(distances))
        if distances[farthest] == 0:
            return chosen[:k]
        # By the triangle inequality, the new point can be nearer to a point than the old one only if the two
        # are less than twice the point's distance apart. This excludes all but a few percent of the points.
        # One thread (einsum): several take a hundred times as long for so small a product on a busy machine.
        products = np.einsum("kd,d->k", centers[:k], points[farthest])
        apart = squares[chosen[:k]] - 2 * products + squares[farthest]
        half = np.sqrt(np.maximum(apart, 0)) / 2
        candidates = np.flatnonzero(half[nearest] < _SAFELY * distances)
        to_new = np.linalg.norm(points[candidates] - points[farthest], axis=-1)
        is_nearer = to_new < distances[candidates]
        distances[candidates[is_nearer]] = to_new[is_nearer]
        nearest[candidates[is_nearer]] = k
        chosen[k], centers[k] = farthest, points[farthest]
    return chosen


def reweighted(distances: np.ndarray) -> float:
    """Weight a score by the distances around the nearest neighbor (PatchCore, equation 7).

    Parameters
    ----------
    distances : float (b,)
        Distances of the test feature to the nearest one in the bank, which is the score, and to that one's
        neighbors.

    Returns
    -------
    float
        The score times 1 - exp(score) / sum of exp(distances): smaller if the neighbors are equally near.
        Without neighbors, the unchanged score.
    """
    weight = 1 - scipy.special.softmax(distances.astype(np.float64))[0] if len(distances) > 1 else 1
    return float(weight * distances[0])


def _vectors(features: np.ndarray) -> np.ndarray:
    return features.reshape(-1, features.shape[-1])
