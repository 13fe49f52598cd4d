"""The shipped networks: features of three stages, joined at every position, at one or three image scales.

Each feature is a *hypercolumn* (Hariharan et al., 2015): the outputs of several stages of a fully
convolutional network at one position, joined by a learned projection. The stages see from 14 to 68 pixels.
Layers are 3×3 ELU convolutions without padding and without batch normalization, as in the paper's network.
But the stride grows up to 8: wide layers cost little on a small map, and a large defect fits into the
receptive field.
"""

import keras
import numpy as np

from metricad.networks.feature_grid import FeatureGrid
from metricad.networks.resampling import AtLeast, Halve, Nearest

NAME = "hypercolumn"
"""Name of the Keras model and of the network in a bundle."""

THREE_SCALES = "hypercolumn-three-scales"
"""Name of the network that also processes the image at a half and a quarter of its size."""

GRID = FeatureGrid(first=7.5, stride=4, smallest=68, tile_step=8, reach=80)
"""Feature grid of the network."""

THREE_SCALES_GRID = FeatureGrid(first=7.5, stride=4, smallest=68, tile_step=32, reach=192)
"""Feature grid of the finest of the three scales."""

_STAGES = (  # units of a stage as multiples of the stem's; stride of its features; center of the first
    (1.5, 2, 6.5),
    (2, 4, 15.5),
    (3, 8, 33.5),
)
_DIMENSIONS = 64  # length of a feature vector
_SMALLER = ("half", "quarter")  # image scales besides the full one


def build(units: int = 16, *, seed: int | None = None) -> keras.Model:
    """Build the network: (N, H, W, 1) in [-1, 1] to features (N, H', W', 64), at a quarter of the resolution.

    Features lie every 4 pixels, the first at 7.5. The two coarser stages have larger receptive fields and
    therefore no features near the image border. There their outermost features are repeated. So the whole
    image is inspected, without the artificial values that padding would add.

    Parameters
    ----------
    units : int
        Number of filters of the stem, even; the stages have 1.5, 2 and 3 times as many.
    seed : int, optional
        Seed of the initial weights.
    """
    if units < 2 or units % 2:
        raise ValueError(f"units must be even and at least 2, received {units}")
    rng = np.random.default_rng(seed)

    def initializer(kind: type[keras.Initializer]) -> keras.Initializer:
        return kind(seed=int(rng.integers(2**31)))

    def convolution(
        filters: int, size: int, name: str, *, strides: int = 1, activation: str | None = "elu"
    ) -> keras.layers.Layer:
        return keras.layers.Conv2D(
            filters,
            size,
            strides=strides,
            activation=activation,
            kernel_initializer=initializer(keras.initializers.HeNormal),
            name=name,
        )

    pixels = keras.Input((None, None, 1), name="image")
    # ELU is monotonic, so it can be applied after the pool: same result with a quarter of the exponentials.
    x = convolution(units, 5, "stem", activation=None)(pixels)
    x = keras.layers.MaxPooling2D(2, name="pool1")(x)
    x = keras.layers.Activation("elu", name="stem_elu")(x)
    stages = []
    for number, (width, _, _) in enumerate(_STAGES, start=1):
        if number > 1:
            x = keras.layers.MaxPooling2D(2, name=f"pool{number}")(x)
        for part in "ab":
            x = convolution(int(width * units), 3, f"stage{number}{part}")(x)
        stages.append(x)

    # A strided convolution, not an average: a spot of a pixel or two must keep its contrast.
    stages[0] = convolution(int(2 * _STAGES[0][0] * units), 2, "finest", strides=2)(stages[0])
    projected = [
        keras.layers.Conv2D(
            _DIMENSIONS,
            1,
            use_bias=False,
            kernel_initializer=initializer(keras.initializers.GlorotUniform),
            name=f"project{number}",
        )(stage)
        for number, stage in enumerate(stages, start=1)
    ]
    # Projection before resampling gives the same numbers; the coarsest stage then has a quarter as many.
    columns = projected[:1]
    for number, (_, stride, first) in enumerate(_STAGES[1:], start=2):
        bring = Nearest((GRID.first, GRID.stride), (first, stride), name=f"nearest{number}")
        columns.append(bring(projected[number - 1], projected[0]))
    return keras.Model(pixels, keras.layers.Add(name="features")(columns), name=NAME)


def on_three_scales(model: keras.Model) -> keras.Model:
    """Apply a network to an image at its full, half and quarter size.

    A large and faint defect is small and clear at a smaller size. The weights are the same at every size;
    there is no extra training.

    Parameters
    ----------
    model : keras.Model
        Network, as built by `build`.

    Returns
    -------
    keras.Model
        (N, H, W, 1) in [-1, 1] to three feature maps, each (N, h, w, 64) on its own grid: see `places`.
    """
    pixels = keras.Input((None, None, 1), name="image")
    scales, shrunk = [model(pixels)], pixels
    for name in _SMALLER:
        shrunk = Halve(name=name)(shrunk)
        scales.append(model(AtLeast(GRID.smallest, name=f"at_least_{name}")(shrunk)))
    return keras.Model(pixels, scales, name=THREE_SCALES)


def build_three_scales(units: int = 16, *, seed: int | None = None) -> keras.Model:
    """Build the network of `build` and apply it at three scales; see `on_three_scales`."""
    return on_three_scales(build(units, seed=seed))


def places(scales: int) -> list[tuple[float, int]]:
    """Return first center and stride, in pixels of the full image, of the features at each scale."""
    # The center of a pixel of the smaller image is the center of the pixels it was averaged from.
    factors = [2**scale for scale in range(scales)]
    return [(factor * GRID.first + (factor - 1) / 2, factor * GRID.stride) for factor in factors]
