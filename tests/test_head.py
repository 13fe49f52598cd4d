"""The head on a prototype: what it learns, what it keeps, and what it refuses."""

import numpy as np
import pytest
from metricad.head import HeadPrototype
from metricad.prototype import GaussianPrototype

from metricad import head


@pytest.fixture(scope="module")
def base():
    rng = np.random.default_rng(0)
    return GaussianPrototype().fit([rng.normal(size=(20, 20, 4)).astype(np.float32) for _ in range(4)])


@pytest.fixture(scope="module")
def trained(base):
    """Far along the first axis is harmless, far along the second a defect."""
    rng = np.random.default_rng(1)
    good = rng.normal(size=(4000, 4))
    good[:2000, 0] *= 4
    defective = rng.normal(size=(400, 4))
    defective[:, 1] += 5
    made = head.of(base)
    made.train(*([rows[k::8].astype(np.float32) for k in range(8)] for rows in (good, defective)), seed=0)
    return made


def at(base, *white):
    """Features that lie at these whitened coordinates."""
    points = np.array(white, float) @ np.linalg.inv(
        base.whitened(np.eye(4, dtype=np.float32)[None])[0]
        - base.whitened(np.zeros((1, 1, 4), np.float32))[0, 0]
    )
    return (points + base.mean)[None].astype(np.float32)  # fmt: skip


def test_a_defects_direction_is_farther_than_a_harmless_one(base, trained):
    harmless, defect = trained.distance(at(base, (5, 0, 0, 0), (0, 5, 0, 0)))[0]
    alike = base.distance(at(base, (5, 0, 0, 0), (0, 5, 0, 0)))[0]
    assert alike[0] == pytest.approx(alike[1], rel=1e-3)
    assert defect > 2 * harmless


def test_logits_are_those_of_a_slow_forward_pass(base, trained):
    features = np.random.default_rng(2).normal(size=(3, 4, 4)).astype(np.float32)
    distances, logits = trained.parts(features)
    np.testing.assert_allclose(distances, base.distance(features), rtol=1e-6)
    weights, biases, last, bias = trained.layers
    for row, column in np.ndindex(3, 4):
        white = base.whitened(features)[row, column].astype(float)
        inputs = [*(np.sign(v) * np.log(1 + abs(v)) for v in white), np.log(np.mean(white**2) + 0.01)]
        hidden = [max(0.0, float(np.dot(inputs, weights[:, k]) + biases[k])) for k in range(len(biases))]
        assert logits[row, column] == pytest.approx(float(np.dot(hidden, last[:, 0]) + bias[0]), abs=1e-4)


def test_each_image_is_new_to_one_member():
    for count in (2, 5, 8):
        learns = head._halves(count, np.random.default_rng(count))
        assert learns.any(axis=1).all()
        assert (learns.sum(axis=0) == 1).all()
    assert head._halves(1, np.random.default_rng(0)).all()


def test_the_head_is_the_mean_of_its_members_or_the_one_that_is_new_to_an_image(base, trained):
    features = np.random.default_rng(2).normal(size=(6, 6, 4)).astype(np.float32)
    each = np.stack([head._logits(base.whitened(features), member) for member in trained._members])
    assert np.ptp(each, axis=0).max() > 0.1
    np.testing.assert_allclose(trained.parts(features)[1], each.mean(axis=0), atol=1e-4)
    for image in range(8):
        distances, logits = trained.held_out_parts(features, image)
        np.testing.assert_array_equal(distances, trained.parts(features)[0])
        (other,) = np.flatnonzero(~trained._learns[:, image])
        np.testing.assert_array_equal(logits, each[other])


def test_a_head_is_made_of_one_image_and_of_defects_on_one_alone(base):
    rng = np.random.default_rng(3)
    good = rng.normal(size=(6, 200, 4)).astype(np.float32)
    defective = [*np.empty((5, 0, 4), np.float32), good[5, :50] + 6]
    for first in (0, 5):
        made = head.of(base)
        made.train(good[first:], defective[first:], seed=0)
        features = np.zeros((2, 2, 4), np.float32)
        assert made.held_out_parts(features, 0).shape == (2, 2, 2)
        assert made.logits(np.full((1, 4), 6, np.float32)) > made.logits(np.zeros((1, 4), np.float32))


def test_a_deviation_of_the_logits_stretches_a_distance_by_one_of_its_logarithm(trained):
    features = np.random.default_rng(2).normal(size=(30, 30, 4)).astype(np.float32)
    trained.standardise(np.array([[1.0, -1.0], [4.0, 5.0]]))  # deviations log 2 and 3, typical logit 2
    distances, logits = trained.parts(features)
    np.testing.assert_allclose(trained.distance(features), distances * 2 ** ((logits - 2) / 3), rtol=1e-4)


def test_a_stretched_distance_stays_finite(trained):
    features = np.random.default_rng(2).normal(size=(30, 30, 4)).astype(np.float32)
    for farthest in ([[1.0, 2.0]], [[1.0, 2.0], [4.0, 2.0]], [[0.0, 2.0], [0.0, 2.0]]):
        trained.standardise(np.array(farthest))
        found = trained.distance(1e3 * features)
        assert np.isfinite(found).all()
        assert found.min() >= 0


def test_a_copy_from_its_arrays_gives_the_same_distances(base, trained):
    features = np.random.default_rng(2).normal(size=(5, 5, 4)).astype(np.float32)
    copy = HeadPrototype(**trained.settings()).restore(trained.arrays())
    np.testing.assert_array_equal(copy.distance(features), trained.distance(features))
    assert copy.settings() == {"base": "gaussian", **base.settings()}


def test_a_head_learns_from_images_only(trained):
    with pytest.raises(ValueError, match=r"see adaptation\.adapt"):
        trained.update(np.zeros((2, 2, 4), np.float32))
    with pytest.raises(ValueError, match=r"see adaptation\.adapt"):
        trained.fit([np.zeros((2, 2, 4), np.float32)])


def test_another_base_is_refused():
    with pytest.raises(ValueError, match="base must be one of gaussian, positional, received 'mean'"):
        HeadPrototype(base="mean")
