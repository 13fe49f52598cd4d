"""Train with episodes: the loss uses the Mahalanobis distance that an inspector uses.

The paper moves two patches of a texture together and a third away. Here the loss contains the method that
will judge images. In each episode a Gaussian is fitted to the features of the support crops, as in a density.
The distances of features in other crops must be small on good surface and large on defects. Gradients pass
through the covariance and its inverse. (Prototypical networks: Snell et al., 2017; with covariances: Bateni
et al., 2020.)
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from metricad.networks import factory
from metricad.networks.feature_grid import FeatureGrid
from metricad.training.episodes import CROPS, DEFECTIVE, GOOD, SIDE, SUPPORT

_SHRINKAGE = 1e-2  # more than in a density, because three crops are few and gradients must stay small
_FLOOR = 1e-3  # lower limit of squared distances before the logarithm
_FARTHEST = 5  # features of a crop that are compared; one alone trains slowly and misses faint defects
_COVERED = 0.25  # share of a feature's stride² pixels from which it counts as defective
_STEEP, _MARGIN = 4.0, 1.0  # slope and margin for comparing logarithms of squared distances
_NOWHERE = -7.0  # value of features excluded from a maximum; below log(_FLOOR)


class EpisodicTrainer(keras.Model):
    """A network with two weights that turn its distances into the probability of a defect.

    Parameters
    ----------
    model : keras.Model
        Network, as built by `hypercolumn.build`; it is trained in place.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.model = model
        self.slope = self.add_weight(name="slope", initializer=keras.initializers.Constant(2.0))
        self.offset = self.add_weight(name="offset", initializer=keras.initializers.Constant(0.5))
        self.built = True  # the network is built; Keras checks this before restoring a checkpoint
        self.metric_means = [keras.metrics.Mean(name) for name in ("loss", "ordered")]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Loss, and the share of pairs of a defective and a good crop in the right order."""
        return self.metric_means

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Train one step on uint8 crops (n, CROPS, SIDE, SIDE) and bool masks (n, DEFECTIVE, SIDE, SIDE)."""
        if data[0].dtype != tf.uint8:
            raise ValueError(f"expected crops as uint8, received {data[0].dtype.name}")
        crops, masks = _turned(tf.cast(data[0], tf.float32) / 127.5 - 1, tf.cast(data[1], tf.float32))
        with tf.GradientTape() as tape:
            loss, ordered = self.compute_episode_loss(crops, masks)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        for mean, value in zip(self.metric_means, (loss, ordered), strict=True):
            mean.update_state(value)
        return {mean.name: mean.result() for mean in self.metric_means}

    def compute_episode_loss(self, crops: tf.Tensor, masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute the loss of a batch of episodes, and the share of pairs of crops in the right order.

        The loss has two parts. Crops: the farthest features of each defect must be farther than the farthest
        features of good crops and of the good area around defects; a softplus compares the logarithms.
        Features: a logistic regression on the distance separates defective from good ones.

        Parameters
        ----------
        crops : float32 (n, CROPS, SIDE, SIDE) in [-1, 1]
        masks : float32 (n, DEFECTIVE, SIDE, SIDE), 0 or 1
        """
        features = self.model(tf.reshape(crops, (-1, SIDE, SIDE, 1)), training=True)
        shape = features.shape[1:]
        features = tf.reshape(features, (-1, CROPS, shape[0] * shape[1], shape[2]))
        logs = _log_distances(features)  # (n, GOOD + DEFECTIVE, h'·w')
        good, spoiled = logs[:, :GOOD], logs[:, GOOD:]

        covered = _covered(masks, factory.grid(self.model), shape[0])  # (n, DEFECTIVE, h', w')
        flat = tf.shape(spoiled)
        is_defect = tf.reshape(covered > _COVERED, flat)
        at_defect = tf.reshape(_widest(covered, 3) > 0, flat)
        is_clear = tf.reshape(_widest(covered, 9) == 0, flat)
        has_defect = tf.cast(tf.reduce_any(at_defect, axis=-1), tf.float32)

        farthest_good = tf.concat([_farthest(good), _farthest(tf.where(is_clear, spoiled, _NOWHERE))], axis=1)
        farthest_defect = _farthest(tf.where(at_defect, spoiled, _NOWHERE))
        difference = farthest_good[:, :, None] - farthest_defect[:, None, :]
        counts = has_defect[:, None, :] * tf.ones_like(difference)
        by_crop = _mean(tf.nn.softplus(_STEEP * difference + _MARGIN), counts)
        ordered = _mean(tf.cast(difference < 0, tf.float32), counts)

        logits = self.slope * (logs - self.offset)
        is_good = tf.concat([tf.ones_like(good), tf.cast(is_clear, tf.float32)], axis=1)
        by_feature = _mean(tf.nn.softplus(-logits[:, GOOD:]), tf.cast(is_defect, tf.float32))
        by_feature += _mean(tf.nn.softplus(logits), is_good)
        return by_crop + 0.5 * by_feature, ordered


class CosineToZero(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate schedule: a short rise, then half a cosine down to 1/50.

    Parameters
    ----------
    peak : float
    steps : int
        Total number of steps.
    """

    def __init__(self, peak: float, steps: int) -> None:
        self.peak = peak
        self.steps = steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Compute the learning rate of a step."""
        done = tf.cast(step, tf.float32)
        fall = 0.02 + 0.49 * (1 + tf.cos(np.pi * tf.minimum(done / self.steps, 1)))
        return self.peak * fall * tf.minimum(1.0, (done + 1) / max(1, min(50, self.steps // 10)))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the schedule."""
        return {"peak": self.peak, "steps": self.steps}


def compiled(model: keras.Model, *, learning_rate: float, steps: int) -> EpisodicTrainer:
    """Make a trainer ready for `fit`: Adam, gradients clipped to norm 1."""
    trainer = EpisodicTrainer(model)
    schedule = CosineToZero(learning_rate, steps)
    trainer.compile(optimizer=keras.optimizers.Adam(schedule, global_clipnorm=1.0))
    return trainer


def _log_distances(features: tf.Tensor) -> tf.Tensor:
    """Compute logarithms of squared Mahalanobis distances / d: (n, GOOD + DEFECTIVE, h'·w')."""
    dimensions = features.shape[-1]
    count, places = tf.shape(features)[0], features.shape[2]
    support = tf.reshape(features[:, :SUPPORT], (count, SUPPORT * places, dimensions))
    mean = tf.reduce_mean(support, axis=1, keepdims=True)
    support -= mean
    covariance = tf.matmul(support, support, transpose_a=True) / (SUPPORT * places)
    variance = tf.linalg.trace(covariance) / dimensions
    covariance += (_SHRINKAGE * variance + 1e-6)[:, None, None] * tf.eye(dimensions)
    others = tf.reshape(features[:, SUPPORT:], (count, -1, dimensions)) - mean
    white = tf.linalg.triangular_solve(tf.linalg.cholesky(covariance), tf.transpose(others, (0, 2, 1)))
    squares = tf.reduce_mean(tf.square(white), axis=1)
    return tf.reshape(tf.math.log(squares + _FLOOR), (count, GOOD + DEFECTIVE, places))


def _covered(masks: tf.Tensor, grid: FeatureGrid, side: int) -> tf.Tensor:
    """Compute the share of defective pixels around each feature: (n, DEFECTIVE, h', w')."""
    first = round(grid.first - (grid.stride - 1) / 2)
    inside = slice(first, first + side * grid.stride)
    cells = (-1, DEFECTIVE, side, grid.stride, side, grid.stride)
    return tf.reduce_mean(tf.reshape(masks[:, :, inside, inside], cells), axis=(3, 5))


def _widest(covered: tf.Tensor, window: int) -> tf.Tensor:
    """Compute the maximum share within a window of features."""
    side = covered.shape[-1]
    pooled = tf.nn.max_pool2d(tf.reshape(covered, (-1, side, side, 1)), window, 1, "SAME")
    return tf.reshape(pooled, (-1, DEFECTIVE, side, side))


def _farthest(logs: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.math.top_k(logs, _FARTHEST).values, axis=-1)


def _mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))


def _turned(crops: tf.Tensor, masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirror or transpose a whole batch at random, because stored episodes are used several times."""
    mirror, transpose = tf.unstack(tf.random.uniform((2,)) < 0.5)

    # No `if`, because Keras traces training steps without AutoGraph.
    def turned(pixels: tf.Tensor) -> tf.Tensor:
        pixels = tf.cond(mirror, lambda: pixels[..., ::-1], lambda: pixels)
        return tf.cond(transpose, lambda: tf.transpose(pixels, (0, 1, 3, 2)), lambda: pixels)

    return turned(crops), turned(masks)
