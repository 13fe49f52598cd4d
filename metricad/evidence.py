"""What lines and borders say beside a network's distance, in one measure: what good images reach at most.

Each family of lines, and a border between textures, raises the distance of a place where it goes about as
far as a good image's farthest, and farther; by more where good images' distances vary more. A border also
speaks for itself, since none of its places need be unusual: it counts as a distance, as many standard
deviations beyond a good image's largest as the border is beyond a good image's strongest.

Near the image's edge all of it is measured against good images' edges, where parts end and light falls off.
And where good images of more contrast have larger distances, an image is judged for its contrast.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Self

import numpy as np
import tensorflow as tf

from metricad import borders, lines
from metricad.borders import ABSENT, DIRECTIONS, Borders
from metricad.lines import FAMILIES, Lines

RATE = 0.05
"""Least share that a distance grows by for each standard deviation of a family of lines."""

FAINTEST = 1e-3
"""Contrast, on the scale of light from -1 to 1, below which its logarithm says nothing."""

_COUNTS = -0.5  # standard deviations from good images' mean maximum from which on lines and borders count
_FALL = 0.5  # of a weaker border's logarithm for each standard deviation: a map is not to be made of these
# Standard deviations that a border's claim comes near to: how far beyond is for the distance to say. Never as
# many, or strong ones would be equal, and equal scores make a threshold too careful.
_MOST = 3.0
_LEAST_OF_LINES = 0.5  # standard deviation of good images' maxima: less is chance
_LEAST_OF_BORDERS = 0.05  # of their logarithms
_LEAST_OF_DISTANCES = 0.02  # of their logarithms
_NEAREST = 1e-6  # of good images' largest distances, where they never vary
# Features from the edge up to which distances, and borders, are levelled by this quantile of good ones': two
# depths, as borders are felt as far as their sides reach.
_EDGE_OF_DISTANCES, _EDGE_OF_BORDERS = 8, 20
_HIGH = 0.99
_ENOUGH = 50  # good places at a depth, for a quantile
_LEAST_OF_CONTRASTS = 0.01  # standard deviation of their logarithms: less is chance
_TYPICAL = 2.0  # standard deviations to which a contrast is held: beyond is not known from good images
_UNRELATED = 10  # images whose distances have nothing to do with their contrast, beside those that are seen
_NEVER = (1e3, 1.0)  # mean and deviation of what no good image has room for: it never counts


class Evidence:
    """Lines and borders beside a distance.

    Learns in two steps: `update` with each good image, then `settle` with some of them.
    """

    def __init__(self) -> None:
        self.lines = Lines()
        self.borders = Borders()
        # By how much good images' edges exceed their interiors: logarithms of distances, and each measure.
        self.edge: np.ndarray | None = None  # float32 (depths, 1 + n)
        self.levels: np.ndarray | None = None  # float32 (families + directions + 1, 2): mean, deviation
        self.exchange: np.ndarray | None = None  # float32 (3,): rate, typical distance and its deviation
        # Mean and deviation of the contrasts' logarithms, and what a deviation adds to that of a distance.
        self.trend: np.ndarray | None = None  # float32 (3,)
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

    def settle(self, looks: Iterable[tuple[np.ndarray, np.ndarray, float, np.ndarray | None]]) -> None:
        """Learn what good images reach at most, and from it what lines and borders are worth.

        Parameters
        ----------
        looks : iterable of (float32 (h', w'), float32 (h', w', n), float, bool (h', w') or None)
            Distances of a good image, the measures there, its `contrast`, and which places lie inside its
            region: None for all. At least one image.
        """
        images = [(*one, np.ones(one[0].shape, bool) if inside is None else inside) for *one, inside in looks]
        self.edge = _edge(images)
        inner = [_inner(self.edge, found, measures, inside) for found, measures, _, inside in images]
        highest = np.array([measures.max(axis=0) for _, measures in inner])
        floors = [_LEAST_OF_LINES] * FAMILIES + [_LEAST_OF_BORDERS] * (highest.shape[1] - FAMILIES)
        levels = [_level(column, floor) for column, floor in zip(highest.T, floors, strict=True)]
        self.levels = np.float32([*levels, (0, 1)])
        strongest = [_border(measures, self.levels).numpy().max() for _, measures in inner]
        self.levels[-1] = _level(np.array(strongest), _LEAST_OF_LINES)
        _, spread = _of_logarithms([distances for distances, _ in inner])
        rate = max(RATE, spread)
        raised = [
            _raised(distances, measures, _beyond(measures, self.levels), self.levels, rate).numpy()
            for distances, measures in inner
        ]
        self.exchange = np.float32([rate, *_of_logarithms(raised)])
        contrasts = np.array([contrast for _, _, contrast, _ in images])
        self.trend = np.float32([contrasts.mean(), max(contrasts.std(), _LEAST_OF_CONTRASTS), 0])
        largest = [self.joined(*one)[inside].max() for *one, inside in images]
        self.trend[2] = _slope(_standard_contrast(contrasts, self.trend).numpy(), _logarithms(largest))

    def joined(self, distances: np.ndarray, measures: np.ndarray, contrast: float) -> np.ndarray:
        """Distances (h', w') with lines and borders in them, by measures (h', w', n) and `contrast`."""
        if self.trend is None:
            raise ValueError("what lines and borders are worth is not settled; give settle() good images")
        learned = self.edge, self.levels, self.exchange, self.trend
        return _joined(distances, measures, np.float32([contrast]), *learned).numpy()

    def arrays(self) -> dict[str, np.ndarray]:
        """What was learned."""
        learned = {**self.lines.arrays(), **self.borders.arrays()}
        settled = {"edge": self.edge, "levels": self.levels, "exchange": self.exchange, "trend": self.trend}
        return {**learned, **settled}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `arrays` gave."""
        self.lines.restore(arrays)
        self.borders.restore(arrays)
        self.edge, self.levels = arrays["edge"], arrays["levels"]
        self.exchange, self.trend = arrays["exchange"], arrays["trend"]
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


