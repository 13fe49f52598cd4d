"""Networks with ImageNet features: alone, or beside the shipped network's at three scales."""

from typing import Any

import keras

from metricad.networks import WITH_IMAGENET, efficientnet, hypercolumn
from metricad.networks.feature_grid import FeatureGrid

IMAGENET, JOINT = WITH_IMAGENET

STRIDES = efficientnet.STRIDES[1:]
"""Strides, in pixels, of the feature maps that are used, as in PatchCore (Roth et al., 2022). With stride 4
as well, AUROC is lower on average (results/imagenet.md): the shipped network sees fine texture better."""

SMALLEST = 64
"""Smallest height and width, in pixels, of an image: four features of stride 16."""

IMAGENET_GRID = FeatureGrid(first=STRIDES[0] - 1, stride=STRIDES[0], smallest=SMALLEST)
"""Feature grid of the network with ImageNet features alone."""


def imagenet_maps(colors: Any) -> list[Any]:
    """Compute the ImageNet features of images (N, H, W, 3) in [-1, 1]: a map of each stride."""
    return list(efficientnet.load()(colors)[-len(STRIDES) :])


def build_imagenet(units: int = 0, *, seed: int | None = None) -> keras.Model:
    """Build the network: images (N, H, W, 3) in [-1, 1] to feature maps of strides 8 and 16.

    `units` and `seed` have no effect: its weights come from a package; see `efficientnet.load`.
    """
    pixels = keras.Input((None, None, 3), name="colors")
    return keras.Model(pixels, imagenet_maps(pixels), name=IMAGENET)


def build_joint(units: int = 16, *, seed: int | None = None) -> keras.Model:
    """Build the network: light (N, H, W, 1) and colors (N, H', W', 3) to the maps of both networks.

    The colors may be those of a smaller image.
    """
    own = hypercolumn.build_three_scales(units, seed=seed)
    light, colors = keras.Input((None, None, 1), name="light"), keras.Input((None, None, 3), name="colors")
    return keras.Model([light, colors], [*own(light), *imagenet_maps(colors)], name=JOINT)


def places() -> list[tuple[float, int]]:
    """Return first center and stride, in pixels, of each ImageNet feature map.

    Where a side is even, TensorFlow pads a stride of 2 at the lower and right edge only.
    """
    return [(stride - 1.0, stride) for stride in STRIDES]
