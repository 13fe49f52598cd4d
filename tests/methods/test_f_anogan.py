"""f-AnoGAN: the penalty in closed form, who is stepped when, the score by hand, and resuming."""

import numpy as np
import pytest

from metricad.data import images
from metricad.errors import DataError, RunError
from tests.helpers import COLLECTING, eagerly, scratched, texture

if not COLLECTING:
    import keras
    import tensorflow as tf

    from metricad.methods import f_anogan, f_anogan_networks
    from metricad.methods.f_anogan import FAnoGanDetector

pytestmark = pytest.mark.tf

SIDE = 16
TINY = {"side": SIDE, "latent": 6, "filters": 4, "epochs": 2, "encoder_epochs": 2, "batch_size": 8}
GOOD = [texture(np.random.default_rng(k), side=24) for k in range(20)]  # a last batch of 4


class Stop(Exception):
    pass


def stop_after(count):
    """Interrupt a training after so many epochs."""
    done = []

    def on_epoch():
        done.append(1)
        if len(done) == count:
            raise Stop

    return on_epoch


@pytest.fixture(scope="module")
def fitted():
    calls = []
    with eagerly():
        detector = FAnoGanDetector(**TINY, kappa=0.7, on_epoch=lambda: calls.append(1)).fit(iter(GOOD))
    assert len(calls) == TINY["epochs"] + TINY["encoder_epochs"]
    return detector


@pytest.fixture(scope="module")
def training():
    """One for all, since its graphs take a while: no test relies on what came before."""
    networks = f_anogan_networks.build(SIDE, 6, 4, seed=1)
    return f_anogan_networks.Training(
        networks, generator_every=5, learning_rate=1e-3, penalty=10.0, kappa=0.5, seed=2
    )


def batch(count=8):
    return np.stack([images.resize(image, (SIDE, SIDE)) for image in GOOD[:count]])[..., np.newaxis]


def weights_of(networks):
    models = (networks.generator, networks.critic, networks.encoder)
    return [value for model in models for value in model.get_weights()]


def are_equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def by_hand(networks, x, kappa):
    """Score and difference of images (N, side, side, 1), in NumPy."""
    reconstruction = np.asarray(networks.generator(networks.encoder(x)))
    features, of_reconstruction = (np.asarray(networks.features(pixels)) for pixels in (x, reconstruction))
    image_residual = ((x - reconstruction) ** 2).reshape(len(x), -1).mean(axis=1)
    feature_residual = ((features - of_reconstruction) ** 2).reshape(len(x), -1).mean(axis=1)
    return image_residual + kappa * feature_residual, np.abs(x - reconstruction)


def test_defaults_are_the_published_settings():
    detector = FAnoGanDetector()
    assert (detector.side, detector.latent, detector.batch_size, detector.generator_every) == (64, 100, 32, 5)
    assert (detector.epochs, detector.encoder_epochs) == (1500, 200)
    assert (f_anogan.PUBLISHED_EPOCHS, f_anogan.PUBLISHED_ENCODER_EPOCHS) == (1500, 200)
    assert FAnoGanDetector(epochs=15).encoder_epochs == 2
    assert FAnoGanDetector(epochs=1).encoder_epochs == 1
    assert detector.learning_rate == 0.0002
    networks = f_anogan_networks.build(detector.side, detector.latent, detector.filters, seed=0)
    assert networks.generator.input_shape == networks.encoder.output_shape == (None, 100)
    assert networks.generator.output_shape == networks.critic.input_shape == (None, 64, 64, 1)
    assert networks.features.output_shape == (None, 4, 4, 512)