def contrast(light: np.ndarray) -> float:
    """Logarithm of how far apart the quartiles of an image's light are, which no small defect changes.

    Parameters
    ----------
    light : float32 (n,) in [-1, 1]
        At the network's features, as the network is shown it.
    """
    high, low = (len(light) - 1 - rank for rank in quartiles(len(light)))
    ordered = np.partition(light, (low, high))
    return float(np.log(max(ordered[high] - ordered[low], FAINTEST)))


def quartiles(count: int | tf.Tensor) -> tuple[int | tf.Tensor, int | tf.Tensor]:
    """Ranks of the upper and the lower quartile among so many values, the largest first."""
    return count // 4, 3 * count // 4


def joined(
    distances: tf.Tensor,
    measures: tf.Tensor,
    contrast: tf.Tensor,
    edge: np.ndarray | tf.Tensor,
    levels: np.ndarray | tf.Tensor,
    exchange: np.ndarray | tf.Tensor,
    trend: np.ndarray | tf.Tensor,
) -> tf.Tensor:
    """See `Evidence.joined`: (N, h', w') of any number of images, contrast (N,)."""
    distances, measures = levelled(distances, measures, edge)
    rate, typical, spread = exchange[0], exchange[1], exchange[2]
    beyond = _beyond(measures, levels)
    above, below = tf.nn.relu(beyond), tf.nn.relu(-beyond)
    claimed = spread * above / (1.0 + above / _MOST) - _FALL * below
    both = tf.maximum(_raised(distances, measures, beyond, levels, rate), tf.exp(typical + claimed))
    expected = trend[2] * _standard_contrast(contrast, trend)
    return both * tf.reshape(tf.exp(-expected), (-1, 1, 1))


