"""The nearest image against a loop over pixels, and its map against its score."""

import numpy as np
import pytest

from metricad.data import images
from metricad.methods.nearest_image import NearestImageDetector
from tests.helpers import scratched, texture

RNG = np.random.default_rng(0)
GOOD = [texture(RNG, side=24) for _ in range(12)]


@pytest.fixture
def fitted():
    return NearestImageDetector().fit(iter(GOOD))


def slow_distance(one, other):
    total = 0.0
    for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
        total += (a - b) ** 2
    return total**0.5


def test_score_is_the_smallest_distance(fitted):
    image = texture(np.random.default_rng(1), side=24)
    assert fitted.score(image) == pytest.approx(min(slow_distance(image, good) for good in GOOD), rel=1e-5)
    assert fitted.score(GOOD[7]) == 0


def test_map_adds_up_to_the_squared_score(fitted):
    image = scratched(texture(np.random.default_rng(1), side=24), 4, 9)
    anomaly_map = fitted.anomaly_map(image)
    assert anomaly_map.dtype == np.float32
    assert anomaly_map.sum() == pytest.approx(fitted.score(image) ** 2, rel=1e-4)


def test_a_scratch_scores_higher_and_lights_up(fitted):
    marked = scratched(GOOD[3], 4, 9)
    assert fitted.score(marked) > fitted.score(GOOD[3])
    outside = fitted.anomaly_map(marked).copy()
    outside[4:10, 9:15] = 0
    assert outside.max() == 0


def test_other_sizes_are_resized_to_the_first_and_maps_back():
    large = images.resize(GOOD[1], (48, 40))
    fitted = NearestImageDetector().fit([GOOD[0], large])
    assert fitted.score(large) == 0
    assert fitted.anomaly_map(scratched(large, 30, 20)).shape == (48, 40)
    large = scratched(large, 38, 30, side=10)
    assert np.unravel_index(fitted.anomaly_map(large).argmax(), large.shape) >= (36, 28)


def test_a_side_shrinks_what_is_kept():
    fitted = NearestImageDetector(side=8).fit(GOOD)
    shrunk = [images.resize(good, (8, 8)) for good in GOOD]
    image = texture(np.random.default_rng(2), side=24)
    expected = min(slow_distance(images.resize(image, (8, 8)), good) for good in shrunk)
    assert fitted.score(image) == pytest.approx(expected, rel=1e-5)
    assert fitted.anomaly_map(image).shape == (24, 24)


def test_fitting_again_forgets(fitted):
    fitted.fit(GOOD[:1])
    assert fitted.score(GOOD[1]) > 0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="no images to fit to"):
        NearestImageDetector().fit([])
    with pytest.raises(ValueError, match="side must be at least 1"):
        NearestImageDetector(side=0)
