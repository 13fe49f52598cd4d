"""The per-pixel baseline against NumPy on all images at once."""

import numpy as np
import pytest

from metricad.data import images
from metricad.methods.variation import VariationDetector

RNG = np.random.default_rng(0)
GOOD = (0.3 * RNG.standard_normal((12, 20, 24)) + RNG.uniform(-0.5, 0.5, (20, 24))).astype(np.float32)
ONE_LEVEL = 2 / 255


@pytest.fixture
def fitted():
    return VariationDetector().fit(iter(GOOD))


def test_mean_and_deviation_of_every_pixel(fitted):
    np.testing.assert_allclose(fitted.mean, GOOD.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(fitted.deviation, np.maximum(GOOD.std(axis=0), ONE_LEVEL), rtol=1e-5)


def test_map_and_score(fitted):
    image = RNG.uniform(-1, 1, (20, 24)).astype(np.float32)
    expected = ((image - GOOD.mean(axis=0)) / GOOD.std(axis=0)) ** 2
    np.testing.assert_allclose(fitted.anomaly_map(image), expected, rtol=1e-4, atol=1e-5)
    assert fitted.anomaly_map(image).dtype == np.float32
    assert fitted.score(image) == pytest.approx(expected.mean(), rel=1e-5)


def test_the_good_images_themselves_score_1_on_average(fitted):
    assert np.mean([fitted.score(image) for image in GOOD]) == pytest.approx(1, rel=1e-5)


def test_a_pixel_that_never_varied_counts_by_gray_levels():
    flat = np.zeros((20, 24), np.float32)
    fitted = VariationDetector().fit([flat] * 5)
    marked = flat.copy()
    marked[3, 4] = 3 * ONE_LEVEL
    anomaly_map = fitted.anomaly_map(marked)
    assert anomaly_map[3, 4] == pytest.approx(9, rel=1e-5)
    assert anomaly_map.sum() == pytest.approx(9, rel=1e-5)


def test_one_good_image_is_enough_to_compare():
    fitted = VariationDetector().fit([GOOD[0]])
    assert fitted.score(GOOD[0]) == 0
    assert fitted.score(GOOD[1]) > 0


def test_other_sizes_are_resized_to_the_first_and_maps_back():
    large = images.resize(GOOD[1], (40, 48))
    fitted = VariationDetector().fit([GOOD[0], large, GOOD[2]])
    resized = np.stack([GOOD[0], images.resize(large, (20, 24)), GOOD[2]])
    np.testing.assert_allclose(fitted.mean, resized.mean(axis=0), atol=1e-6)
    anomaly_map = fitted.anomaly_map(large)
    assert anomaly_map.shape == (40, 48)
    # A corner that is far off lights up in the corner.
    large[-10:, -10:] = 1
    assert np.unravel_index(fitted.anomaly_map(large).argmax(), (40, 48)) >= (28, 36)


def test_without_images_there_is_nothing_to_fit():
    with pytest.raises(ValueError, match="no images to fit to"):
        VariationDetector().fit([])
