"""The fully convolutional residual ELU network of the paper (section 2.7, tables 1 and 2)."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

RECEPTIVE_FIELD = 32
"""Side, in pixels, of the square of surface that one feature sees."""

STRIDE = 2
"""Pixels between neighbouring features."""

_BLOCK_MARGIN = 2  # a 5×5 window without padding loses two pixels on every side


def build(units: int = 16, *, seed: int | None = None) -> keras.Model:
    """Build the network: (N, H, W, 1) in [-1, 1] to features (N, H', W', units).

    32×32 gives 1×1, 512×512 gives 241×241. No padding, no batch normalisation: a feature depends on
    its 32×32 pixels and on nothing else, so whole images can be processed at once.

    Parameters
    ----------
    units : int
        Filters of every layer, the paper's h: 16 (21,136 parameters) or 32 (82,720).
    seed : int, optional
        Seed of the initial weights.
    """
    if units < 1:
        raise ValueError(f"units must be at least 1, received {units}")
    rng = np.random.default_rng(seed)

    def convolution(size: int, activation: str | None, name: str) -> keras.layers.Layer:
        return keras.layers.Conv2D(
            units,
            size,
            activation=activation,
            kernel_initializer=keras.initializers.GlorotUniform(seed=int(rng.integers(2**31))),
            name=name,
        )

    pixels = keras.Input((None, None, 1), name="image")
    x = convolution(7, "elu", "stem")(pixels)
    x = keras.layers.MaxPooling2D(2, name="pool")(x)
    for block in (1, 2, 3):
        residual = convolution(5, "elu", f"block{block}_window")(x)
        residual = convolution(1, None, f"block{block}_residual")(residual)
        cropped = keras.layers.Cropping2D(_BLOCK_MARGIN, name=f"block{block}_crop")(x)
        x = keras.layers.Add(name=f"block{block}")([cropped, residual])
    features = convolution(1, None, "features")(x)
    return keras.Model(pixels, features, name="staar2018")


def feature_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of features that an image of this shape gives.

    Raises
    ------
    ValueError
        The image is smaller than the receptive field.
    """
    if min(shape) < RECEPTIVE_FIELD:
        raise ValueError(
            f"expected an image of at least {RECEPTIVE_FIELD}×{RECEPTIVE_FIELD} pixels, received {shape}"
        )
    return tuple((side - RECEPTIVE_FIELD) // STRIDE + 1 for side in shape)


def extractor(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a network to a function from one image to its features.

    One trace serves every image size. XLA stays off: on CPUs it makes these convolutions slower.

    Returns
    -------
    function
        float32 (H, W) in [-1, 1] to float32 (h', w', d).
    """
    signature = [tf.TensorSpec((1, None, None, 1), tf.float32)]
    graph = tf.function(lambda pixels: model(pixels, training=False), input_signature=signature)

    def features(image: np.ndarray) -> np.ndarray:
        feature_shape(image.shape)  # a clear error for an image that is too small
        return graph(image[np.newaxis, :, :, np.newaxis]).numpy()[0]

    features.trace_count = graph.experimental_get_tracing_count
    return features