def test_the_penalty_of_a_linear_critic_is_its_closed_form():
    rng = np.random.default_rng(0)
    slope = rng.standard_normal((SIDE, SIDE, 1)).astype(np.float32)
    real, fake = rng.uniform(-1, 1, (2, 5, SIDE, SIDE, 1)).astype(np.float32)
    share = rng.uniform(0, 1, (5, 1, 1, 1)).astype(np.float32)

    def critic(pixels):
        return tf.reduce_sum(pixels * slope, axis=(1, 2)) + 3

    expected = (np.linalg.norm(slope) - 1) ** 2
    penalty = f_anogan_networks.gradient_penalty(critic, *map(tf.constant, (real, fake, share)))
    assert float(penalty) == pytest.approx(expected, rel=1e-5)


def test_the_penalty_is_taken_between_real_and_generated_images():
    rng = np.random.default_rng(0)
    real, fake = rng.uniform(-1, 1, (2, 5, SIDE, SIDE, 1)).astype(np.float32)
    share = np.array([0, 0.25, 0.5, 0.9, 1], np.float32).reshape(5, 1, 1, 1)

    def critic(pixels):  # its gradient is the image itself
        return tf.reduce_sum(tf.square(pixels), axis=(1, 2)) / 2

    norms = np.linalg.norm(((1 - share) * real + share * fake).reshape(5, -1), axis=1)
    penalty = f_anogan_networks.gradient_penalty(critic, *map(tf.constant, (real, fake, share)))
    assert float(penalty) == pytest.approx(np.mean((norms - 1) ** 2), rel=1e-5)


def test_the_penalty_of_a_flat_critic_can_be_descended():
    slope = tf.Variable(tf.zeros((SIDE, SIDE, 1)))

    def critic(pixels):
        return tf.reduce_sum(pixels * slope, axis=(1, 2))

    with tf.GradientTape() as tape:
        penalty = f_anogan_networks.gradient_penalty(critic, batch(), -batch(), tf.zeros((8, 1, 1, 1)))
    assert float(penalty) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(tape.gradient(penalty, slope)).all()


def test_the_generator_is_stepped_once_in_five_batches(training):
    generator = training.networks.generator

    def trained():
        return [variable.numpy() for variable in generator.trainable_variables]

    while int(training.critic_optimizer.iterations) % 5:
        training.adversarial_step(batch())
    optimizers = (training.critic_optimizer, training.generator_optimizer, training.encoder_optimizer)
    begun = [int(optimizer.iterations) for optimizer in optimizers]
    stepped_at = []
    for number in range(1, 13):
        before = trained()
        training.adversarial_step(batch(8 if number % 3 else 4))
        if not are_equal(before, trained()):
            stepped_at.append(number)
    assert stepped_at == [5, 10]
    steps = [int(optimizer.iterations) for optimizer in optimizers]
    assert np.subtract(steps, begun).tolist() == [12, 2, 0]


def test_the_critic_learns_to_prefer_real_images_and_the_generator_what_the_critic_prefers(training):
    generator, critic = training.networks.generator, training.networks.critic
    codes = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)

    def value_of_generated():
        return float(np.mean(critic(generator(codes, training=True))))

    for _ in range(60):
        training._critic_graph(batch())
    before = value_of_generated()
    assert float(np.mean(critic(batch()))) > before + 0.1
    for _ in range(20):
        training._generator_graph(8)
    assert value_of_generated() > before + 0.1


def test_the_encoder_s_training_leaves_generator_and_critic_untouched_bit_for_bit(training):
    networks = training.networks
    fixed = [*networks.generator.get_weights(), *networks.critic.get_weights()]
    encoder = networks.encoder.get_weights()
    for _ in range(3):
        training.encoder_step(batch())
    # All weights: the generator's moving mean and variance are among them.
    assert are_equal(fixed, [*networks.generator.get_weights(), *networks.critic.get_weights()])
    assert not any(map(np.array_equal, encoder, networks.encoder.get_weights()))


