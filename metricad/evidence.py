"""What lines and borders say beside a network's distance, in one measure: what good images reach at most.

Each family of lines raises the distance of a place where it goes about as far as a good image's farthest
line, and farther; by more where good images' distances vary more. A border between textures speaks for
itself, since none of its places need be unusual: it counts as a distance, as many standard deviations beyond
a good image's largest as the border is beyond a good image's strongest.
"""

from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np
import tensorflow as tf

from metricad import borders, lines
from metricad.borders import ABSENT, Borders
from metricad.lines import FAMILIES, Lines

RATE = 0.05
"""Least share that a distance grows by for each standard deviation of a family of lines."""

_COUNTS = -0.5  # standard deviations from good images' mean maximum from which on lines count
_MARGIN = 0.05  # that a border must be farther than a distance, by its logarithm, to count instead of it
_FALL = 0.5  # of a weaker border's logarithm for each standard deviation: a map is not to be made of these
# Standard deviations that a border's claim comes near to: how far beyond is for the distance to say. Never as
# many, or strong ones would be equal, and equal scores make a threshold too careful.
_MOST = 3.0
_LEAST_OF_LINES = 0.5  # standard deviation of good images' maxima: less is chance
_LEAST_OF_BORDERS = 0.05  # of their logarithms
_LEAST_OF_DISTANCES = 0.02  # of their logarithms
_NEAREST = 1e-6  # of good images' largest distances, where they never vary
_NEVER = (1e3, 1.0)  # mean and deviation of what no good image has room for: it never counts


