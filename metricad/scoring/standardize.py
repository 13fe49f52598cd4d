"""Layers that turn distance maps into standard scores and fuse these to one anomaly map."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
import scipy
import tensorflow as tf

from metricad.scoring.score import top_mean
from metricad.scoring.score_names import DEFAULT, SCORES

SMOOTHING = 5
"""Side, in features, of the square over which statistics are smoothed: parts are never perfectly aligned."""

EDGE = 8
"""Distance from the border, in features, from which a receptive field of 68 pixels lies in the image."""

LEAST = 1e-6
"""Smallest distance before taking the logarithm, and smallest standard deviation to divide by."""

TOP = SCORES[DEFAULT]
"""Share of a map's largest values used as its level in good images; the same as in the default score."""

HANDICAP = 1.0
"""Standard deviations by which line filters or color must exceed the network's map. With 0, their noise in
good images hides faint defects. From 1 to 2, AUROC changes by at most 0.025 on any surface.
"""

NEVER = 1e6
"""Offset that excludes a kind of source."""

AVERAGED = ("imagenet", "cells")
"""Kinds of sources that are averaged with the others and not compared with them. They see other defects: the
average is better than each of them on most development surfaces (results/imagenet.md)."""


def fused(maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Fuse the maps of all kinds of sources: the mean of those `AVERAGED` and the largest of the others."""
    others = [one for kind, one in maps.items() if kind not in AVERAGED]
    averaged = [one for kind, one in maps.items() if kind in AVERAGED]
    return np.mean([np.max(others, axis=0), *averaged] if others else averaged, axis=0)


@keras.saving.register_keras_serializable("metricad")
class Standardize(keras.layers.Layer):
    """Layer that turns distances into standard scores: of their logarithm, by statistics of good images.

    If good images have one size, each feature position has its own mean and standard deviation. A map of
    another size uses the statistics at the same relative position. If good images have several sizes, the
    statistics depend on the distance from the image border only.

    Parameters
    ----------
    sources : int
        Number of feature maps.
    shape : (int, int), optional
        Rows and columns of the maps of good images, if all have one size.
    uniform : sequence of int
        Numbers of the feature maps with the same mean and standard deviation at all positions, because their
        density already has a covariance at each.
    """

    def __init__(
        self,
        sources: int,
        shape: tuple[int, int] | None = None,
        uniform: Sequence[int] = (),
        **named: object,
    ) -> None:
        super().__init__(**named)
        self.sources = sources
        self.shape = None if shape is None else tuple(shape)
        self.uniform = tuple(uniform)
        size = (EDGE + 1, 1) if self.shape is None else self.shape
        self.center = self.add_weight(
            shape=(*size, sources), initializer="zeros", trainable=False, name="center"
        )
        self.spread = self.add_weight(
            shape=(*size, sources), initializer="ones", trainable=False, name="spread"
        )

    def adapt(self, maps: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]) -> Self:
        """Learn the mean and standard deviation at each position.

        Parameters
        ----------
        maps : sequence of float32 (h, w, sources)
            Distances in good images that the densities have not seen.
        insides : sequence of bool (h, w) or None
            Features to use; None for all.
        """
        self._learn(maps, insides)
        return self

    def adapt_and_score(
        self, maps: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]
    ) -> list[np.ndarray]:
        """Learn the statistics; return standard scores of each map by the others: float32 (h, w, sources).

        If a map counted in its own statistics, its unusual places would get scores that are too low. Where
        parts are not aligned there are many such places.
        """
        total = self._learn(maps, insides)
        return [self._by_others(one, inside, total) for one, inside in zip(maps, insides, strict=True)]

    def _learn(self, maps: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """Learn the statistics and return the sums they are computed from."""
        sums = (self._sums(one, inside) for one, inside in zip(maps, insides, strict=True))
        total = next(sums)
        for one in sums:
            for whole, own in zip(total, one, strict=True):
                whole += own
        center, spread = self._statistics(*total)
        self.center.assign(center)
        self.spread.assign(spread)
        return total

    def _by_others(self, one: np.ndarray, inside: np.ndarray | None, total: list[np.ndarray]) -> np.ndarray:
        own = self._sums(one, inside)
        others = [each - mine for each, mine in zip(total, own, strict=True)]
        is_alone = others[0].max() < 1 / 2
        center, spread = self._statistics(*(own if is_alone else others))
        index = self._index(one.shape[:2])
        return ((np.log(np.maximum(one, LEAST)) - center[index]) / spread[index]).astype(np.float32)

    def _index(self, size: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """Return row and column of the learned statistics for each feature of a map of this size."""
        if self.shape is None:
            return np.minimum(_depth(size).numpy(), EDGE), np.zeros(size, int)
        return np.ix_(*(_along(count, own) for count, own in zip(size, self.shape, strict=True)))

    def _sums(self, one: np.ndarray, inside: np.ndarray | None) -> list[np.ndarray]:
        """Compute counts (…, 1), sums of logarithms (…, sources) and of their squares at each position."""
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

    def _statistics(
        self, weight: np.ndarray, total: np.ndarray, squares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute mean and standard deviation at each position from sums."""
        known = np.maximum(weight, LEAST)
        center, square = total / known, squares / known
        for each in (center, square):
            for number in self.uniform:
                each[..., number] = np.average(each[..., number], weights=weight[..., 0])
        variance = square - np.square(center)
        return center, np.sqrt(np.maximum(variance, LEAST**2))

    def call(self, distances: tf.Tensor) -> tf.Tensor:
        """Compute standard scores (N, h, w, sources) from distances of the same shape."""
        size = tf.shape(distances)[1:3]
        center, spread = (self._at(each, size) for each in (self.center, self.spread))
        # Not `maximum`, which drops NaN in some runtimes: that would be the best of all scores.
        raised = tf.where(distances <= LEAST, LEAST, distances)
        return (tf.math.log(raised) - center) / spread

    def _at(self, learned: keras.Variable, size: tf.Tensor) -> tf.Tensor:
        """Return the learned statistics at each feature of a map of this size: (h, w, sources)."""
        learned = tf.convert_to_tensor(learned)
        if self.shape is None:
            return tf.gather(learned[:, 0], tf.minimum(_depth(size), EDGE))
        for axis in (0, 1):
            learned = tf.gather(learned, _along(size[axis], self.shape[axis], tf.range), axis=axis)
        return learned

    def compute_output_shape(self, distances_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input shape."""
        return distances_shape

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {
            **super().get_config(),
            "sources": self.sources,
            "shape": self.shape,
            "uniform": self.uniform,
        }


@keras.saving.register_keras_serializable("metricad")
class Fuse(keras.layers.Layer):
    """Layer that fuses the standard scores of several sources to one anomaly map.

    Sources of one kind are averaged; sources that vary less in good images get more weight. The average is
    scaled: 0 is the mean level of good images, 1 is one standard deviation more. The anomaly map is the
    maximum over kinds at each feature. All kinds but the first must exceed it by `HANDICAP`. An average over
    kinds would add the noise of kinds that do not react to any defect of a part, as is often the case for
    line filters and color. Only the kinds in `AVERAGED` are averaged with the maximum of all others.

    Parameters
    ----------
    kinds : sequence of str
        Kind of each source.
    """

    def __init__(self, kinds: Sequence[str], **named: object) -> None:
        super().__init__(**named)
        self.kinds = tuple(kinds)
        shape = (len(self.kinds),)
        self.gain = self.add_weight(shape=shape, initializer="ones", trainable=False, name="gain")
        self.offset = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="offset")

    def adapt(self, scores: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]) -> Self:
        """Learn the level of good images in each source and kind: its mean and standard deviation.

        Parameters
        ----------
        scores : sequence of float32 (h, w, sources)
            Standard scores of good images.
        insides : sequence of bool (h, w) or None
            Features to use; None for all.
        """

        def reach(maps: Sequence[np.ndarray]) -> tuple[float, float]:
            """Return mean and standard deviation over images of the level of each map."""
            tops = [top_mean(one, TOP, inside) for one, inside in zip(maps, insides, strict=True)]
            return float(np.mean(tops)), max(float(np.std(tops)), LEAST)

        gain, offset = np.zeros((2, len(self.kinds)))
        for kind in self._names():
            members = self._members(kind)
            shares = np.array([1 / reach([one[..., k] for one in scores])[1] for k in members])
            shares /= shares.sum()
            level, spread = reach([one[..., members] @ shares.astype(np.float32) for one in scores])
            handicap = 0 if kind in (self.kinds[0], *AVERAGED) else HANDICAP
            gain[members] = shares / spread
            offset[members] = shares * (level / spread + handicap)
        self.gain.assign(gain)
        self.offset.assign(offset)
        return self

    def only(self, kinds: Collection[str]) -> "Fuse":
        """Return a copy for some of the kinds; the others contribute nothing."""
        other = Fuse(self.kinds, name=self.name)
        is_kept, is_averaged = np.isin(self.kinds, list(kinds)), np.isin(self.kinds, AVERAGED)
        # Where fewer maps are averaged, each counts more. A kind that is left out must never be the largest,
        # unless all of these kinds are left out.
        factor = self._parts(self._names()) / self._parts([kind for kind in self._names() if kind in kinds])
        has_others = np.any(is_kept & ~is_averaged)
        nothing = np.where(is_averaged | (not has_others), 0.0, NEVER)
        other.gain.assign(np.where(is_kept, factor * self.gain.numpy(), 0))
        other.offset.assign(np.where(is_kept, factor * self.offset.numpy(), nothing))
        return other

    def call(self, scores: tf.Tensor) -> tf.Tensor:
        """Compute the contribution of each source, (N, h, w, sources), from scores; their sum is the map.

        At each feature, only the sources of the largest kind contribute, and those of kinds in `AVERAGED`;
        all others are 0.
        """
        reached = scores * self.gain - self.offset
        names = [name for name in self._names() if name not in AVERAGED]
        if len(names) > 1:
            largest = tf.argmax(self._by_kind(reached, names), axis=-1, output_type=tf.int32)
            counts = [
                tf.ones_like(largest) if kind in AVERAGED else tf.equal(largest, names.index(kind))
                for kind in self.kinds
            ]
            reached *= tf.stack([tf.cast(one, tf.float32) for one in counts], axis=-1)
        parts = self._parts(self._names())
        return reached / parts if parts > 1 else reached

    def by_kind(self, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the map of each kind, (N, h, w), from standard scores (N, h, w, sources)."""
        found = self._by_kind(scores * self.gain - self.offset, self._names())
        return dict(zip(self._names(), tf.unstack(found, axis=-1), strict=True))

    def _by_kind(self, reached: tf.Tensor, names: Sequence[str]) -> tf.Tensor:
        of_kind = [np.array([own == kind for own in self.kinds], np.float32) for kind in names]
        return tf.stack([tf.reduce_sum(reached * tf.constant(own), axis=-1) for own in of_kind], axis=-1)

    @staticmethod
    def _parts(kinds: Collection[str]) -> int:
        """Count the maps that are averaged: one for each kind in `AVERAGED`, and one for all others."""
        averaged = [kind for kind in kinds if kind in AVERAGED]
        return len(averaged) + (len(averaged) < len(kinds))

    def _names(self) -> list[str]:
        return list(dict.fromkeys(self.kinds))

    def _members(self, kind: str) -> list[int]:
        return [number for number, own in enumerate(self.kinds) if own == kind]

    def compute_output_shape(self, scores_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input shape."""
        return scores_shape

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "kinds": self.kinds}


def _smooth(sums: np.ndarray) -> np.ndarray:
    """Average over squares of `SMOOTHING` features."""
    return scipy.ndimage.uniform_filter(sums, (SMOOTHING, SMOOTHING, 1), mode="nearest", output=np.float64)


def _along(count: int, own: int, numbers: Callable[[Any], Any] = np.arange) -> np.ndarray:
    """Find, for each of `count` positions along an axis, the one of `own` at the same relative position."""
    return (numbers(count) * 2 + 1) * own // (2 * count)


def _depth(size: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """Compute the distance of each feature to the edge of its map, in features: int32 (h, w)."""
    rows, columns = (tf.minimum(tf.range(size[axis]), tf.range(size[axis] - 1, -1, -1)) for axis in (0, 1))
    return tf.minimum(tf.expand_dims(rows, 1), columns)
