"""Training on episodes: the loss against a slow account of it, and that it teaches."""

import numpy as np
import pytest

from metricad.synthetic import textures
from metricad.training import episodes
from metricad.training.episodes import CROPS, DEFECTIVE, GOOD, SIDE, SUPPORT
from tests.helpers import COLLECTING

if not COLLECTING:
    import keras
    import tensorflow as tf

    from metricad.networks import hypercolumn
    from metricad.training import episodic_training

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def drawn():
    """Four episodes of one texture: crops in [-1, 1] and masks."""
    rng = np.random.default_rng(0)
    texture = textures.random_texture(np.random.default_rng(5), 512)
    pairs = [
        episodes.spoil(episodes.cut([texture], rng), rng, other=textures.random_texture(rng, 128))
        for _ in range(4)
    ]
    return tuple(np.stack(part) for part in zip(*pairs, strict=True))


@pytest.fixture
def model():
    return hypercolumn.build(2, seed=0)


def near(covered, reach):
    """Whether any of the features around each is covered by a defect, however little."""
    padded = np.pad(covered, reach)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
    return windows.max(axis=(2, 3)) > 0


def farthest(values):
    return np.mean(np.sort(values, axis=None)[-5:])


def slow_loss(model, crops, masks, *, slope=2.0, offset=0.5):
    """The loss of `EpisodicTrainer` in NumPy, crop by crop."""
    by_crop, ordered, defective, good_ones = [], [], [], []
    for one, mask in zip(crops, masks, strict=True):
        features = model(one[..., None], training=False).numpy().astype(np.float64)
        side, dimensions = features.shape[1], features.shape[3]
        support = features[:SUPPORT].reshape(-1, dimensions)
        mean = support.mean(axis=0)
        covariance = np.cov(support.T, bias=True)
        covariance += (1e-2 * np.trace(covariance) / dimensions + 1e-6) * np.eye(dimensions)
        away = features[SUPPORT:] - mean
        squares = np.einsum("...i,ij,...j->...", away, np.linalg.inv(covariance), away) / dimensions
        logs = np.log(squares + 1e-3)
        goods = [farthest(logs[k]) for k in range(GOOD)]
        defects = []
        good_ones.extend(logs[:GOOD].ravel())
        for k in range(DEFECTIVE):
            covered = np.array(
                [[mask[k, 6 + 4 * i : 10 + 4 * i, 6 + 4 * j : 10 + 4 * j].mean() for j in range(side)]
                 for i in range(side)]
            )  # fmt: skip
            values = logs[GOOD + k]
            clear = ~near(covered, 4)
            goods.append(farthest(values[clear]))
            good_ones.extend(values[clear])
            defective.extend(values[covered > 0.25])
            if covered.any():
                defects.append(farthest(values[near(covered, 1)]))
        difference = np.subtract.outer(goods, defects).ravel()
        by_crop.extend(np.logaddexp(0, 4 * difference + 1))
        ordered.extend(difference < 0)
    by_feature = np.logaddexp(0, -slope * (np.array(defective) - offset)).mean()
    by_feature += np.logaddexp(0, slope * (np.array(good_ones) - offset)).mean()
    return np.mean(by_crop) + 0.5 * by_feature, np.mean(ordered)


def test_loss_is_what_a_slow_account_of_it_says(drawn, model):
    crops, masks = drawn
    trainer = episodic_training.EpisodicTrainer(model)
    loss, ordered = trainer.compute_episode_loss(tf.constant(crops), tf.constant(masks.astype(np.float32)))
    expected, share = slow_loss(model, crops, masks)
    assert float(loss) == pytest.approx(expected, rel=1e-3)
    assert float(ordered) == pytest.approx(share, abs=1e-6)


def test_loss_does_not_depend_on_the_features_units(drawn, model):
    """Mahalanobis distances do not, and so neither does what is asked of them."""
    crops, masks = drawn
    trainer = episodic_training.EpisodicTrainer(model)
    arguments = tf.constant(crops), tf.constant(masks.astype(np.float32))
    before = float(trainer.compute_episode_loss(*arguments)[0])
    for name in ("project1", "project2", "project3"):
        layer = model.get_layer(name)
        layer.set_weights([30 * weights for weights in layer.get_weights()])
    assert float(trainer.compute_episode_loss(*arguments)[0]) == pytest.approx(before, rel=1e-2)


@pytest.mark.slow
def test_training_brings_defects_into_order(drawn, model):
    crops, masks = drawn
    levels = np.clip(np.rint((crops + 1) * 127.5), 0, 255).astype(np.uint8)
    keras.utils.set_random_seed(0)
    trainer = episodic_training.compiled(model, learning_rate=5e-3, steps=15)
    history = trainer.fit(levels, masks, batch_size=4, epochs=15, verbose=0).history
    assert np.mean(history["loss"][-3:]) < np.mean(history["loss"][:3])


# Keras copies its own variables in a way that NumPy 2 warns of.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation", "ignore:Even though the .tf.config")
def test_an_interrupted_training_goes_on(drawn, tmp_path, eager):
    crops, masks = drawn
    levels = np.clip(np.rint((crops + 1) * 127.5), 0, 255).astype(np.uint8)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def fit(*callbacks):
        model = hypercolumn.build(2, seed=0)
        trainer = episodic_training.compiled(model, learning_rate=1e-3, steps=4)
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "state"))
        return trainer.fit(
            levels, masks, batch_size=4, epochs=4, verbose=0, callbacks=[backup, *callbacks]
        ).epoch

    with pytest.raises(KeyboardInterrupt):
        fit(Stop())
    assert fit() == [2, 3]


def test_crops_that_are_no_bytes_are_refused(drawn, model):
    trainer = episodic_training.compiled(model, learning_rate=1e-3, steps=1)
    with pytest.raises(ValueError, match="expected crops as uint8, received float32"):
        trainer.fit(*drawn, batch_size=4, verbose=0)


def test_crops_of_an_episode_have_their_numbers():
    assert CROPS == SUPPORT + GOOD + DEFECTIVE
    assert hypercolumn.GRID.smallest <= SIDE
