"""Networks with ImageNet features: alone, or beside the shipped network's at three scales."""

import keras

from metricad.networks import WITH_IMAGENET, efficientnet, hypercolumn
from metricad.networks.feature_grid import FeatureGrid

IMAGENET, JOINT = WITH_IMAGENET

SMALLEST = 64
"""Smallest height and width, in pixels, of an image: four features of stride 16."""

IMAGENET_GRID = FeatureGrid(
    first=efficientnet.STRIDES[0] - 1, stride=efficientnet.STRIDES[0], smallest=SMALLEST
)
"""Feature grid of the network with ImageNet features alone."""


def build_imagenet(units: int = 0, *, seed: int | None = None) -> keras.Model:
    """Build the network: images (N, H, W, 3) in [-1, 1] to feature maps of strides 4, 8 and 16.

    `units` and `seed` have no effect: its weights come from a package; see `efficientnet.load`.
    """
    model = efficientnet.load()
    pixels = keras.Input((None, None, 3), name="colors")
    return keras.Model(pixels, model(pixels), name=IMAGENET)


def build_joint(units: int = 16, *, seed: int | None = None) -> keras.Model:
    """Build the network: light (N, H, W, 1) and colors (N, H', W', 3) to the maps of both networks.

    The colors may be those of a smaller image.
    """
    own, model = hypercolumn.build_three_scales(units, seed=seed), efficientnet.load()
    light, colors = keras.Input((None, None, 1), name="light"), keras.Input((None, None, 3), name="colors")
    return keras.Model([light, colors], [*own(light), *model(colors)], name=JOINT)


def places() -> list[tuple[float, int]]:
    """Return first center and stride, in pixels, of each ImageNet feature map.

    Where a side is even, TensorFlow pads a stride of 2 at the lower and right edge only.
    """
    return [(stride - 1.0, stride) for stride in efficientnet.STRIDES]
