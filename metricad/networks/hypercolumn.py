"""The networks that ship: features of three stages, and of three image scales, joined at every position.

Each feature is a *hypercolumn* (Hariharan et al., 2015): what the stages of a fully convolutional network
know of one place, from 14 to 68 pixels around it, joined by a learned projection. Layers are 3×3 ELU
convolutions without padding and without batch normalisation, as in the paper's network, but the stride grows
to 8 while the image shrinks: wide layers cost little there, and large defects are seen whole.
"""

from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from metricad.networks.grid import FeatureGrid

NAME = "hypercolumn"
"""What the Keras model is called, and what a bundle says of its network."""

THREE_SCALES = "hypercolumn-three-scales"
"""The same of the network that looks at the image at a half and a quarter of its size as well."""

GRID = FeatureGrid(first=7.5, stride=4, smallest=68, border=8, lattice=8, reach=80)
"""Where features lie on the image."""

THREE_SCALES_GRID = replace(GRID, scales=(1.0, 1.0, 0.5), lattice=32, reach=192)
"""The same with three scales. At full weight the coarsest hides small defects among its own variation."""

_SCALES = (  # units of a stage as multiples of the stem's; stride of its features; centre of the first
    (1.5, 2, 6.5),
    (2, 4, 15.5),
    (3, 8, 33.5),
)
_DIMENSIONS = 64  # of a feature
_SMALLER = ("half", "quarter")  # image scales beside the full one


def build(units: int = 16, *, seed: int | None = None) -> keras.Model:
    """Build the network: (N, H, W, 1) in [-1, 1] to features (N, H', W', 64), a quarter as fine.

    A feature lies every 4 pixels, the first at 7.5. The two coarser stages reach farther than the finest and
    have no features of their own near the image's border: there their outermost ones are taken again, so that
    the whole image is judged and nothing is made up, as padding would.

    Parameters
    ----------
    units : int
        Filters of the stem, even; the stages have 1.5, 2 and 3 times as many.
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
    # ELU rises, so that it may follow the pool: the same numbers from a quarter of the exponentials.
    x = convolution(units, 5, "stem", activation=None)(pixels)
    x = keras.layers.MaxPooling2D(2, name="pool1")(x)
    x = keras.layers.Activation("elu", name="stem_elu")(x)
    stages = []
    for number, (width, _, _) in enumerate(_SCALES, start=1):
        if number > 1:
            x = keras.layers.MaxPooling2D(2, name=f"pool{number}")(x)
        for part in "ab":
            x = convolution(int(width * units), 3, f"stage{number}{part}")(x)
        stages.append(x)

    # Not averaged: a spot of a pixel or two must not be thinned out.
    stages[0] = convolution(int(2 * _SCALES[0][0] * units), 2, "finest", strides=2)(stages[0])
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
    # Projected before they are brought onto the grid: the same numbers, of the coarsest a quarter as many.
    columns = projected[:1]
    for number, (_, stride, first) in enumerate(_SCALES[1:], start=2):
        columns.append(Nearest(stride, first, name=f"nearest{number}")([projected[number - 1], projected[0]]))
    return keras.Model(pixels, keras.layers.Add(name="features")(columns), name=NAME)


def on_three_scales(model: keras.Model) -> keras.Model:
    """Join the features of an image with those of the image at a half and a quarter of its size.

    A large and faint defect is small and clear at a smaller size. The weights are the same at every size, and
    nothing is trained for it.

    Parameters
    ----------
    model : keras.Model
        As `build` makes it.

    Returns
    -------
    keras.Model
        (N, H, W, 1) in [-1, 1] to (N, H', W', 192), with the given network's weights and places of features.
    """
    pixels = keras.Input((None, None, 1), name="image")
    scales = [model(pixels)]
    shrunk, factor = pixels, 1
    for name in _SMALLER:
        shrunk, factor = keras.layers.AveragePooling2D(2, name=name)(shrunk), 2 * factor
        found = model(AtLeast(GRID.smallest, name=f"at_least_{name}")(shrunk))
        # A pixel of the smaller image lies in the middle of those that it is made of.
        first = factor * GRID.first + (factor - 1) / 2
        nearest = Nearest(factor * GRID.stride, first, name=f"nearest_{name}")
        scales.append(nearest([found, scales[0]]))
    return keras.Model(pixels, keras.layers.Concatenate(name="scales")(scales), name=THREE_SCALES)


def build_three_scales(units: int = 16, *, seed: int | None = None) -> keras.Model:
    """What `on_three_scales` makes of what `build` makes."""
    return on_three_scales(build(units, seed=seed))


def by_scale(model: keras.Model) -> tuple[keras.Model, list["Nearest"]]:
    """Take apart what `on_three_scales` joins.

    What is done to each scale's features alone costs less before they are brought onto one grid.

    Returns
    -------
    keras.Model
        Features of the image at its full, half and quarter size, each on a grid of its own.
    list of Nearest
        What brings the second and the third onto the grid of the first.
    """
    nearest = [model.get_layer(f"nearest_{name}") for name in _SMALLER]
    found = [nearest[0].input[1], *(layer.input[0] for layer in nearest)]
    return keras.Model(model.input, found, name=f"{THREE_SCALES}-apart"), nearest


class AtLeast(keras.layers.Layer):
    """Mirror an image at its lower and right edge, as often as it takes, up to a network's smallest."""

    def __init__(self, smallest: int, **named: object) -> None:
        super().__init__(**named)
        self.smallest = smallest

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        """Of any size, (N, H, W, C)."""
        for axis in (1, 2):
            side = tf.shape(pixels)[axis]
            there_and_back = tf.range(tf.maximum(side, self.smallest)) % (2 * side)
            pixels = tf.gather(pixels, tf.minimum(there_and_back, 2 * side - 1 - there_and_back), axis=axis)
        return pixels

    def compute_output_shape(self, shape: tuple) -> tuple:
        """As many images and channels; sides that are known only when an image comes."""
        return (shape[0], None, None, shape[3])


class Nearest(keras.layers.Layer):
    """Bring a coarse feature map onto the grid of the network's features: the nearest one for each.

    Parameters
    ----------
    stride : int
        Pixels between the coarse features.
    first : float
        Centre of the first coarse feature, in pixels.
    """

    def __init__(self, stride: int, first: float, **named: object) -> None:
        super().__init__(**named)
        self.stride = stride
        self.first = first

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Gather from the first map what lies nearest to each place of the second, which gives its size."""
        found, like = inputs
        for axis in (1, 2):
            count = tf.shape(like)[axis]
            pixels = tf.cast(tf.range(count), tf.float32) * GRID.stride + GRID.first
            nearest = tf.cast(tf.round((pixels - self.first) / self.stride), tf.int32)
            found = tf.gather(found, tf.clip_by_value(nearest, 0, tf.shape(found)[axis] - 1), axis=axis)
        return found

    def compute_output_shape(self, shapes: list[tuple]) -> tuple:
        """The second map's size with the first one's depth."""
        return (*shapes[1][:3], shapes[0][3])
