"""The fully convolutional residual ELU network of the paper (section 2.7, tables 1 and 2)."""

import keras
import numpy as np

from metricad.networks.feature_grid import FeatureGrid

NAME = "staar2018"
"""Name of the Keras model and of the network in a bundle."""

RECEPTIVE_FIELD = 32
"""Side, in pixels, of the receptive field of a feature."""

STRIDE = 2
"""Distance between neighboring features, in pixels."""


GRID = FeatureGrid(first=(RECEPTIVE_FIELD - 1) / 2, stride=STRIDE, smallest=RECEPTIVE_FIELD, tile_step=STRIDE)
"""Feature grid of this network."""

_BLOCK_MARGIN = 2  # a 5×5 window without padding loses two pixels on every side


def build(units: int = 16, *, seed: int | None = None) -> keras.Model:
    """Build the network: (N, H, W, 1) in [-1, 1] to features (N, H', W', units).

    32×32 gives 1×1, 512×512 gives 241×241. There is no padding and no batch normalization. So a feature
    depends only on its 32×32 pixels, and whole images can be processed at once.

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
    # ELU is monotonic, so it can be applied after the pool: same result with a quarter of the exponentials.
    x = convolution(7, None, "stem")(pixels)
    x = keras.layers.MaxPooling2D(2, name="pool")(x)
    x = keras.layers.Activation("elu", name="stem_elu")(x)
    for block in (1, 2, 3):
        residual = convolution(5, "elu", f"block{block}_window")(x)
        residual = convolution(1, None, f"block{block}_residual")(residual)
        cropped = keras.layers.Cropping2D(_BLOCK_MARGIN, name=f"block{block}_crop")(x)
        x = keras.layers.Add(name=f"block{block}")([cropped, residual])
    features = convolution(1, None, "features")(x)
    return keras.Model(pixels, features, name=NAME)


def feature_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of the feature map of an image; raises as `FeatureGrid.check` does."""
    GRID.check(shape)
    rows, columns = ((side - RECEPTIVE_FIELD) // STRIDE + 1 for side in shape)
    return rows, columns
