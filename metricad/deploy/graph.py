"""Build an inspector as one Keras model for export, from pixels to verdict.

The layers are those of the inspector. Added are only the scaling of the pixels, the threshold, and the
anomaly map on pixels.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from metricad.deploy import InputType
from metricad.deploy.runtimes import PIXELS
from metricad.errors import DataError
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector
from metricad.inspection.method_detector import Fitted, MethodDetector
from metricad.preprocessing.regions import MaskRegion
from metricad.scoring import anomaly_maps
from metricad.scoring.score import OnPixels

OUTPUTS = ("score", "is_defect", "peak", "source", "distance_map", "anomaly_map")
"""Names of the outputs; ``distance_map`` is the anomaly map on the feature grid."""


def build(inspector: Inspector[Fitted], *, input_type: str = "float32") -> keras.Model:
    """Build one Keras model from an inspector.

    Parameters
    ----------
    inspector : Inspector
        A fitted or loaded inspector.
    input_type : {"float32", "uint8"}
        Data type of the pixels.

    Returns
    -------
    keras.Model
        Takes `pixels`, (N, H, W), or (N, H, W, 3) for color: levels from 0 to 255, which may have fractions
        if float32. Returns a dictionary: `score` float32 (N,), `is_defect` bool (N,), `peak` int32 (N, 2),
        row and column, `source` int32 (N,), number of the feature map that contributes most, `distance_map`
        float32 (N, h', w') and `anomaly_map` float32 (N, H, W). H and W may vary, unless the part has a mask
        or a positional density.

    Raises
    ------
    DataError
        The region of interest is found anew in every image, which a graph cannot do; or a published method
        cannot be exported.
    """
    if input_type not in list(InputType):
        raise ValueError(f"input type must be one of {', '.join(InputType)}, received {input_type!r}")
    detector = inspector.detector
    if isinstance(detector, MethodDetector):
        return _of_method(detector, inspector.threshold, input_type)
    size = (None, None)
    mask = _mask(detector)
    if mask is not None:
        size = mask.shape
    elif detector.needs_positions:
        size = tuple(detector.settings["shape"])
    color = (3,) if detector.channels == 3 else ()
    pixels = keras.Input((*size, *color), name=PIXELS, dtype=input_type)
    image = FromLevels(name="from_levels")(pixels)
    distances = detector.to_maps(image)
    inside, place = None, (detector.grid.first, detector.grid.stride)
    if mask is not None:
        shape = detector.distances(np.zeros((*mask.shape, *color), np.float32)).shape[:2]
        inside = anomaly_maps.at_features(mask, place, shape)
    found = detector.to_verdict([distances, Inside(inside, name="inside")(distances)])
    placed = OnPixels(place, name="on_pixels")(found["anomaly"], image)
    outputs = Verdict(
        inspector.threshold, (detector.grid.stride, detector.grid.middle), mask, name="verdict"
    )(found["score"], found["place"], found["source"], found["anomaly"], placed, image)
    return keras.Model(pixels, outputs, name="inspector")


def _of_method(detector: MethodDetector, threshold: float, input_type: str) -> keras.Model:
    """Build the model of a published method, for images of one size."""
    if not hasattr(detector.method, "to_graph"):
        raise DataError(
            f"the method {detector.choice.name} cannot be exported, only autoencoder, denoising and "
            "patch-gaussian; use the bundle itself with inspect, watch or serve"
        )
    if detector.shape is None:
        raise DataError(
            "a method is exported for one size of images, its good images have several; resize them"
        )
    color = (3,) if detector.channels == 3 else ()
    pixels = keras.Input((*detector.shape, *color), name=PIXELS, dtype=input_type)
    image = FromLevels(name="from_levels")(pixels)
    network, judge = detector.method.to_graph(detector.shape)
    found = Judged(network, judge, name="judged")(image)
    outputs = Verdict(threshold, (1, 0), None, name="verdict")(*found, image)
    return keras.Model(pixels, outputs, name="inspector")


def sizes(detector: Fitted) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return smallest and largest height, smallest and largest width, in pixels; None for any size."""
    if isinstance(detector, MethodDetector):
        assert detector.shape is not None  # `build` has refused it
        height, width = detector.shape
    elif isinstance(detector.region, MaskRegion):
        height, width = detector.region.mask.shape
    elif detector.needs_positions:
        height, width = detector.settings["shape"]
    else:
        return None
    return (height, height), (width, width)


def _mask(detector: PartDetector) -> np.ndarray | None:
    if detector.region is None or isinstance(detector.region, MaskRegion):
        return None if detector.region is None else detector.region.mask
    raise DataError(
        f"a region of kind {detector.region.kind!r} is found anew in every image and cannot be exported; "
        "expected the whole image or a mask: make the inspector again with --mask, or without --foreground"
    )


