"""Convolutional autoencoder: anomalies are what its narrow code cannot reproduce.

Cho, Song, Jang and Han, "Unsupervised Anomaly detection in manufacturing domain" (slides, after 2018). They
compare it with f-AnoGAN.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from metricad.data import images as image_files
from metricad.methods import training_loop
from metricad.methods.arrays import Arrays, of_model, to_model
from metricad.methods.as_graph import Graph, Stretch

PUBLISHED_EPOCHS = 300

FILTERS = (32, 64, 64, 128, 128, 256)
"""Filters of the encoder's strided convolutions; 256 pixels become 4."""


class AutoencoderDetector:
    """Score: mean squared difference between an image and its reconstruction.

    Follows `interface.Detector`. The source gives the settings below but no layers. Differences, and what the
    source leaves open: images are gray unless `color` is set, with one channel instead of three; they are
    resized to squares regardless of their aspect ratio. Layers are 4×4 convolutions of stride 2 with ReLU, a
    dense layer to the code and another from it, and mirrored transposed convolutions with tanh at the end.
    The mean squared error is the loss and, at the network's image size, the score. The map is the squared
    difference of each pixel.

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
    color : bool
        Take three channels, as the source does; gray images are repeated on them.
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
        color: bool = False,
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
        self.takes_color = color
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
        examples = training_loop.gather(images, self.side, color=self.takes_color)
        model = self._built()
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
        self._take(model)
        return self

    def _built(self) -> keras.Model:
        return build(
            self.side,
            latent=self.latent,
            filters=self.filters,
            channels=3 if self.takes_color else 1,
            learning_rate=self.learning_rate,
            seed=self.seed,
        )

    def _take(self, model: keras.Model) -> None:
        self.model = model
        self._encoder = keras.Model(model.input, model.get_layer("code").output)
        self._encoder.compile(jit_compile=False)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `fit` learned."""
        return of_model("model", self.model)

    def restore(self, arrays: Arrays) -> Self:
        """Take what `arrays` returned, in place of `fit`."""
        self._take(to_model(self._built(), "model", arrays))
        return self

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the squared difference to the reconstruction: float32 (H, W), 0 to about 4."""
        return image_files.resize(self._squared(image), image.shape[:2])

    def score(self, image: np.ndarray) -> float:
        """Compute the mean squared difference over the pixels of the network's input."""
        return float(self._squared(image).mean(dtype=np.float64))

    def judge(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute score and map at once."""
        squared = self._squared(image)
        return float(squared.mean(dtype=np.float64)), image_files.resize(squared, image.shape[:2])

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """Compute the code: float32 (latent,)."""
        return self._encoder.predict_on_batch(self._pixels(image))[0]

    def to_graph(self, shape: tuple[int, int]) -> Graph:
        """Return network and function from images of a shape to scores and maps, for exports."""
        own = (self.side, self.side)
        shrink, enlarge = Stretch.resizing(shape, own), Stretch.resizing(own, shape)

        def judge(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            channels = [shrink(images[..., number]) for number in range(images.shape[-1])]
            pixels = tf.stack(channels * (self.model.input_shape[-1] // len(channels)), axis=-1)
            squared = tf.reduce_mean(tf.square(pixels - self.model(pixels, training=False)), axis=-1)
            return tf.reduce_mean(squared, axis=(1, 2)), enlarge(squared)

        return self.model, judge

    def _squared(self, image: np.ndarray) -> np.ndarray:
        pixels = self._pixels(image)
        return np.square(pixels - self.model.predict_on_batch(pixels))[0].mean(axis=-1)

    def _pixels(self, image: np.ndarray) -> np.ndarray:
        return training_loop.gather([image], self.side, color=self.takes_color)


def flipped(examples: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Flip each image (H, W, 1) left to right with probability 1/2; return inputs and equal targets."""
    batch = np.stack([image[:, ::-1] if rng.random() < 0.5 else image for image in examples])
    return batch, batch


def build(
    side: int = 256,
    *,
    latent: int = 1024,
    filters: tuple[int, ...] = FILTERS,
    channels: int = 1,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> keras.Model:
    """Build and compile the autoencoder: (N, side, side, channels) to the same; ``code`` is (N, latent)."""
    next_seed = training_loop.layer_seeds(seed)

    def initial() -> keras.initializers.Initializer:
        return keras.initializers.HeNormal(seed=next_seed())

    def options(activation: str | None) -> dict[str, Any]:
        return {"activation": activation, "kernel_initializer": initial()}

    pixels = x = keras.Input((side, side, channels), name="image")
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
        channels, 4, strides=2, padding="same", activation="tanh", name="restored",
        kernel_initializer=keras.initializers.GlorotUniform(seed=next_seed()),
    )(x)  # fmt: skip
    model = keras.Model(pixels, restored, name="autoencoder")
    # XLA is off: on CPUs it makes a training step slower.
    model.compile(keras.optimizers.Adam(learning_rate), loss="mean_squared_error", jit_compile=False)
    return model
