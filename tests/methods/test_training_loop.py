"""Training of the comparison methods: every example each epoch, and interruptions that leave no trace."""

import shutil

import numpy as np
import pytest

from metricad.errors import DataError, RunError
from tests.helpers import COLLECTING

if not COLLECTING:
    import keras

    from metricad.methods import training_loop

pytestmark = pytest.mark.tf

EXAMPLES = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def linear(*, seed=1, learning_rate=0.01):
    """A model small enough to train by hand."""
    inputs = keras.Input((3,))
    initial = keras.initializers.GlorotUniform(seed=seed)
    model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer=initial)(inputs))
    model.compile(keras.optimizers.Adam(learning_rate), loss="mean_squared_error", jit_compile=False)
    return model


def noisy(examples, rng):
    batch = np.stack(examples)
    return batch + 0.1 * rng.standard_normal(batch.shape).astype(np.float32), batch


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


class Interrupted(Exception):
    pass


def after(epochs):
    """Make an `on_epoch` that interrupts after so many."""
    left = [epochs]

    def on_epoch():
        left[0] -= 1
        if not left[0]:
            raise Interrupted

    return on_epoch


def test_each_epoch_has_every_example_once_in_an_order_of_its_own():
    seen = []

    def prepare(examples, rng):
        seen.append(np.stack(examples))
        return training_loop.reproduced(examples, rng)

    calls = []
    training_loop.train(
        linear(), EXAMPLES, epochs=3, batch_size=3, prepare=prepare, on_epoch=lambda: calls.append(1)
    )
    assert [len(batch) for batch in seen] == [3, 3, 2] * 3
    epochs = [np.concatenate(seen[start : start + 3]) for start in (0, 3, 6)]
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch, axis=0), np.sort(EXAMPLES, axis=0))
    assert not np.array_equal(epochs[0], epochs[1])
    assert len(calls) == 3


def test_it_is_what_keras_fits_on_the_same_batches():
    """And the loss is the epoch's mean, as Keras has it."""
    batches = []

    def prepare(examples, rng):
        batches.append(noisy(examples, rng))
        return batches[-1]

    model, expected = linear(), linear()
    losses = training_loop.train(model, EXAMPLES, epochs=1, batch_size=3, prepare=prepare)
    inputs, targets = (np.concatenate(part) for part in zip(*batches, strict=True))
    history = expected.fit(inputs, targets, batch_size=3, shuffle=False, verbose=0).history
    for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    assert losses == pytest.approx(history["loss"], rel=1e-6)


