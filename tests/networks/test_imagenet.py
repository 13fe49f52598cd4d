"""Pre-trained networks: where their weights come from, what they are fed, which layers come out."""

import inspect

import numpy as np
import pytest

from metricad.errors import DataError
from tests.helpers import COLLECTING, colored, needs_weights, texture

if not COLLECTING:
    import keras

    from metricad.networks import imagenet

pytestmark = pytest.mark.tf

LIGHT = "MobileNetV2"
IMAGE = texture(np.random.default_rng(0), side=48)


@pytest.fixture(scope="module")
def light():
    return imagenet.load(LIGHT, weights="none", layers=imagenet.APPLICATIONS[LIGHT].stages)


def test_features_are_the_layers_outputs(light):
    """Oracle: Keras's own models up to each layer, fed with Keras's own preprocessing of three channels."""
    colors = np.repeat(np.float32(127.5) * (IMAGE[np.newaxis, ..., np.newaxis] + 1), 3, axis=-1)
    pixels = keras.applications.mobilenet_v2.preprocess_input(colors)
    for name, features in zip(light.layers, light.features(IMAGE), strict=True):
        model = keras.Model(light.network.input, light.network.get_layer(name).output)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, model(pixels)[0], rtol=1e-3, atol=1e-4)


def test_color_images_keep_their_colors(light):
    image = colored(np.random.default_rng(3), IMAGE)
    pixels = keras.applications.mobilenet_v2.preprocess_input(np.float32(127.5) * (image[np.newaxis] + 1))
    expected = light.network(pixels)
    for features, wanted in zip(light.features(image), expected, strict=True):
        np.testing.assert_allclose(features, wanted[0], rtol=1e-3, atol=1e-4)
    same = light.features(np.repeat(IMAGE[..., np.newaxis], 3, axis=-1))
    for features, wanted in zip(same, light.features(IMAGE), strict=True):
        np.testing.assert_array_equal(features, wanted)
    assert light.features(image[:20, :10])[0].shape[:2] == (16, 8)  # enlarged to 64×32


def test_stages_have_strides_4_to_32(light):
    sides = [features.shape[0] for features in light.features(IMAGE, 64)]
    assert sides == [16, 8, 4, 2]
    assert light.dimensions == sum(features.shape[-1] for features in light.features(IMAGE, 64))


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [
        ("Xception", [-1, -1, -1], [1, 1, 1]),
        # Blue, green and red of ImageNet's mean are taken off, nothing is scaled.
        ("ResNet50", [-103.939, -116.779, -123.68], [151.061, 138.221, 131.32]),
    ],
)
def test_gray_becomes_what_the_application_was_trained_on(name, black, white):
    image = np.array([[-1, 1]], np.float32)
    np.testing.assert_allclose(imagenet.preprocessed(image, name), [[black, white]], rtol=1e-5)
    assert image.tolist() == [[-1, 1]]  # Keras's own would have changed it in place


def test_images_are_resized_only_as_far_as_asked(light):
    wide = texture(np.random.default_rng(1), side=80)[:40]
    assert light.features(wide)[0].shape[:2] == (10, 20)
    assert light.features(wide, 32)[0].shape[:2] == (8, 8)
    # An image smaller than the application takes is enlarged in proportion: 10×20 to 32×64.
    assert light.features(wide[:10, :20])[0].shape[:2] == (8, 16)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Keras's, on writing
