"""Layers that halve images, enlarge and resize them, and resample maps to another grid.

They use only operations that TensorFlow, ONNX, OpenVINO and LiteRT all have.
"""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("metricad")
class Halve(keras.layers.Layer):
    """Layer that halves images: means of 2×2 pixels. An odd last row or column is left out."""

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Halve images (N, H, W, C)."""
        return halved(pixels)

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: half of each side."""
        sides = (None if side is None else side // 2 for side in pixels_shape[1:3])
        return (pixels_shape[0], *sides, pixels_shape[3])


def halved(pixels: tf.Tensor) -> tf.Tensor:
    """Halve images; see `Halve`."""
    return tf.nn.avg_pool2d(pixels, 2, 2, "VALID")


@keras.saving.register_keras_serializable("metricad")
class AtLeast(keras.layers.Layer):
    """Layer that mirrors an image at its lower and right edge until it has a network's smallest size.

    Parameters
    ----------
    smallest : int
        Smallest height and width of the result, in pixels.
    """

    def __init__(self, smallest: int, **named: object) -> None:
        super().__init__(**named)
        self.smallest = smallest

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Enlarge images of any size, (N, H, W, C)."""
        for axis in (1, 2):
            side = tf.shape(pixels)[axis]
            there_and_back = tf.range(tf.maximum(side, self.smallest)) % (2 * side)
            pixels = tf.gather(pixels, tf.minimum(there_and_back, 2 * side - 1 - there_and_back), axis=axis)
        return pixels

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape; height and width are unknown until an image is given."""
        return (pixels_shape[0], None, None, pixels_shape[3])

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "smallest": self.smallest}


@keras.saving.register_keras_serializable("metricad")
class Nearest(keras.layers.Layer):
    """Layer that resamples a map to the grid of another: it takes the nearest feature.

    Parameters
    ----------
    grid : (float, int)
        First center and stride of the result, in pixels.
    own : (float, int)
        First center and stride of the map, in the same pixels.
    """

    def __init__(self, grid: tuple[float, int], own: tuple[float, int], **named: object) -> None:
        super().__init__(**named)
        self.grid = (grid[0], grid[1])
        self.own = (own[0], own[1])

    def call(self, found: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Take from `found` (N, h, w, d) the feature nearest to each position of `like` (N, h', w', …)."""
        return nearest(found, like, self.grid, self.own)

    def compute_output_shape(
        self, found_shape: tuple[int | None, ...], like_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the shape: size of the second map, depth of the first."""
        return (*like_shape[:3], *found_shape[3:])

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "grid": self.grid, "own": self.own}


def nearest(found: tf.Tensor, like: tf.Tensor, grid: tuple[float, int], own: tuple[float, int]) -> tf.Tensor:
    """Resample a map to another grid; see `Nearest`."""
    (first, stride), (own_first, own_stride) = grid, own
    for axis in (1, 2):
        pixels = tf.cast(tf.range(tf.shape(like)[axis]), tf.float32) * stride + first
        number = tf.cast(tf.round((pixels - own_first) / own_stride), tf.int32)
        found = tf.gather(found, tf.clip_by_value(number, 0, tf.shape(found)[axis] - 1), axis=axis)
    return found


@keras.saving.register_keras_serializable("metricad")
class Resize(keras.layers.Layer):
    """Layer that resizes images of any size to squares; see `resized`.

    Parameters
    ----------
    side : int
        Height and width of the result, in pixels.
    """

    def __init__(self, side: int, **named: object) -> None:
        super().__init__(**named)
        self.side = side

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Resize images (N, H, W, C) to (N, side, side, C)."""
        side = tf.constant(self.side)
        return resized(pixels, side, side)

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: one size."""
        return (pixels_shape[0], self.side, self.side, pixels_shape[3])

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "side": self.side}


def resized(pixels: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Resize images or maps (N, H, W, C) to (N, rows, columns, C): bilinear; averages before shrinking."""
    return weighted(pixels, _bilinear(tf.shape(pixels)[1], rows), _bilinear(tf.shape(pixels)[2], columns))


def _bilinear(own: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Compute the weight of each of `own` pixels along an axis in each of `count`: (count, own)."""
    step = tf.cast(own, tf.float32) / tf.cast(count, tf.float32)
    centers = tf.expand_dims((tf.cast(tf.range(count), tf.float32) + 0.5) * step - 0.5, 1)
    reach = tf.maximum(step, 1.0)
    weights = tf.nn.relu(1.0 - tf.abs(centers - tf.cast(tf.range(own), tf.float32)) / reach)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def weighted(found: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Sum maps (N, h, w, d) with weights of rows (h', h) and columns (w', w): (N, h', w', d)."""
    own, depth = tf.shape(found)[2], found.shape[-1]
    flat = tf.reshape(found, tf.stack([-1, tf.shape(found)[1], own * depth]))
    by_row = tf.reshape(tf.matmul(rows, flat), tf.stack([-1, tf.shape(rows)[0], own, depth]))
    return tf.matmul(columns, by_row)
