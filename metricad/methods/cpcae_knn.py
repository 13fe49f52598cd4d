"""Conditional patch autoencoder, deep features of its anomaly maps, and their nearest neighbors."""

import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import keras
import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from metricad.data import images as image_files
from metricad.methods import training_loop
from metricad.networks import imagenet

PUBLISHED_EPOCHS = 100
"""Epochs of a full training. The source gives no number; this is ours. Fewer are reported as shortened."""

_FILTERS = (32, 64, 128)  # filters of the encoder's convolutions, each of stride 2; the decoder mirrors them
_REDUCTION = 2 ** len(_FILTERS)


class CpcaeKnnDetector:
    """Score: mean squared distance of an anomaly map's deep features to those of the nearest good maps.

    Saeedi and Giusti, "Anomaly Detection for Industrial Inspection using Convolutional Autoencoder and Deep
    Feature-based One-class Classification" (2022). Follows `interface.Detector`.

    First, a conditional patch autoencoder (`build`) learns overlapping patches of the downsized good images.
    Each patch has an index: its number divided by the number of patches. The reconstructed patches are joined
    and enlarged. The absolute difference to the image is the anomaly map, in [0, 1]. Second, the maps of the
    same good images, at their original size, go through Xception (Chollet, 2017), trained on ImageNet, up to
    its last layer before pooling, and through `three_way_pooling`. The results are standardized. The score of
    an image is the mean squared Euclidean distance to its k nearest good ones.

    The source gives the kinds of layers, the loss and k. It does not give the number of layers, filters and
    epochs, the sizes of images, patches and bottleneck, and the weight of the penalty. It shows the pooling
    only in a drawing. All of these are our choice. Differences: images are gray; images of all sizes are
    downsized to one square; maps smaller than Xception's input are enlarged. The squared error is the mean
    over pixels, not the sum, so that the penalty does not depend on the size of patches. If there are fewer
    good images than `neighbors`, all of them are used.

    Parameters
    ----------
    neighbors : int
        Number of nearest neighbors, k, at least 1.
    side : int
        Height and width, in pixels, of the downsized image that patches are cut from.
    patch : int
        Height and width of a patch: a multiple of 8, at most `side`.
    stride : int
        Distance between neighboring patches in pixels; at most `patch`, smaller for overlapping patches.
    latent : int
        Width of the dense bottleneck.
    sparsity : float
        Weight of the L1 penalty on the bottleneck's activations, 0 or more. With ten times the default, only
        the mean patch was learned on a surface of low contrast.
    map_side : int, optional
        Height and width that maps are resized to before Xception, at least 71. By default their own size, as
        published. A map of 512×512 takes about a second on two cores.
    backbone : str
        Network that takes the place of Xception: one of `imagenet.APPLICATIONS`.
    weights
        Its weights, see `imagenet.load`.
    epochs, batch_size : int
        Settings of the autoencoder's training.
    learning_rate : float
        Learning rate of Adam, above 0.
    checkpoint : path, optional
        Folder for checkpoints; an interrupted training continues from there, see `training_loop.train`.
    on_epoch : function
        Called after each epoch.
    seed : int
        Seed of the autoencoder's initial weights, the order of patches, and random weights of Xception.

    Raises
    ------
    ValueError
        A setting is outside its range.
    DataError
        The weights cannot be loaded.
    """

    def __init__(
        self,
        *,
        neighbors: int = 15,
        side: int = 256,
        patch: int = 64,
        stride: int = 32,
        latent: int = 128,
        sparsity: float = 1e-6,
        map_side: int | None = None,
        backbone: str = "Xception",
        weights: str | os.PathLike[str] = imagenet.IMAGENET,
        epochs: int = PUBLISHED_EPOCHS,
        batch_size: int = 64,
        learning_rate: float = 0.001,
        checkpoint: Path | None = None,
        on_epoch: Callable[[], object] = lambda: None,
        seed: int = 0,
    ) -> None:
        training_loop.check_counts(
            neighbors=neighbors,
            patch=patch,
            stride=stride,
            latent=latent,
            epochs=epochs,
            batch_size=batch_size,
        )
        if patch % _REDUCTION or patch > side:
            raise ValueError(
                f"patch must be a multiple of {_REDUCTION} and at most side, {side}, received {patch}"
            )
        if stride > patch:
            raise ValueError(f"stride must be at most patch, {patch}, received {stride}")
        if sparsity < 0:
            raise ValueError(f"sparsity must be 0 or more, received {sparsity}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, received {learning_rate}")
        if map_side is not None:
            imagenet.checked_side(map_side, backbone)
        self.neighbors = neighbors
        self.side, self.patch, self.stride = side, patch, stride
        self.map_side = map_side
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate
        self.checkpoint = checkpoint
        self.on_epoch = on_epoch
        self.seed = seed
        self.autoencoder = build(patch, latent, sparsity=sparsity, seed=seed)
        self._initial = self.autoencoder.get_weights()
        self._backbone = imagenet.load(backbone, weights=weights, seed=seed)
        self._scaler: StandardScaler
        self._nearest: NearestNeighbors

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Fit to good images, float32 (H, W) in [-1, 1]; all are kept in memory, but maps one at a time.

        Raises
        ------
        ValueError
            There are no images.
        DataError, RunError
            See `training_loop.gather` and `training_loop.train`.
        """
        good = list(images)
        small = training_loop.gather(good, self.side)[..., 0]
        self.autoencoder.set_weights(self._initial)
        optimizer = keras.optimizers.Adam(self.learning_rate)
        self.autoencoder.compile(optimizer, loss="mean_squared_error", jit_compile=False)
        training_loop.train(
            self.autoencoder,
            np.concatenate([self._examples(image) for image in small]),
            epochs=self.epochs,
            batch_size=self.batch_size,
            prepare=_without_index,
            seed=self.seed,
            checkpoint=self.checkpoint,
            on_epoch=self.on_epoch,
        )
        embeddings = [self.embedding(image) for image in good]
        self._scaler = StandardScaler().fit(embeddings)
        count = min(self.neighbors, len(embeddings))
        self._nearest = NearestNeighbors(n_neighbors=count).fit(self._scaler.transform(embeddings))
        return self

    def reconstruction(self, image: np.ndarray) -> np.ndarray:
        """Compute the reconstruction of an image from its patches, enlarged: float32 (H, W) in [-1, 1]."""
        small = image_files.resize(image, (self.side, self.side))
        given_back = self.autoencoder.predict_on_batch(self._examples(small))
        patches = given_back.reshape(-1, self.patch, self.patch)
        return image_files.resize(2 * put_back(patches, self.side, self.stride) - 1, image.shape)

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the absolute difference of image and reconstruction: float32 (H, W) in [0, 1]."""
        return np.abs(image - self.reconstruction(image)) / 2

    def score(self, image: np.ndarray) -> float:
        """Compute the mean squared Euclidean distance to the nearest good images' standardized features."""
        distances, _ = self._nearest.kneighbors(self._scaler.transform([self.embedding(image)]))
        return float(np.square(distances).mean())

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """Compute pooled features of the image's anomaly map, not standardized: float32 (d,)."""
        anomaly_map = self.anomaly_map(image)
        return three_way_pooling(self._backbone.features(2 * anomaly_map - 1, self.map_side)[0])

    def _examples(self, image: np.ndarray) -> np.ndarray:
        """Make the autoencoder's input from a downsized image in [-1, 1]: float32 (n, patch² + 1)."""
        patches = extract((image + 1) / 2, self.patch, self.stride)
        index = np.arange(1, len(patches) + 1, dtype=np.float32) / np.float32(len(patches))
        return np.column_stack([patches.reshape(len(patches), -1), index])


