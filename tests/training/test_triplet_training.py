"""Training: the model that Keras fits, rounds, and runs that go on as if nothing had happened."""

import json
from dataclasses import replace

import numpy as np
import pytest

from metricad.errors import RunError
from metricad.training import triplets
from metricad.training.settings import Settings
from tests.helpers import COLLECTING

if not COLLECTING:
    import keras
    import tensorflow as tf

    from metricad.networks import residual
    from metricad.training import loss, runs, triplet_training

pytestmark = pytest.mark.tf

TINY = Settings(units=4, rounds=3, epochs=2, batch_size=16, triplets_per_round=64, pyramid=(64, 48), seed=7)


@pytest.fixture(scope="module")
def source():
    """Two textures that differ in scale and direction."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:64, :64]

    def texture(wave):
        return [np.sin(wave + rng.uniform(0, 6)).astype(np.float32) * 0.8 for _ in range(4)]

    return triplets.prepare("waves", {"rows": texture(row * 0.7), "columns": texture(column * 0.4)})


def weights_of(run):
    return runs.load_network(run).get_weights()


def test_branches_share_one_set_of_weights():
    embedding = residual.build(4)
    model = triplet_training.three_branches(embedding)
    assert model.count_params() == embedding.count_params()
    assert [tensor.name for tensor in model.inputs] == ["anchor", "positive", "negative"]


@pytest.mark.slow
def test_training_lowers_the_loss_and_records_each_round(tmp_path, source):
    settings = Settings(**{**vars(TINY), "learning_rate": 3e-3, "rounds": 4, "epochs": 6, "noise_share": 0})
    run = runs.start(tmp_path / "run", settings, {})
    records = []
    triplet_training.train(run, [source], on_round=records.append)
    assert [record["round"] for record in records] == [1, 2, 3, 4]
    assert records == runs.read_log(run)
    assert [len(record["epoch_loss"]) for record in records] == [6] * 4
    first, last = records[0]["epoch_loss"][0], records[-1]["epoch_loss"][-1]
    assert last < 0.7 * first
    assert records[-1]["accuracy"] > 0.8


@pytest.fixture(scope="module")
def unbroken(source, tmp_path_factory):
    """A run that was trained in one go."""
    run = runs.start(tmp_path_factory.mktemp("runs") / "unbroken", TINY, {})
    triplet_training.train(run, [source])
    return run


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path, source, unbroken):
    """Also if its log holds a record beyond the checkpoint, as after a power cut between the two."""

    class Stop(Exception):
        pass

    def stop_after_first(record):
        raise Stop

    broken = runs.start(tmp_path / "broken", TINY, {})
    with pytest.raises(Stop):
        triplet_training.train(broken, [source], on_round=stop_after_first)
    with pytest.raises(RunError, match="--resume"):
        runs.load_network(broken)
    with (broken / runs.LOG).open("a") as log:
        log.write(json.dumps({"round": 2, "loss": "from before the cut"}) + "\n")
    triplet_training.train(broken, [source])

    assert all(np.array_equal(a, b) for a, b in zip(weights_of(unbroken), weights_of(broken), strict=True))
    strip = [{k: v for k, v in record.items() if k != "seconds"} for record in runs.read_log(unbroken)]
    assert strip == [{k: v for k, v in record.items() if k != "seconds"} for record in runs.read_log(broken)]


def test_another_seed_gives_another_network(tmp_path, source, unbroken):
    run = runs.start(tmp_path / "run", replace(TINY, seed=TINY.seed + 1), {})
    triplet_training.train(run, [source])
    assert not np.array_equal(weights_of(run)[0], weights_of(unbroken)[0])


def test_each_round_has_triplets_of_its_own_whenever_it_is_drawn(source):
    first, again, second = (TINY.sample([source], number) for number in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], second[0])


def test_only_the_newest_checkpoint_is_kept(unbroken):
    assert sorted(path.name for path in unbroken.iterdir()) == [
        "checkpoint-0003.npz",
        "config.json",
        "log.jsonl",
        "network.npz",
    ]


def test_the_model_learns_what_the_loss_says():
    """One step of `fit` moves the weights down the gradient of `loss.triplet_loss`."""
    rng = np.random.default_rng(0)
    batch = rng.uniform(-1, 1, (3, 8, 32, 32, 1)).astype(np.float32)
    embedding = residual.build(4, seed=0)
    model = triplet_training.three_branches(embedding)
    with tf.GradientTape() as tape:
        expected = loss.triplet_loss(*(embedding(branch)[:, 0, 0] for branch in batch))
    gradients = tape.gradient(expected, embedding.trainable_variables)
    before = [variable.numpy() for variable in embedding.trainable_variables]
    history = model.fit(list(batch), np.tile(np.float32(loss.TARGET), (8, 1)), batch_size=8, verbose=0)
    assert history.history["loss"][0] == pytest.approx(float(expected), rel=1e-5)
    for old, variable, gradient in zip(before, embedding.trainable_variables, gradients, strict=True):
        clear = np.abs(gradient.numpy()) > 1e-4
        # Adam's first step is the learning rate against the sign of the gradient.
        np.testing.assert_allclose(
            (variable.numpy() - old)[clear], -1e-4 * np.sign(gradient.numpy()[clear]), rtol=0.05
        )


@pytest.mark.slow
def test_batches_run_together_are_the_same_steps(source):
    """Also where the last batch is a small one."""
    ended = []
    triplet = [part[:40] for part in TINY.sample([source], 1)]
    target = np.tile(np.float32(loss.TARGET), (40, 1))
    for together in (1, 3):
        model = triplet_training.three_branches(residual.build(4, seed=1), steps_per_execution=together)
        keras.utils.set_random_seed(0)
        model.fit(triplet, target, batch_size=16, epochs=2, verbose=0)
        ended.append(model.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*ended, strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"units": 0}, "units must be greater than 0"),
        ({"noise_share": 1.5}, "noise_share must lie in"),
        ({"noise_side": (9, 3)}, "noise_side must be ascending"),
        ({"metric": "cosine"}, "metric must be one of euclidean, manhattan"),
        ({"pyramid": (64, 16)}, "pyramid sides must be at least 32"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)
