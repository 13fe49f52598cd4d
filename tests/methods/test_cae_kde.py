"""Autoencoder and density of its code: SciPy's density, held-out thresholds, the published rule."""

import inspect

import numpy as np
import pytest
import scipy

from metricad.data import images
from tests.helpers import COLLECTING, scratched, texture

if not COLLECTING:
    import keras

    from metricad.methods import cae_kde
    from metricad.methods.cae_kde import CaeKdeDetector, Standard

pytestmark = pytest.mark.tf

TINY = {"side": 32, "filters": (8, 4), "components": 4, "epochs": 2, "batch_size": 8}
RNG = np.random.default_rng(0)
GOOD = [texture(RNG, side=32) for _ in range(30)]


@pytest.fixture(scope="module")
def fitted():
    return CaeKdeDetector(**{**TINY, "epochs": 40, "learning_rate": 3e-3}).fit(iter(GOOD))


def held_out(detector):
    numbers, _ = detector._split(len(GOOD))
    return [GOOD[number] for number in numbers]


def test_the_defaults_are_the_published_settings():
    defaults = {k: p.default for k, p in inspect.signature(CaeKdeDetector).parameters.items()}
    assert {"epochs": 100, "batch_size": 16}.items() <= defaults.items()
    trained, both = cae_kde.build(32)
    convolutions = [layer for layer in trained.layers if isinstance(layer, keras.layers.Conv2D)]
    filters = [layer.filters for layer in convolutions]
    assert (filters[0], filters[3], filters[4], filters[7]) == (128, 32, 32, 128)
    assert filters[:4] == filters[7:3:-1]
    assert isinstance(trained.optimizer, keras.optimizers.Adam)
    assert [output.shape for output in both.outputs] == [(None, 2, 2, 32), (None, 32, 32, 1)]


def test_log_density_equals_scipys():
    codes = np.random.default_rng(1).normal(size=(40, 1))
    kde = cae_kde.fit_density(codes, seed=0)
    # SciPy's bandwidth is in standard deviations of the sample.
    theirs = scipy.stats.gaussian_kde(codes.T, bw_method=kde.bandwidth_ / codes.std(ddof=1))
    points = np.linspace(-4, 4, 17)
    np.testing.assert_allclose(kde.score_samples(points[:, np.newaxis]), theirs.logpdf(points), rtol=1e-6)


def test_the_bandwidth_is_the_likeliest_of_those_tried():
    """Of 200 standard normal numbers a kernel of a few tenths; of the same in one spot hundredfold, least."""
    rng = np.random.default_rng(2)
    wide = cae_kde.fit_density(rng.normal(size=(200, 1)))
    spots = cae_kde.fit_density(rng.choice([-1.0, 1.0], size=(200, 1)) + 1e-3 * rng.normal(size=(200, 1)))
    assert 0.15 < wide.bandwidth_ < 0.7
    assert spots.bandwidth_ == min(cae_kde.BANDWIDTHS)


def test_density_and_error_of_an_image_by_hand(fitted):
    image = scratched(GOOD[0], 4, 9)
    code, restored = fitted.model.predict(image[np.newaxis, ..., np.newaxis], verbose=0)
    white = fitted.reduction.transform(code.reshape(1, -1))
    _, kept = fitted._split(len(GOOD))
    codes = fitted.model.predict(np.stack([GOOD[i] for i in kept])[..., np.newaxis], verbose=0)[0]
    centers = fitted.reduction.transform(codes.reshape(len(kept), -1))
    width = fitted.kde.bandwidth_
    terms = -((white - centers) ** 2).sum(axis=1) / (2 * width**2) - 2 * np.log(2 * np.pi * width**2)
    density, error = fitted.measure(image)
    assert density == pytest.approx(np.logaddexp.reduce(terms) - np.log(len(kept)), rel=1e-4)
    assert error == pytest.approx(((image - restored[0, ..., 0]) ** 2).mean(), rel=1e-4)
    np.testing.assert_allclose(fitted.embedding(image), white[0], rtol=1e-3, atol=1e-4)


def test_the_reduced_codes_of_training_images_have_unit_variance(fitted):
    _, kept = fitted._split(len(GOOD))
    codes = np.stack([fitted.embedding(GOOD[number]) for number in kept])
    np.testing.assert_allclose(codes.std(axis=0, ddof=1), 1, rtol=1e-3)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-3)


def test_thresholds_and_score_are_those_of_held_out_images_alone(fitted):
    densities, errors = np.array([fitted.measure(image) for image in held_out(fitted)]).T
    assert len(densities) == 6  # a fifth
    assert fitted.density_threshold == pytest.approx(np.quantile(densities, 0.05))
    assert fitted.error_threshold == pytest.approx(np.quantile(errors, 0.95))
    scores = np.array([fitted.score(image) for image in held_out(fitted)])
    expected = scipy.stats.zscore(errors, ddof=1) - scipy.stats.zscore(densities, ddof=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)
    # The image is far out by both.
    density, error = fitted.measure(np.ones((32, 32), np.float32))
    assert density < fitted.density_threshold
    assert error > fitted.error_threshold