def build(patch: int, latent: int, *, sparsity: float, seed: int) -> keras.Model:
    """Build the conditional patch autoencoder.

    It maps (N, patch² + 1) to the reconstructed pixels (N, patch²). The input holds a patch's pixels in [0,
    1] and then its index in (0, 1], in one array as required by `training_loop.train`. The index is joined to
    the flattened output of the encoder's convolutions before the bottleneck, and to the bottleneck before the
    decoder.
    """
    next_seed = training_loop.layer_seeds(seed)

    def initializer() -> keras.initializers.Initializer:
        return keras.initializers.HeNormal(seed=next_seed())

    given = keras.Input((patch * patch + 1,), name="patch_and_index")
    index = given[:, -1:]
    x = keras.layers.Reshape((patch, patch, 1))(given[:, :-1])
    for filters in _FILTERS:
        x = keras.layers.Conv2D(
            filters, 3, strides=2, padding="same", activation="relu", kernel_initializer=initializer()
        )(x)
    grid = x.shape[1:]
    x = keras.layers.Concatenate()([keras.layers.Flatten()(x), index])
    # Linear: with ReLU, the units of the bottleneck died in the first epoch, and only the mean patch was
    # learned.
    code = keras.layers.Dense(
        latent,
        activity_regularizer=keras.regularizers.L1(sparsity),
        kernel_initializer=initializer(),
        name="code",
    )(x)
    x = keras.layers.Concatenate()([code, index])
    x = keras.layers.Dense(math.prod(grid), activation="relu", kernel_initializer=initializer())(x)
    x = keras.layers.Reshape(grid)(x)
    for filters in (*_FILTERS[-2::-1], 1):
        x = keras.layers.Conv2DTranspose(
            filters,
            3,
            strides=2,
            padding="same",
            activation="relu" if filters > 1 else "sigmoid",
            kernel_initializer=initializer(),
        )(x)
    return keras.Model(given, keras.layers.Flatten()(x), name="cpcae")


