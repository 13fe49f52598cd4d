"""The networks by name: the paper's and the two forms of the one that metricad ships."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from metricad.networks import hypercolumn, residual
from metricad.networks.feature_grid import FeatureGrid


@dataclass(frozen=True)
class _Architecture:
    build: Callable[..., keras.Model]
    grid: FeatureGrid
    places: list[tuple[float, int]]


_ARCHITECTURES = {
    residual.NAME: _Architecture(residual.build, residual.GRID, [(residual.GRID.first, residual.STRIDE)]),
    hypercolumn.NAME: _Architecture(hypercolumn.build, hypercolumn.GRID, hypercolumn.places(1)),
    hypercolumn.THREE_SCALES: _Architecture(
        hypercolumn.build_three_scales, hypercolumn.THREE_SCALES_GRID, hypercolumn.places(3)
    ),
}


def build(name: str, units: int, *, seed: int | None = None) -> keras.Model:
    """Build a network of which only the name and the size are known, as a bundle has them.

    Raises
    ------
    ValueError
        There is no network of this name.
    """
    if name not in _ARCHITECTURES:
        raise ValueError(f"network must be one of {', '.join(_ARCHITECTURES)}, received {name!r}")
    return _ARCHITECTURES[name].build(units, seed=seed)


def grid(model: keras.Model) -> FeatureGrid:
    """Where a network's (finest) features lie on the image."""
    return _ARCHITECTURES[model.name].grid


def places(model: keras.Model) -> list[tuple[float, int]]:
    """First center and stride, in pixels, of each of a network's feature maps, the finest first."""
    return _ARCHITECTURES[model.name].places


def units(model: keras.Model) -> int:
    """Size that `build` has to be given for such a network: the filters of its first layer."""
    if model.name == hypercolumn.THREE_SCALES:
        model = model.get_layer(hypercolumn.NAME)
    return int(model.get_layer("stem").filters)


def extractor(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a network of one feature map to a function from one image to its features.

    One trace serves every image size. XLA stays off: on CPUs it makes these convolutions slower.

    Returns
    -------
    function
        float32 (H, W) in [-1, 1] to float32 (h', w', d). Raises ValueError for an image that is too small.
    """
    return _Extractor(model)


class _Extractor:
    """See `extractor`."""

    def __init__(self, model: keras.Model) -> None:
        signature = [tf.TensorSpec((1, None, None, 1), tf.float32)]
        self._graph = tf.function(lambda pixels: model(pixels, training=False), input_signature=signature)
        self._check = grid(model).check
        self.trace_count = self._graph.experimental_get_tracing_count

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self._check(image.shape)
        return self._graph(image[np.newaxis, :, :, np.newaxis]).numpy()[0]