def test_more_encoder_epochs_change_the_encoder_alone(fitted, monkeypatch, eager):
    made = []

    class Seen(f_anogan_networks.Training):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            made.append(self)

    monkeypatch.setattr(f_anogan_networks, "Training", Seen)
    longer = FAnoGanDetector(**(TINY | {"encoder_epochs": 3}), kappa=0.7).fit(GOOD)
    for name in ("generator", "critic", "features"):
        first, second = (getattr(d.networks, name).get_weights() for d in (fitted, longer))
        assert are_equal(first, second), name
    assert not are_equal(fitted.networks.encoder.get_weights(), longer.networks.encoder.get_weights())
    # Three batches an epoch: the critic had two epochs, the generator one batch in five of them.
    (seen,) = made
    optimizers = (seen.critic_optimizer, seen.generator_optimizer, seen.encoder_optimizer)
    assert [int(optimizer.iterations) for optimizer in optimizers] == [6, 1, 9]


def test_the_encoder_s_loss_is_the_mean_score_and_falls(training):
    expected = by_hand(training.networks, batch(), 0.5)[0].mean()
    losses = [float(training.encoder_step(batch())) for _ in range(40)]
    assert losses[0] == pytest.approx(expected, rel=1e-4)
    assert losses[-1] < 0.9 * losses[0]


def test_score_map_and_code_by_hand(fitted):
    image = batch()[0, ..., 0]
    score, difference = by_hand(fitted.networks, batch()[:1], 0.7)
    assert fitted.score(image) == pytest.approx(score[0], rel=1e-4)
    anomaly_map = fitted.anomaly_map(image)
    assert anomaly_map.dtype == np.float32
    np.testing.assert_allclose(anomaly_map, difference[0, ..., 0], atol=1e-5)
    code = fitted.embedding(image)
    assert (code.shape, code.dtype) == ((6,), np.float32)
    np.testing.assert_array_equal(code, fitted.networks.encoder(batch()[:1])[0])
    # κ counts: without it there is the image residual alone.
    assert np.square(difference).mean() < fitted.score(image)


def test_maps_have_the_size_of_their_image(fitted):
    image = texture(np.random.default_rng(0), side=40)[:, :30]
    small = images.resize(image, (SIDE, SIDE))
    assert fitted.anomaly_map(image).shape == (40, 30)
    expected = images.resize(fitted.anomaly_map(small), (40, 30))
    np.testing.assert_allclose(fitted.anomaly_map(image), expected, atol=1e-6)
    assert fitted.score(image) == fitted.score(small)


def test_a_scratch_scores_above_good_images_and_lights_up_where_it_is():
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:SIDE, :SIDE]

    def lit():  # one pattern, seen in brighter or dimmer light
        wave = rng.uniform(0.2, 0.6) * np.sin(0.8 * row + 0.3 * column)
        return (wave + 0.03 * rng.standard_normal((SIDE, SIDE))).astype(np.float32)

    settings = TINY | {"filters": 8, "epochs": 80, "encoder_epochs": 40, "generator_every": 2, "flip": False}
    detector = FAnoGanDetector(**settings, learning_rate=2e-3).fit([lit() for _ in range(32)])
    good = [lit() for _ in range(10)]
    # Of an untrained one nearly all would be left.
    left = np.mean([np.square(detector.anomaly_map(image)) for image in good])
    assert left < 0.15 * np.mean(np.square(good))
    marked = [scratched(image, 9, 2, side=5) for image in good]
    assert min(map(detector.score, marked)) > max(map(detector.score, good))
    mean_map = np.mean([detector.anomaly_map(image) for image in marked], axis=0)
    assert mean_map[9:14, 2:7].mean() > 3 * mean_map[:7].mean()


def test_another_seed_gives_another_detector_and_leaves_the_global_random_state_alone(fitted, eager):
    keras.utils.set_random_seed(5)
    expected = [float(tf.random.uniform(())), np.random.get_state()[1].tolist()]  # noqa: NPY002
    keras.utils.set_random_seed(5)
    other = FAnoGanDetector(**(TINY | {"epochs": 1, "encoder_epochs": 1}), kappa=0.7, seed=1).fit(GOOD)
    assert [float(tf.random.uniform(())), np.random.get_state()[1].tolist()] == expected  # noqa: NPY002
    assert other.score(GOOD[0]) != fitted.score(GOOD[0])


