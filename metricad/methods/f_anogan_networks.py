"""Networks of `f_anogan` (generator, critic and encoder) and their training steps.

Neither source gives the networks of the published settings, so they are the usual ones: 4×4 convolutions with
stride 2, each halving the side and doubling the filters down to 4 × 4. The generator is the reverse.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

_SMALLEST = 4  # side at which the convolutions end
_WINDOW = 4  # a multiple of the stride, so that transposed convolutions cover every pixel equally often


@dataclass(frozen=True)
class Networks:
    """Networks with initial weights from a seed; images are float32 (N, side, side, channels).

    Attributes
    ----------
    generator : keras.Model
        Codes (N, latent) to images in [-1, 1].
    critic : keras.Model
        Images to values (N, 1); larger for images that look real.
    features : keras.Model
        Images to the critic's last convolution (N, 4, 4, d); shares the critic's weights.
    encoder : keras.Model
        Images to codes (N, latent).
    """

    generator: keras.Model
    critic: keras.Model
    features: keras.Model
    encoder: keras.Model


def build(side: int, latent: int, filters: int, *, seed: int, channels: int = 1) -> Networks:
    """Build the networks for images of a side that is a power of two, from 8.

    Parameters
    ----------
    side : int
        Side of the images, in pixels.
    latent : int
        Length of a code.
    filters : int
        Filters of the layers next to the image; doubled at every halving of the side.
    seed : int
        Seed of the initial weights.
    channels : {1, 3}
    """
    rng = np.random.default_rng(seed)

    def initializer() -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(seed=int(rng.integers(2**31)))

    widths = [filters * 2**level for level in range(side.bit_length() - _SMALLEST.bit_length())]

    def convolve(pixels: keras.KerasTensor) -> keras.KerasTensor:
        x = pixels
        for level, width in enumerate(widths):
            x = keras.layers.Conv2D(
                width, _WINDOW, strides=2, padding="same", kernel_initializer=initializer()
            )(x)
            if level:
                # One group is layer normalization with a gain for each filter. Batch normalization would make
                # an image's gradient, which the penalty uses, depend on the other images.
                x = keras.layers.GroupNormalization(groups=1)(x)
            x = keras.layers.LeakyReLU(negative_slope=0.2)(x)
        return x

    def generate(code: keras.KerasTensor) -> keras.KerasTensor:
        x = keras.layers.Dense(_SMALLEST**2 * widths[-1], use_bias=False, kernel_initializer=initializer())(
            code
        )
        x = keras.layers.Reshape((_SMALLEST, _SMALLEST, widths[-1]))(x)
        for width in [*reversed(widths[:-1]), None]:
            # Low momentum: with only a few hundred generator steps, 0.99 would adapt too slowly.
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
            x = keras.layers.ReLU()(x)
            x = keras.layers.Conv2DTranspose(
                width or channels,
                _WINDOW,
                strides=2,
                padding="same",
                use_bias=width is None,
                activation=None if width else "tanh",
                kernel_initializer=initializer(),
            )(x)
        return x

    def head(features: keras.KerasTensor, units: int) -> keras.KerasTensor:
        flat = keras.layers.Flatten()(features)
        return keras.layers.Dense(units, kernel_initializer=initializer())(flat)

    code = keras.Input((latent,), name="code")
    judged = keras.Input((side, side, channels), name="image")
    encoded = keras.Input((side, side, channels), name="image")
    features = convolve(judged)
    return Networks(
        generator=keras.Model(code, generate(code), name="generator"),
        critic=keras.Model(judged, head(features, 1), name="critic"),
        features=keras.Model(judged, features, name="critic_features"),
        encoder=keras.Model(encoded, head(convolve(encoded), latent), name="encoder"),
    )


class Training:
    """Both trainings, batch by batch: networks, optimizers and random state.

    Parameters
    ----------
    networks : Networks
    generator_every, learning_rate, penalty, kappa, seed
        See `f_anogan.FAnoGanDetector`.

    Attributes
    ----------
    epochs_done : tf.Variable
        Counter for the caller; saved with the checkpoint.
    """

    def __init__(
        self,
        networks: Networks,
        *,
        generator_every: int,
        learning_rate: float,
        penalty: float,
        kappa: float,
        seed: int,
    ) -> None:
        self.networks = networks
        self.critic_optimizer = keras.optimizers.Adam(learning_rate, beta_1=0.0, beta_2=0.9)
        self.generator_optimizer = keras.optimizers.Adam(learning_rate, beta_1=0.0, beta_2=0.9)
        self.encoder_optimizer = keras.optimizers.Adam(learning_rate)
        self.epochs_done = tf.Variable(0, dtype=tf.int64)
        self._random = tf.random.Generator.from_seed(seed)
        self._generator_every = generator_every
        self._penalty = penalty
        self._kappa = kappa
        # Adam's moments must exist before a graph uses them and before a checkpoint is loaded into them.
        self.critic_optimizer.build(networks.critic.trainable_variables)
        self.generator_optimizer.build(networks.generator.trainable_variables)
        self.encoder_optimizer.build(networks.encoder.trainable_variables)
        # The last batch of an epoch may be smaller; one graph handles all sizes.
        images = [image_spec(networks.critic)]
        self._critic_graph = tf.function(self._critic_step, input_signature=images)
        self._generator_graph = tf.function(
            self._generator_step, input_signature=[tf.TensorSpec((), tf.int32)]
        )
        self.encoder_step = tf.function(self._encoder_step, input_signature=images)

    def adversarial_step(self, real: np.ndarray) -> tf.Tensor:
        """Train the critic on one batch, and every few batches the generator; return the critic's loss.

        Parameters
        ----------
        real : float32 (N, side, side, channels) in [-1, 1]
        """
        loss = self._critic_graph(real)
        if int(self.critic_optimizer.iterations) % self._generator_every == 0:
            self._generator_graph(len(real))
        return loss

    def checkpoint(self) -> tf.train.Checkpoint:
        """Return a checkpoint with everything that changes in training."""
        return tf.train.Checkpoint(
            generator=self.networks.generator,
            critic=self.networks.critic,
            encoder=self.networks.encoder,
            critic_optimizer=self.critic_optimizer,
            generator_optimizer=self.generator_optimizer,
            encoder_optimizer=self.encoder_optimizer,
            random=self._random,
            epochs_done=self.epochs_done,
        )

    def _critic_step(self, real: tf.Tensor) -> tf.Tensor:
        critic, count = self.networks.critic, tf.shape(real)[0]
        fake = self._generate(count)
        share = self._random.uniform((count, 1, 1, 1))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(critic(fake, training=True)) - tf.reduce_mean(critic(real, training=True))
            loss += self._penalty * gradient_penalty(critic, real, fake, share)
        _descend(self.critic_optimizer, tape, loss, critic)
        return loss

    def _generator_step(self, count: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(self.networks.critic(self._generate(count), training=True))
        _descend(self.generator_optimizer, tape, loss, self.networks.generator)

    def _encoder_step(self, real: tf.Tensor) -> tf.Tensor:
        """Train the encoder on one batch with the loss izi_f; return the loss."""
        networks = self.networks
        with tf.GradientTape() as tape:
            code = networks.encoder(real, training=True)
            # training=False, because batch normalization would otherwise update its statistics.
            reconstruction = networks.generator(code, training=False)
            score = anomaly_score(networks.features, real, reconstruction, kappa=self._kappa)
            loss = tf.reduce_mean(score)
        _descend(self.encoder_optimizer, tape, loss, networks.encoder)
        return loss

    def _generate(self, count: tf.Tensor) -> tf.Tensor:
        code = self._random.normal((count, self.networks.generator.input_shape[1]))
        return self.networks.generator(code, training=True)


def gradient_penalty(
    critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, share: tf.Tensor
) -> tf.Tensor:
    """Compute how far the critic's gradient norm is from 1 (Gulrajani et al. 2017).

    Parameters
    ----------
    critic : function
        From images (N, side, side, 1) to values (N, 1).
    real, fake : float32 (N, side, side, channels)
    share : float32 (N, 1, 1, 1) in [0, 1]
        Position on the line from a real image to a generated one.

    Returns
    -------
    float32 (), the mean of (‖∇critic‖ − 1)².
    """
    between = real + share * (fake - real)
    with tf.GradientTape() as tape:
        tape.watch(between)
        values = critic(between)
    gradient = tape.gradient(values, between)
    # The constant avoids the infinite gradient of the square root at 0.
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3)) + 1e-12)
    return tf.reduce_mean(tf.square(norm - 1))


def anomaly_score(
    features: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, reconstruction: tf.Tensor, *, kappa: float
) -> tf.Tensor:
    """Compute A_R + κ · A_D of each image: float32 (N,)."""
    image_residual = tf.reduce_mean(tf.square(x - reconstruction), axis=(1, 2, 3))
    difference = features(x) - features(reconstruction)
    return image_residual + kappa * tf.reduce_mean(tf.square(difference), axis=(1, 2, 3))


def image_spec(network: keras.Model) -> tf.TensorSpec:
    """Return the signature of a batch with any number of images, as a network takes them."""
    return tf.TensorSpec(network.input_shape, tf.float32)


def _descend(
    optimizer: keras.optimizers.Optimizer, tape: tf.GradientTape, loss: tf.Tensor, model: keras.Model
) -> None:
    variables = model.trainable_variables
    optimizer.apply(tape.gradient(loss, variables), variables)
