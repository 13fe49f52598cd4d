"""Convolutional autoencoder: anomalies are what its narrow code cannot reproduce.

Cho, Song, Jang and Han, "Unsupervised Anomaly detection in manufacturing domain" (slides, after 2018). They
compare it with f-AnoGAN.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from metricad.data import images as image_files
from metricad.methods import training_loop

PUBLISHED_EPOCHS = 300

FILTERS = (32, 64, 64, 128, 128, 256)
"""Filters of the encoder's strided convolutions; 256 pixels become 4."""


class AutoencoderDetector:
    """Score: mean squared difference between an image and its reconstruction.

    Follows `interface.Detector`. The source gives the settings below but no layers. Differences, and what the
    source leaves open: images are gray, with one channel instead of three; they are resized to squares
    regardless of their aspect ratio. Layers are 4×4 convolutions of stride 2 with ReLU, a dense layer to the
    code and another from it, and mirrored transposed convolutions with tanh at the end. The mean squared
    error is the loss and, at the network's image size, the score. The map is the squared difference of each
    pixel.

    Parameters
    ----------
    side : int
        Side in pixels that images are resized to; a multiple of 2 to the power of the number of `filters`.
    latent : int
        Length of the code.
    filters : sequence of int
        Filters of each strided convolution; the decoder has them in reverse order.
    epochs, batch_size, learning_rate
        Settings of the training with Adam.
    flip : bool
        Flip images left to right at random during training.
    seed : int
        Seed of the initial weights, the order of images and their flips. Keras's global seed is not changed.
    checkpoint : path, optional
        Folder for checkpoints; an interrupted training continues from there, see `training_loop.train`.
    on_epoch : function
        Called after each epoch.

    Raises
    ------
    ValueError
        A setting is outside its range.
    """

    def __init__(
        self,
        *,
        side: int = 256,
        latent: int = 1024,
        filters: tuple[int, ...] = FILTERS,
        epochs: int = PUBLISHED_EPOCHS,
        batch_size: int = 70,
        learning_rate: float = 1e-3,
        flip: bool = True,
        seed: int = 0,
        checkpoint: Path | None = None,
        on_epoch: Callable[[], object] = lambda: None,
    ) -> None:
        training_loop.check_counts(side=side, latent=latent, epochs=epochs, batch_size=batch_size)
        training_loop.check_filters(side, filters)
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, received {learning_rate}")
        self.side = side
        self.latent = latent
        self.filters = tuple(filters)
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.flip = flip
        self.seed = seed
        self.checkpoint = checkpoint
        self.on_epoch = on_epoch
        self.model: keras.Model
        self.losses: list[float] = []

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Train on good images, float32 (H, W) in [-1, 1]; all are kept in memory at the network's size.

        Raises
        ------
        ValueError, DataError
            There are no images, or an image is invalid.
        RunError
            See `training_loop.train`.
        """
        examples = training_loop.gather(images, self.side)
        model = build(
            self.side,
            latent=self.latent,
            filters=self.filters,
            learning_rate=self.learning_rate,
            seed=self.seed,
        )
        self.losses = training_loop.train(
            model,
            examples,
            epochs=self.epochs,
            batch_size=self.batch_size,
            prepare=flipped if self.flip else training_loop.reproduced,
            seed=self.seed,
            checkpoint=self.checkpoint,
            on_epoch=self.on_epoch,
        )
        self.model = model
        self._encoder = keras.Model(model.input, model.get_layer("code").output)
        self._encoder.compile(jit_compile=False)
        return self

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the squared difference to the reconstruction: float32 (H, W), 0 to about 4."""
        return image_files.resize(self._squared(image), image.shape)

    def score(self, image: np.ndarray) -> float:
        """Compute the mean squared difference over the pixels of the network's input."""
        return float(self._squared(image).mean(dtype=np.float64))

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """Compute the code: float32 (latent,)."""
        return self._encoder.predict_on_batch(training_loop.gather([image], self.side))[0]

    def _squared(self, image: np.ndarray) -> np.ndarray:
        pixels = training_loop.gather([image], self.side)
        return np.square(pixels - self.model.predict_on_batch(pixels))[0, ..., 0]


def flipped(examples: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Flip each image (H, W, 1) left to right with probability 1/2; return inputs and equal targets."""
    batch = np.stack([image[:, ::-1] if rng.random() < 0.5 else image for image in examples])
    return batch, batch


def build(
    side: int = 256,
    *,
    latent: int = 1024,
    filters: tuple[int, ...] = FILTERS,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> keras.Model:
    """Build and compile the autoencoder: (N, side, side, 1) to the same; layer ``code`` is (N, latent)."""
    next_seed = training_loop.layer_seeds(seed)

    def initial() -> keras.initializers.Initializer:
        return keras.initializers.HeNormal(seed=next_seed())

    def options(activation: str | None) -> dict[str, Any]:
        return {"activation": activation, "kernel_initializer": initial()}

    pixels = x = keras.Input((side, side, 1), name="image")
    for count in filters:
        x = keras.layers.Conv2D(count, 4, strides=2, padding="same", **options("relu"))(x)
    smallest = x.shape[1:]
    x = keras.layers.Flatten()(x)
    length = x.shape[1]
    x = keras.layers.Dense(latent, name="code", kernel_initializer=initial())(x)
    x = keras.layers.Dense(length, **options("relu"))(x)
    x = keras.layers.Reshape(smallest)(x)
    for count in filters[-2::-1]:
        x = keras.layers.Conv2DTranspose(count, 4, strides=2, padding="same", **options("relu"))(x)
    restored = keras.layers.Conv2DTranspose(
        1, 4, strides=2, padding="same", activation="tanh", name="restored",
        kernel_initializer=keras.initializers.GlorotUniform(seed=next_seed()),
    )(x)  # fmt: skip
    model = keras.Model(pixels, restored, name="autoencoder")
    # XLA is off: on CPUs it makes a training step slower.
    model.compile(keras.optimizers.Adam(learning_rate), loss="mean_squared_error", jit_compile=False)
    return model
