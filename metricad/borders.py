"""Borders between textures: where one finish ends and another begins, each of them good surface by itself.

Edges of what textures are told by, not of the light (Martin, Fowlkes and Malik, 2004): the logarithms of how
much the light changes along and across the image, at three of its sizes, compared between the two sides of
a long line. Which of these vary together on good surface, and along which direction, its images say.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
import tensorflow as tf

from metricad.lines import Place

DIRECTIONS = 4
"""That a border is looked for in: along the rows, along the columns, and the diagonals."""

ABSENT = -20.0
"""What is said where there is no room for both sides of a line; less than any strength."""

_SHRUNK = (1, 2, 4)  # by how much the image is, for each pair of the channels
_CHANNELS = 2 * len(_SHRUNK)
_COARSE, _STEP = 4, 8  # pixels between energies, and between what is compared
_FIRST = 3.5  # pixels: the centre of the first of these
_ALONG, _ACROSS = 4.0, 2.0  # standard deviations of what is compared, in steps
_REACH, _ASIDE = 8, 5  # steps to the ends of a line, and to either side of it
_DARKEST = 1e-5  # energy, on the scale of light from -1 to 1, below which its logarithm says nothing
_MIDDLE = 0.5 * float(np.log(_DARKEST))  # taken away, as sums of smaller numbers round less
_SHARE, _LEAST = 1e-3, 1e-4  # of the mean variance, and in all: what keeps a covariance invertible
_TINY = 1e-6  # of a squared strength, so that it has a logarithm


class Borders:
    """How strong a border is at each place, by a Mahalanobis distance between the two sides of a line."""

    def __init__(self) -> None:
        self.whitening: np.ndarray | None = None  # float32 (DIRECTIONS, channels, channels)
        self._count = np.zeros(DIRECTIONS)  # places
        self._scatter = np.zeros((DIRECTIONS, _CHANNELS, _CHANNELS))

    def clear(self) -> None:
        """Forget all that was learned."""
        self.__init__()

    def update(self, light: np.ndarray, inside: np.ndarray) -> None:
        """Take one more good image into account: see `Lines.update`."""
        inside = inside[None, :, :, None].astype(np.float32)
        scatter, count = _moments(light[None, :, :, None], inside)
        self._scatter += scatter.numpy()
        self._count += count.numpy()
        covariance = self._scatter / np.maximum(self._count, 1)[:, None, None]
        variance = np.trace(covariance, axis1=1, axis2=2)[:, None, None] / _CHANNELS
        regular = covariance + (_SHARE * variance + _LEAST) * np.eye(_CHANNELS)
        self.whitening = np.linalg.cholesky(np.linalg.inv(regular)).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """What was learned."""
        return {"whitening": self.whitening}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `arrays` gave."""
        self.whitening = arrays["whitening"]
        return self


