"""Deep features and nearest neighbors against a slow loop, on an untrained Xception."""

import inspect

import numpy as np
import pytest

from tests.helpers import COLLECTING, colored, scratched, texture

if not COLLECTING:
    from metricad.methods.deep_feature_knn import DeepFeatureKnnDetector
    from metricad.networks import imagenet

pytestmark = pytest.mark.tf

TINY = {"side": 71, "neighbors": 3, "weights": "none"}
RNG = np.random.default_rng(0)
GOOD = [texture(RNG, side=40) for _ in range(10)]


@pytest.fixture(scope="module")
def fitted():
    return DeepFeatureKnnDetector(**TINY).fit(iter(GOOD))


def test_the_defaults_are_the_published_settings():
    defaults = {k: p.default for k, p in inspect.signature(DeepFeatureKnnDetector).parameters.items()}
    published = {"neighbors": 15, "side": 299, "backbone": "Xception", "weights": "imagenet", "seed": 0}
    assert defaults == published


def test_embedding_is_the_maximum_of_each_feature(fitted):
    features = imagenet.load("Xception", weights="none").features(GOOD[0], 71)[0]
    assert features.shape == (3, 3, 2048)
    embedding = fitted.embedding(GOOD[0])
    assert embedding.dtype == np.float32
    np.testing.assert_array_equal(embedding, features.reshape(-1, 2048).max(axis=0))


def test_score_equals_a_slow_loop(fitted):
    good = np.array([fitted.embedding(image) for image in GOOD], np.float64)
    mean, deviation = good.mean(axis=0), good.std(axis=0)
    deviation[deviation == 0] = 1
    image = texture(np.random.default_rng(1), side=40)
    wanted = (fitted.embedding(image) - mean) / deviation
    squared = []
    for embedding in good:
        distance = 0.0
        for a, b in zip(wanted, (embedding - mean) / deviation, strict=True):
            distance += (a - b) ** 2
        squared.append(distance)
    assert fitted.score(image) == pytest.approx(np.mean(sorted(squared)[:3]), rel=1e-3)


def test_a_scratch_scores_higher_than_good_surface(fitted):
    rng = np.random.default_rng(2)
    good = [texture(rng, side=40) for _ in range(4)]
    assert np.mean([fitted.score(scratched(image, 12, 15, side=14)) for image in good]) > np.mean(
        [fitted.score(image) for image in good]
    )


def test_the_map_is_the_score_everywhere(fitted):
    wide = texture(np.random.default_rng(3), side=50)[:30]
    anomaly_map = fitted.anomaly_map(wide)
    assert anomaly_map.shape == (30, 50)
    assert anomaly_map.dtype == np.float32
    assert (anomaly_map == np.float32(fitted.score(wide))).all()
    assert not fitted.has_map


def test_color_is_seen(fitted):
    color = colored(np.random.default_rng(4), GOOD[0])
    assert fitted.takes_color
    assert fitted.anomaly_map(color).shape == color.shape[:2]
    assert fitted.score(color) != fitted.score(color[..., ::-1])


def test_the_same_seed_gives_the_same_scores_and_few_images_are_enough(fitted):
    again = DeepFeatureKnnDetector(**TINY).fit(GOOD)
    assert again.score(GOOD[0]) == fitted.score(GOOD[0])
    single = DeepFeatureKnnDetector(**TINY).fit(GOOD[:1])
    assert single.score(GOOD[0]) == pytest.approx(0, abs=1e-6)
    assert single.score(GOOD[1]) > 0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="neighbors must be at least 1"):
        DeepFeatureKnnDetector(neighbors=0, weights="none")
    with pytest.raises(ValueError, match="side must be at least 71 pixels for Xception, received 32"):
        DeepFeatureKnnDetector(side=32, weights="none")
    with pytest.raises(ValueError, match="no images to fit to"):
        DeepFeatureKnnDetector(**TINY).fit([])
