"""The plain autoencoder: the published settings, reconstruction as score, mirrored images to learn from."""

import inspect

import numpy as np
import pytest

from metricad.data import images
from metricad.errors import DataError
from tests.helpers import COLLECTING, scratched, texture

if not COLLECTING:
    import keras

    from metricad.methods import autoencoder
    from metricad.methods.autoencoder import AutoencoderDetector

pytestmark = pytest.mark.tf

TINY = {"side": 32, "latent": 16, "filters": (8, 16), "epochs": 2, "batch_size": 8}
RNG = np.random.default_rng(0)
GOOD = [texture(RNG, side=32) for _ in range(24)]


@pytest.fixture(scope="module")
def fitted():
    return AutoencoderDetector(**{**TINY, "epochs": 60, "learning_rate": 3e-3}).fit(iter(GOOD))


def test_the_defaults_are_the_published_settings():
    defaults = {k: p.default for k, p in inspect.signature(AutoencoderDetector).parameters.items()}
    published = {"side": 256, "latent": 1024, "epochs": 300, "batch_size": 70, "learning_rate": 1e-3}
    assert published.items() <= defaults.items()
    assert defaults["flip"] is True
    model = autoencoder.build()
    assert model.input_shape == model.output_shape == (None, 256, 256, 1)
    assert model.get_layer("code").output.shape == (None, 1024)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


def test_score_and_map_are_the_squared_difference_to_the_reconstruction(fitted):
    image = scratched(GOOD[0], 10, 12)
    restored = fitted.model.predict(image[np.newaxis, ..., np.newaxis], verbose=0)[0, ..., 0]
    expected = (image.astype(np.float64) - restored) ** 2
    np.testing.assert_allclose(fitted.anomaly_map(image), expected, rtol=1e-4, atol=1e-6)
    assert fitted.score(image) == pytest.approx(expected.mean(), rel=1e-5)


def test_only_the_code_passes_from_encoder_to_decoder(fitted):
    """Images of one code have one reconstruction: nothing goes round the bottleneck."""
    code = fitted.model.get_layer("code")
    kept = code.get_weights()
    code.set_weights([np.zeros_like(weights) for weights in kept])
    try:
        pixels = np.stack(GOOD[:2])[..., np.newaxis]
        first, second = fitted.model.predict(pixels, verbose=0)
    finally:
        code.set_weights(kept)
    assert np.array_equal(first, second)


def test_a_scratch_scores_higher_than_good_surface_and_lights_up(fitted):
    rng = np.random.default_rng(5)
    good = [texture(rng, side=32) for _ in range(8)]
    marked = [scratched(image, 10, 18) for image in good]
    assert min(map(fitted.score, marked)) > max(map(fitted.score, good))
    hits = [np.unravel_index(fitted.anomaly_map(image).argmax(), (32, 32)) for image in marked]
    assert all(8 <= row <= 18 and 16 <= column <= 26 for row, column in hits)


def test_training_lowers_the_loss(fitted):
    assert len(fitted.losses) == 60
    assert fitted.losses[-1] < 0.5 * fitted.losses[0]


def test_images_of_other_sizes_have_maps_of_their_own_size(fitted):
    image = images.resize(GOOD[0], (48, 70))
    anomaly_map = fitted.anomaly_map(image)
    assert anomaly_map.shape == (48, 70)
    assert anomaly_map.dtype == np.float32


def test_images_of_differing_sizes_are_learned_from(eager):
    other = AutoencoderDetector(**TINY).fit([*GOOD[:7], images.resize(GOOD[7], (48, 70))])
    assert other.losses[-1] < other.losses[0]


def test_the_embedding_is_the_code(fitted):
    first, second = (fitted.embedding(image) for image in GOOD[:2])
    assert first.shape == (16,)
    assert first.dtype == np.float32
    assert not np.array_equal(first, second)
    encoded = np.concatenate([first, second])
    assert np.abs(encoded).max() > 1e-3


def test_flips_mirror_left_to_right_about_half_of_the_images():
    batch = [np.arange(6, dtype=np.float32).reshape(2, 3, 1) + 10 * number for number in range(200)]
    inputs, targets = autoencoder.flipped(batch, np.random.default_rng(0))
    assert np.array_equal(inputs, targets)
    mirrored = [np.array_equal(given, kept[:, ::-1]) for given, kept in zip(inputs, batch, strict=True)]
    same = [np.array_equal(given, kept) for given, kept in zip(inputs, batch, strict=True)]
    assert np.all(np.logical_xor(mirrored, same))
    assert 70 < sum(mirrored) < 130


def test_the_seed_and_flips_count_and_interruptions_do_not(tmp_path, eager):
    """Nor does Keras's own seed."""

    class Stop(Exception):
        pass

    def stop():
        raise Stop

    with pytest.raises(Stop):
        AutoencoderDetector(**TINY, checkpoint=tmp_path, on_epoch=stop).fit(GOOD[:8])
    keras.utils.set_random_seed(7)
    epochs = []
    resumed = AutoencoderDetector(**TINY, checkpoint=tmp_path, on_epoch=lambda: epochs.append(1))
    unbroken = AutoencoderDetector(**TINY).fit(GOOD[:8])
    assert resumed.fit(GOOD[:8]).score(GOOD[9]) == unbroken.score(GOOD[9])
    assert len(epochs) == 1
    for other in ({"seed": 1}, {"flip": False}):
        assert AutoencoderDetector(**TINY, **other).fit(GOOD[:8]).score(GOOD[9]) != unbroken.score(GOOD[9])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"side": 30}, "side must be a multiple of 4"),
        ({"filters": ()}, "at least one filters"),
        ({"filters": (8, 0)}, r"filters\[1\] must be at least 1"),
        ({"latent": 0}, "latent must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderDetector(**{**TINY, **wrong})


def test_without_images_there_is_nothing_to_fit(fitted):
    with pytest.raises(ValueError, match="no images to fit to"):
        AutoencoderDetector(**TINY).fit([])
    with pytest.raises(DataError, match="expected a gray image"):
        fitted.score(np.zeros((4, 4, 3), np.float32))
