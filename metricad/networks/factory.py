"""The networks by name: the paper's and the one that metricad ships."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from metricad.networks import hypercolumn, residual as network
from metricad.networks.grid import FeatureGrid

_BUILDERS = {
    network.NAME: (network.build, network.GRID),
    hypercolumn.NAME: (hypercolumn.build, hypercolumn.GRID),
    hypercolumn.THREE_SCALES: (hypercolumn.build_three_scales, hypercolumn.THREE_SCALES_GRID),
}


def build(name: str, units: int, *, seed: int | None = None) -> keras.Model:
    """Build a network of which only the name and the size are known, as a bundle has them.

    Raises
    ------
    ValueError
        There is no network of this name.
    """
    if name not in _BUILDERS:
        raise ValueError(f"network must be one of {', '.join(_BUILDERS)}, received {name!r}")
    builder, _ = _BUILDERS[name]
    return builder(units, seed=seed)


def sampling(model: keras.Model) -> FeatureGrid:
    """Where a network's features lie on the image."""
    return _BUILDERS[model.name][1]


def by_scale(
    model: keras.Model,
) -> tuple[Callable[[tf.Tensor], list[tf.Tensor]], list[keras.layers.Layer]]:
    """Take a network of several image scales apart, see `hypercolumn.by_scale`.

    Returns
    -------
    function
        Of images (N, H, W, 1) in [-1, 1]; gives the features of each scale, in a list.
    list of keras.layers.Layer
        Those of [map, first map] that bring the further ones onto the grid of the first.
    """
    if model.name != hypercolumn.THREE_SCALES:
        return lambda light: [model(light, training=False)], []
    apart, nearest = hypercolumn.by_scale(model)
    return lambda light: apart(light, training=False), nearest


def units(model: keras.Model) -> int:
    """Size that `build` has to be given for such a network: the filters of its first layer."""
    if model.name == hypercolumn.THREE_SCALES:
        model = model.get_layer(hypercolumn.NAME)
    return int(model.get_layer("stem").filters)


def extractor(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a network to a function from one image to its features.

    One trace serves every image size. XLA stays off: on CPUs it makes these convolutions slower.

    Returns
    -------
    function
        float32 (H, W) in [-1, 1] to float32 (h', w', d). Raises ValueError for an image that is too small.
    """
    signature = [tf.TensorSpec((1, None, None, 1), tf.float32)]
    graph = tf.function(lambda pixels: model(pixels, training=False), input_signature=signature)
    check = sampling(model).check

    def features(image: np.ndarray) -> np.ndarray:
        check(image.shape)
        return graph(image[np.newaxis, :, :, np.newaxis]).numpy()[0]

    features.trace_count = graph.experimental_get_tracing_count
    return features
