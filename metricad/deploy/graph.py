"""An inspector as one TensorFlow function, from raw pixels to verdict: what is exported.

Says in TensorFlow what `tone`, the prototypes, `head` and `maps` say in NumPy. Exporting compares both on
images, and the tests compare them for every kind of prototype.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from metricad import evidence, mahalanobis
from metricad.networks import factory as architectures
from metricad.scoring import maps
from metricad.deploy.description import INPUT_TYPES
from metricad.inspection.detector import TripletDetector
from metricad.errors import DataError
from metricad.head import FLOOR, MOST, HeadPrototype
from metricad.inspection.inspector import Inspector
from metricad.kinds import AutoPrototype
from metricad.mahalanobis import Nearest, on_one_grid
from metricad.neighbourhood import RADIUS, WIDTH
from metricad.positional import TILE, PositionalPrototype
from metricad.prototype import GaussianPrototype, MeanPrototype, Prototype
from metricad.preprocessing.regions import MaskRegion
from metricad.deploy.runtimes import PIXELS
from metricad.networks.grid import FeatureGrid
from metricad.preprocessing.intensity import DARK, LOGARITHMIC, Tone

OUTPUTS = ("score", "is_defect", "peak", "distance_map", "anomaly_map")
"""Names of the outputs, in their order."""

Distance = Joined = Callable[[list[tf.Tensor]], tf.Tensor]


def build(inspector: Inspector, *, input_type: str = "float32") -> tf.Module:
    """Turn an inspector into a module with one function, `inspect`, of one signature.

    Parameters
    ----------
    inspector : Inspector
        Fitted, or as `bundle.load` gives it.
    input_type : {"float32", "uint8"}
        What pixels are given as.

    Returns
    -------
    tf.Module
        Its `inspect` is a tf.function of `pixels`, (N, H, W): gray levels from 0 to 255, with fractions
        where they are float32. All weights are constants in it.
        Gives a dictionary: `score` float32 (N,), `is_defect` bool (N,), `peak` int32 (N, 2), row and column,
        `distance_map` float32 (N, h', w') and `anomaly_map` float32 (N, H, W). H and W are free but for a
        part that is always seen in register.

    Raises
    ------
    DataError
        The inspector finds its region anew in every image, which no graph says.
    """
    if input_type not in INPUT_TYPES:
        raise ValueError(f"input type must be one of {', '.join(INPUT_TYPES)}, received {input_type!r}")
    detector = inspector.detector
    mask = _mask(detector)
    prototype = _chosen(detector.prototype)
    network, nearest = _by_parts(detector.model, prototype)
    distance = _distance(prototype, nearest)
    sampling = detector.grid

    def inspect(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        light = _tone(detector.tone, _light(pixels))
        distances = distance(network(light))
        measures = None
        if detector.evidence is not None:
            beside = detector.evidence
            learned = beside.lines.centre, beside.lines.spread, beside.borders.whitening
            measures = evidence.measures(light, distances, *learned)
        if mask is not None:
            inside = maps.at_features(tf.constant(mask), sampling, tf.shape(distances)[1:])
            distances = tf.where(inside, distances, 0.0)
        else:
            inside = tf.ones(tf.shape(distances)[1:], tf.bool)
        if detector.gathers:
            distances = _gathered(distances, tf.cast(inside, tf.float32))
        if measures is not None:
            contrast = _contrast(light, inside, sampling)
            settled = beside.edge, beside.levels, beside.exchange, beside.trend
            distances = tf.where(inside, evidence.joined(distances, measures, contrast, *settled), 0.0)
        placed = _place(distances, tf.shape(pixels)[1:], sampling)
        score = _score(distances, detector.reduction)
        return {
            "score": score,
            "is_defect": score > np.float32(inspector.threshold),
            "peak": _peak(distances, sampling),
            "distance_map": distances,
            "anomaly_map": placed if mask is None else tf.where(tf.constant(mask), placed, 0.0),
        }

    return frozen(inspect, OUTPUTS, size=(None, None) if mask is None else mask.shape, input_type=input_type)


def frozen(
    function: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    outputs: Sequence[str],
    *,
    size: tuple[int | None, int | None] = (None, None),
    input_type: str = "float32",
) -> tf.Module:
    """Make a function of pixels (N, H, W) a module that can be exported: its weights become constants.

    Parameters
    ----------
    function : function
        Gives a dictionary.
    outputs : sequence of str
        The keys of the dictionary, in the order that they shall have in a file.
    size : (int or None, int or None)
        H and W, where they are not free.
    input_type : {"float32", "uint8"}

    Returns
    -------
    tf.Module
        With the function as `inspect`, and `outputs`.
    """
    signature = [tf.TensorSpec((None, *size), input_type, PIXELS)]
    traced = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
    constant = convert_variables_to_constants_v2(traced)
    names = sorted(outputs)  # the order of a dictionary's outputs in a graph
    module = tf.Module()
    module.outputs = tuple(outputs)
    module.inspect = tf.function(
        lambda pixels: dict(zip(names, constant(pixels), strict=True)),
        input_signature=signature,
        autograph=False,
    )
    return module


def sizes(detector: TripletDetector) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Least and largest height, least and largest width, in pixels, of images that suit a part.

    None where any size will do; a part that is always seen in register has one, give or take what does not
    change the number of its features.
    """
    if isinstance(detector.region, MaskRegion):
        height, width = detector.region.mask.shape
        return (height, height), (width, width)
    prototype = _base(_chosen(detector.prototype))
    if not prototype.needs_positions:
        return None
    return tuple(
        _sides(detector, axis, count) for axis, count in enumerate(prototype.mean.shape[:2], start=1)
    )


