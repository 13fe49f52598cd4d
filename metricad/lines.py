"""Long lines and edges: what runs on over many features, each of which alone is inconspicuous.

A bank of elongated derivatives of Gaussians (as in Leung and Malik, 2001) over the light and over the
texture's energy (filter, rectify, filter: Malik and Perona, 1990), at several sizes of the image. The
network tells how unusual a place is; a faint scratch or a streak of another density is told by its length.
Nothing is trained: good images say how far each filter goes on them.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from metricad.networks.hypercolumn import GRID, AtLeast

FAMILIES = 3
"""Of filters: short ones on the light, long ones on the light, long ones on the energy."""

_RADIUS = 10  # of a kernel
_LIGHT, _ENERGY = (1, 2, 4, 8), (2, 4, 8)  # by how much the image is shrunk
_STEP = 4  # pixels between responses, where the shrunk image's own are not wider apart
_HIGH, _LOCAL = 5, 3  # pixels a side: what is taken away as slow, and what energy is an average of
_DARKEST = 1e-5  # energy, on the scale of light from -1 to 1, below which its logarithm says nothing

_IMAGES = 10  # as how many images the filters' common spread counts beside each filter's own
_LEAST_SHARE, _LEAST = 0.05, 2e-3  # of the mean maximum, and in all: a spread of less is an accident


class Lines:
    """How much farther than on good images the filters of each family go at each place.

    Each filter is measured by its largest response on each good image, in standard deviations of these: so
    filters along a grain, which go far anywhere, count for little, and filters across it for much.
    """

    def __init__(self) -> None:
        self.centre: np.ndarray | None = None  # float32 (filters,)
        self.spread: np.ndarray | None = None
        self._count = 0
        self._sums = np.zeros((2, 1))  # of the largest responses of each image, and of their squares

    def clear(self) -> None:
        """Forget all that was learned."""
        self.__init__()

    def update(self, light: np.ndarray, inside: np.ndarray) -> None:
        """Take one more good image into account.

        Parameters
        ----------
        light : float32 (H, W) in [-1, 1]
            As the network is shown it.
        inside : bool (h', w')
            The network's features; only what lies at those that are True is learned from.
        """
        inside = inside[None, :, :, None].astype(np.float32)
        farthest = _farthest(light[None, :, :, None], inside).numpy().astype(float)
        self._count += 1
        self._sums = self._sums + np.stack([farthest, np.square(farthest)])
        mean, square = self._sums / self._count
        share = (square - mean**2).clip(min=0) / np.maximum(mean, _LEAST) ** 2
        share = (self._count * share + _IMAGES * share.mean()) / (self._count + _IMAGES)
        spread = mean * np.maximum(np.sqrt(share), _LEAST_SHARE)
        self.centre, self.spread = np.float32(mean), np.float32(np.maximum(spread, _LEAST))

    def arrays(self) -> dict[str, np.ndarray]:
        """What was learned."""
        return {"centre": self.centre, "spread": self.spread}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `arrays` gave."""
        self.centre, self.spread = arrays["centre"], arrays["spread"]
        return self


def standard(
    light: tf.Tensor, like: tf.Tensor, centre: np.ndarray | tf.Tensor, spread: np.ndarray | tf.Tensor
) -> tf.Tensor:
    """The largest standard score of each family's filters at each place: float32 (N, h', w', FAMILIES).

    Parameters
    ----------
    light : float32 (N, H, W, 1) in [-1, 1]
    like : float32 (N, h', w')
        The distances, which say how many places there are.
    centre, spread : float32 (filters,)
        Of the largest responses on good images.
    """
    grid = tf.expand_dims(like, -1)
    first, highest = 0, []
    for responses, place in _banks(light):
        filters = slice(first, first := first + responses.shape[-1])
        scores = (responses - centre[filters]) / spread[filters]
        highest.append(place(tf.reduce_max(scores, axis=-1, keepdims=True), grid))
    longs = len(_LIGHT)
    families = highest[:1], highest[1:longs], highest[longs:]
    return tf.concat([tf.reduce_max(tf.concat(one, -1), axis=-1, keepdims=True) for one in families], axis=-1)


