"""f-AnoGAN: a generator learns good surface, an encoder finds the image in it; differences are anomalies.

Schlegl et al. (2019), "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks",
with the settings that Cho et al., "Unsupervised Anomaly detection in manufacturing domain", gave it for
industrial images.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

import metricad.methods.f_anogan_networks as f_anogan_networks
from metricad import files
from metricad.data import images as image_files
from metricad.errors import RunError
from metricad.methods import training_loop
from metricad.methods.arrays import Arrays, of_model, to_model

PUBLISHED_EPOCHS = 1500
"""Epochs of the adversarial training."""

PUBLISHED_ENCODER_EPOCHS = 200

_SETTINGS = "training.json"


class FAnoGanDetector:
    """Score: what an encoder and a generator of good surface do not reproduce; follows `interface.Detector`.

    First a generator G and a critic D learn the good images as a Wasserstein GAN with gradient penalty
    (Gulrajani et al. 2017). Then, with both fixed, an encoder E learns the code from which each image is
    generated. Its loss izi_f is also the score of an image x:

        A(x) = A_R(x) + κ · A_D(x),   A_R = mean (x − G(E(x)))²,   A_D = mean (f(x) − f(G(E(x))))²

    where f are the features of the critic's last convolution.

    Differences from Schlegl et al.: the length of the code, the batch size and the learning rate are those of
    Cho et al. Plain strided convolutions, which are faster, replace residual blocks, see `f_anogan_networks`.
    The encoder has the critic's layer normalization instead of batch normalization, so that it behaves the
    same in training and afterwards, and is trained by Adam instead of RMSprop. Cho et al. do not give κ,
    which is 1 here as in Schlegl et al.; the penalty's weight and Adam's moments, 10 and (0, 0.9) here as in
    Gulrajani et al., with Keras's default moments for the encoder; and the networks. Differences from both:
    batches are counted over all epochs, so that the generator is trained at every fifth batch even if an
    epoch has fewer; images are gray unless `color` is set, and are resized to a square regardless of
    their shape.

    All good images are kept in memory at the network's size. All random numbers depend on the seed; the
    global random state is neither used nor changed.

    Parameters
    ----------
    side : int
        Side in pixels that images are resized to; a power of two, at least 8.
    latent : int
        Length of a code.
    filters : int
        Filters of the layers next to the image, see `f_anogan_networks.build`.
    epochs, encoder_epochs : int
        Epochs of the adversarial training and of the encoder's, at least 1. By default the second is in
        proportion to the first, as 200 to 1500.
    generator_every : int
        Number of batches of the critic for each batch of the generator.
    batch_size : int
    learning_rate : float
        Learning rate of all three networks.
    penalty : float
        Weight of the gradient penalty.
    kappa : float
        Weight of the critic's features in the score and in the encoder's loss.
    color : bool
        Take three channels, as Cho et al. do; gray images are repeated on them.
    flip : bool
        Flip images left to right at random during training, as Cho et al. do.
    seed : int
    checkpoint : path, optional
        Folder for checkpoints, updated after every epoch. With the same settings and images `fit` continues
        from there. On the same machine the result equals that of an uninterrupted training.
    on_epoch : function, optional
        Called after each epoch of both trainings, but not for epochs that a checkpoint has already finished.

    Attributes
    ----------
    networks : f_anogan_networks.Networks
        None before `fit`.

    Raises
    ------
    ValueError
        A setting is outside its range.
    """

    def __init__(
        self,
        *,
        side: int = 64,
        latent: int = 100,
        filters: int = 64,
        epochs: int = PUBLISHED_EPOCHS,
        encoder_epochs: int | None = None,
        generator_every: int = 5,
        batch_size: int = 32,
        learning_rate: float = 2e-4,
        penalty: float = 10.0,
        kappa: float = 1.0,
        flip: bool = True,
        color: bool = False,
        seed: int = 0,
        checkpoint: Path | None = None,
        on_epoch: Callable[[], object] = lambda: None,
    ) -> None:
        _check_integers(1, epochs=epochs)
        if encoder_epochs is None:
            encoder_epochs = max(1, round(epochs * PUBLISHED_ENCODER_EPOCHS / PUBLISHED_EPOCHS))
        _check_integers(
            1,
            latent=latent,
            filters=filters,
            encoder_epochs=encoder_epochs,
            generator_every=generator_every,
            batch_size=batch_size,
        )
        _check_integers(0, seed=seed)
        _check_integers(8, side=side)
        if side & (side - 1):
            raise ValueError(f"side must be a power of two, received {side}")
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0 and finite, received {learning_rate}")
        for name, weight in {"penalty": penalty, "kappa": kappa}.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, received {weight}")
        self.side = side
        self.latent = latent
        self.filters = filters
        self.epochs = epochs
        self.encoder_epochs = encoder_epochs
        self.generator_every = generator_every
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.penalty = penalty
        self.kappa = kappa
        self.flip = flip
        self.takes_color = color
        self.seed = seed
        self.networks: f_anogan_networks.Networks | None = None
        self._checkpoint = checkpoint
        self._on_epoch = on_epoch

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Train all three networks on good images, float32 (H, W) in [-1, 1].

        Raises
        ------
        ValueError
            There are no images.
        DataError
            An image is invalid.
        RunError
            The checkpoint does not fit this training, or a loss is not finite.
        """
        resized = [self._resized(image) for image in images]
        if not resized:
            raise ValueError("no images to fit to; expected at least one good image")
        good = np.concatenate(resized)
        networks = self._built()
        training = f_anogan_networks.Training(
            networks,
            generator_every=self.generator_every,
            learning_rate=self.learning_rate,
            penalty=self.penalty,
            kappa=self.kappa,
            seed=self.seed,
        )
        keep = _resume(self._checkpoint, training, self._settings(good))
        for number in range(int(training.epochs_done), self.epochs + self.encoder_epochs):
            step = training.adversarial_step if number < self.epochs else training.encoder_step
            losses = [float(step(batch)) for batch in self._batches(good, number)]
            if not np.isfinite(losses).all():
                raise RunError(
                    f"the loss of epoch {number + 1} is not finite; train with a lower learning rate"
                )
            training.epochs_done.assign(number + 1)
            keep()
            self._on_epoch()
        self._take(networks)
        return self

    def _built(self) -> f_anogan_networks.Networks:
        channels = 3 if self.takes_color else 1
        return f_anogan_networks.build(
            self.side, self.latent, self.filters, seed=self.seed, channels=channels
        )

    def _take(self, networks: f_anogan_networks.Networks) -> None:
        self.networks = networks
        self._compare = tf.function(
            self._compared, input_signature=[f_anogan_networks.image_spec(networks.encoder)]
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `fit` learned."""
        networks = self._fitted()
        return {
            **of_model("generator", networks.generator),
            **of_model("critic", networks.critic),
            **of_model("encoder", networks.encoder),
        }

    def restore(self, arrays: Arrays) -> Self:
        """Take what `arrays` returned, in place of `fit`."""
        networks = self._built()
        for name in ("generator", "critic", "encoder"):
            to_model(getattr(networks, name), name, arrays)
        self._take(networks)
        return self

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute |x − G(E(x))| on the image's pixels: float32 (H, W) in [0, 2]."""
        return self.judge(image)[1]

    def score(self, image: np.ndarray) -> float:
        """Compute A_R + κ · A_D of the resized image, 0 or more."""
        return self._judge(image)[1]

    def judge(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute score and map at once."""
        difference, score = self._judge(image)
        return score, image_files.resize(difference, image.shape[:2])

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """Compute the image's code E(x): float32 (latent,)."""
        return self._fitted().encoder(self._resized(image), training=False).numpy()[0]

    def _judge(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Compute the difference to the reconstruction (side, side), and the score."""
        self._fitted()
        difference, score = self._compare(self._resized(image))
        return difference.numpy()[0].mean(axis=-1), float(score[0])

    def _compared(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        networks = self._fitted()
        reconstruction = networks.generator(networks.encoder(x, training=False), training=False)
        return tf.abs(x - reconstruction), f_anogan_networks.anomaly_score(
            networks.features, x, reconstruction, kappa=self.kappa
        )

    def _fitted(self) -> f_anogan_networks.Networks:
        if self.networks is None:
            raise ValueError("the detector is not fitted; call fit first")
        return self.networks

    def _resized(self, image: np.ndarray) -> np.ndarray:
        """Resize one image to a batch (1, side, side, channels)."""
        return training_loop.gather([np.asarray(image)], self.side, color=self.takes_color)

    def _batches(self, good: np.ndarray, number: int) -> Iterator[np.ndarray]:
        """Yield every image once, in batches; order and flips depend on the seed and the epoch's number."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(good))
        mirrored = rng.random(len(good)) < (0.5 if self.flip else 0)
        for first in range(0, len(good), self.batch_size):
            chosen = order[first : first + self.batch_size]
            batch = good[chosen]
            yield np.where(mirrored[chosen, None, None, None], batch[:, :, ::-1], batch)

    def _settings(self, good: np.ndarray) -> dict[str, Any]:
        """Return all settings that determine the training, to identify a checkpoint."""
        settings = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        del settings["networks"]
        if not self.takes_color:
            del settings["takes_color"]
        return settings | {"images": hashlib.sha256(good.tobytes()).hexdigest()}


def _resume(
    folder: Path | None, training: f_anogan_networks.Training, settings: dict[str, Any]
) -> Callable[[], object]:
    """Load the checkpoint of this training from a folder, if any; return the function that saves one."""
    if folder is None:
        return lambda: None
    folder = Path(folder)
    path = folder / _SETTINGS
    described = json.dumps(settings, indent=2, default=lambda number: number.item()) + "\n"
    if not path.exists():
        files.write_text(path, described)
    elif path.read_text(encoding="utf-8", errors="replace") != described:
        raise RunError(f"{folder}: a training with other settings or images; give a new folder")
    manager = tf.train.CheckpointManager(training.checkpoint(), str(folder), max_to_keep=1)
    if manager.latest_checkpoint:
        try:
            manager.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise RunError(f"{folder}: damaged; delete it and train again") from error
    return manager.save


def _check_integers(least: int, **values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be an integer from {least}, received {value!r}")