def _sides(detector: TripletDetector, axis: int, count: int) -> tuple[int, int]:
    """Least and largest side, in pixels, of images that have so many features along an axis."""
    sampling = detector.grid
    tried = range(sampling.smallest, sampling.smallest + sampling.stride * (count + 1))
    suited = [
        side for side in tried if detector.model.compute_output_shape((1, side, side, 1))[axis] == count
    ]
    return min(suited), max(suited)


def _chosen(prototype: Prototype) -> Prototype:
    return prototype.chosen if isinstance(prototype, AutoPrototype) else prototype


def _base(prototype: Prototype) -> Prototype:
    return prototype.base if isinstance(prototype, HeadPrototype) else prototype


def _by_parts(
    model: keras.Model, prototype: Prototype
) -> tuple[Callable[[tf.Tensor], list[tf.Tensor]], Sequence[Nearest]]:
    """As `architectures.by_scale`, in the parts that a prototype takes features to be made of."""
    network, nearest = architectures.by_scale(model)
    count = len(getattr(_base(prototype), "scales", (1.0,)))
    if count == len(nearest) + 1:
        return network, nearest
    on_one_grid = [lambda both: both[0]] * (count - 1)
    return lambda light: tf.split(_joined(network(light), nearest), count, axis=-1), on_one_grid


def _mask(detector: TripletDetector) -> np.ndarray | None:
    if detector.region is None or isinstance(detector.region, MaskRegion):
        return None if detector.region is None else detector.region.mask
    raise DataError(
        f"a region of kind {detector.region.kind!r} is found anew in every image and cannot be exported; "
        "expected the whole image or a mask: make the inspector again with --mask, or without --foreground"
    )


def _light(pixels: tf.Tensor) -> tf.Tensor:
    """Levels (N, H, W) to luminance (N, H, W, 1) in [-1, 1]."""
    return tf.expand_dims(tf.cast(pixels, tf.float32), -1) * np.float32(2 / 255) - 1.0


def _tone(tone: Tone | None, light: tf.Tensor) -> tf.Tensor:
    if tone is None or tone.curve != LOGARITHMIC:
        return light
    low, high = np.log([DARK, 1 + DARK]).astype(np.float32)
    return (tf.math.log((light + 1.0) * 0.5 + DARK) - low) * (2 / (high - low)) - 1.0