def test_training_lowers_the_loss():
    losses = training_loop.train(linear(learning_rate=0.1), EXAMPLES, epochs=30, batch_size=4)
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("moments", [(1,), (2, 2), (4,)])
def test_an_interrupted_training_ends_like_an_unbroken_one_bit_for_bit(tmp_path, moments):
    settings = {"epochs": 5, "batch_size": 4, "prepare": noisy, "seed": 3}
    unbroken = linear()
    losses = training_loop.train(unbroken, EXAMPLES, **settings)
    for epochs in moments:
        with pytest.raises(Interrupted):
            training_loop.train(linear(), EXAMPLES, **settings, checkpoint=tmp_path, on_epoch=after(epochs))
    model, calls = linear(), []
    resumed = training_loop.train(
        model, EXAMPLES, **settings, checkpoint=tmp_path, on_epoch=lambda: calls.append(1)
    )
    assert same(model, unbroken)
    assert resumed == losses
    assert len(calls) == 5 - sum(moments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The checkpoint of a training that came to its end."""
    folder = tmp_path_factory.mktemp("checkpoint")
    training_loop.train(linear(), EXAMPLES, epochs=2, batch_size=4, checkpoint=folder)
    return folder


def test_a_finished_training_is_taken_over_and_can_go_on(trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    settings = {"batch_size": 4, "checkpoint": tmp_path}
    again, longer, unbroken = (linear() for _ in range(3))
    losses = training_loop.train(again, EXAMPLES, epochs=2, **settings, on_epoch=after(1))
    training_loop.train(longer, EXAMPLES, epochs=4, **settings)
    assert training_loop.train(unbroken, EXAMPLES, epochs=4, batch_size=4)[:2] == losses
    assert same(longer, unbroken)
    assert not same(longer, again)


def test_the_seed_is_of_the_order_and_of_what_prepare_draws():
    def drawn(seed):
        batches = []

        def prepare(examples, rng):
            batches.append(noisy(examples, rng))
            return batches[-1]

        training_loop.train(linear(), EXAMPLES, epochs=1, batch_size=4, prepare=prepare, seed=seed)
        return np.array(batches)

    first, again, other = (drawn(seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:, 0], other[:, 0])  # noise
    assert not np.array_equal(first[:, 1], other[:, 1])  # order


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"batch_size": 5},
        {"examples": EXAMPLES + 1},
        {"prepare": noisy},
        {"model": {"seed": 2}},
        {"model": {"learning_rate": 0.02}},
    ],
    ids=["seed", "batch size", "images", "noise", "weights", "learning rate"],
)
def test_a_checkpoint_of_another_training_is_refused(trained, other):
    before = (trained / training_loop.CHECKPOINT).read_bytes()
    settings = {"model": {}, "examples": EXAMPLES, "epochs": 2, "batch_size": 4, **other}
    model, examples = linear(**settings.pop("model")), settings.pop("examples")
    with pytest.raises(RunError, match="with other images, settings or seed"):
        training_loop.train(model, examples, **settings, checkpoint=trained)
    assert (trained / training_loop.CHECKPOINT).read_bytes() == before


def test_a_longer_or_damaged_checkpoint_is_refused(trained, tmp_path):
    with pytest.raises(RunError, match="trained for 2 epochs already, more than the 1 asked for"):
        training_loop.train(linear(), EXAMPLES, epochs=1, batch_size=4, checkpoint=trained)
    whole = (trained / training_loop.CHECKPOINT).read_bytes()
    (tmp_path / training_loop.CHECKPOINT).write_bytes(whole[:-100])
    with pytest.raises(RunError, match="damaged; delete it"):
        training_loop.train(linear(), EXAMPLES, epochs=2, batch_size=4, checkpoint=tmp_path)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    with pytest.raises(RunError, match="loss of epoch 1 is not finite"):
        training_loop.train(linear(), EXAMPLES * np.inf, epochs=2, batch_size=4, checkpoint=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"examples": EXAMPLES[:0]}, "no examples to train on"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    settings = {"examples": EXAMPLES, "epochs": 1, "batch_size": 4, **wrong}
    with pytest.raises(ValueError, match=message):
        training_loop.train(linear(), settings.pop("examples"), **settings)


def test_images_are_gathered_at_one_size():
    images = [np.full((8, 6), 0.5, np.float32), np.full((4, 12), -0.5, np.float32)]
    gathered = training_loop.gather(iter(images), 4)
    assert gathered.shape == (2, 4, 4, 1)
    assert gathered.dtype == np.float32
    np.testing.assert_allclose(gathered[0], 0.5, atol=1e-6)
    np.testing.assert_allclose(gathered[1], -0.5, atol=1e-6)
    with pytest.raises(ValueError, match="no images to fit to"):
        training_loop.gather([], 4)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "expected a gray image"),
        (np.zeros((0, 4), np.float32), "expected a gray image"),
        (np.full((4, 4), np.nan, np.float32), "NaN or infinite"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(DataError, match=message):
        training_loop.gather([image], 4)


def test_layers_get_seeds_of_their_own():
    first, again, other = (training_loop.layer_seeds(seed) for seed in (1, 1, 2))
    drawn = [first() for _ in range(5)]
    assert len(set(drawn)) == 5
    assert drawn == [again() for _ in range(5)]
    assert drawn != [other() for _ in range(5)]
