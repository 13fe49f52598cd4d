"""The triplet loss against a plain NumPy loop, value and gradient."""

import numpy as np
import pytest

from tests.helpers import COLLECTING

if not COLLECTING:
    import tensorflow as tf

    from metricad.training import loss

pytestmark = pytest.mark.tf


def oracle_loss(anchor, positive, negative):
    """The paper's section 2.1, one triplet at a time, in float64."""
    errors = []
    for a, b, c in zip(anchor, positive, negative, strict=True):
        d1, d2 = np.sqrt(np.sum((a - b) ** 2)), np.sqrt(np.sum((a - c) ** 2))
        p = np.exp([d1, d2]) / np.sum(np.exp([d1, d2]))
        errors.append(np.mean([abs(p[0] - 0), abs(p[1] - 1)]))
    return np.mean(errors)


def oracle_gradient(branches, step=1e-5):
    """Central differences of the oracle."""
    gradient = np.zeros_like(branches)
    for index in np.ndindex(branches.shape):
        above, below = branches.copy(), branches.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (oracle_loss(*above) - oracle_loss(*below)) / (2 * step)
    return gradient


def value_and_gradient(branches):
    variables = [tf.Variable(branch.astype(np.float32)) for branch in branches]
    with tf.GradientTape() as tape:
        value = loss.triplet_loss(*variables)
    return float(value), np.stack([gradient.numpy() for gradient in tape.gradient(value, variables)])


@pytest.mark.parametrize("seed", range(5))
def test_value_and_gradient_agree_with_the_oracle(seed):
    branches = np.random.default_rng(seed).normal(size=(3, 6, 4))
    value, gradient = value_and_gradient(branches)
    assert value == pytest.approx(oracle_loss(*branches), rel=1e-5)
    np.testing.assert_allclose(gradient, oracle_gradient(branches), rtol=1e-3, atol=1e-6)


def test_at_distance_zero_the_value_is_right_and_the_gradient_is_that_of_the_other_distance():
    """Of equal features the distance has no derivative; the subgradient taken for it is 0."""
    rng = np.random.default_rng(0)
    anchor, negative = rng.normal(size=(2, 5, 4))
    branches = np.stack([anchor, anchor, negative])
    value, gradient = value_and_gradient(branches)
    assert value == pytest.approx(oracle_loss(*branches), rel=1e-5)
    np.testing.assert_allclose(gradient[1], 0, atol=1e-7)
    # With d1 held at 0 the loss is 1 / (1 + exp(d2)): its derivative by hand.
    difference = anchor - negative
    distance = np.linalg.norm(difference, axis=-1, keepdims=True)
    slope = -np.exp(distance) / (1 + np.exp(distance)) ** 2 / len(anchor)
    np.testing.assert_allclose(gradient[0], slope * difference / distance, rtol=1e-4)
    np.testing.assert_allclose(gradient[2], -slope * difference / distance, rtol=1e-4)


def test_all_three_equal_gives_one_half_and_no_gradient():
    value, gradient = value_and_gradient(np.ones((3, 2, 4)))
    assert value == pytest.approx(0.5)
    np.testing.assert_array_equal(gradient, 0)


def test_loss_is_the_mean_absolute_error_of_the_layer_that_fit_trains():
    branches = np.random.default_rng(3).normal(size=(3, 8, 4)).astype(np.float32)
    ratio = loss.DistanceRatio()(*(branch[:, None, None, :] for branch in branches)).numpy()
    assert ratio.shape == (8, 2)
    np.testing.assert_allclose(ratio.sum(axis=1), 1, rtol=1e-6)
    assert np.abs(ratio - np.array(loss.TARGET)).mean() == pytest.approx(
        float(loss.triplet_loss(*branches)), rel=1e-6
    )


def test_a_far_negative_costs_nothing_and_a_near_one_everything():
    near, far = np.zeros((1, 4), np.float32), np.full((1, 4), 20, np.float32)
    assert float(loss.triplet_loss(near, near, far)) == pytest.approx(0, abs=1e-6)
    assert float(loss.triplet_loss(near, far, near)) == pytest.approx(1, abs=1e-6)


def test_manhattan_distance_in_the_loss():
    anchor, positive, negative = np.random.default_rng(4).normal(size=(3, 8, 4)).astype(np.float32)
    layer = loss.DistanceRatio(metric="manhattan")
    layer = loss.DistanceRatio.from_config(layer.get_config())  # as Keras stores it
    ratio = layer(*(branch[:, None, None, :] for branch in (anchor, positive, negative))).numpy()
    d1, d2 = np.abs(anchor - positive).sum(axis=-1), np.abs(anchor - negative).sum(axis=-1)
    np.testing.assert_allclose(ratio[:, 0], np.exp(d1) / (np.exp(d1) + np.exp(d2)), rtol=1e-5)


def test_a_model_is_trained_with_the_metric_that_is_asked_for():
    from metricad.networks import residual
    from metricad.training import triplet_training

    model = triplet_training.three_branches(residual.build(4), metric="manhattan")
    assert model.get_layer("distance_ratio").metric == "manhattan"
