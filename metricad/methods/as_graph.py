"""Parts of methods as TensorFlow operations, for exports: they do what the NumPy code does."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from metricad.data import images as image_files

Graph = tuple[keras.Model, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]
"""A method's network, and its function from images (N, H, W, C) to scores (N,) and maps (N, H, W)."""


class Stretch:
    """Linear change of rows and columns, such as resizing: matrices (h', h) and (w', w)."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray) -> None:
        self.rows, self.columns = rows.astype(np.float32), columns.astype(np.float32)

    @classmethod
    def resizing(cls, shape: tuple[int, int], to: tuple[int, int]) -> "Stretch":
        """Return what `images.resize` does to images of a shape: it treats rows and columns alike."""
        matrices = (
            image_files.resize(np.eye(side, dtype=np.float32), (other, side))
            for side, other in zip(shape, to, strict=True)
        )
        return cls(*matrices)

    def after(self, first: "Stretch") -> "Stretch":
        """Return the change that does another one first."""
        return Stretch(self.rows @ first.rows, self.columns @ first.columns)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Change images or maps (N, h, w) to (N, h', w')."""
        return tf.matmul(tf.matmul(self.rows, images), self.columns.T)


def nearest(maps: tf.Tensor, shape: tuple[int, int]) -> tf.Tensor:
    """Resize maps (N, h, w, d) with the nearest values, as `tf.image.resize`, of which runtimes warn."""
    rows, columns = (
        np.floor((np.arange(to) + 0.5) * side / to).astype(np.int32)
        for side, to in zip(maps.shape[1:3], shape, strict=True)
    )
    return tf.gather(tf.gather(maps, rows, axis=1), columns, axis=2)


class Doubled(keras.layers.Layer):
    """Layer that does what ``UpSampling2D(2)`` does, but keeps the size known, which LiteRT needs."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Repeat each row and column of (N, h, w, d)."""
        return nearest(x, (2 * x.shape[1], 2 * x.shape[2]))

    def compute_output_shape(self, x_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: twice the height and width."""
        batch, height, width, depth = x_shape
        assert height is not None
        assert width is not None
        return batch, 2 * height, 2 * width, depth
