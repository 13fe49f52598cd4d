"""Cross-validated scores: of detectors that were fitted without the image, everything repeated."""

import numpy as np
import pytest

from metricad.density import MEANS
from metricad.errors import DataError
from metricad.preprocessing.regions import MaskRegion
from tests.helpers import COLLECTING, surface, texture

if not COLLECTING:
    from metricad.inspection import cross_validation, fit_detector
    from metricad.inspection.detector import PartDetector
    from metricad.networks import hypercolumn, residual

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def network():
    return hypercolumn.build(2, seed=1)


@pytest.fixture(scope="module")
def good():
    """Seven good images; the last one is unlike the others."""
    rng = np.random.default_rng(3)
    images = [texture(rng, side=76) for _ in range(7)]
    images[-1] = np.clip(1.5 * images[-1] + 0.2, -1, 1).astype(np.float32)
    return images


def without(images, number):
    return [image for i, image in enumerate(images) if i != number]


# Folds.


def test_each_of_few_images_is_a_fold_and_many_share_ten():
    assert cross_validation.folds(30).tolist() == list(range(30))
    many = cross_validation.folds(31, seed=2)
    assert np.bincount(many).tolist() == [4] + 9 * [3]
    np.testing.assert_array_equal(many, cross_validation.folds(31, seed=2))


@pytest.mark.parametrize("count", [5, 40])
def test_images_of_a_group_share_a_fold(count):
    groups = np.repeat(np.arange(count) * 7, 3)
    found = cross_validation.folds(len(groups), groups=groups).reshape(count, 3)
    assert (found == found[:, :1]).all()
    assert found.max() == min(count, 10) - 1


def test_too_few_groups_are_refused():
    with pytest.raises(DataError):
        cross_validation.folds(4)
    with pytest.raises(DataError):
        cross_validation.folds(8, groups=[0, 0, 1, 1, 2, 2, 3, 3])


# Scores.


@pytest.mark.parametrize("kind", MEANS)
def test_scores_of_means_are_those_of_separate_fits(good, kind):
    network = residual.build(2, seed=1)
    mask = np.ones(good[0].shape, bool)
    mask[:40] = False
    folds = np.array([0, 1, 0, 1, 0, 1, 1])

    def made():
        return PartDetector(network, kind, region=MaskRegion(mask))

    found = cross_validation.fit(made(), good, folds)
    for fold in (0, 1):
        alone = made().fit([good[i] for i in np.flatnonzero(folds != fold)])
        own = np.flatnonzero(folds == fold)
        np.testing.assert_allclose(found[own], [alone.score(good[i]) for i in own], rtol=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "positional"])
def test_the_detector_is_that_of_a_plain_fit_and_its_own_scores_are_lower(network, good, kind):
    detector, plain = PartDetector(network, kind), PartDetector(network, kind)
    found = cross_validation.fit(detector, good, cross_validation.folds(len(good)))
    plain.fit(good)
    for one, other in zip(layers(detector), layers(plain), strict=True):
        for weights, expected in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(weights, expected)
    last = detector.score(good[-1])
    assert found.argmax() == len(good) - 1
    assert found[-1] > 2 * last  # unlike the others, it would hide in a model that has seen it


def layers(detector):
    """Everything that a detector learned from good images."""
    return [*detector.densities, detector.standardize, detector.fuse, detector.score_layer]


def test_scores_of_a_fold_do_not_depend_on_its_images(network, good):
    mask = np.zeros((76, 76), bool)
    mask[20:60, 15:70] = True
    detector = PartDetector(network, "gaussian", region=MaskRegion(mask))
    _, learned = fit_detector.fit(detector, good)
    without = cross_validation._Refit(detector, learned)
    changed = [*good[:2], good[0], *good[3:]]
    both, other = (
        [without.without(images, np.array([2, 6])).score(images[i]) for i in (2, 6)]
        for images in (good, changed)
    )
    assert both[1] == pytest.approx(other[1], rel=1e-5)
    assert both[0] != other[0]


def test_a_fold_with_another_intensity_transform_gets_features_of_its_own(network, monkeypatch):
    """The contrast of one image of six is so high that the logarithm depends on it."""
    rng = np.random.default_rng(0)
    images = [surface(rng, (76, 76)) for _ in range(6)]
    shading = np.linspace(0.05, 1, 76, dtype=np.float32)
    images[1] = ((images[1] + 1) * shading - 1).astype(np.float32)
    detector = PartDetector(network, "gaussian")
    look = fit_detector.Look.at(detector, images)
    curves = [look.settings(without=[i])["curve"] for i in range(6)]
    assert set(curves) == {"linear", "logarithmic"}
    learned, learn = [], fit_detector.learn
    monkeypatch.setattr(
        fit_detector, "learn", lambda *given: learned.append(given[0].settings["curve"]) or learn(*given)
    )
    found = cross_validation.fit(detector, images, cross_validation.folds(6))
    assert sorted(learned) == ["linear", "logarithmic"]
    assert detector.settings["curve"] == look.settings()["curve"]
    assert np.isfinite(found).all()


def test_folds_repeat_the_choice_of_density(network, good):
    """One image decides by itself for the mixture."""
    detector = PartDetector(network, "auto")
    _, learned = fit_detector.fit(detector, good)
    found = np.array([-1.0, -0.9, -0.8, -1.0, 9.0, -0.8, -0.9])
    learned._likelihoods = {"positional": np.zeros(7), "mixture": found}
    chosen = ["positional" if number == learned.numbers[4] else "mixture" for number in range(7)]
    assert [learned.choose(without=[number])[0] for number in range(7)] == chosen
    assert len(learned.candidates["positional"].fitted) == len(detector.features.sources)
