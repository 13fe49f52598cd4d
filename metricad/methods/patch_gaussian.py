"""Patch Gaussian: a Gaussian of pre-trained features at each position of the image (PaDiM)."""

import os
from collections.abc import Iterable, Sequence
from typing import Self

import keras
import numpy as np
import scipy.ndimage
import tensorflow as tf

from metricad.data import images as image_files
from metricad.errors import DataError
from metricad.methods.arrays import Arrays
from metricad.methods.as_graph import Graph, Stretch, nearest
from metricad.networks import imagenet

_REGULARISATION = 0.01  # added to the covariance, as published
_MOST_EXPORTED = 2**31 - 2**28  # bytes; the formats hold 2 GiB
_SMOOTHING = 4.0  # standard deviation, in pixels, of the Gaussian that smooths the map, as published
_TOGETHER = 32  # number of images merged at once, because each merge updates all covariances
_POSITIONS = 64  # number of positions whose covariances are handled at once, to avoid a second copy of all


class PatchGaussianDetector:
    """Mahalanobis distance of pre-trained features to good ones at the same position.

    Defard, Setkov, Loesch and Audigier, "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection
    and Localization" (2021). The last layers of the first three stages of a pre-trained network are joined on
    the grid of the first one, and some of their dimensions are chosen at random. A Gaussian is fitted at each
    position; its covariance is regularized with 0.01 times the identity. The map of Mahalanobis distances is
    enlarged and smoothed by a Gaussian of 4 pixels. Its maximum is the score. Follows `interface.Detector`.
    Good images are read one at a time: memory does not grow with their number, but with the square of
    `dimensions` and of `side`. At the defaults the covariances take 3.8 GB; with 100 dimensions 0.13 GB, and
    0.7 GB at 512 pixels.

    Differences: ResNet50 replaces the source's Wide ResNet-50-2, which Keras does not have; its layers have
    the same number of features (256, 512 and 1024), so that 550 of them are chosen as in the source. Images
    are resized to a square as a whole; the source crops the center of a slightly larger image, but defects
    also lie at borders. Gray images are repeated on three channels.

    Parameters
    ----------
    dimensions : int
        Number of features kept, chosen at random from all layers; all if there are fewer.
    side : int
        Height and width, in pixels, that images are resized to.
    backbone : str
        One of `imagenet.APPLICATIONS`.
    layers : sequence of str, optional
        Names of its layers, the one with the finest grid first. The default is the last layers of its first
        three stages.
    weights
        See `imagenet.load`.
    seed : int
        Seed of the chosen dimensions and of random weights.

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
        dimensions: int = 550,
        side: int = 224,
        backbone: str = "ResNet50",
        layers: Sequence[str] | None = None,
        weights: str | os.PathLike[str] = imagenet.IMAGENET,
        seed: int = 0,
    ) -> None:
        if dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, received {dimensions}")
        self.side = imagenet.checked_side(side, backbone)
        layers = imagenet.APPLICATIONS[backbone].stages[:3] if layers is None else layers
        self._backbone = imagenet.load(backbone, weights=weights, layers=layers, seed=seed)
        order = np.random.default_rng(seed).permutation(self._backbone.dimensions)
        self._chosen = np.sort(order[:dimensions])
        self.mean: np.ndarray
        self._whitening: np.ndarray

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Fit to good images, float32 (H, W) or (H, W, 3) in [-1, 1], one at a time."""
        gaussians = _Gaussians()
        together: list[np.ndarray] = []
        for image in images:
            together.append(self.features(image))
            if len(together) == _TOGETHER:
                gaussians.update(np.stack(together))
                together.clear()
        if together:
            gaussians.update(np.stack(together))
        if gaussians.count == 0:
            raise ValueError("no images to fit to; expected at least one good image")
        # In C order, as it comes back from a bundle: other orders give other rounding errors.
        self.mean, self._whitening = np.ascontiguousarray(gaussians.mean), gaussians.whitening()
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `fit` learned; of the whitening matrices the upper triangles, as the rest is 0."""
        upper = np.triu_indices(self._whitening.shape[-1])
        return {
            "chosen": self._chosen,
            "mean": self.mean,
            "whitening": np.stack([matrix[upper] for matrix in self._whitening]),
        }

    def restore(self, arrays: Arrays) -> Self:
        """Take what `arrays` returned, in place of `fit`."""
        self._chosen, self.mean, packed = arrays["chosen"], arrays["mean"], arrays["whitening"]
        dimensions = self.mean.shape[-1]
        upper = np.triu_indices(dimensions)
        if packed.shape != (self.mean[..., 0].size, len(upper[0])):
            raise ValueError(f"whitening matrices of shape {packed.shape} for means of {self.mean.shape}")
        self._whitening = np.zeros((len(packed), dimensions, dimensions), np.float32)
        for matrix, values in zip(self._whitening, packed, strict=True):
            matrix[upper] = values
        return self

    def features(self, image: np.ndarray) -> np.ndarray:
        """Compute the chosen features of an image: float32 (h, w, dimensions)."""
        layers = self._backbone.features(image, self.side)
        return imagenet.joined(layers, interpolation="nearest")[..., self._chosen]

    def distance_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the Mahalanobis distance at each position: float32 (h, w)."""
        difference = self.features(image) - self.mean
        vectors = difference.reshape(-1, 1, difference.shape[-1])
        return np.linalg.norm(vectors @ self._whitening, axis=-1).reshape(difference.shape[:2])

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute smoothed Mahalanobis distances on the image's pixels: float32 (H, W)."""
        return image_files.resize(self._smoothed(image), image.shape[:2])

    def score(self, image: np.ndarray) -> float:
        """Compute the maximum of the smoothed map, at the network's image size."""
        return float(self._smoothed(image).max())

    def judge(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute score and map at once."""
        smoothed = self._smoothed(image)
        return float(smoothed.max()), image_files.resize(smoothed, image.shape[:2])

    def to_graph(self, shape: tuple[int, int]) -> Graph:
        """Return network and function from images of a shape to scores and maps, for exports.

        Raises
        ------
        DataError
            The covariances are too large for the formats of exports.
        """
        if self._whitening.nbytes > _MOST_EXPORTED:
            raise DataError(
                f"covariances of {self._whitening.nbytes / 2**30:.1f} GiB cannot be exported, at most "
                f"{_MOST_EXPORTED / 2**30:.1f} GiB can; fit with --weights efficientnet-lite2, which has "
                "fewer features"
            )
        own = (self.side, self.side)
        grid = self.mean.shape[:2]
        shrink = Stretch.resizing(shape, own)
        blur = scipy.ndimage.gaussian_filter1d(np.eye(self.side, dtype=np.float32), _SMOOTHING, axis=0)
        smooth = Stretch(blur, blur).after(Stretch.resizing(grid, own))
        place = Stretch.resizing(own, shape)
        colors, shift = imagenet.preprocessing(self._backbone.name)

        def judge(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            channels = [shrink(images[..., number]) for number in range(images.shape[-1])]
            pixels = tf.stack(channels * (3 // len(channels)), axis=-1)
            found = keras.tree.flatten(self._backbone.network(pixels @ colors + shift, training=False))
            maps = [nearest(one, grid) for one in found]
            features = tf.gather(tf.concat(maps, axis=-1), self._chosen, axis=-1)
            difference = tf.reshape(features - self.mean, (-1, len(self._whitening), 1, len(self._chosen)))
            squares = tf.square(tf.matmul(difference, self._whitening))
            distances = tf.sqrt(tf.reduce_sum(squares, axis=(2, 3)))
            smoothed = smooth(tf.reshape(distances, (-1, *grid)))
            return tf.reduce_max(smoothed, axis=(1, 2)), place(smoothed)

        return self._backbone.network, judge

    def _smoothed(self, image: np.ndarray) -> np.ndarray:
        enlarged = image_files.resize(self.distance_map(image), (self.side, self.side))
        return scipy.ndimage.gaussian_filter(enlarged, _SMOOTHING)


class _Gaussians:
    """Means and scatter matrices of the features at each position, merged batch by batch.

    TensorFlow shares out the positions among its threads. NumPy's threads share each small matrix, which
    takes a hundred times as long on a busy machine.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros((), np.float32)  # (h, w, d)
        self._scatter: np.ndarray | None = None  # float32 (h·w, d, d)

    def update(self, features: np.ndarray) -> None:
        """Add the features (n, h, w, d) of some images.

        The scatter about their own mean is merged (Chan, Golub and LeVeque, 1983): the difference of the
        means counts as one more image.
        """
        count, dimensions = len(features), features.shape[-1]
        if self._scatter is None:
            positions = features.shape[1] * features.shape[2]
            self._scatter = np.zeros((positions, dimensions, dimensions), np.float32)
        mean = features.mean(axis=0)
        step = mean - self.mean
        weight = np.float32(np.sqrt(self.count * count / (self.count + count)))
        differences = np.concatenate([features - mean, weight * step[np.newaxis]])
        differences = np.moveaxis(differences.reshape(count + 1, -1, dimensions), 0, 1)
        for first in range(0, len(differences), _POSITIONS):
            block = slice(first, first + _POSITIONS)
            self._scatter[block] += tf.matmul(
                differences[block], differences[block], transpose_a=True
            ).numpy()
        self.mean = self.mean + step * np.float32(count / (self.count + count))
        self.count += count

    def whitening(self) -> np.ndarray:
        """Compute the whitening matrices of all positions: float32 (h·w, d, d).

        They overwrite the scatter matrices, because there is not enough memory for both.
        """
        matrices, self._scatter = self._scatter, None
        assert matrices is not None
        identity = np.eye(matrices.shape[-1])
        for first in range(0, len(matrices), _POSITIONS):
            block = slice(first, first + _POSITIONS)
            # In float64: in float32, features with a large variance would hide the regularization.
            covariances = matrices[block].astype(np.float64) / max(1, self.count - 1)
            roots = tf.linalg.cholesky(covariances + _REGULARISATION * identity)
            inverses = tf.linalg.triangular_solve(roots, np.broadcast_to(identity, roots.shape))
            matrices[block] = inverses.numpy().swapaxes(1, 2)
        return matrices