def test_of_250_images_a_fifth_is_never_trained_on():
    """So an epoch has 200 / 16 steps; the source's 250 / 16 belong to images that are all trained on."""
    held_out, kept = CaeKdeDetector()._split(250)
    assert (len(held_out), len(kept)) == (50, 200)
    assert sorted([*held_out, *kept]) == list(range(250))


def test_an_image_is_anomalous_only_by_both_measures(fitted):
    def judged(density, error):
        fitted.measure = lambda image: (density, error)
        try:
            return fitted.is_anomalous(GOOD[0])
        finally:
            del fitted.measure

    low, high = fitted.density_threshold - 1, fitted.density_threshold + 1
    small, large = 0.5 * fitted.error_threshold, 2 * fitted.error_threshold
    assert judged(low, large)
    assert not judged(low, small)
    assert not judged(high, large)
    assert not judged(high, small)


def test_a_scratch_scores_higher_than_good_surface_and_lights_up(fitted):
    rng = np.random.default_rng(5)
    good = [texture(rng, side=32) for _ in range(8)]
    marked = [scratched(image, 10, 18, side=8) for image in good]
    assert np.median([fitted.score(image) for image in marked]) > max(map(fitted.score, good))
    gains = [fitted.score(m) - fitted.score(g) for m, g in zip(marked, good, strict=True)]
    assert min(gains) > 0
    row, column = np.unravel_index(fitted.anomaly_map(marked[0]).argmax(), (32, 32))
    assert 8 <= row <= 20
    assert 16 <= column <= 28


def test_images_of_other_sizes_have_maps_of_their_own_size(fitted):
    image = images.resize(GOOD[0], (48, 70))
    anomaly_map = fitted.anomaly_map(image)
    assert anomaly_map.shape == (48, 70)
    assert anomaly_map.dtype == np.float32


def test_the_score_of_the_farthest_image_is_finite(fitted):
    assert np.isfinite(fitted.score(np.full((32, 32), -1, np.float32)))
    assert np.isfinite(fitted.score(1e3 * GOOD[0]))


def test_images_that_never_vary_still_compare(eager):
    flat = np.zeros((32, 32), np.float32)
    detector = CaeKdeDetector(**TINY).fit([flat] * 6)
    assert np.isfinite(detector.score(flat))
    assert detector.score(scratched(flat, 4, 4)) > detector.score(flat)


def test_a_measure_that_never_varies_has_a_scale():
    standard = Standard.of(np.array([2.0, 2.0]))
    assert standard(2.0) == 0
    assert standard(2.1) > 100


def test_the_seed_counts_and_interruptions_do_not(tmp_path, eager):
    """Nor does Keras's own seed."""

    class Stop(Exception):
        pass

    def stop():
        raise Stop

    with pytest.raises(Stop):
        CaeKdeDetector(**TINY, checkpoint=tmp_path, on_epoch=stop).fit(GOOD[:10])
    keras.utils.set_random_seed(7)
    epochs = []
    resumed = CaeKdeDetector(**TINY, checkpoint=tmp_path, on_epoch=lambda: epochs.append(1)).fit(GOOD[:10])
    unbroken = CaeKdeDetector(**TINY).fit(GOOD[:10])
    assert resumed.score(GOOD[11]) == unbroken.score(GOOD[11])
    assert resumed.density_threshold == unbroken.density_threshold
    assert len(epochs) == 1
    other = CaeKdeDetector(**TINY, seed=1).fit(GOOD[:10])
    assert other.score(GOOD[11]) != unbroken.score(GOOD[11])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"side": 30}, "side must be a multiple of 4"),
        ({"filters": ()}, "at least one filters"),
        ({"components": 0}, "components must be at least 1"),
        ({"holdout": 0}, "holdout must lie between 0 and 1"),
        ({"false_alarm_rate": 1}, "false_alarm_rate must lie between 0 and 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": -1}, "learning_rate must be above 0"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        CaeKdeDetector(**{**TINY, **wrong})


def test_too_few_images_are_refused(eager):
    with pytest.raises(ValueError, match="no images to fit to"):
        CaeKdeDetector(**TINY).fit([])
    with pytest.raises(ValueError, match="expected at least 4 good images"):
        CaeKdeDetector(**TINY).fit(GOOD[:3])
    assert np.isfinite(CaeKdeDetector(**TINY).fit(GOOD[:4]).score(GOOD[5]))
