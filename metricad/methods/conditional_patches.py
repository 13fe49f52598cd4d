"""Conditional patch autoencoder of Saeedi and Giusti (2022): it learns patches together with their place.

`cpcae` scores its squared error, `cpcae_knn` the deep features of its anomaly maps.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np

from metricad.data import images as image_files
from metricad.methods import training_loop
from metricad.methods.alignment import Registration
from metricad.methods.arrays import Arrays, of_model, to_model

PUBLISHED_EPOCHS = 100
"""Epochs of a full training. The source gives no number; this is ours. Fewer are reported as shortened."""

_FILTERS = (32, 64, 128)  # filters of the encoder's convolutions, each of stride 2; the decoder mirrors them
_REDUCTION = 2 ** len(_FILTERS)


class PatchAutoencoder:
    """Learns overlapping patches of the downsized good images; what both methods share.

    Each patch has an index: its number divided by the number of patches. The reconstructed patches are joined
    and enlarged. The absolute difference to the image is the anomaly map, in [0, 1]. Differences from the
    source: images are gray; images of all sizes are downsized to one square. The squared error is the mean
    over pixels, not the sum, so that the penalty does not depend on the size of patches.

    Parameters
    ----------
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
        the mean patch was learned on a surface of low contrast. With the default, the code is no sparser than
        without: 3.8 and 3.7 % of the activations were below a hundredth of the largest, in a short training
        on images of castings. The layers behind can scale a code that the penalty has made small.
    registration : bool
        Register images to the first good image, for rigid parts. Needs the extra ``metricad[registration]``.
    minimum_confidence, largest_angle
        See `alignment.Registration`.
    epochs, batch_size : int
        Settings of the training.
    learning_rate : float
        Learning rate of Adam, above 0.
    checkpoint : path, optional
        Folder for checkpoints; an interrupted training continues from there, see `training_loop.train`.
    on_epoch : function
        Called after each epoch.
    seed : int
        Seed of the initial weights and of the order of patches.

    Raises
    ------
    ValueError
        A setting is outside its range.
    """

    def __init__(
        self,
        *,
        side: int = 256,
        patch: int = 64,
        stride: int = 32,
        latent: int = 128,
        sparsity: float = 1e-6,
        registration: bool = False,
        minimum_confidence: float = 0.5,
        largest_angle: float = 180,
        epochs: int = PUBLISHED_EPOCHS,
        batch_size: int = 64,
        learning_rate: float = 0.001,
        checkpoint: Path | None = None,
        on_epoch: Callable[[], object] = lambda: None,
        seed: int = 0,
    ) -> None:
        training_loop.check_counts(
            patch=patch, stride=stride, latent=latent, epochs=epochs, batch_size=batch_size
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
        self.side, self.patch, self.stride = side, patch, stride
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate
        self.checkpoint = checkpoint
        self.on_epoch = on_epoch
        self.seed = seed
        self.registration = Registration(
            registration, minimum_confidence=minimum_confidence, largest_angle=largest_angle
        )
        self.autoencoder = build(patch, latent, sparsity=sparsity, seed=seed)
        self._initial = self.autoencoder.get_weights()

    def _train(self, images: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Train on good images, all of which are kept in memory; return them, registered if asked for.

        Raises
        ------
        ValueError
            There are no images.
        DataError, RunError
            See `training_loop.gather`, `training_loop.train` and `alignment.Registration.fit`.
        """
        good = self.registration.fit(list(images))
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
        return good

    def reconstruction(self, image: np.ndarray) -> np.ndarray:
        """Compute the reconstruction of an image from its patches, enlarged: float32 (H, W) in [-1, 1]."""
        small = image_files.resize(image, (self.side, self.side))
        given_back = self.autoencoder.predict_on_batch(self._examples(small))
        patches = given_back.reshape(-1, self.patch, self.patch)
        return image_files.resize(2 * put_back(patches, self.side, self.stride) - 1, image.shape)

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the absolute difference of image and reconstruction: float32 (H, W) in [0, 1]."""
        return self._maps(image)[1]

    def _maps(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the map of the registered image, and the same on the pixels of the image itself."""
        pose = self.registration.find(training_loop.check_image(image))
        aligned = image if pose is None else pose.align(image)
        found = np.abs(aligned - self.reconstruction(aligned)) / 2
        return found, found if pose is None else pose.undo(found)

    def _learned(self) -> dict[str, np.ndarray]:
        return {**of_model("autoencoder", self.autoencoder), **self.registration.arrays()}

    def _relearn(self, arrays: Arrays) -> None:
        to_model(self.autoencoder, "autoencoder", arrays)
        self.registration.restore(arrays)

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


def _starts(side: int, patch: int, stride: int) -> list[int]:
    return [*range(0, side - patch, stride), side - patch]


def _without_index(examples: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    batch = np.stack(examples)
    return batch, batch[:, :-1]