class FromLevels(keras.layers.Layer):
    """Layer that scales levels (N, H, W) or (N, H, W, 3), 0 to 255, to images (N, H, W, C) in [-1, 1]."""

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Scale the levels, and add a channel axis to gray images."""
        image = tf.cast(pixels, tf.float32) * np.float32(2 / 255) - 1.0
        return image if len(pixels.shape) == 4 else tf.expand_dims(image, -1)

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape, with a channel axis."""
        return pixels_shape if len(pixels_shape) == 4 else (*pixels_shape, 1)


class Judged(keras.layers.Layer):
    """Layer of a published method: images (N, H, W, C) to scores, peaks, sources and twice the maps."""

    def __init__(self, network: keras.Model, judge: Callable[..., Any], **named: object) -> None:
        super().__init__(**named)
        self.network, self.judge = network, judge

    def call(self, image: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Judge the images; the source is always the first one."""
        score, anomaly = self.judge(image)
        rows, columns = image.shape[1:3]
        peak = tf.argmax(tf.reshape(anomaly, (-1, rows * columns)), axis=1, output_type=tf.int32)
        place = tf.stack([peak // columns, peak % columns], axis=1)
        # OpenVINO crashes if two outputs are one tensor, and optimizers drop operations without effect.
        same = tf.maximum(anomaly, tf.float32.min)
        return score, place, tf.zeros_like(peak), anomaly, same

    def compute_output_shape(self, image_shape: tuple[int | None, ...]) -> tuple[tuple[int | None, ...], ...]:
        """Return the shapes of scores, places, sources and maps."""
        batch = image_shape[0]
        return (batch,), (batch, 2), (batch,), image_shape[:3], image_shape[:3]


class Inside(keras.layers.Layer):
    """Layer that returns the region of interest on the feature grid: a constant mask, or 1 everywhere."""

    def __init__(self, inside: np.ndarray | None, **named: object) -> None:
        super().__init__(**named)
        self.inside = inside

    def call(self, distances: tf.Tensor) -> tf.Tensor:
        """Return 1 inside and 0 outside, for distances (N, h', w', sources): (N, h', w')."""
        ones = tf.ones_like(distances[:, :, :, 0])
        return ones if self.inside is None else ones * tf.constant(self.inside.astype(np.float32))

    def compute_output_shape(self, distances_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: one value for each feature position."""
        return distances_shape[:3]


class Verdict(keras.layers.Layer):
    """Layer that returns the outputs of an exported inspector by name."""

    def __init__(
        self, threshold: float, grid: tuple[int, int], mask: np.ndarray | None, **named: object
    ) -> None:
        super().__init__(**named)
        self.threshold, self.grid, self.mask = threshold, grid, mask

    def call(
        self,
        score: tf.Tensor,
        place: tf.Tensor,
        source: tf.Tensor,
        anomaly: tf.Tensor,
        placed: tf.Tensor,
        image: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Compare the score with the threshold, and convert the peak to pixels."""
        stride, first = self.grid
        # A defect is what is not good, so that NaN is one, also NaN pixels that a runtime drops on the way.
        # Optimizers turn `not <=` into `>`, which NaN is not; they do not look through this product.
        is_good = tf.cast(score <= np.float32(self.threshold), tf.float32)
        is_finite = tf.cast(tf.abs(image) <= image.dtype.max, tf.float32)
        is_good *= tf.reduce_min(is_finite, axis=(1, 2, 3))
        if self.mask is not None:
            least = tf.reduce_min(anomaly, axis=(1, 2), keepdims=True)
            placed = tf.where(tf.constant(self.mask), placed, least)
        return {
            "anomaly_map": placed,
            "distance_map": anomaly,
            "is_defect": tf.logical_not(tf.cast(is_good, tf.bool)),
            # Features of a padded network may lie beyond the last pixel.
            "peak": tf.minimum(place * stride + first, tf.shape(image)[1:3] - 1),
            "score": score,
            "source": source,
        }

    def compute_output_shape(
        self,
        score_shape: tuple[int | None, ...],
        place_shape: tuple[int | None, ...],
        source_shape: tuple[int | None, ...],
        anomaly_shape: tuple[int | None, ...],
        placed_shape: tuple[int | None, ...],
        image_shape: tuple[int | None, ...],
    ) -> dict[str, tuple[int | None, ...]]:
        """Return the shapes of the outputs."""
        return {
            "anomaly_map": placed_shape,
            "distance_map": anomaly_shape,
            "is_defect": score_shape,
            "peak": place_shape,
            "score": score_shape,
            "source": source_shape,
        }
