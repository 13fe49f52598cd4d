"""Residual denoising autoencoder for images of any size: anomalies are what it does not reproduce.

Buzzega, Ugwu, Cenzato, Regoli, Tschimben, Boschetti and Lanz, "Automating Industrial Visual Inspection
Systems with Deep Reconstruction-based Anomaly Detection".
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

import keras
import numpy as np
import tensorflow as tf
from sklearn.pipeline import Pipeline

from metricad.errors import DataError
from metricad.methods import heat_maps, training_loop
from metricad.methods.alignment import Pose, Registration
from metricad.methods.arrays import Arrays, of_model, to_model
from metricad.methods.as_graph import Doubled, Graph, Stretch

PUBLISHED_EPOCHS = 100
"""Number of epochs, our own: the source gives none, nor any other setting of the training."""

STRIDE = 8
"""Distance between neighboring positions of the code in pixels; the input has multiples of it per side."""

_TILES = 16  # number of tiles judged at once


class DenoisingDetector:
    """Score: squared difference between an image and its reconstruction by a denoising autoencoder.

    Follows `interface.Detector`. From the source: a fully convolutional autoencoder of residual blocks with a
    narrow bottleneck. It is trained on good images with added Gaussian noise, with the mean squared error to
    the image without noise. The squared difference is the map, its sum the score. Rigid parts are registered
    first by the generalized Hough transform. To separate defects from harmless anomalies, a multilayer
    perceptron is trained with a few labeled images on Hu's moments of the map (Hu, 1962) or on features of a
    pre-trained network. Differences, and what the source leaves open:

    - All numbers below, and the layers, see `build`: the source gives none.
    - Training uses random crops, one of each image per epoch, so that images of different sizes fit into one
      batch. Judging uses tiles of the same size, averaged where they overlap. The network could take whole
      images. But zero padding tells it the distance to the border, and it reproduces pixels badly that are
      farther from the border than in any crop. If no image is larger than a crop (squares of one size and a
      large `crop`), whole images are used, as in the source.
    - The sum of the map is scaled to the number of pixels of the first good image, so that images of
      different sizes are comparable. If all have one size, it is the plain sum.
    - Registration is refined to subpixel accuracy after the Hough transform, see `alignment.Reference`. The
      reference is the first good image. Maps have the pixels of the original image. Pixels that are not
      visible in the reference are 0 and do not count.
    - Hu's moments are used as logarithms without sign, because the sign of a moment near 0 is only a rounding
      error.
    - The classifier has its own output and does not change the score: `defect_probability`.

    Parameters
    ----------
    units : int
        Number of filters in the first layers; twice and four times as many in deeper layers.
    code : int
        Channels of the bottleneck; at 8, it has an eighth of the image's numbers.
    noise : float
        Standard deviation of the noise, for images in [-1, 1].
    crop : int
        Side of the crops and tiles in pixels, a multiple of 8; smaller if a good image is smaller. Smaller
        images that come later are extended by mirroring.
    registration : bool
        Register images to the first good image, for rigid parts. Needs the extra ``metricad[registration]``.
    minimum_confidence, largest_angle
        See `alignment.Registration`.
    features : function
        Function from a map float32 (H, W) to a vector for the classifier: `heat_maps.hu_moments` or a
        pre-trained network.
    epochs, batch_size, learning_rate
        Settings of the training with Adam.
    seed : int
        Seed of the initial weights, the crops, their order and noise, and the classifier. Keras's global seed
        is not changed.
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
        units: int = 32,
        code: int = 8,
        noise: float = 0.1,
        crop: int = 128,
        registration: bool = False,
        minimum_confidence: float = 0.5,
        largest_angle: float = 180,
        features: Callable[[np.ndarray], np.ndarray] | None = None,
        epochs: int = PUBLISHED_EPOCHS,
        batch_size: int = 16,
        learning_rate: float = 1e-3,
        seed: int = 0,
        checkpoint: Path | None = None,
        on_epoch: Callable[[], object] = lambda: None,
    ) -> None:
        training_loop.check_counts(units=units, code=code, crop=crop, epochs=epochs, batch_size=batch_size)
        if crop % STRIDE:
            raise ValueError(f"crop must be a multiple of {STRIDE}, received {crop}")
        if not noise >= 0:
            raise ValueError(f"noise must be at least 0, received {noise}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, received {learning_rate}")
        self.units = units
        self.code = code
        self.noise = noise
        self.crop = crop
        self.registration = Registration(
            registration, minimum_confidence=minimum_confidence, largest_angle=largest_angle
        )
        self.features = features or heat_maps.hu_moments
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed
        self.checkpoint = checkpoint
        self.on_epoch = on_epoch
        self.model: keras.Model
        self.classifier: Pipeline | None = None
        self.side = 0
        self.pixels = 0
        self.losses: list[float] = []

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Train on good images, float32 (H, W) in [-1, 1]; all are kept in memory.

        Raises
        ------
        ValueError
            There are no images.
        DataError
            An image is invalid, or its part cannot be registered to that of the first image.
        MetricadError
            Registration is requested and OpenCV is not installed.
        RunError
            See `training_loop.train`.
        """
        images = [training_loop.check_image(image) for image in images]
        if not images:
            raise ValueError("no images to fit to; expected at least one good image")
        self.pixels = images[0].size
        self.classifier = None
        images = self.registration.fit(images)
        smallest = min(min(image.shape) for image in images)
        self.side = max(STRIDE, min(self.crop, smallest // STRIDE * STRIDE))

        def prepare(chosen: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            clean = np.stack([_random_crop(image, self.side, rng) for image in chosen])[..., np.newaxis]
            return clean + np.float32(self.noise) * rng.standard_normal(clean.shape, np.float32), clean

        model = self._built()
        self.losses = training_loop.train(
            model,
            [_padded(image, self.side) for image in images],
            epochs=self.epochs,
            batch_size=self.batch_size,
            prepare=prepare,
            seed=self.seed,
            checkpoint=self.checkpoint,
            on_epoch=self.on_epoch,
        )
        self.model = model
        return self

    def _built(self, side: int | None = None) -> keras.Model:
        return build(self.units, code=self.code, side=side, learning_rate=self.learning_rate, seed=self.seed)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `fit` learned."""
        return {
            **of_model("model", self.model),
            "side_and_pixels": np.array([self.side, self.pixels]),
            **self.registration.arrays(),
        }

    def restore(self, arrays: Arrays) -> Self:
        """Take what `arrays` returned, in place of `fit`."""
        self.model = to_model(self._built(), "model", arrays)
        self.side, self.pixels = arrays["side_and_pixels"].tolist()
        self.registration.restore(arrays)
        return self

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the squared difference to the reconstruction: float32 (H, W), about 0 to 4."""
        pose = self.registration.find(training_loop.check_image(image))
        if pose is None:
            return self._squared(image)
        return pose.undo(self._squared(pose.align(image)))

    def score(self, image: np.ndarray) -> float:
        """Compute the sum of the map, scaled to the number of pixels of the first good image."""
        return self.judge(image)[0]

    def judge(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute score and map at once."""
        anomaly_map = self.anomaly_map(image)
        return float(anomaly_map.mean(dtype=np.float64) * self.pixels), anomaly_map

    def to_graph(self, shape: tuple[int, int]) -> Graph:
        """Return network and function from images of a shape to scores and maps, for exports.

        Raises
        ------
        DataError
            Images are registered, which a graph cannot do.
        """
        if self.registration.is_on:
            raise DataError(
                "registration cannot be exported; fit without it, or use the bundle itself with inspect, "
                "watch or serve"
            )
        side = self.side
        padded = np.zeros([max(side, length) for length in shape])
        # Pixels of each row of tiles, and of each column; what lies beyond the image is mirrored.
        places = [
            np.concatenate([np.arange(start, start + side) for start in self._starts(padded, axis)])
            for axis in (0, 1)
        ]
        rows, columns = (
            np.pad(np.arange(length), (0, max(0, side - length)), mode="symmetric")[place]
            for length, place in zip(shape, places, strict=True)
        )
        down, across = (len(place) // side for place in places)
        network = self._built(side)
        network.set_weights(self.model.get_weights())
        joined = Stretch(*(_averaging(place, length) for length, place in zip(shape, places, strict=True)))

        def judge(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pixels = images[..., 0]
            spread = tf.gather(tf.gather(pixels, rows, axis=1), columns, axis=2)
            tiles = tf.transpose(tf.reshape(spread, (-1, down, side, across, side)), (0, 1, 3, 2, 4))
            restored = network(tf.reshape(tiles, (-1, side, side, 1)), training=False)
            restored = tf.reshape(restored, (-1, down, across, side, side))
            restored = tf.reshape(tf.transpose(restored, (0, 1, 3, 2, 4)), (-1, down * side, across * side))
            squared = tf.square(pixels - joined(restored))
            return tf.reduce_mean(squared, axis=(1, 2)) * self.pixels, squared

        return network, judge

    def register(self, image: np.ndarray) -> Pose | None:
        """Find the part in the image; None without registration."""
        return self.registration.register(image)

    def fit_classifier(self, images: Iterable[np.ndarray], labels: Sequence[bool]) -> Self:
        """Train the classifier that separates defects from harmless anomalies with labeled images, after
        `fit`.

        Parameters
        ----------
        images : iterable of float32 (H, W) in [-1, 1]
        labels : sequence of bool
            True for a defect, False for a good image or a harmless anomaly.

        Raises
        ------
        ValueError
            Labels are missing or all equal.
        """
        vectors = [self.features(self.anomaly_map(image)) for image in images]
        self.classifier = heat_maps.fit(vectors, labels, seed=self.seed)
        return self

    def defect_probability(self, image: np.ndarray) -> float:
        """Compute the probability that an image has a defect, in [0, 1], after `fit_classifier`."""
        if self.classifier is None:
            raise ValueError("there is no classifier yet; give a few labeled images to fit_classifier")
        return float(self.classifier.predict_proba([self.features(self.anomaly_map(image))])[0, 1])

    def _squared(self, image: np.ndarray) -> np.ndarray:
        return np.square(image - self._restored(image))

    def _restored(self, image: np.ndarray) -> np.ndarray:
        """Compute the reconstruction of an image (H, W), tile by tile."""
        padded = _padded(image, self.side)
        corners = [(row, column) for row in self._starts(padded, 0) for column in self._starts(padded, 1)]
        places = [np.s_[row : row + self.side, column : column + self.side] for row, column in corners]
        total, count = np.zeros((2, *padded.shape), np.float32)
        for first in range(0, len(places), _TILES):
            chosen = places[first : first + _TILES]
            tiles = np.stack([padded[place] for place in chosen])[..., np.newaxis]
            for place, tile in zip(chosen, self.model.predict_on_batch(tiles)[..., 0], strict=True):
                total[place] += tile
                count[place] += 1
        return (total / count)[: image.shape[0], : image.shape[1]]

    def _starts(self, padded: np.ndarray, axis: int) -> list[int]:
        """Return the first rows, or columns, of the fewest tiles that cover an image, evenly distributed."""
        whole = padded.shape[axis]
        return np.linspace(0, whole - self.side, -(-whole // self.side)).round().astype(int).tolist()


def build(
    units: int = 32,
    *,
    code: int = 8,
    side: int | None = None,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> keras.Model:
    """Build and compile the network: (N, H, W, 1) to the same, H and W multiples of 8.

    With `side`, which is for exports, both are known.

    There are three strided convolutions, each followed by a residual block (He et al., 2016). The blocks have
    no normalization, so that the result does not depend on the batch. Then follow a 1×1 convolution to the
    bottleneck and another from it, and three residual blocks, each followed by an upsampling and a
    convolution.
    """
    next_seed = training_loop.layer_seeds(seed)

    def convolution(
        count: int, size: int, *, stride: int = 1, activation: str | None = "relu"
    ) -> keras.layers.Layer:
        return keras.layers.Conv2D(
            count,
            size,
            strides=stride,
            padding="same",
            activation=activation,
            kernel_initializer=keras.initializers.GlorotUniform(seed=next_seed()),
        )

    def residual_block(x: keras.KerasTensor) -> keras.KerasTensor:
        count = x.shape[-1]
        residual = convolution(count, 3, activation=None)(convolution(count, 3)(x))
        return keras.layers.ReLU()(keras.layers.Add()([x, residual]))

    pixels = x = keras.Input((side, side, 1), name="image")
    for count, size in ((units, 5), (2 * units, 3), (4 * units, 3)):
        x = residual_block(convolution(count, size, stride=2)(x))
    x = convolution(code, 1, activation=None)(x)
    x = convolution(4 * units, 1)(x)
    for count in (2 * units, units, 1):
        x = (keras.layers.UpSampling2D(2) if side is None else Doubled())(residual_block(x))
        x = convolution(count, 3 if count > 1 else 5, activation="relu" if count > 1 else None)(x)
    model = keras.Model(pixels, x, name="denoising")
    # XLA is off: on CPUs it makes a training step slower.
    model.compile(keras.optimizers.Adam(learning_rate), loss="mean_squared_error", jit_compile=False)
    return model


def _averaging(places: np.ndarray, length: int) -> np.ndarray:
    """Make the matrix (length, n) that averages values at each pixel; those beyond the image are dropped."""
    matrix = np.equal.outer(np.arange(length), places).astype(np.float64)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _padded(image: np.ndarray, side: int) -> np.ndarray:
    """Extend an image (H, W) at the lower and right edge by mirroring to at least `side` pixels."""
    return np.pad(image, [(0, max(0, side - length)) for length in image.shape], mode="symmetric")


def _random_crop(image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    row, column = (int(rng.integers(whole - side + 1)) for whole in image.shape)
    return image[row : row + side, column : column + side]