def test_weights_from_a_file_give_the_same_features(light, tmp_path):
    path = tmp_path / "mine.weights.h5"
    light.network.save_weights(path)
    loaded = imagenet.load(LIGHT, weights=path, layers=light.layers)
    assert loaded is not light
    for ours, expected in zip(loaded.features(IMAGE), light.features(IMAGE), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.slow
def test_random_weights_are_seeded_whatever_kerass_seed_is(light):
    expected = light.features(IMAGE)[0]
    imagenet._network.cache_clear()
    imagenet._loaded.cache_clear()
    keras.utils.set_random_seed(6)
    again = imagenet.load(LIGHT, weights="none", layers=light.layers)
    assert again is not light
    np.testing.assert_allclose(again.features(IMAGE)[0], expected, rtol=1e-4, atol=1e-4)
    other = imagenet.load(LIGHT, weights="none", layers=light.layers, seed=2)
    assert not np.allclose(other.features(IMAGE)[0], expected, atol=0.1)


def test_random_features_neither_fade_nor_drown_each_other(light):
    for features in light.features(IMAGE):
        assert 0.05 < features.std() < 20


def test_the_same_network_is_shared(light):
    first = imagenet.load(LIGHT, weights="none", layers=light.layers)
    assert imagenet.load(LIGHT, weights="none", layers=list(light.layers)) is first


def test_imagenet_is_the_default_and_random_weights_are_called_so():
    assert inspect.signature(imagenet.load).parameters["weights"].default == "imagenet"
    assert imagenet.describe("imagenet") == "ImageNet weights"
    assert imagenet.describe("none", seed=3) == "random weights, seed 3"
    assert imagenet.describe("/some/where/mine.h5") == "weights of mine.h5"


@needs_weights
def test_efficientnet_lite2_has_the_stages_of_an_application():
    stages = imagenet.APPLICATIONS[imagenet.LITE2].stages
    backbone = imagenet.load(imagenet.LITE2, layers=stages)
    found = backbone.features(colored(np.random.default_rng(4), IMAGE), 64)
    assert [each.shape for each in found] == [(16, 16, 24), (8, 8, 48), (4, 4, 120), (2, 2, 1280)]
    assert imagenet.load(imagenet.LITE2).layers == stages[-1:]


@pytest.mark.parametrize("weights", ["none", "own.h5"])
def test_efficientnet_lite2_has_no_other_weights(weights):
    with pytest.raises(ValueError, match="weights must be imagenet"):
        imagenet.load(imagenet.LITE2, weights=weights)


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2", "Xception"])
def test_without_network_the_error_says_how_to_get_the_weights(name, monkeypatch, capfd):
    """Keras is stopped where it would download: the file it asks for is the one that the error names."""
    asked = []

    def fail(file, *_, **__):
        asked.append(file)
        print("Downloading data")  # as Keras does, where results go
        raise Exception(f"URL fetch failure on {file}: None --\nName or service not known")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
    with pytest.raises(DataError) as refused:
        imagenet.load(name)
    message = str(refused.value)
    assert asked == [imagenet.APPLICATIONS[name].file]
    assert "\n" not in message
    for part in (name, asked[0], "--weights FILE", "--weights none", "Name or service not known"):
        assert part in message
    assert capfd.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Keras's, on writing
def test_files_that_do_not_fit_are_refused(tmp_path):
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(other)
    garbage = tmp_path / "garbage.weights.h5"
    garbage.write_bytes(b"no weights")
    for path in (other, garbage):
        with pytest.raises(DataError, match="not weights of Keras's MobileNetV2") as refused:
            imagenet.load(LIGHT, weights=path)
        assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match=r"no such file.*mobilenet_v2_weights"):
        imagenet.load(LIGHT, weights=tmp_path / "missing.h5")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="backbone must be one of ResNet50"):
        imagenet.load("VGG16", weights="none")
    for layers in (["nowhere"], []):
        with pytest.raises(ValueError, match="layers must be names of layers"):
            imagenet.load(LIGHT, weights="none", layers=layers)
    with pytest.raises(ValueError, match="at least 71 pixels for Xception, received 70"):
        imagenet.checked_side(70, "Xception")


def test_layers_are_joined_on_the_first_ones_grid():
    rng = np.random.default_rng(2)
    fine, coarse = rng.standard_normal((4, 6, 2)), rng.standard_normal((2, 3, 3))
    joined = imagenet.joined([fine.astype(np.float32), coarse.astype(np.float32)])
    np.testing.assert_allclose(joined[..., :2], fine, rtol=1e-6)
    np.testing.assert_allclose(joined[..., 2:], coarse.repeat(2, axis=0).repeat(2, axis=1), rtol=1e-6)
    # Halfway between the centres of two coarse features lies a quarter of a step on either side of it.
    ramp = np.array([0, 4], np.float32).reshape(1, 2, 1)
    smooth = imagenet.joined([np.zeros((1, 4, 1), np.float32), ramp], interpolation="bilinear")[0, :, 1]
    assert smooth.tolist() == [0, 1, 3, 4]
