"""The image score layer (anomaly map to score, peak and source), and a layer that resamples maps."""

from collections.abc import Sequence
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from metricad.scoring.score_names import DEFAULT, SCORES, checked

AREA = 5
"""Side, in features, of the square that is averaged to find the peak."""


def top_mean(values: np.ndarray, share: float, inside: np.ndarray | None = None) -> float:
    """Average the largest values of a map (h, w) inside the mask: `share` of them, at least one."""
    flat = values.ravel() if inside is None else values[inside]
    count = max(1, round(flat.size * share))
    return float(np.partition(flat, -count)[-count:].mean(dtype=np.float64))


@keras.saving.register_keras_serializable("metricad")
class ImageScore(keras.layers.Layer):
    """Layer that computes the image score, in standard deviations of good images, and the peak position.

    The best score depends on the size of defects. The mean of the largest 1 % of a map finds faint defects of
    some size, which the maximum (the paper, section 2.9) misses. The maximum finds tiny ones, which the mean
    misses.

    Parameters
    ----------
    score : str
        One of `SCORES`.
    """

    def __init__(self, score: str = DEFAULT, **named: object) -> None:
        super().__init__(**named)
        self.score = checked(score)
        self.center = self.add_weight(shape=(), initializer="zeros", trainable=False, name="center")
        self.spread = self.add_weight(shape=(), initializer="ones", trainable=False, name="spread")

    def adapt(self, maps: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]) -> Self:
        """Learn the mean and standard deviation of the scores of good images.

        Parameters
        ----------
        maps : sequence of float32 (h, w)
            Anomaly maps of good images.
        insides : sequence of bool (h, w) or None
            Features to use; None for all.
        """
        share = SCORES[self.score]
        found = [top_mean(one, share, inside) for one, inside in zip(maps, insides, strict=True)]
        self.center.assign(np.mean(found))
        self.spread.assign(max(np.std(found), np.finfo(np.float32).eps))
        return self

    def map_value(self, score: float) -> float:
        """Return the anomaly map's value that corresponds to an image score; defects are outlined there."""
        return float(score * self.spread.numpy() + self.center.numpy())

    def call(self, anomaly: tf.Tensor, sources: tf.Tensor, inside: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the scores of anomaly maps.

        Parameters
        ----------
        anomaly : float32 (N, h, w)
        sources : float32 (N, h, w, S)
            Contributions of the sources; the anomaly map is their sum.
        inside : float32 (N, h, w)
            1 inside the region of interest, 0 outside. Each image needs at least one 1.

        Returns
        -------
        dict
            ``score`` (N,), NaN if any value of the map is not finite; ``place`` int32 (N, 2), row and column
            of the peak; ``source`` int32 (N,), the source that contributes most to the values that are
            averaged; ``anomaly`` (N, h, w), outside the region of interest with its smallest value inside.
        """
        batch, rows, columns = (tf.shape(anomaly)[axis] for axis in (0, 1, 2))
        known = tf.where(inside > 0.0, anomaly, anomaly.dtype.max)
        least = tf.reduce_min(known, axis=(1, 2), keepdims=True)
        judged = inside * (anomaly - least)  # 0 or more, and 0 outside
        share = SCORES[self.score]
        flat = tf.reshape(judged, (batch, -1))
        most = tf.maximum(tf.cast(tf.round(share * tf.cast(rows * columns, tf.float32)), tf.int32), 1)
        count = tf.maximum(tf.round(share * tf.reduce_sum(inside, axis=(1, 2))), 1.0)
        values, places = tf.math.top_k(flat, most)
        ranks = tf.cast(tf.range(most), tf.float32)
        weights = tf.cast(tf.expand_dims(ranks, 0) < tf.expand_dims(count, 1), tf.float32)
        weights = weights / tf.expand_dims(count, 1)
        statistic = tf.reduce_sum(values * weights, axis=1) + tf.reshape(least, (-1,))
        # The features of all images are in one list, because some runtimes have no batched gather.
        first = tf.expand_dims(tf.range(batch) * rows * columns, 1)
        number = sources.shape[-1]
        deciding = tf.gather(tf.reshape(sources, (-1, number)), tf.reshape(places + first, (-1,)), axis=0)
        deciding = tf.reshape(deciding, (batch, -1, number)) * tf.expand_dims(weights, -1)
        total = tf.reduce_sum(deciding, axis=1)
        # A source that contributes nothing is never named, even if all others are negative.
        total = tf.where(tf.equal(total, 0.0), tf.float32.min, total)
        looked = judged
        if share:
            looked = tf.nn.avg_pool2d(tf.expand_dims(judged, -1), AREA, 1, "SAME")
            looked = tf.reshape(looked, (batch, rows, columns)) * inside
        # Some runtimes drop NaN when they sort, so a score could come from the other values.
        is_finite = tf.cast(tf.abs(anomaly) <= anomaly.dtype.max, tf.float32)
        statistic = tf.where(tf.reduce_min(is_finite, axis=(1, 2)) > 0.5, statistic, np.float32(np.nan))
        peak = tf.argmax(tf.reshape(looked, (batch, -1)), axis=1, output_type=tf.int32)
        return {
            "anomaly": judged + least,
            "place": tf.stack([peak // columns, peak % columns], axis=1),
            "score": (statistic - self.center) / self.spread,
            "source": tf.argmax(total, axis=1, output_type=tf.int32),
        }

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "score": self.score}


@keras.saving.register_keras_serializable("metricad")
class OnPixels(keras.layers.Layer):
    """Layer that resamples maps to pixels: linear between the centers of features, constant outside them.

    Parameters
    ----------
    grid : (float, int)
        Center of the first feature and stride, in pixels.
    """

    def __init__(self, grid: tuple[float, int], **named: object) -> None:
        super().__init__(**named)
        self.grid = tuple(grid)

    def call(self, maps: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
        """Resample maps (N, h, w) to the pixels of images (N, H, W, C): (N, H, W)."""
        first, stride = self.grid
        for axis in (1, 2):
            last = tf.shape(maps)[axis] - 1
            place = tf.cast(tf.range(tf.shape(pixels)[axis]), tf.float32)
            place = tf.clip_by_value((place - first) / stride, 0.0, tf.cast(last, tf.float32))
            below = tf.cast(place, tf.int32)
            weight = tf.reshape(place - tf.cast(below, tf.float32), (-1, *[1] * (2 - axis)))
            above = tf.gather(maps, tf.minimum(below + 1, last), axis=axis)
            maps = tf.gather(maps, below, axis=axis) * (1.0 - weight) + above * weight
        return maps

    def compute_output_shape(
        self, maps_shape: tuple[int | None, ...], pixels_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the shape of the images."""
        return pixels_shape[:3]

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "grid": self.grid}
