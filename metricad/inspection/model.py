"""The inspector as one Keras model: pixels to distance maps, distance maps to image score.

The two halves can be called separately, so that the first half can process very large images in tiles.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from metricad.networks import cells, factory, joint, line_filters
from metricad.networks.feature_grid import FeatureGrid
from metricad.networks.resampling import Halve, Nearest, Resize, nearest
from metricad.preprocessing.color import Luminance, Opponents
from metricad.preprocessing.intensity import IntensityTransform
from metricad.scoring.opening import Lowered, Opening
from metricad.scoring.score import ImageScore
from metricad.scoring.standardize import Fuse, Standardize

COLOR_SCALES = 3
"""Number of image scales at which color is averaged. The color map uses the coarsest: 32-pixel squares."""

CELLS_SIDE = 256
"""Height and width, in pixels, to which images are resized for cells, if good images have several sizes; that
of most methods with ImageNet features."""

NETWORK, IMAGENET, CELLS, LINES, COLOR = "network", "imagenet", "cells", "lines", "color"
"""Kinds of feature maps."""

LEARNED = (NETWORK, IMAGENET)
"""Kinds that a network learned; only they may have a positional density."""


@dataclass(frozen=True)
class Source:
    """One feature map: its name, its kind, and the position of its features.

    Attributes
    ----------
    name : str
    kind : {"network", "imagenet", "cells", "lines", "color"}
    place : (float, int), optional
        Center of the first feature and stride, in pixels. None: `cells`, which divide an image of any size.
    dimensions : int
        Length of a feature vector.
    """

    name: str
    kind: str
    place: tuple[float, int] | None
    dimensions: int


@dataclass(frozen=True)
class Features:
    """The first stage of an inspector: pixels to feature maps.

    Attributes
    ----------
    model : keras.Model
        Takes images (N, H, W, channels) in [-1, 1]; returns a list of maps (N, h, w, d), each on its own
        grid.
    sources : tuple of Source
        One for each map, the finest first.
    grid : FeatureGrid
        Grid of the first map. All distance maps are resampled to it.
    run : callable
        The compiled model; takes images float32 (1, H, W, channels).
    """

    model: keras.Model
    sources: tuple[Source, ...]
    grid: FeatureGrid
    run: Callable[..., Any]


@functools.lru_cache(maxsize=4)  # comparing methods fits many detectors to one network
def features(
    network: keras.Model,
    *,
    channels: int = 1,
    curve: str = "linear",
    is_halved: bool = False,
    has_lines: bool = False,
    shrink: int = 1,
    has_cells: bool = False,
    resizes_cells: bool = False,
) -> Features:
    """Build the model that turns pixels into feature maps.

    Parameters
    ----------
    network : keras.Model
        Network, as built by `factory.build`.
    channels : {1, 3}
        1 for gray, 3 for color.
    curve : str
        Curve of the `IntensityTransform`.
    is_halved : bool
        Shrink images to half their size first.
    has_lines : bool
        Add the responses of line filters.
    shrink : int
        Factor, a power of two, by which images are shrunk for ImageNet features.
    has_cells : bool
        Add the means of ImageNet features over a few cells of the image.
    resizes_cells : bool
        Take the cells of the image resized to `CELLS_SIDE`, for parts whose images have several sizes.
    """
    pixels = image = keras.Input((None, None, channels), name="image")
    grid, factor = factory.grid(network), 1
    if is_halved:
        image = Halve(name="halved")(image)
        grid, factor = grid.halved(), 2
    light = IntensityTransform(curve, name="intensity")(Luminance(name="luminance")(image))
    own, others = _networks(network, light, image, shrink)
    names = [f"network, 1/{factor * 2**number}" for number in range(len(own))]
    kinds = [NETWORK] * len(own)
    places: list[tuple[float, int] | None] = list(factory.places(network))
    found = list(own)
    if channels == 3 and own:
        found, color, place = _with_color(found, image, factory.places(network))
        found.append(color)
        names, kinds, places = [*names, "color"], [*kinds, COLOR], [*places, place]
    found += others
    kinds += [IMAGENET] * len(others)
    for (first, stride), _ in zip(joint.places(), others, strict=False):
        names.append(f"ImageNet, stride {stride * shrink * factor}")
        places.append((shrink * first + (shrink - 1) / 2, shrink * stride))
    if others and has_cells:
        of_cells = joint.imagenet_maps(_colors(Resize(CELLS_SIDE)(image))) if resizes_cells else others
        found.append(cells.CellMeans(name="cells")(of_cells))
        names, kinds = [*names, f"ImageNet, {cells.SIDE}×{cells.SIDE} cells"], [*kinds, CELLS]
        places.append(None)
    if has_lines:
        found += line_filters.LineFilters(name="line_filters")(light)
        names += line_filters.names()
        kinds += [LINES] * (len(names) - len(kinds))
        places += line_filters.places()
    if is_halved:
        places = [place and (2 * place[0] + 0.5, 2 * place[1]) for place in places]
    if others:
        grid = replace(grid, is_cuttable=False)
    if not own and places[0] is not None:
        grid = replace(grid, first=places[0][0], stride=places[0][1], smallest=grid.smallest * shrink)
    sources = tuple(
        Source(name, kind, place, one.shape[-1])
        for name, kind, place, one in zip(names, kinds, places, found, strict=True)
    )
    whole = keras.Model(pixels, found, name="features")
    return Features(whole, sources, grid, compiled(whole, tf.TensorSpec((1, None, None, channels))))


def _networks(network: keras.Model, light: Any, image: Any, shrink: int) -> tuple[list[Any], list[Any]]:
    """Return the maps of the paper's or the shipped network, and those of ImageNet features."""
    if network.name not in (joint.IMAGENET, joint.JOINT):
        return keras.tree.flatten(network(light)), []
    for number in range(shrink.bit_length() - 1):
        image = Halve(name=f"shrunk{number}")(image)
    colors = _colors(image)
    if network.name == joint.IMAGENET:
        return [], list(network(colors))
    maps = network([light, colors])
    own = len(maps) - len(joint.STRIDES)
    return list(maps[:own]), list(maps[own:])


