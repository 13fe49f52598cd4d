"""Build networks by name: the paper's, and both forms of the shipped network."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from metricad.networks import hypercolumn, joint, residual
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
    joint.IMAGENET: _Architecture(joint.build_imagenet, joint.IMAGENET_GRID, []),
    joint.JOINT: _Architecture(joint.build_joint, hypercolumn.THREE_SCALES_GRID, hypercolumn.places(3)),
}


def build(name: str, units: int, *, seed: int | None = None) -> keras.Model:
    """Build a network with new weights from its name and size, as they are stored in a bundle.

    Raises
    ------
    ValueError
        There is no network of this name.
    """
    if name not in _ARCHITECTURES:
        raise ValueError(f"network must be one of {', '.join(_ARCHITECTURES)}, received {name!r}")
    return _ARCHITECTURES[name].build(units, seed=seed)


def grid(model: keras.Model) -> FeatureGrid:
    """Return the feature grid of a network's (finest) feature map."""
    return _ARCHITECTURES[model.name].grid


def places(model: keras.Model) -> list[tuple[float, int]]:
    """Return first center and stride, in pixels, of each feature map of a network, the finest first."""
    return _ARCHITECTURES[model.name].places


def units(model: keras.Model) -> int:
    """Return the size of a network as `build` takes it: the number of filters of its first layer."""
    model = _own(model)
    if model is None:
        return 0
    if model.name == hypercolumn.THREE_SCALES:
        model = model.get_layer(hypercolumn.NAME)
    return int(model.get_layer("stem").filters)


def weights(model: keras.Model) -> list[np.ndarray]:
    """Return the weights of a network but for those of ImageNet features, which come from a package."""
    own = _own(model)
    return [] if own is None else own.get_weights()


def set_weights(model: keras.Model, weights: list[np.ndarray]) -> None:
    """Set the weights that `weights` returns."""
    own = _own(model)
    if own is not None:
        own.set_weights(weights)
    elif weights:
        raise ValueError(f"{len(weights)} weights for a network that has none of its own")


def _own(model: keras.Model) -> keras.Model | None:
    """Return the part of a network that is not made of ImageNet features."""
    if model.name == joint.IMAGENET:
        return None
    return model.get_layer(hypercolumn.THREE_SCALES) if model.name == joint.JOINT else model


def extractor(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a network with one feature map to a function from one image to its features.

    One trace serves every image size. XLA is off: on CPUs it makes these convolutions slower.

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