def _distance(prototype: Prototype, nearest: Sequence[Nearest]) -> Distance:
    """Features of each scale, (N, h, w, d), to distances (N, h', w') on the grid of the first."""
    if isinstance(prototype, HeadPrototype):
        return _head(prototype, nearest)
    if isinstance(prototype, MeanPrototype):
        return _mean(prototype, nearest)
    if isinstance(prototype, PositionalPrototype):
        whitened = _in_tiles(prototype, nearest)
        return lambda scales: tf.norm(whitened(scales), axis=-1)
    return _gaussian(prototype, nearest)


def _mean(prototype: MeanPrototype, nearest: Sequence[Nearest]) -> Distance:
    mean = prototype.mean.astype(np.float32)
    order = 1 if prototype.metric == "manhattan" else 2
    return lambda scales: tf.norm(_joined(scales, nearest) - mean, ord=order, axis=-1)


def _gaussian(prototype: GaussianPrototype, nearest: Sequence[Nearest]) -> Distance:
    means, matrices = prototype.affine

    def distance(scales: list[tf.Tensor]) -> tf.Tensor:
        length = mahalanobis.distances(scales, nearest, means, matrices)
        return length / _spread(prototype, tf.shape(length)) if prototype.border else length

    return distance


def _joined(scales: list[tf.Tensor], nearest: Sequence[Nearest]) -> tf.Tensor:
    """Features of all scales as the network joins them: (N, h', w', d)."""
    return tf.concat(on_one_grid(scales, nearest), axis=-1)


def _spread(prototype: GaussianPrototype, shape: tf.Tensor) -> tf.Tensor:
    """Of each feature of maps of this shape, (N, h', w')."""
    return tf.gather(prototype.spread, tf.minimum(evidence.depth(shape[1:]), prototype.border))


def _in_tiles(prototype: PositionalPrototype, nearest: Sequence[Nearest]) -> Joined:
    mean, matrices = prototype.mean.astype(np.float32), prototype.whitening
    height, width, dimensions = mean.shape
    rows, columns, count, size, _ = matrices.shape
    tiles = rows * columns
    matrices = matrices.reshape(tiles * count, size, size)
    beyond = [(0, 0), (0, rows * TILE - height), (0, columns * TILE - width), (0, 0)]

    def whitened(scales: list[tf.Tensor]) -> tf.Tensor:
        padded = tf.pad(_joined(scales, nearest) - mean, beyond)
        # One pair of axes after the other: LiteRT knows no tensors of seven axes.
        cut = tf.reshape(padded, (-1, TILE, columns, TILE, dimensions))
        cut = tf.reshape(tf.transpose(cut, (0, 2, 1, 3, 4)), (-1, tiles, TILE**2, count, size))
        cut = tf.reshape(tf.transpose(cut, (0, 1, 3, 2, 4)), (-1, tiles * count, TILE**2, size))
        white = tf.reshape(tf.matmul(cut, matrices), (-1, tiles, count, TILE**2, size))
        white = tf.reshape(tf.transpose(white, (0, 1, 3, 2, 4)), (-1, columns, TILE, TILE, dimensions))
        white = tf.transpose(white, (0, 2, 1, 3, 4))
        white = tf.reshape(white, (-1, rows * TILE, columns * TILE, dimensions))
        return white[:, :height, :width]

    return whitened


def _whitened(prototype: GaussianPrototype | PositionalPrototype, nearest: Sequence[Nearest]) -> Joined:
    """As the prototype's own `whitened`."""
    if isinstance(prototype, PositionalPrototype):
        return _in_tiles(prototype, nearest)
    means, matrices = prototype.affine

    def whitened(scales: list[tf.Tensor]) -> tf.Tensor:
        white = _joined(mahalanobis.whitened(scales, means, matrices), nearest)
        return white / tf.expand_dims(_spread(prototype, tf.shape(white)), -1) if prototype.border else white

    return whitened


