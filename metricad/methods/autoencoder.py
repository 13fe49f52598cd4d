"""A plain convolutional autoencoder: what its narrow code cannot hold is anomalous.

Cho, Song, Jang and Han, "Unsupervised Anomaly detection in manufacturing domain" (slides, after 2018), who
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
"""Of the encoder's strided convolutions; 256 pixels become 4."""


class AutoencoderDetector:
    """The mean squared difference between an image and its reconstruction.

    Follows `interface.Detector`. The source gives the settings below and no layers. Departures from
    it, and what it leaves open: gray images, so one channel where it has three; images are resized to squares
    whatever their proportions; the layers, 4×4 convolutions of stride 2 with ReLU, a dense layer to the code
    and another from it, and the mirrored transposed convolutions with tanh at the end; mean squared error
    as loss and, at the network's own size, as score; the squared difference of each pixel as map.

    Parameters
    ----------
    side : int
        Images are resized to this many pixels, a multiple of 2 to the number of `filters`.
    latent : int
        Length of the code.
    filters : sequence of int
        Of each strided convolution; the decoder has them in reverse.
    epochs, batch_size, learning_rate
        Of Adam.
    flip : bool
        Mirror images left to right at random while training.
    seed : int
        Of the initial weights, the order of the images and their flips. Keras's global seed is left alone.
    checkpoint : path, optional
        A folder in which an interrupted training is kept and goes on, see `training_loop.train`.
    on_epoch : function
        Called after each epoch.

    Raises
    ------
    ValueError
        A setting is out of range.
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
        training_loop.check_counts(**{f"filters[{i}]": count for i, count in enumerate(filters)})
        if not filters or side % 2 ** len(filters):
            raise ValueError(
                f"side must be a multiple of {2 ** len(filters)}, halved by each of at least one filters, "
                f"received side {side} and filters {tuple(filters)}"
            )
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
        """Train on good images, float32 (H, W) in [-1, 1]; all are held in memory, at the network's size.

        Raises
        ------
        ValueError, DataError
            There are no images, or one is none.
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
        """Squared difference to the reconstruction: float32 (H, W), 0 to about 4."""
        return image_files.resize(self._squared(image), image.shape)

    def score(self, image: np.ndarray) -> float:
        """Mean squared difference over the pixels that the network sees."""
        return float(self._squared(image).mean(dtype=np.float64))

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """The code: float32 (latent,)."""
        return self._encoder.predict_on_batch(training_loop.gather([image], self.side))[0]

    def _squared(self, image: np.ndarray) -> np.ndarray:
        pixels = training_loop.gather([image], self.side)
        return np.square(pixels - self.model.predict_on_batch(pixels))[0, ..., 0]


def flipped(examples: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mirror each image (H, W, 1) left to right or not, with equal chances; the result is its own target."""
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
    """Build and compile the autoencoder: (N, side, side, 1) to the same, its layer ``code`` (N, latent)."""
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
    # XLA stays off: on CPUs it makes a step of training slower.
    model.compile(keras.optimizers.Adam(learning_rate), loss="mean_squared_error", jit_compile=False)
    return model