def _colors(image: Any) -> Any:
    """Repeat the channel of a gray image."""
    return image if image.shape[-1] == 3 else keras.layers.Concatenate()([image] * 3)


def _with_color(
    found: Sequence[tf.Tensor], image: tf.Tensor, places: Sequence[tuple[float, int]]
) -> tuple[list[tf.Tensor], tf.Tensor, tuple[float, int]]:
    """Append the local mean color to the network's features at each scale; also return a color map."""
    small = Halve(name="color_quarter")(Halve(name="color_half")(image))
    color, light = Opponents(name="opponents")(small), Luminance(name="brightness")(small)
    alone = keras.layers.Concatenate(name="light_and_color")([light, color])
    both = []
    for number, (one, place) in enumerate(zip(found, places, strict=True)):
        mean = LocalMean(2 ** (number + 1), name=f"color_mean{number}")(color)
        bring = Nearest(place, _color_place(number), name=f"color_at{number}")
        both.append(keras.layers.Concatenate(name=f"with_color{number}")([one, bring(mean, one)]))
    return both, LocalMean(2**COLOR_SCALES, name="color_mean")(alone), _color_place(COLOR_SCALES - 1)


def _color_place(scale: int) -> tuple[float, int]:
    """Return first center and stride, in pixels, of color averaged over 8×8 pixels of an image scale."""
    side = 8 * 2**scale
    return (side - 1) / 2, side // 2


@keras.saving.register_keras_serializable("metricad")
class LocalMean(keras.layers.Layer):
    """Layer that averages squares of pixels. Their step is half of their side.

    Parameters
    ----------
    side : int
        Side of the squares, in pixels.
    """

    def __init__(self, side: int, **named: object) -> None:
        super().__init__(**named)
        self.side = side

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Average images (N, H, W, C) of any size; return (N, h, w, C)."""
        return tf.nn.avg_pool2d(pixels, self.side, self.side // 2, "VALID")

    def compute_output_shape(self, pixels_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape; height and width are unknown until an image is given."""
        return (pixels_shape[0], None, None, pixels_shape[3])

    def get_config(self) -> dict[str, object]:
        """See `keras.layers.Layer`."""
        return {**super().get_config(), "side": self.side}


