"""Kinds of prototype by name, and the choice between them from good images alone."""

from dataclasses import replace

import numpy as np
import pytest
from metricad.kinds import KINDS, AutoPrototype, prototype_of, tone_for
from metricad.positional import PositionalPrototype
from metricad.prototype import GaussianPrototype
from scipy import stats

from metricad.networks import hypercolumn
from metricad.networks import residual as network


def maps(count, *, in_register, shape=(9, 11, 3), seed=0):
    """Feature maps of a texture, or of a pattern that is the same in every one."""
    rng = np.random.default_rng(seed)
    pattern = 3 * rng.normal(size=shape)
    return [
        ((pattern if in_register else 3 * rng.normal(size=shape)) + rng.normal(size=shape)).astype(np.float32)
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_made_by_its_name(kind):
    made = KINDS[kind]().fit(maps(3, in_register=False))
    assert made.kind == ("gaussian" if kind == "auto" else kind)


@pytest.mark.parametrize(("in_register", "kind"), [(True, "positional"), (False, "gaussian")])
def test_auto_sees_from_good_images_whether_they_are_in_register(in_register, kind):
    assert AutoPrototype().fit(maps(20, in_register=in_register)).kind == kind


def test_auto_is_gaussian_while_it_has_not_looked_yet():
    auto = AutoPrototype().fit(maps(8, in_register=True))
    assert auto.kind == "gaussian"
    auto.update(maps(9, in_register=True)[-1])
    assert auto.kind == "positional"


def test_auto_is_gaussian_where_sizes_differ():
    features = maps(20, in_register=True)
    auto = AutoPrototype().fit([*features, features[0][:5]])
    assert auto.kind == "gaussian"
    assert auto.distance(features[0][:4, :4]).shape == (4, 4)


@pytest.mark.parametrize(
    ("in_register", "kind"), [(True, PositionalPrototype), (False, GaussianPrototype)], ids=str
)
def test_auto_is_the_chosen_one_in_all_it_says(in_register, kind):
    features = maps(20, in_register=in_register)
    auto, alone = AutoPrototype().fit(features), kind().fit(features)
    np.testing.assert_array_equal(auto.distance(features[3]), alone.distance(features[3]))
    assert auto.settings() == alone.settings()
    restored = KINDS[auto.kind](**auto.settings()).restore(auto.arrays())
    np.testing.assert_allclose(restored.distance(features[3]), alone.distance(features[3]), rtol=1e-5)
    with pytest.raises(ValueError, match="restore that one"):
        AutoPrototype().restore(auto.arrays())


def test_auto_starts_afresh_when_fitted_again():
    auto = AutoPrototype().fit(maps(20, in_register=True))
    assert auto.fit(maps(20, in_register=False, shape=(6, 5, 3))).kind == "gaussian"
    with pytest.raises(ValueError, match="no feature maps"):
        auto.fit([])


def test_log_likelihood_is_that_of_scipy():
    features = maps(12, in_register=False)
    fitted = GaussianPrototype(shrinkage=0.1).fit(features)
    (found,) = fitted.covariance
    covariance = 0.9 * found + 0.1 * np.trace(found) / 3 * np.eye(3)
    expected = stats.multivariate_normal(fitted.mean, covariance).logpdf(features[0])
    np.testing.assert_allclose(fitted.log_likelihood(features[0]), expected, rtol=1e-4)


def test_log_likelihood_of_positions_is_that_of_scipy():
    """A single covariance for all (shrinkage 1): a normal density about each position's own mean."""
    features = maps(12, in_register=True)
    fitted = PositionalPrototype(shrinkage=1).fit(features)
    away = features[0] - fitted.mean
    residuals = np.concatenate([(one - fitted.mean).reshape(-1, 3) for one in features])
    covariance = residuals.T @ residuals / len(residuals)
    covariance = 0.999 * covariance + 0.001 * np.trace(covariance) / 3 * np.eye(3)
    expected = stats.multivariate_normal(np.zeros(3), covariance).logpdf(away)
    np.testing.assert_allclose(fitted.log_likelihood(features[0]), expected, rtol=1e-3)


def test_log_likelihood_near_the_border_is_that_of_a_wider_gaussian():
    """Two independent scales; at the edge the same covariances times the square of the spread."""
    features = [one.repeat(2, axis=-1) for one in maps(12, in_register=False, shape=(9, 11, 2))]
    for number, one in enumerate(features):
        one += np.random.default_rng(number).normal(size=one.shape)
        one[0] *= 3
    fitted = GaussianPrototype(shrinkage=1e-6, scales=(1.0, 1.0), border=1).fit(features)
    covariance = np.zeros((4, 4))
    covariance[:2, :2], covariance[2:, 2:] = fitted.covariance
    edge = np.ones((9, 11), bool)
    edge[1:-1, 1:-1] = False
    assert fitted.spread[0] > 1.2
    assert fitted.spread[1] == 1
    found = fitted.log_likelihood(features[0])
    for chosen, spread in [(edge, fitted.spread[0]), (~edge, 1)]:
        expected = stats.multivariate_normal(fitted.mean, covariance * spread**2).logpdf(features[0][chosen])
        np.testing.assert_allclose(found[chosen], expected, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prototype_is_made_for_the_features_of_a_network(kind):
    sampling = replace(network.GRID, scales=(1.0, 0.5), border=2)
    made = prototype_of(kind, sampling).fit(maps(3, in_register=False, shape=(9, 11, 4)))
    assert made.kind == ("gaussian" if kind == "auto" else kind)
    settings = made.settings()
    if kind != "mean":
        assert settings["scales"] == [1.0, 0.5]
    if kind in ("gaussian", "auto"):
        assert settings["border"] == 2


def test_the_papers_network_keeps_its_light_and_any_other_has_its_tone_chosen():
    assert tone_for(network.build(4, seed=0)) is None
    assert tone_for(hypercolumn.build(4, seed=0)).curve is None


def test_auto_waits_for_positions_to_be_learned():
    """A faint pattern in many dimensions: with eight images its places are known too badly to foresee."""
    rng = np.random.default_rng(0)
    pattern = 0.5 * rng.normal(size=(9, 11, 24))
    features = [(pattern + rng.normal(size=pattern.shape)).astype(np.float32) for _ in range(60)]
    auto = AutoPrototype().fit(features[:9])
    assert auto.kind == "gaussian"
    for one in features[9:]:
        auto.update(one)
    assert auto.kind == "positional"


def test_auto_gives_up_positions_that_stay_behind():
    auto = AutoPrototype().fit(maps(25, in_register=False))
    assert auto._positional is None
    assert auto.kind == "gaussian"