class Evidence:
    """Lines and borders beside a distance.

    Learns in two steps: `update` with each good image, then `settle` with some of them.
    """

    def __init__(self) -> None:
        self.lines = Lines()
        self.borders = Borders()
        self.levels: np.ndarray | None = None  # float32 (families + directions + 1, 2): mean, deviation
        self.exchange: np.ndarray | None = None  # float32 (3,): rate, typical distance and its deviation
        self._is_restored = False

    def clear(self) -> None:
        """Forget all that was learned."""
        self.__init__()

    def update(self, light: np.ndarray, inside: np.ndarray) -> None:
        """Take one more good image into account: see `Lines.update`."""
        if self._is_restored:  # a bundle does not keep of how many images it is
            raise ValueError("restored evidence does not know how many images made it; fit it afresh")
        self.lines.update(light, inside)
        self.borders.update(light, inside)

    def measures(self, light: np.ndarray, like: np.ndarray) -> np.ndarray:
        """What lines and borders say of an image: float32 (h', w', n).

        Parameters
        ----------
        light : float32 (H, W) in [-1, 1]
            As the network is shown it.
        like : float32 (h', w')
            Its distances, which say how many places there are.
        """
        learned = self.lines.centre, self.lines.spread, self.borders.whitening
        return _measures(light[None, :, :, None], like[None], *learned).numpy()[0]

    def settle(self, looks: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        """Learn what good images reach at most, and from it what lines and borders are worth.

        Parameters
        ----------
        looks : iterable of (float32 (n,), float32 (n, measures))
            Distances of a good image's places, and the measures there; at least one image.
        """
        images = list(looks)
        highest = np.array([measures.max(axis=0) for _, measures in images])
        floors = [_LEAST_OF_LINES] * FAMILIES + [_LEAST_OF_BORDERS] * (highest.shape[1] - FAMILIES)
        levels = [_level(column, floor) for column, floor in zip(highest.T, floors, strict=True)]
        self.levels = np.float32([*levels, (0, 1)])
        strongest = [_border(measures, self.levels).numpy().max() for _, measures in images]
        self.levels[-1] = _level(np.array(strongest), _LEAST_OF_LINES)
        _, spread = _of_logarithms([distances for distances, _ in images])
        rate = max(RATE, spread)
        raised = [distances * _raised(measures, self.levels, rate).numpy() for distances, measures in images]
        self.exchange = np.float32([rate, *_of_logarithms(raised)])

    def joined(self, distances: np.ndarray, measures: np.ndarray) -> np.ndarray:
        """Distances (h', w') with lines and borders in them, by measures (h', w', n)."""
        if self.exchange is None:
            raise ValueError("what lines and borders are worth is not settled; give settle() good images")
        return _joined(distances, measures, self.levels, self.exchange).numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """What was learned."""
        learned = {**self.lines.arrays(), **self.borders.arrays()}
        return {**learned, "levels": self.levels, "exchange": self.exchange}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `arrays` gave."""
        self.lines.restore(arrays)
        self.borders.restore(arrays)
        self.levels, self.exchange = arrays["levels"], arrays["exchange"]
        self._is_restored = True
        return self


def measures(
    light: tf.Tensor,
    like: tf.Tensor,
    centre: np.ndarray | tf.Tensor,
    spread: np.ndarray | tf.Tensor,
    whitening: np.ndarray | tf.Tensor,
) -> tf.Tensor:
    """See `Evidence.measures`: (N, h', w', n) of images (N, H, W, 1)."""
    return tf.concat(
        [lines.standard(light, like, centre, spread), borders.strength(light, like, whitening)], -1
    )


def joined(
    distances: tf.Tensor,
    measures: tf.Tensor,
    levels: np.ndarray | tf.Tensor,
    exchange: np.ndarray | tf.Tensor,
) -> tf.Tensor:
    """See `Evidence.joined`: (N, h', w') of any number of images."""
    rate, typical, spread = exchange[0], exchange[1], exchange[2]
    beyond = (_border(measures, levels) - levels[-1, 0]) / levels[-1, 1]
    above, below = tf.nn.relu(beyond), tf.nn.relu(-beyond)
    claimed = spread * above / (1.0 + above / _MOST) - _FALL * below - _MARGIN
    return tf.maximum(distances * _raised(measures, levels, rate), tf.exp(typical + claimed))


@tf.function(
    input_signature=[
        tf.TensorSpec((1, None, None, 1), tf.float32),
        tf.TensorSpec((1, None, None), tf.float32),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((None, None, None), tf.float32),
    ],
    autograph=False,
)
def _measures(light: tf.Tensor, like: tf.Tensor, *learned: tf.Tensor) -> tf.Tensor:
    return measures(light, like, *learned)


@tf.function(
    input_signature=[
        tf.TensorSpec((None, None), tf.float32),
        tf.TensorSpec((None, None, None), tf.float32),
        tf.TensorSpec((None, 2), tf.float32),
        tf.TensorSpec((3,), tf.float32),
    ],
    autograph=False,
)
def _joined(distances: tf.Tensor, measures: tf.Tensor, levels: tf.Tensor, exchange: tf.Tensor) -> tf.Tensor:
    return joined(distances, measures, levels, exchange)


def _raised(measures: tf.Tensor, levels: np.ndarray | tf.Tensor, rate: float | tf.Tensor) -> tf.Tensor:
    """What lines multiply a distance by, 1 or more."""
    beyond = (measures[..., :FAMILIES] - levels[:FAMILIES, 0]) / levels[:FAMILIES, 1]
    return 1.0 + rate * tf.reduce_sum(tf.nn.relu(beyond - _COUNTS), axis=-1)


def _border(measures: tf.Tensor, levels: np.ndarray | tf.Tensor) -> tf.Tensor:
    """The strongest border at each place, each direction in standard deviations of good images' maxima."""
    strengths = measures[..., FAMILIES:]
    beyond = (strengths - levels[FAMILIES:-1, 0]) / levels[FAMILIES:-1, 1]
    return tf.reduce_max(tf.where(strengths > ABSENT / 2, beyond, ABSENT), axis=-1)


def _level(maxima: np.ndarray, least: float) -> tuple[float, float]:
    """Mean and standard deviation of the maxima of good images (n,), where there are any."""
    there = maxima[maxima > ABSENT / 2]
    return (there.mean(), max(there.std(), least)) if len(there) else _NEVER


def _of_logarithms(distances: Iterable[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation of the logarithms of each image's largest distance."""
    logarithms = np.log(np.maximum([one.max() for one in distances], _NEAREST))
    return logarithms.mean(), max(logarithms.std(), _LEAST_OF_DISTANCES)
