"""Conditional patch autoencoder and three-way pooling: patches, pooling and neighbors against slow ones."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricad.data import images
from metricad.errors import RunError
from tests.helpers import COLLECTING, scratched, texture

if not COLLECTING:
    import keras

    from metricad.methods import conditional_patches, cpcae_knn
    from metricad.methods.cpcae_knn import CpcaeKnnDetector

pytestmark = pytest.mark.tf

TINY = {"side": 32, "patch": 16, "stride": 8, "latent": 8, "map_side": 71, "weights": "none"}
TINY |= {"neighbors": 3, "epochs": 3, "batch_size": 16}
RNG = np.random.default_rng(0)
GOOD = [*(texture(RNG, side=40) for _ in range(9)), texture(RNG, side=60)[:45]]


@pytest.fixture(scope="module")
def fitted():
    return CpcaeKnnDetector(**TINY | {"epochs": 40, "learning_rate": 3e-3}).fit(iter(GOOD))


def test_the_defaults_are_the_published_settings():
    defaults = {k: p.default for k, p in inspect.signature(CpcaeKnnDetector).parameters.items()}
    published = {"neighbors": 15, "map_side": None, "weights": "imagenet"}
    assert published.items() <= defaults.items()
    assert defaults["epochs"] == conditional_patches.PUBLISHED_EPOCHS
    assert defaults["stride"] < defaults["patch"]  # overlapping


@given(st.integers(1, 30), st.data())
def test_patches_put_back_give_the_image_exactly(side, data):
    patch = data.draw(st.integers(1, side))
    stride = data.draw(st.integers(1, patch))
    image = np.random.default_rng(side).uniform(-1, 1, (side, side)).astype(np.float32)
    patches = conditional_patches.extract(image, patch, stride)
    np.testing.assert_array_equal(conditional_patches.put_back(patches, side, stride), image)


def test_patches_are_numbered_row_by_row_and_average_where_they_overlap():
    image = np.arange(25, dtype=np.float32).reshape(5, 5)
    patches = conditional_patches.extract(image, 3, 2)
    assert patches[:, 0, 0].tolist() == [0, 2, 10, 12]
    patches[0] += 1
    raised = conditional_patches.put_back(patches, 5, 2) - image
    expected = np.zeros((5, 5))
    expected[:3, :3] = [[1, 1, 1 / 2], [1, 1, 1 / 2], [1 / 2, 1 / 2, 1 / 4]]
    np.testing.assert_allclose(raised, expected, atol=1e-6)


def test_three_way_pooling_by_hand():
    features = np.array([[[1], [2], [-3]], [[4], [0], [6]], [[5], [8], [7]]], np.float32)
    # The 2×2 windows hold 1 2 4 0, then -3 6, then 5 8, then 7: their maxima are 4, 6, 8 and 7.
    np.testing.assert_allclose(cpcae_knn.three_way_pooling(features), [8, 30 / 9, 25 / 4], rtol=1e-6)
    assert cpcae_knn.three_way_pooling(np.zeros((4, 6, 5), np.float32)).shape == (15,)


def test_patches_come_with_their_index(fitted):
    small = images.resize(GOOD[0], (32, 32))
    examples = fitted._examples(small)
    assert examples.shape == (9, 16 * 16 + 1)
    np.testing.assert_allclose(examples[:, -1], np.arange(1, 10) / 9, rtol=1e-6)
    np.testing.assert_allclose(2 * examples[3, :-1].reshape(16, 16) - 1, small[8:24, :16], atol=1e-6)


def test_the_index_reaches_encoder_and_decoder():
    model = conditional_patches.build(16, 8, sparsity=0, seed=0)
    codes = keras.Model(model.input, [model.get_layer("code").output, model.output])
    pixels = np.full((1, 256), 0.5, np.float32)
    first, last = (codes(np.column_stack([pixels, [[index]]]).astype(np.float32)) for index in (0.1, 1))
    assert not np.allclose(first[0], last[0])
    # With the code held at nothing, what still differs came to the decoder beside it.
    layer = model.get_layer("code")
    layer.set_weights([np.zeros_like(weights) for weights in layer.get_weights()])
    first, last = (codes(np.column_stack([pixels, [[index]]]).astype(np.float32)) for index in (0.1, 1))
    np.testing.assert_array_equal(first[0], last[0])
    assert not np.allclose(first[1], last[1])


def test_the_penalty_is_the_sum_of_activations_times_its_weight():
    model = conditional_patches.build(16, 8, sparsity=0.5, seed=0)
    batch = np.random.default_rng(0).uniform(0, 1, (4, 257)).astype(np.float32)
    code = keras.Model(model.input, model.get_layer("code").output)(batch)
    model(batch)
    assert float(model.losses[0]) == pytest.approx(0.5 * float(np.abs(code).sum()) / 4, rel=1e-5)


def test_map_is_the_difference_to_the_reconstruction(fitted):
    image = texture(np.random.default_rng(1), side=40)
    small = images.resize(image, (32, 32))
    examples = fitted._examples(small)
    outputs = fitted.autoencoder.predict(examples, verbose=0).reshape(9, 16, 16)
    total, count = np.zeros((32, 32)), np.zeros((32, 32))
    for number in range(9):
        row, column = 8 * (number // 3), 8 * (number % 3)
        total[row : row + 16, column : column + 16] += outputs[number]
        count[row : row + 16, column : column + 16] += 1
    restored = images.resize((2 * total / count - 1).astype(np.float32), (40, 40))
    expected = np.abs(image - restored) / 2
    np.testing.assert_allclose(fitted.anomaly_map(image), expected, atol=1e-5)


def test_training_lowers_the_reconstruction_error(fitted):
    untrained = CpcaeKnnDetector(**TINY)
    image = texture(np.random.default_rng(1), side=40)
    assert fitted.anomaly_map(image).mean() < 0.5 * untrained.anomaly_map(image).mean()


def test_score_equals_a_slow_loop(fitted):
    good = np.array([fitted.embedding(image) for image in GOOD], np.float64)
    assert good.shape == (10, 3 * 2048)
    mean, deviation = good.mean(axis=0), good.std(axis=0)
    deviation[deviation == 0] = 1
    image = texture(np.random.default_rng(1), side=40)
    asked = (fitted.embedding(image) - mean) / deviation
    squared = sorted(sum((asked - (one - mean) / deviation) ** 2) for one in good)
    assert fitted.score(image) == pytest.approx(np.mean(squared[:3]), rel=1e-3)


def test_a_scratch_scores_higher_and_lights_up(fitted):
    rng = np.random.default_rng(2)
    good = [texture(rng, side=40) for _ in range(4)]
    marked = [scratched(image, 12, 15, side=12) for image in good]
    assert np.mean([*map(fitted.score, marked)]) > np.mean([*map(fitted.score, good)])
    for image in marked:
        row, column = np.unravel_index(fitted.anomaly_map(image).argmax(), image.shape)
        assert 12 <= row < 24
        assert 15 <= column < 27


def test_maps_have_the_images_size(fitted):
    wide = texture(np.random.default_rng(3), side=60)[:45]
    anomaly_map = fitted.anomaly_map(wide)
    assert anomaly_map.shape == (45, 60)
    assert anomaly_map.dtype == np.float32
    assert anomaly_map.min() >= 0


def test_an_interrupted_training_ends_like_an_unbroken_one(tmp_path, eager):
    class Stopped(Exception):
        pass

    done = []

    def stop_after_two():
        done.append(1)
        if len(done) == 2:
            raise Stopped

    few = GOOD[:4]
    unbroken = CpcaeKnnDetector(**TINY).fit(few)
    expected = unbroken.score(GOOD[5])
    assert unbroken.fit(few).score(GOOD[5]) == expected  # afresh, not on from where it was
    with pytest.raises(Stopped):
        CpcaeKnnDetector(**TINY, checkpoint=tmp_path, on_epoch=stop_after_two).fit(few)
    epochs = []
    resumed = CpcaeKnnDetector(**TINY, checkpoint=tmp_path, on_epoch=lambda: epochs.append(1)).fit(few)
    assert len(epochs) == 1
    assert resumed.score(GOOD[5]) == expected
    with pytest.raises(RunError, match="settings or seed"):
        CpcaeKnnDetector(**TINY, checkpoint=tmp_path, seed=1).fit(few)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("patch", 12, "patch must be a multiple of 8 and at most side, 32, received 12"),
        ("patch", 40, "patch must be a multiple of 8 and at most side"),
        ("stride", 17, "stride must be at most patch, 16, received 17"),
        ("stride", 0, "stride must be at least 1"),
        ("neighbors", 0, "neighbors must be at least 1"),
        ("epochs", 0, "epochs must be at least 1"),
        ("latent", 0, "latent must be at least 1"),
        ("sparsity", -1, "sparsity must be 0 or more"),
        ("learning_rate", 0, "learning_rate must be above 0"),
        ("map_side", 32, "side must be at least 71"),
    ],
)
def test_bad_arguments_are_refused(setting, value, message):
    with pytest.raises(ValueError, match=message):
        CpcaeKnnDetector(**TINY | {setting: value})


def test_without_images_there_is_nothing_to_fit():
    with pytest.raises(ValueError, match="no images to fit to"):
        CpcaeKnnDetector(**TINY).fit([])
