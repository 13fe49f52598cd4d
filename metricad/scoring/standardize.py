"""Distance maps to standard scores, place by place, and their fusion to one anomaly map."""

from collections.abc import Callable, Sequence
from typing import Self

import keras
import numpy as np
import scipy
import tensorflow as tf

from metricad.scoring.score import top_mean

SMOOTHING = 5
"""Places, a side, over which mean and deviation are smoothed: parts are never in perfect register."""

EDGE = 8
"""Places from the edge of an image up to which features reach beyond it: a receptive field of 68 pixels."""

LEAST = 1e-6
"""Smallest distance whose logarithm is taken, and smallest spread of logarithms that is divided by."""

TOP = 0.01
"""Share of a map's places that say how far good images reach in it; the default score looks at as many."""


@keras.saving.register_keras_serializable("metricad")
class Standardize(keras.layers.Layer):
    """Standard scores of the logarithm of distances, from what good images have at the same place.

    Where good images have one size, each place has its own mean and deviation; a map of another size is
    matched by how far along it a place lies. Where they have several sizes, places count by their distance
    from the edge.

    Parameters
    ----------
    sources : int
        Feature maps.
    shape : (int, int), optional
        Rows and columns of the maps learned from, where they have one size.
    """

    def __init__(self, sources: int, shape: tuple[int, int] | None = None, **named: object) -> None:
        super().__init__(**named)
        self.sources = sources
        self.shape = None if shape is None else tuple(shape)
        size = (EDGE + 1, 1) if shape is None else self.shape
        self.center = self.add_weight(
            shape=(*size, sources), initializer="zeros", trainable=False, name="center"
        )
        self.spread = self.add_weight(
            shape=(*size, sources), initializer="ones", trainable=False, name="spread"
        )

    def adapt(self, maps: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]) -> Self:
        """Learn mean and standard deviation at each place.

        Parameters
        ----------
        maps : sequence of float32 (h, w, sources)
            Distances in good images that the densities behind them have not seen.
        insides : sequence of bool (h, w) or None
            Which places count.
        """
        sums = [self._sums(one, inside) for one, inside in zip(maps, insides, strict=True)]
        self._total = [sum(each[1:], each[0]) for each in zip(*sums, strict=True)]
        center, spread = _statistics(*self._total)
        self.center.assign(center)
        self.spread.assign(spread)
        return self

    def held_out(self, one: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
        """Standard scores (h, w, sources) of a map that `adapt` has learned from, by all the others.

        A place that one image alone makes unusual would seem usual in that image; where parts are not in
        register there are many of these.
        """
        own = self._sums(one, inside)
        others = [total - mine for total, mine in zip(self._total, own, strict=True)]
        is_alone = others[0].max() < 0.5
        center, spread = _statistics(*(own if is_alone else others))
        index = self._index(one.shape[:2])
        return ((np.log(np.maximum(one, LEAST)) - center[index]) / spread[index]).astype(np.float32)

    def _index(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Row and column in what is learned, of each place of a map of this size."""
        if self.shape is None:
            return np.minimum(_depth(size).numpy(), EDGE), np.zeros(size, int)
        return np.ix_(*(_along(count, own) for count, own in zip(size, self.shape, strict=True)))

    def _sums(self, one: np.ndarray, inside: np.ndarray | None) -> list[np.ndarray]:
        """Counts (…, 1), logarithms (…, sources) and their squares of one map, wherever they are learned."""
        known = np.ones(one.shape[:2], np.float32) if inside is None else inside.astype(np.float32)
        counts, values = known[..., np.newaxis], np.log(np.maximum(one, LEAST)) * known[..., np.newaxis]
        each = [counts, values, np.square(values)]
        if self.shape is not None:
            return [_smooth(one) for one in each]
        depth = np.minimum(_depth(one.shape[:2]).numpy(), EDGE).ravel()
        rings = [np.zeros((EDGE + 1, 1, one.shape[-1])) for one in each]
        for ring, values in zip(rings, each, strict=True):
            np.add.at(ring[:, 0], depth, values.reshape(len(depth), -1))
        return rings

    def call(self, distances: tf.Tensor) -> tf.Tensor:
        """Standard scores (N, h, w, sources) of distances of this shape."""
        size = tf.shape(distances)[1:3]
        center, spread = (self._at(each, size) for each in (self.center, self.spread))
        return (tf.math.log(tf.maximum(distances, LEAST)) - center) / spread

    def _at(self, learned: keras.Variable, size: tf.Tensor) -> tf.Tensor:
        """What is learned, at each place of a map of this size: (h, w, sources)."""
        learned = tf.convert_to_tensor(learned)
        if self.shape is None:
            return tf.gather(learned[:, 0], tf.minimum(_depth(size), EDGE))
        for axis in (0, 1):
            learned = tf.gather(learned, _along(size[axis], self.shape[axis], tf.range), axis=axis)
        return learned

    def compute_output_shape(self, distances_shape: tuple) -> tuple:
        """The same."""
        return distances_shape

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "sources": self.sources, "shape": self.shape}


@keras.saving.register_keras_serializable("metricad")
class Fuse(keras.layers.Layer):
    """Fuse the standard scores of several sources to what each contributes to the anomaly map.

    The anomaly map is the sum of all contributions, in standard deviations of how far good images reach: 0
    is where the farthest 1 % of a good image usually lie. Sources are averaged, the steadier ones with more
    weight. One-sided sources add only what lies beyond the farthest good image: on most parts line filters
    say nothing, and an average would take in their noise.

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

        def reach(maps: Sequence[np.ndarray]) -> tuple[float, float, float]:
            """Mean, standard deviation and maximum over images of how far each reaches."""
            tops = [top_mean(one, TOP, inside) for one, inside in zip(maps, insides, strict=True)]
            return float(np.mean(tops)), float(max(np.std(tops), LEAST)), float(np.max(tops))

        each = np.array([reach([one[..., k] for one in scores]) for k in range(len(one_sided))])
        gain = 1 / each[:, 1]
        offset = each[:, 2] * gain
        shares = np.where(one_sided, 0, gain)
        shares /= shares.sum()
        level, spread, _ = reach([one @ shares.astype(np.float32) for one in scores])
        self.gain.assign(np.where(one_sided, gain, shares / spread))
        self.offset.assign(np.where(one_sided, offset, shares * level / spread))
        return self

    def only(self, is_kept: Sequence[bool]) -> "Fuse":
        """The same for some of the sources: the others contribute nothing."""
        other = Fuse(self.is_one_sided, name=self.name)
        kept = np.array(is_kept, np.float32)
        other.gain.assign(kept * self.gain.numpy())
        other.offset.assign(kept * self.offset.numpy())
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


def _smooth(sums: np.ndarray) -> np.ndarray:
    """Means of squares of `SMOOTHING` places."""
    return scipy.ndimage.uniform_filter(sums, (SMOOTHING, SMOOTHING, 1), mode="nearest", output=np.float64)


def _statistics(weight: np.ndarray, total: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation at each place, from sums."""
    known = np.maximum(weight, LEAST)
    center = total / known
    variance = squares / known - np.square(center)
    return center, np.sqrt(np.maximum(variance, LEAST**2))


def _along(count: int, own: int, numbers: Callable = np.arange) -> np.ndarray:
    """Which of `own` places lies as far along an axis as each of `count` places does."""
    return (numbers(count) * 2 + 1) * own // (2 * count)


def _depth(size: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """How many places lie between each of a map of this size and its edge: int32 (h, w)."""
    rows, columns = (tf.minimum(tf.range(size[axis]), tf.range(size[axis] - 1, -1, -1)) for axis in (0, 1))
    return tf.minimum(tf.expand_dims(rows, 1), columns)