def levelled(
    distances: tf.Tensor, measures: tf.Tensor, edge: np.ndarray | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Distances (N, h', w') and measures (N, h', w', n), less what good images' edges have more of them."""
    more = tf.gather(edge, tf.minimum(depth(tf.shape(distances)[1:]), tf.shape(edge)[0] - 1))
    return distances * tf.exp(-more[..., 0]), measures - more[..., 1:]


def depth(shape: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """How many features lie between each of a map of this shape, (h', w'), and the edge: int32 (h', w')."""
    rows, columns = (tf.minimum(tf.range(shape[axis]), tf.range(shape[axis] - 1, -1, -1)) for axis in (0, 1))
    return tf.minimum(tf.expand_dims(rows, 1), columns)


_MAPS = [tf.TensorSpec((None, None), tf.float32), tf.TensorSpec((None, None, None), tf.float32)]
_EDGE, _LEVELS = tf.TensorSpec((None, None), tf.float32), tf.TensorSpec((None, 2), tf.float32)
_THREE = tf.TensorSpec((3,), tf.float32)


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
    input_signature=[*_MAPS, tf.TensorSpec((1,), tf.float32), _EDGE, _LEVELS, _THREE, _THREE], autograph=False
)
def _joined(distances: tf.Tensor, measures: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
    return joined(distances[tf.newaxis], measures[tf.newaxis], *others)[0]


@tf.function(input_signature=[*_MAPS, _EDGE], autograph=False)
def _levelled(distances: tf.Tensor, measures: tf.Tensor, edge: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    distances, measures = levelled(distances[tf.newaxis], measures[tf.newaxis], edge)
    return distances[0], measures[0]


def _raised(
    distances: tf.Tensor,
    measures: tf.Tensor,
    beyond: tf.Tensor,
    levels: np.ndarray | tf.Tensor,
    rate: float | tf.Tensor,
) -> tf.Tensor:
    """Distances raised by lines and by how far the strongest border is beyond good images'."""
    families = [*_standard(measures, levels)[:FAMILIES], beyond]
    return distances * (1.0 + rate * tf.add_n([tf.nn.relu(one - _COUNTS) for one in families]))


def _beyond(measures: tf.Tensor, levels: np.ndarray | tf.Tensor) -> tf.Tensor:
    """The strongest border at each place, in standard deviations of good images' strongest."""
    return (_border(measures, levels) - levels[-1, 0]) / levels[-1, 1]


def _border(measures: tf.Tensor, levels: np.ndarray | tf.Tensor) -> tf.Tensor:
    """The strongest border at each place, each direction in standard deviations of good images' maxima."""
    return reduce(tf.maximum, _standard(measures, levels)[FAMILIES:])


def _standard(measures: tf.Tensor, levels: np.ndarray | tf.Tensor) -> list[tf.Tensor]:
    """Each measure in standard deviations of good images' maxima: `ABSENT` where it is that."""
    # One by one, as what TensorFlow does along a short last axis is slow.
    return [
        tf.where(one > ABSENT / 2, (one - levels[number, 0]) / levels[number, 1], ABSENT)
        for number, one in enumerate(tf.unstack(measures, DIRECTIONS + FAMILIES, axis=-1))
    ]


def _inner(
    edge: np.ndarray, distances: np.ndarray, measures: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Levelled distances (places,) and measures (places, n) of one look, inside its region."""
    distances, measures = _levelled(distances, measures, edge)
    return distances.numpy()[inside], measures.numpy()[inside]


def _edge(images: Sequence[tuple[np.ndarray, np.ndarray, float, np.ndarray]]) -> np.ndarray:
    """See `Evidence.edge`, of looks that `Evidence.settle` is given."""
    depths = np.concatenate([depth(inside.shape).numpy()[inside] for *_, inside in images])
    distances = np.concatenate([found[inside] for found, _, _, inside in images])
    measures = np.concatenate([measures[inside] for _, measures, _, inside in images])
    edge = np.zeros((_EDGE_OF_BORDERS + 1, 1 + measures.shape[1]), np.float32)
    edge[:_EDGE_OF_DISTANCES, 0] = _more(np.log(np.maximum(distances, _NEAREST)), depths, _EDGE_OF_DISTANCES)
    for number in range(FAMILIES, measures.shape[1]):  # what lines say is not levelled: it brought nothing
        edge[:_EDGE_OF_BORDERS, 1 + number] = _more(measures[:, number], depths, _EDGE_OF_BORDERS)
    return edge


def _more(values: np.ndarray, depths: np.ndarray, edge: int) -> np.ndarray:
    """By how much high values (n,) at each depth up to the edge's exceed those farther in: (edge,)."""
    rings = [values[np.minimum(depths, edge) == ring] for ring in range(edge + 1)]
    there = [ring[ring > ABSENT] for ring in rings]
    high = np.array([np.quantile(ring, _HIGH) if len(ring) >= _ENOUGH else np.nan for ring in there])
    return np.nan_to_num(high[:-1] - high[-1], nan=0.0)


def _level(maxima: np.ndarray, least: float) -> tuple[float, float]:
    """Mean and standard deviation of the maxima of good images (n,), where there are any."""
    there = maxima[maxima > ABSENT / 2]
    return (there.mean(), max(there.std(), least)) if len(there) else _NEVER


def _of_logarithms(distances: Iterable[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation of the logarithms of each image's largest distance."""
    logarithms = _logarithms([one.max() for one in distances])
    return logarithms.mean(), max(logarithms.std(), _LEAST_OF_DISTANCES)


def _logarithms(distances: Sequence[float]) -> np.ndarray:
    return np.log(np.maximum(distances, _NEAREST))


def _standard_contrast(contrast: np.ndarray | tf.Tensor, trend: np.ndarray | tf.Tensor) -> tf.Tensor:
    """In standard deviations of good images' contrasts."""
    return tf.clip_by_value((contrast - trend[0]) / trend[1], -_TYPICAL, _TYPICAL)


def _slope(contrasts: np.ndarray, logarithms: np.ndarray) -> float:
    """What a standard deviation of contrast adds to a logarithm, both (images,): ridge regression."""
    return contrasts @ (logarithms - logarithms.mean()) / (contrasts @ contrasts + _UNRELATED)