def maps(found: Features, densities: Sequence[keras.layers.Layer]) -> keras.Model:
    """Build the first half: images (N, H, W, channels) to distances (N, h', w', sources), finest grid."""
    reached = [density(one) for density, one in zip(densities, found.model.outputs, strict=True)]
    return keras.Model(
        found.model.inputs, OnOneGrid(found.sources, name="maps")(reached), name="pixels_to_maps"
    )


def distances(found: Features, densities: Sequence[keras.layers.Layer], pixels: tf.Tensor) -> tf.Tensor:
    """Compute what `maps` does, with compiled features, which all detectors of one network share."""
    reached = [
        density(one) for density, one in zip(densities, keras.tree.flatten(found.run(pixels)), strict=True)
    ]
    return OnOneGrid(found.sources)(reached)


@keras.saving.register_keras_serializable("metricad")
class OnOneGrid(keras.layers.Layer):
    """Layer that resamples distance maps to the grid of the first and stacks them: (N, h', w', sources)."""

    def __init__(self, sources: Sequence[Source], **named: object) -> None:
        super().__init__(**named)
        self.places = [source.place for source in sources]

    def call(self, found: Sequence[tf.Tensor]) -> tf.Tensor:
        """Stack maps (N, h, w), each on its own grid."""
        like, grid = found[0], self.places[0]
        assert grid is not None  # cells are never the first
        each = [
            cells.spread(one, like) if own is None else nearest(one, like, grid, own)
            for one, own in zip(found[1:], self.places[1:], strict=True)
        ]
        return tf.stack([like, *each], axis=-1)

    def compute_output_shape(self, found_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Return the shape: one channel for each source."""
        return (*found_shape[0], len(found_shape))


def verdict(number: int, **layers: Any) -> keras.Model:
    """Build the second half: distances (N, h', w', sources) and mask (N, h', w') to outputs of `ImageScore`.

    Parameters
    ----------
    number : int
        Number of sources.
    **layers
        See `judged`.
    """
    distances = keras.Input((None, None, number), name="distances")
    inside = keras.Input((None, None), name="inside")
    return keras.Model([distances, inside], judged(distances, inside, **layers), name="maps_to_verdict")


def judged(
    distances: Any,
    inside: Any,
    *,
    score: ImageScore,
    standardize: Standardize | None = None,
    fuse: Fuse | None = None,
    opening: Opening | None = None,
) -> dict[str, Any]:
    """Compute the outputs of `ImageScore` for distances (N, h', w', sources) and a mask (N, h', w').

    In the paper's method nothing is standardized: the single distance map is the anomaly map. With `opening`,
    defects that are too small are let through.
    """
    shares = distances
    if standardize is not None:
        if fuse is None:
            raise ValueError("standard scores need a fusion layer, received None")
        shares = fuse(standardize(distances))
    anomaly = Total(name="anomaly")(shares)
    found = score(anomaly, shares, inside)
    if opening is None:
        return dict(found)
    lowered = score(opening(anomaly, inside), shares, inside)
    lowest = Lowered(opening.threshold, name="lowered")(found["score"], lowered["score"])
    return {**lowered, "score": lowest}


@keras.saving.register_keras_serializable("metricad")
class Total(keras.layers.Layer):
    """Layer that sums the contributions of all sources: (N, h', w')."""

    def call(self, shares: tf.Tensor) -> tf.Tensor:
        """Sum contributions (N, h', w', sources)."""
        return tf.reduce_sum(shares, axis=-1)

    def compute_output_shape(self, shares_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape: one value for each feature position."""
        return shares_shape[:3]


def compiled(function: Callable[..., Any], *given: tf.TensorSpec) -> Callable[..., Any]:
    """Compile a function of tensors at its first call. One trace serves every image size.

    Within another compiled function it is a part of that graph and is not traced again.

    XLA is off: on CPUs it makes these convolutions slower.
    """

    @functools.cache
    def graph() -> Callable[..., Any]:
        with tf.init_scope():
            return tf.function(function, input_signature=given, autograph=False).get_concrete_function()

    return lambda *arrays: graph()(*map(tf.convert_to_tensor, arrays))