@tf.function(
    input_signature=[
        tf.TensorSpec((1, None, None, 1), tf.float32),
        tf.TensorSpec((1, None, None, 1), tf.float32),
    ],
    autograph=False,
)
def _farthest(light: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """Largest response of each filter at the places that are 1 and not 0: (filters,)."""
    placed = [place(responses, inside) * inside for responses, place in _banks(light)]
    return tf.reduce_max(tf.concat(placed, axis=-1), axis=(0, 1, 2))


def _banks(light: tf.Tensor) -> Sequence[tuple[tf.Tensor, "Place"]]:
    """Responses (N, h, w, filters), 0 or more, of light and energy at each size, and where they lie."""
    shrunk = {1: light}
    for by in _LIGHT[1:]:
        shrunk[by] = tf.nn.avg_pool2d(shrunk[by // 2], 2, 2, "VALID")
    banks = [(shrunk[by], _SHORT if by == 1 else _LONG, by, (by - 1) / 2) for by in _LIGHT]
    # Valid windows of 5 and 3 take three pixels of the larger image off, before two become one.
    banks += [(_energy(shrunk[by // 2]), _LONG_AND_EDGES, by, 2 * by - 0.5) for by in _ENERGY]
    return [_responses(*bank) for bank in banks]


def _responses(pixels: tf.Tensor, kernels: np.ndarray, by: int, first: float) -> tuple[tf.Tensor, "Place"]:
    """Responses to pixels that are `by` of the image's apart, the first of them at `first`."""
    if by >= _STEP:  # else a network's smallest image is large enough
        pixels = AtLeast(2 * _RADIUS + 1)(pixels)
    first += _RADIUS * by
    stride = 2 if by < _STEP else 1
    found = tf.abs(tf.nn.conv2d(pixels, kernels, stride, "VALID"))
    if by * stride < _STEP:
        found = tf.nn.max_pool2d(found, 2, 2, "VALID")
        first += by * stride / 2
        stride *= 2
    return found, Place(by * stride, (first, first))


class Place:
    """Bring responses onto the grid of a network's features: the nearest one for each.

    Near the image's border, where a filter would reach beyond, there is none: 0.

    Parameters
    ----------
    step : int
        Pixels between the responses.
    firsts : (float, float)
        Centre of the first one, row and column, in pixels.
    """

    def __init__(self, step: int, firsts: Sequence[float]) -> None:
        self.step = step
        self.firsts = firsts

    def __call__(self, responses: tf.Tensor, grid: tf.Tensor) -> tf.Tensor:
        """Responses (N, h, w, n) at the places of a grid (N, h', w', 1): (N, h', w', n)."""
        for axis, first in zip((1, 2), self.firsts, strict=True):
            last = tf.shape(responses)[axis] - 1
            pixels = tf.cast(tf.range(tf.shape(grid)[axis]), tf.float32) * GRID.stride + GRID.first
            nearest = tf.cast(tf.round((pixels - first) / self.step), tf.int32)
            is_there = tf.cast((nearest >= 0) & (nearest <= last), tf.float32)
            responses = tf.gather(responses, tf.clip_by_value(nearest, 0, last), axis=axis)
            responses *= tf.reshape(is_there, (-1, *[1] * (3 - axis)))
        return responses


def _energy(pixels: tf.Tensor) -> tf.Tensor:
    """Logarithm of the local energy of what is left when the slow is taken away, half as large."""
    trim = _HIGH // 2
    high = pixels[:, trim:-trim, trim:-trim] - tf.nn.avg_pool2d(pixels, _HIGH, 1, "VALID")
    local = tf.nn.avg_pool2d(tf.square(high), _LOCAL, 1, "VALID")
    return tf.math.log(tf.nn.avg_pool2d(local, 2, 2, "VALID") + _DARKEST)


def _kernels(directions: int, *, derivative: int, along: float, across: float = 1.0) -> np.ndarray:
    """First or second derivatives across a line, of norm 1 and without a mean: float32 (side, side, 1, n).

    Standard deviations along and across it are in pixels of the shrunk image; what is longer than a kernel
    is cut off.
    """
    y, x = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1]
    kernels = []
    for angle in np.arange(directions) * np.pi / directions:
        ahead = (x * np.cos(angle) + y * np.sin(angle)) / along
        aside = (y * np.cos(angle) - x * np.sin(angle)) / across
        kernel = np.exp(-0.5 * (ahead**2 + aside**2)) * (aside if derivative == 1 else aside**2 - 1)
        kernel -= kernel.mean()
        kernels.append(kernel / np.linalg.norm(kernel))
    return np.stack(kernels, axis=-1)[:, :, None].astype(np.float32)


_SHORT = _kernels(8, derivative=2, along=4)  # at the full size, where defects are specks as well
_LONG = _kernels(16, derivative=2, along=6)
# Wide, since energy is: one texture ends there and another begins.
_LONG_AND_EDGES = np.concatenate([_LONG, _kernels(16, derivative=1, along=12, across=2)], axis=-1)