def extract(image: np.ndarray, patch: int, stride: int) -> np.ndarray:
    """Cut a square image (side, side) into overlapping patches, row by row: (n, patch, patch).

    The last patches of each row and column end at the border, so that every pixel is in at least one.
    """
    starts = _starts(len(image), patch, stride)
    return np.stack([image[y : y + patch, x : x + patch] for y in starts for x in starts])


def put_back(patches: np.ndarray, side: int, stride: int) -> np.ndarray:
    """Join patches at the positions where `extract` cut them; overlaps are averaged: float32 (side, side)."""
    patch = patches.shape[1]
    starts = _starts(side, patch, stride)
    total, count = np.zeros((side, side)), np.zeros((side, side))
    places = [(slice(y, y + patch), slice(x, x + patch)) for y in starts for x in starts]
    for place, values in zip(places, patches, strict=True):
        total[place] += values
        count[place] += 1
    return (total / count).astype(np.float32)


def three_way_pooling(features: np.ndarray) -> np.ndarray:
    """Pool a feature map (h, w, d) in three ways and join the results: float32 (3·d,).

    The source says: parallel and cascaded poolings, which give three times the features of a global maximum.
    We use the global maximum and the global mean in parallel, and, in cascade, the global mean of the maxima
    of 2×2 features (fewer at the border).
    """
    height, width, _ = features.shape
    rows, columns = np.arange(0, height, 2), np.arange(0, width, 2)
    maxima = np.maximum.reduceat(np.maximum.reduceat(features, rows, axis=0), columns, axis=1)
    over = (0, 1)
    return np.concatenate([features.max(axis=over), features.mean(axis=over), maxima.mean(axis=over)])


def _starts(side: int, patch: int, stride: int) -> list[int]:
    return [*range(0, side - patch, stride), side - patch]


def _without_index(examples: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    batch = np.stack(examples)
    return batch, batch[:, :-1]
