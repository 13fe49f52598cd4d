"""Layers that let through what is smaller than the smallest defect that matters.

A morphological opening (Serra, 1982) gives each place of the map the highest level at which a window around
it is filled. Values above the level of the threshold are lowered to it, or to the opened map if that is
higher. So where no window fits into the area above the outline, nothing is above it, however strong it is;
what is not above the outline stays as it is. A score above the threshold is lowered to that of the lowered
map, but not below the threshold. So all other scores, the threshold and its false-alarm rate stay.
"""

import functools
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows and columns of a step along each of the directions of long windows."""

MOST = 4096
"""Largest side of a window, in features."""

_NOTHING = np.float32(-1e30)  # stands for places outside; finite, so that no runtime computes NaN from it

Window = tuple[int, int]
"""Side of a square, and number of steps by which it is moved on in each direction, in features."""


@keras.saving.register_keras_serializable("metricad")
class Opening(keras.layers.Layer):
    """Layer that lowers what no window fits into to the level of the threshold.

    Windows lie inside the map and the region of interest. A place that no window can cover, because the
    region is narrow there, keeps its value: nothing there is let through for its size.

    Parameters
    ----------
    windows : sequence of (int, int)
        See `Window`.
    threshold : float
        Threshold of the image score.
    level : float
        Value of the map that corresponds to it, or a little less, as sums are rounded.
    """

    def __init__(
        self, windows: Sequence[Sequence[int]], threshold: float, level: float, **named: object
    ) -> None:
        super().__init__(**named)
        self.windows = tuple((side, steps) for side, steps in windows)
        self.threshold, self.level = float(threshold), float(level)
        if not self.windows or not all(_is_window(*window) for window in self.windows):
            raise ValueError(f"windows must have sides of 1 to {MOST}, received {windows}")
        if not (math.isfinite(self.threshold) and math.isfinite(self.level)):
            raise ValueError("a threshold or a level that is not finite")

    def call(self, anomaly: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
        """Lower maps (N, h, w); `inside`, of this shape, is 1 inside the region of interest and 0 outside."""
        opened = self.opened(anomaly, inside)
        lowered = tf.maximum(opened, tf.minimum(anomaly, np.float32(self.level)))
        # Runtimes may drop values that are not finite on the way; these stay, so that they are noticed.
        is_known = tf.logical_and(tf.abs(anomaly) <= anomaly.dtype.max, opened > _NOTHING / 2)
        return tf.where(is_known, lowered, anomaly)

    def opened(self, anomaly: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
        """Open maps by each window and take the largest results; far below 0 where no window can lie."""
        maps = tf.where(inside > 0.0, anomaly, _NOTHING)
        found = []
        for side, steps in self.windows:
            square = [((1, 0), side - 1), ((0, 1), side - 1)]
            pads = (0, 0), (side - 1,) * 2, (side - 1,) * 2
            eroded = _moved(tf.minimum, tf.pad(maps, pads, constant_values=_NOTHING), square)
            if steps:
                lines = [_line_opened(eroded, direction, steps) for direction in DIRECTIONS]
                eroded = functools.reduce(tf.maximum, lines)
            found.append(_moved(tf.maximum, eroded, square))
        return functools.reduce(tf.maximum, found)

    def compute_output_shape(
        self, anomaly_shape: tuple[int | None, ...], inside_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the shape of the maps."""
        return anomaly_shape

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        own = {"windows": self.windows, "threshold": self.threshold, "level": self.level}
        return {**super().get_config(), **own}


class Lowered(keras.layers.Layer):
    """Layer that lowers scores (N,) above the threshold to those of lowered maps, or to the threshold."""

    def __init__(self, threshold: float, **named: object) -> None:
        super().__init__(**named)
        self.threshold = threshold

    def call(self, score: tf.Tensor, lowered: tf.Tensor) -> tf.Tensor:
        """Take the score of the map and that of the lowered map; NaN stays NaN."""
        threshold = np.float32(self.threshold)
        if threshold > self.threshold:  # the rounded threshold must not be above it
            threshold = np.nextafter(threshold, np.float32(-np.inf))
        above = tf.where(lowered <= threshold, threshold, lowered)
        return tf.where(score <= threshold, score, above)

    def compute_output_shape(
        self, score_shape: tuple[int | None, ...], lowered_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the shape of the scores."""
        return score_shape


Move = tuple[tuple[int, int], int]
"""Rows and columns of a step, and number of steps."""


def _is_window(side: object, steps: object) -> bool:
    return type(side) is int and type(steps) is int and 1 <= side <= MOST and 0 <= steps <= MOST


def _line_opened(maps: tf.Tensor, direction: tuple[int, int], length: int) -> tf.Tensor:
    """Open maps by a line of a length, in features; the shape stays."""
    rows, columns = direction
    move = direction, round(length / math.hypot(*direction))
    pads = (0, 0), (rows * move[1],) * 2, (abs(columns) * move[1],) * 2
    padded = tf.pad(maps, pads, constant_values=_NOTHING)
    return _moved(tf.maximum, _moved(tf.minimum, padded, [move]), [move])


def _moved(
    join: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], maps: tf.Tensor, moves: Sequence[Move]
) -> tf.Tensor:
    """Join maps with themselves moved by 1 to `steps` steps along each direction; they shrink by as much.

    By doubling: a map joined over n places, joined with itself n places further on, is joined over 2 n.
    """
    for (rows, columns), steps in moves:
        reached = 0
        while reached < steps:
            by = min(reached + 1, steps - reached)
            one, other = _shifted(maps, rows * by, columns * by)
            maps = join(one, other)
            reached += by
    return maps


def _shifted(maps: tf.Tensor, rows: int, columns: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the two parts of maps that lie on each other when they are moved; `rows` is 0 or more."""
    first, second = slice(rows, None), slice(None, -rows or None)
    if columns < 0:
        return maps[:, first, : columns or None], maps[:, second, -columns:]
    return maps[:, first, columns:], maps[:, second, : -columns or None]
