"""EfficientNet-Lite2: its features against those of another implementation, and what its file may hold."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from metricad.errors import DataError
from tests.helpers import COLLECTING, needs_weights

if not COLLECTING:
    import keras

    from metricad.networks import efficientnet

pytestmark = pytest.mark.tf

GOLDEN = Path(__file__).with_name("efficientnet_lite2.npz")
"""Made by scripts/golden_features.py with PyTorch."""


@needs_weights
@pytest.mark.parametrize("name", ["even", "odd"])
def test_features_are_those_of_the_reference_implementation(name):
    """Sides are even and odd, as padding depends on it. Features have deviations of 0.4 to 12."""
    with np.load(GOLDEN) as golden:
        image = golden[name].astype(np.float32) / np.float32(127.5) - 1
        expected = [golden[f"{name}_{stride}"] for stride in (*efficientnet.STRIDES, 32)]
    maps = efficientnet.load(whole=True)(image[np.newaxis])
    for found, wanted in zip(maps, expected, strict=True):
        np.testing.assert_allclose(found[0], wanted, rtol=0, atol=1e-4)


@needs_weights
def test_the_network_up_to_stride_16_has_the_same_weights():
    whole, part = efficientnet.load(whole=True), efficientnet.load()
    assert [each.shape[-1] for each in part.outputs] == list(efficientnet.DIMENSIONS)
    for layer in part.layers:
        same = whole.get_layer(layer.name)
        for ours, expected in zip(layer.get_weights(), same.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, expected)


@needs_weights
def test_a_changed_file_is_refused(monkeypatch):
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path)[:-1] + b"?")
    with pytest.raises(DataError, match=efficientnet.PACKAGE) as refused:
        efficientnet._content()
    assert "\n" not in str(refused.value)


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(DataError, match=r"metricad\[imagenet\]") as refused:
        efficientnet._content()
    assert "\n" not in str(refused.value)


def test_a_package_without_the_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "empty_package").mkdir()
    (tmp_path / "empty_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(efficientnet, "PACKAGE", "empty_package")
    with pytest.raises(DataError, match="empty_package") as refused:
        efficientnet._content()
    assert "\n" not in str(refused.value)


def file_of_tensors(*, rebuild=("torch._utils", "_rebuild_tensor_v2")):
    """Write by hand what `torch.save` writes of a matrix, 3×2, that is a transposed view."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06NtQ"
    name = b"c%s\n%s\n(" % tuple(map(str.encode, rebuild))
    tensor = name + storage + b"K\x00K\x03K\x02\x86K\x01K\x03\x86tR"  # offset, shape, strides
    found = b"\x80\x02ccollections\nOrderedDict\n)R" + b"X\x06\x00\x00\x00weight" + tensor + b"s."
    head = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    numbers = struct.pack("<q6f", 6, *range(6))
    return b"".join([*head, found, pickle.dumps(["0"], 2), numbers])


def test_tensors_are_read_with_their_strides():
    tensors = efficientnet._tensors(file_of_tensors())
    assert list(tensors) == ["weight"]
    assert tensors["weight"].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    "name", [("builtins", "eval"), ("os", "system"), ("torch", "load"), ("collections", "Counter")]
)
def test_a_file_that_names_anything_but_tensors_is_refused(name):
    with pytest.raises(pickle.UnpicklingError, match=name[1]):
        efficientnet._tensors(file_of_tensors(rebuild=name))


def test_batch_normalization_is_folded_in():
    rng = np.random.default_rng(0)
    tensors = {"conv.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32)}
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensors[f"bn.{name}"] = rng.uniform(0.5, 2, 4).astype(np.float32)
    image = rng.standard_normal((1, 6, 6, 3)).astype(np.float32)
    plain = keras.layers.Conv2D(4, 3, use_bias=False)
    normalize = keras.layers.BatchNormalization(epsilon=1e-3)
    folded = keras.layers.Conv2D(4, 3)
    keras.Sequential([keras.Input((6, 6, 3)), plain, normalize])
    folded.build(image.shape)
    plain.set_weights([tensors["conv.weight"].transpose(2, 3, 1, 0)])
    normalize.set_weights([tensors[f"bn.{k}"] for k in ("weight", "bias", "running_mean", "running_var")])
    folded.set_weights(efficientnet._folded(tensors, "conv", "bn"))
    np.testing.assert_allclose(folded(image), normalize(plain(image)), rtol=1e-4, atol=1e-4)