def test_a_resumed_training_equals_an_unbroken_one_bit_for_bit(fitted, tmp_path, eager):
    folder = tmp_path / "kept"
    for count in (1, 2):  # epochs, so within the first training and within the second
        keras.utils.set_random_seed(count)  # which nothing may follow from
        with pytest.raises(Stop):
            FAnoGanDetector(**TINY, kappa=0.7, checkpoint=folder, on_epoch=stop_after(count)).fit(GOOD)
    epochs = []
    resumed = FAnoGanDetector(**TINY, kappa=0.7, checkpoint=folder, on_epoch=lambda: epochs.append(1)).fit(
        GOOD
    )
    assert len(epochs) == 1
    assert are_equal(weights_of(fitted.networks), weights_of(resumed.networks))
    assert resumed.score(GOOD[0]) == fitted.score(GOOD[0])

    with pytest.raises(RunError, match="other settings or images"):
        FAnoGanDetector(**TINY, kappa=0.7, checkpoint=folder).fit(GOOD[:-1])
    with pytest.raises(RunError, match="other settings or images"):
        FAnoGanDetector(**TINY, kappa=0.8, checkpoint=folder).fit(GOOD)
    (data,) = folder.glob("*.data-*")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        FAnoGanDetector(**TINY, kappa=0.7, checkpoint=folder).fit(GOOD)


def test_every_image_once_an_epoch_and_half_of_them_mirrored():
    detector = FAnoGanDetector(**TINY)
    good = np.stack([np.full((SIDE, SIDE, 1), k, np.float32) for k in range(400)])
    good[:, :, 0] += 0.5  # a mark on the left
    batches = list(detector._batches(good, 3))
    assert [len(each) for each in batches] == [8] * 50
    seen = np.concatenate(batches)
    assert sorted(seen[:, 0, 5, 0]) == list(range(400))
    assert not np.array_equal(seen[:, 0, 5, 0], np.concatenate(list(detector._batches(good, 4)))[:, 0, 5, 0])
    on_left = seen[:, 0, 0, 0] > seen[:, 0, -1, 0]
    assert 150 < on_left.sum() < 250
    plain = np.concatenate(list(FAnoGanDetector(**TINY, flip=False)._batches(good, 3)))
    assert (plain[:, 0, 0, 0] > plain[:, 0, -1, 0]).all()


def test_a_loss_that_is_not_finite_ends_the_training():
    huge = FAnoGanDetector(**(TINY | {"epochs": 30}), learning_rate=1e30)
    with pytest.raises(RunError, match="lower learning rate"):
        huge.fit(GOOD)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"side": 48}, "side must be a power of two"),
        ({"side": 4}, "side must be an integer from 8"),
        ({"latent": 0}, "latent must be an integer from 1"),
        ({"epochs": 0}, "epochs must be an integer from 1"),
        ({"encoder_epochs": 2.5}, "encoder_epochs must be an integer from 1"),
        ({"batch_size": True}, "batch_size must be an integer from 1"),
        ({"generator_every": 0}, "generator_every must be an integer from 1"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"kappa": -1}, "kappa must be 0 or more"),
        ({"penalty": float("nan")}, "penalty must be 0 or more"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        FAnoGanDetector(**setting)


def test_bad_images_are_refused(fitted):
    with pytest.raises(ValueError, match="no images to fit to"):
        FAnoGanDetector().fit([])
    with pytest.raises(ValueError, match="call fit first"):
        FAnoGanDetector().score(GOOD[0])
    with pytest.raises(DataError, match=r"shape \(24, 24, 3\)"):
        fitted.score(np.zeros((24, 24, 3), np.float32))
    with pytest.raises(DataError, match="NaN or infinite"):
        FAnoGanDetector().fit([np.full((24, 24), np.nan, np.float32)])