def _head(prototype: HeadPrototype, nearest: Sequence[Nearest]) -> Distance:
    whitened = _whitened(prototype.base, nearest)
    first, first_bias, second, second_bias = prototype.layers
    typical, rate = prototype.exchange.astype(np.float32)

    def distance(scales: list[tf.Tensor]) -> tf.Tensor:
        white = whitened(scales)
        square = tf.square(white)
        compressed = tf.sign(white) * tf.math.log(1.0 + tf.abs(white))  # ONNX knows no log1p
        size = tf.math.log(tf.reduce_mean(square, axis=-1, keepdims=True) + FLOOR)
        hidden = tf.nn.relu(tf.matmul(tf.concat([compressed, size], axis=-1), first) + first_bias)
        logit = tf.squeeze(tf.matmul(hidden, second) + second_bias, -1)
        length = tf.sqrt(tf.reduce_sum(square, axis=-1))
        return length * tf.exp(tf.minimum(rate * (logit - typical), MOST))

    return distance


def _gathered(distances: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """As `neighbourhood.gathered`, of each map (N, h', w')."""
    reach = np.arange(-RADIUS, RADIUS + 1)
    kernel = np.exp(-0.5 * (reach / WIDTH) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)

    def blurred(values: tf.Tensor) -> tf.Tensor:
        down = tf.nn.conv2d(tf.expand_dims(values, -1), kernel[:, None, None, None], 1, "SAME")
        return tf.squeeze(tf.nn.conv2d(down, kernel[None, :, None, None], 1, "SAME"), -1)

    weights = tf.broadcast_to(weights, tf.shape(distances))
    squares = blurred(tf.square(distances) * weights) / tf.maximum(blurred(weights), 1e-6)
    return tf.sqrt(distances * tf.sqrt(squares))


def _contrast(light: tf.Tensor, inside: tf.Tensor, sampling: FeatureGrid) -> tf.Tensor:
    """As `evidence.contrast`, of light (N, H, W, 1) at the features that are inside: (N,)."""
    first, stride, shape = maps.middle(sampling), sampling.stride, tf.shape(inside)
    seen = light[:, first::stride, first::stride, 0][:, : shape[0], : shape[1]]
    flat = tf.reshape(tf.where(inside, seen, -2.0), (tf.shape(seen)[0], -1))  # what is outside comes last
    ordered = tf.math.top_k(flat, tf.shape(flat)[1]).values
    ranks = evidence.quartiles(tf.reduce_sum(tf.cast(inside, tf.int32)))
    high, low = (tf.gather(ordered, rank, axis=1) for rank in ranks)
    return tf.math.log(tf.maximum(high - low, evidence.FAINTEST))


def _score(distances: tf.Tensor, reduction: str) -> tf.Tensor:
    """As `maps.image_score`, of each map: (N,)."""
    flat = tf.reshape(distances, (tf.shape(distances)[0], -1))
    among = maps.REDUCTIONS[reduction]
    if among is None:
        return tf.reduce_max(flat, axis=1)
    count, rest = tf.shape(flat)[1] // among, tf.shape(flat)[1] % among
    count = tf.maximum(1, count + tf.cast(2 * rest + count % 2 > among, tf.int32))
    return tf.reduce_mean(tf.math.top_k(flat, count, sorted=False).values, axis=1)


def _peak(distances: tf.Tensor, sampling: FeatureGrid) -> tf.Tensor:
    """As `maps.peak`, of each map: (N, 2)."""
    columns = tf.shape(distances)[2]
    flat = tf.reshape(distances, (tf.shape(distances)[0], -1))
    farthest = tf.argmax(flat, axis=1, output_type=tf.int32)
    position = tf.stack([farthest // columns, farthest % columns], axis=1)
    return position * sampling.stride + maps.middle(sampling)


def _place(distances: tf.Tensor, shape: tf.Tensor, sampling: FeatureGrid) -> tf.Tensor:
    """As `maps.place`, each map: (N, H, W)."""
    for axis in (1, 2):
        last = tf.shape(distances)[axis] - 1
        pixels = tf.cast(tf.range(shape[axis - 1]), tf.float32)
        position = tf.clip_by_value(
            (pixels - sampling.first) / sampling.stride, 0.0, tf.cast(last, tf.float32)
        )
        below = tf.cast(position, tf.int32)
        weight = tf.reshape(position - tf.cast(below, tf.float32), (-1, *[1] * (2 - axis)))
        above = tf.gather(distances, tf.minimum(below + 1, last), axis=axis)
        distances = tf.gather(distances, below, axis=axis) * (1.0 - weight) + above * weight
    return distances
