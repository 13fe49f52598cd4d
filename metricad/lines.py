"""Long lines and edges: what runs on over many features, each of which alone is inconspicuous.

A bank of elongated first and second derivatives of Gaussians (Leung and Malik, 2001) over the light and over
the texture's energy (filter, rectify, filter: Malik and Perona, 1990), at several sizes of the image. The
network tells how unusual a place is; a faint scratch, a streak of another density or the border of another
finish is told by its length. Nothing is trained: good images say how far each filter goes on them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from metricad.hypercolumn import AtLeast, Nearest

_ANGLES = 8
_ALONG = 4.0  # standard deviation along a line, in pixels of the shrunk image; across it is 1
_RADIUS = 10  # of a kernel, 2.5 of these
_LIGHT, _ENERGY = (1, 2, 4, 8), (2, 4, 8)  # by how much the image is shrunk
_STEP = 4  # pixels between responses, where the shrunk image's own are not wider apart
_HIGH, _LOCAL = 5, 3  # pixels a side: what is taken away as slow, and what energy is an average of
_DARKEST = 1e-5  # energy, on the scale of light from -1 to 1, below which its logarithm says nothing

RATE = 0.05
"""What a distance grows by for each standard deviation that a filter goes farther than on good images."""

_COUNTS = 2.0  # standard deviations above good images' mean maximum from which on: there are many filters
_IMAGES = 10  # as how many images the filters' common spread counts beside each filter's own
_LEAST_SHARE, _LEAST = 0.05, 2e-3  # of the mean maximum, and in all: a spread of less is an accident


class Lines:
    """How much farther than on good images the filters go at each place, as a factor on a distance.

    Each filter is measured by its largest response on each good image, in standard deviations of these: so
    filters along a grain, which go far anywhere, count for little, and filters across it for much.
    """

    def __init__(self) -> None:
        self.centre: np.ndarray | None = None  # float32 (filters,)
        self.spread: np.ndarray | None = None
        self._farthest: list[np.ndarray] | None = []  # None once restored: a bundle does not keep it

    def clear(self) -> None:
        """Forget all that was learned."""
        self.__init__()

    def update(self, light: np.ndarray, inside: np.ndarray | None = None) -> None:
        """Take one more good image into account, float32 (H, W) in [-1, 1], as the network is shown it.

        Where `inside`, bool (h', w'), is given, only features there are learned from.
        """
        if self._farthest is None:
            raise ValueError("restored lines do not know which images made them; fit them afresh")
        places = np.ones((1, 1), bool) if inside is None else inside
        self._farthest.append(_farthest(light[None, :, :, None], places, inside is not None).numpy())
        farthest = np.array(self._farthest)
        self.centre = farthest.mean(axis=0)
        share = np.square(farthest.std(axis=0) / np.maximum(self.centre, _LEAST))
        share = (len(farthest) * share + _IMAGES * share.mean()) / (len(farthest) + _IMAGES)
        spread = self.centre * np.maximum(np.sqrt(share), _LEAST_SHARE)
        self.spread = np.maximum(spread, np.float32(_LEAST)).astype(np.float32)

    def raised(self, distances: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Distances float32 (h', w') of an image float32 (H, W), times the factor at each place."""
        return _raised(distances[None], light[None, :, :, None], self.centre, self.spread).numpy()[0]

    def arrays(self) -> dict[str, np.ndarray]:
        """What was learned."""
        return {"centre": self.centre, "spread": self.spread}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `arrays` gave."""
        self.centre, self.spread = arrays["centre"], arrays["spread"]
        self._farthest = None
        return self


def factor(
    light: tf.Tensor, like: tf.Tensor, centre: np.ndarray | tf.Tensor, spread: np.ndarray | tf.Tensor
) -> tf.Tensor:
    """Factor on distances, 1 or more, at each place: float32 (N, h', w').

    Parameters
    ----------
    light : float32 (N, H, W, 1) in [-1, 1]
    like : float32 (N, h', w')
        The distances, which say how many places there are.
    centre, spread : float32 (filters,)
        Of the largest responses on good images.
    """
    grid = tf.expand_dims(like, -1)
    highest = None
    first = 0
    for responses, nearest in _banks(light):
        filters = slice(first, first := first + responses.shape[-1])
        standard = tf.reduce_max((responses - centre[filters]) / spread[filters], axis=-1, keepdims=True)
        standard = nearest([standard, grid])
        highest = standard if highest is None else tf.maximum(highest, standard)
    return 1.0 + RATE * tf.nn.relu(tf.squeeze(highest, -1) - _COUNTS)


@tf.function(
    input_signature=[
        tf.TensorSpec((None, None, None), tf.float32),
        tf.TensorSpec((None, None, None, 1), tf.float32),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    ],
    autograph=False,
)
def _raised(distances: tf.Tensor, light: tf.Tensor, centre: tf.Tensor, spread: tf.Tensor) -> tf.Tensor:
    return distances * factor(light, distances, centre, spread)


@tf.function(
    input_signature=[
        tf.TensorSpec((1, None, None, 1), tf.float32),
        tf.TensorSpec((None, None), tf.bool),
        tf.TensorSpec((), tf.bool),
    ],
    autograph=False,
)
def _farthest(light: tf.Tensor, inside: tf.Tensor, is_bounded: tf.Tensor) -> tf.Tensor:
    """Largest response of each filter, of those that are the nearest to a place inside: (filters,)."""
    grid = tf.cast(inside, tf.float32)[None, :, :, None]

    def bounded(responses: tf.Tensor, nearest: Nearest) -> tf.Tensor:
        return tf.reduce_max(nearest([responses, grid]) * grid, axis=(0, 1, 2))

    return tf.concat(
        [
            tf.cond(
                is_bounded,
                lambda responses=responses, nearest=nearest: bounded(responses, nearest),
                lambda responses=responses: tf.reduce_max(responses, axis=(0, 1, 2)),
            )
            for responses, nearest in _banks(light)
        ],
        axis=0,
    )


def _banks(light: tf.Tensor) -> Sequence[tuple[tf.Tensor, Callable[[list[tf.Tensor]], tf.Tensor]]]:
    """Responses (N, h, w, 16), 0 or more, of light and energy at each size, and what brings them onto a grid.

    Nothing is made up beyond the image: near its border the outermost responses are taken again.
    """
    shrunk = {1: light}
    for factor_ in _LIGHT[1:]:
        shrunk[factor_] = tf.nn.avg_pool2d(shrunk[factor_ // 2], 2, 2, "VALID")
    banks = [(shrunk[by], by, (by - 1) / 2) for by in _LIGHT]
    # Valid windows of 5 and 3 take three pixels of the larger image off, before two become one.
    banks += [(_energy(shrunk[by // 2]), by, 2 * by - 0.5) for by in _ENERGY]
    return [_responses(pixels, by, first) for pixels, by, first in banks]


def _responses(pixels: tf.Tensor, by: int, first: float) -> tuple[tf.Tensor, Nearest]:
    """Responses to pixels that are `by` of the image's apart, the first of them at `first`."""
    if by >= _STEP:  # else a network's smallest image is large enough
        pixels = AtLeast(2 * _RADIUS + 1)(pixels)
    first += _RADIUS * by
    stride = 2 if by < _STEP else 1
    found = tf.abs(tf.nn.conv2d(pixels, _KERNELS, stride, "VALID"))
    if by * stride < _STEP:
        found = tf.nn.max_pool2d(found, 2, 2, "VALID")
        first += by * stride / 2
        stride *= 2
    return found, Nearest(by * stride, first)


def _energy(pixels: tf.Tensor) -> tf.Tensor:
    """Logarithm of the local energy of what is left when the slow is taken away, half as large."""
    trim = _HIGH // 2
    high = pixels[:, trim:-trim, trim:-trim] - tf.nn.avg_pool2d(pixels, _HIGH, 1, "VALID")
    local = tf.nn.avg_pool2d(tf.square(high), _LOCAL, 1, "VALID")
    return tf.math.log(tf.nn.avg_pool2d(local, 2, 2, "VALID") + _DARKEST)


def _kernels() -> np.ndarray:
    """First and second derivatives across a line, of length 1 and without a mean: (side, side, 1, 16)."""
    y, x = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1]
    kernels = []
    for angle in np.arange(_ANGLES) * np.pi / _ANGLES:
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        bell = np.exp(-0.5 * (along / _ALONG) ** 2 - 0.5 * across**2)
        for derivative in (across, across**2 - 1):
            kernel = bell * derivative
            kernel -= kernel.mean()
            kernels.append(kernel / np.linalg.norm(kernel))
    return np.stack(kernels, axis=-1)[:, :, None].astype(np.float32)


_KERNELS = _kernels()