def strength(light: tf.Tensor, like: tf.Tensor, whitening: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Logarithm of a border's strength in each direction at each place: float32 (N, h', w', DIRECTIONS).

    Of a line along the rows or columns that runs on beyond the image, what lies within is compared: images
    can be narrow. Where one of a line's sides would lie beyond, and near the ends of slanting ones: `ABSENT`.

    Parameters
    ----------
    light : float32 (N, H, W, 1) in [-1, 1]
    like : float32 (N, h', w')
        The distances, which say how many places there are.
    whitening : float32 (DIRECTIONS, channels, channels)
        Of the differences between both sides on good images.
    """
    grid = tf.expand_dims(like, -1)
    found = []
    for number, (differences, is_there, place) in enumerate(_differences(light)):
        squares = tf.reduce_sum(tf.square(tf.matmul(differences, whitening[number])), axis=-1, keepdims=True)
        placed = place(0.5 * tf.math.log(squares + _TINY), grid)
        found.append(tf.where(place(is_there, grid) > 0, placed, ABSENT))
    return tf.concat(found, axis=-1)


@tf.function(
    input_signature=[
        tf.TensorSpec((1, None, None, 1), tf.float32),
        tf.TensorSpec((1, None, None, 1), tf.float32),
    ],
    autograph=False,
)
def _moments(light: tf.Tensor, inside: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums of products of the differences, (DIRECTIONS, channels, channels), and of how many places."""
    scatter, count = [], []
    for differences, is_there, place in _differences(light):
        weights = place(is_there, inside) * inside
        rows = tf.reshape(place(differences, inside) * weights, (-1, _CHANNELS))
        scatter.append(tf.matmul(rows, rows, transpose_a=True))
        count.append(tf.reduce_sum(weights))
    return tf.stack(scatter), tf.stack(count)


def _differences(light: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor, Place]]:
    """For each direction how much both sides differ, (N, h, w, channels), which of these there are, where."""
    energies = tf.nn.avg_pool2d(_energies(light), _STEP // _COARSE, _STEP // _COARSE, "VALID")
    rows, columns = tf.shape(energies)[1], tf.shape(energies)[2]
    everywhere = tf.ones((1, rows, columns, 1))
    found = []
    for kernel, (above, beside) in zip(_KERNELS, _ROOM, strict=True):
        lines = np.repeat(kernel[:, :, None, None], _CHANNELS, axis=2)
        differences = tf.nn.depthwise_conv2d(energies, lines, (1, 1, 1, 1), "SAME")
        within = tf.nn.conv2d(everywhere, np.square(kernel)[:, :, None, None], 1, "SAME")
        is_there = tf.reshape(_away(rows, above), (1, -1, 1, 1)) * tf.reshape(_away(columns, beside), (-1, 1))
        found.append((differences / tf.sqrt(within), is_there, _PLACE))
    return found


def _away(count: tf.Tensor, steps: int) -> tf.Tensor:
    """1 where a row is that many steps away from either end, else 0: (count,)."""
    rows = tf.range(count)
    return tf.cast((rows >= steps) & (rows < count - steps), tf.float32)


def _energies(light: tf.Tensor) -> tf.Tensor:
    """Logarithm of the mean square of the light's change down and to the right, at each size of the image."""
    rows, columns = (tf.shape(light)[axis] // _COARSE - 1 for axis in (1, 2))
    found, pixels = [], light
    for by in _SHRUNK:
        if by > 1:
            pixels = tf.nn.avg_pool2d(pixels, 2, 2, "VALID")
        for change in (pixels[:, 1:] - pixels[:, :-1], pixels[:, :, 1:] - pixels[:, :, :-1]):
            square = tf.square(change)
            if by < _COARSE:
                square = tf.nn.avg_pool2d(square, _COARSE // by, _COARSE // by, "VALID")
            else:
                square = tf.nn.avg_pool2d(square, 3, 1, "SAME")  # one change alone is mostly chance
            found.append(tf.math.log(square[:, :rows, :columns] + _DARKEST) - _MIDDLE)
    return tf.concat(found, axis=-1)


def _kernel(angle: float) -> np.ndarray:
    """One side of a line less the other, of norm 1 and without a mean: float32 (rows, columns)."""
    y, x = np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1]
    ahead, aside = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    is_near = (abs(ahead) < _REACH + 0.5) & (abs(aside) < _ASIDE + 0.5)
    kernel = np.exp(-0.5 * ((ahead / _ALONG) ** 2 + (aside / _ACROSS) ** 2)) * aside * is_near
    rows, columns = is_near.any(axis=1), is_near.any(axis=0)
    kernel = kernel[rows][:, columns]
    kernel -= kernel.mean()
    return (kernel / np.linalg.norm(kernel)).astype(np.float32)


_KERNELS = [_kernel(number * np.pi / DIRECTIONS) for number in range(DIRECTIONS)]
_ROOM = [(_ASIDE, 0), (_REACH, _REACH), (0, _ASIDE), (_REACH, _REACH)]  # steps to the edges that a line needs
_PLACE = Place(_STEP, (_FIRST, _FIRST))
