"""Distance maps to standard scores, place by place, and their fusion to one anomaly map."""

from collections.abc import Sequence
from typing import Self

import keras
import numpy as np
import scipy
import tensorflow as tf

from metricad.scoring.score import top_mean

SMOOTHING = 5
"""Places, a side, over which mean and deviation of good images are smoothed: parts are never in perfect register."""

LEAST = 1e-6
"""Smallest distance whose logarithm is taken, and smallest spread of logarithms that is divided by."""

TOP = 0.01
"""Share of a map's places that say how far good images reach in it; the default score looks at as many."""


@keras.saving.register_keras_serializable("metricad")
class Standardize(keras.layers.Layer):
    """Standard scores of the logarithm of distances, from what good images have at the same place.

    Where images, or maps, are of another size than those learned from, places are matched by how far along
    the map they lie.

    Parameters
    ----------
    shape : (int, int, int)
        Rows, columns and sources of the maps learned from.
    """

    def __init__(self, shape: tuple[int, int, int], **named: object) -> None:
        super().__init__(**named)
        self.shape = tuple(shape)
        self.center = self.add_weight(shape=self.shape, initializer="zeros", trainable=False, name="center")
        self.spread = self.add_weight(shape=self.shape, initializer="ones", trainable=False, name="spread")

    def adapt(self, maps: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]) -> Self:
        """Learn mean and standard deviation at each place.

        Parameters
        ----------
        maps : sequence of float32 (h, w, sources)
            Distances in good images that the densities behind them have not seen.
        insides : sequence of bool (h, w) or None
            Which places count.
        """
        size = self.shape[:2]
        weight, total, squares = np.zeros((*size, 1)), np.zeros(self.shape), np.zeros(self.shape)
        for one, inside in zip(maps, insides, strict=True):
            known = np.ones(one.shape[:2], bool) if inside is None else inside
            counts = _resized(known, size)[..., np.newaxis].astype(np.float64)
            values = _resized(np.log(np.maximum(one, LEAST)).astype(np.float64), size) * counts
            weight, total, squares = weight + counts, total + values, squares + np.square(values)

        def smooth(sums: np.ndarray) -> np.ndarray:
            return scipy.ndimage.uniform_filter(sums, (SMOOTHING, SMOOTHING, 1), mode="nearest")

        known = np.maximum(smooth(weight), LEAST)
        center = smooth(total) / known
        variance = smooth(squares) / known - np.square(center)
        self.center.assign(center)
        self.spread.assign(np.sqrt(np.maximum(variance, LEAST**2)))
        return self

    def call(self, distances: tf.Tensor) -> tf.Tensor:
        """Standard scores (N, h, w, sources) of distances of this shape."""
        size = tf.shape(distances)
        center, spread = (_matched(each, size) for each in (self.center, self.spread))
        return (tf.math.log(tf.maximum(distances, LEAST)) - center) / spread

    def compute_output_shape(self, distances_shape: tuple) -> tuple:
        """The same."""
        return distances_shape

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "shape": self.shape}


@keras.saving.register_keras_serializable("metricad")
class Fuse(keras.layers.Layer):
    """Fuse the standard scores of several sources to what each contributes to the anomaly map.

    The anomaly map is the sum of all contributions, in standard deviations of how far good images reach: 0 is
    where the farthest 1 % of a good image usually lie. Sources are averaged, the steadier ones with more
    weight. One-sided sources add only what goes beyond what good images usually reach: on most parts line
    filters say nothing, and an average would take in their noise.

    Parameters
    ----------
    is_one_sided : sequence of bool
        By source; at least one is False.
    """

    def __init__(self, is_one_sided: Sequence[bool], **named: object) -> None:
        super().__init__(**named)
        self.is_one_sided = tuple(map(bool, is_one_sided))
        shape = (len(self.is_one_sided),)
        self.gain = self.add_weight(shape=shape, initializer="ones", trainable=False, name="gain")
        self.offset = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="offset")

    def adapt(self, scores: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]) -> Self:
        """Learn how far good images reach in each source, and how much they differ in it.

        Parameters
        ----------
        scores : sequence of float32 (h, w, sources)
            Standard scores of good images.
        insides : sequence of bool (h, w) or None
            Which places count.
        """
        one_sided = np.array(self.is_one_sided)

        def reach(maps: Sequence[np.ndarray]) -> tuple[float, float]:
            tops = [top_mean(one, TOP, inside) for one, inside in zip(maps, insides, strict=True)]
            return float(np.mean(tops)), float(max(np.std(tops), LEAST))

        each = np.array([reach([one[..., k] for one in scores]) for k in range(len(one_sided))])
        gain = 1 / each[:, 1]
        offset = each[:, 0] * gain
        shares = np.where(one_sided, 0, gain)
        shares /= shares.sum()
        level, spread = reach([one @ shares.astype(np.float32) for one in scores])
        self.gain.assign(np.where(one_sided, gain, shares / spread))
        self.offset.assign(np.where(one_sided, offset, shares * level / spread))
        return self

    def only(self, is_kept: Sequence[bool]) -> "Fuse":
        """The same for some of the sources: the others contribute nothing."""
        other = Fuse(self.is_one_sided, name=self.name)
        kept = np.array(is_kept, np.float32)
        other.gain.assign(kept * keras.ops.convert_to_numpy(self.gain))
        other.offset.assign(kept * keras.ops.convert_to_numpy(self.offset))
        return other

    def call(self, scores: tf.Tensor) -> tf.Tensor:
        """Contributions of each source: of the shape of the scores, (N, h, w, sources)."""
        reached = scores * self.gain - self.offset
        one_sided = tf.constant(np.array(self.is_one_sided, np.float32))
        return one_sided * tf.nn.relu(reached) + (1.0 - one_sided) * reached

    def compute_output_shape(self, scores_shape: tuple) -> tuple:
        """The same."""
        return scores_shape

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "is_one_sided": self.is_one_sided}


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest values of a map (h, w, …) at the places of another size."""
    if values.shape[:2] == tuple(size):
        return values
    rows, columns = (
        (np.arange(count) * 2 + 1) * own // (2 * count)
        for own, count in zip(values.shape[:2], size, strict=True)
    )
    return values[rows][:, columns]


def _matched(learned: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The same of a constant map, in TensorFlow; `size` is that of (N, h, w, sources)."""
    learned = tf.convert_to_tensor(learned)
    for axis in (0, 1):
        count = size[axis + 1]
        learned = tf.gather(
            learned, (tf.range(count) * 2 + 1) * learned.shape[axis] // (2 * count), axis=axis
        )
    return learned
