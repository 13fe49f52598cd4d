"""PaDiM against NumPy's covariance and SciPy's Mahalanobis distance, on a light untrained network."""

import inspect

import numpy as np
import pytest

from tests.helpers import COLLECTING, colored, scratched, texture

if not COLLECTING:
    import scipy.spatial.distance

    from metricad.methods import patch_gaussian
    from metricad.methods.patch_gaussian import PatchGaussianDetector

pytestmark = pytest.mark.tf

TINY = {"side": 64, "dimensions": 20, "backbone": "MobileNetV2", "weights": "none"}


def surface(rng, *, side=64):
    """In register, as the method needs it: the same pattern in every image, and noise."""
    return np.clip(
        texture(np.random.default_rng(7), side=side) + 0.03 * rng.standard_normal((side, side)), -1, 1
    ).astype(np.float32)


RNG = np.random.default_rng(0)
GOOD = [surface(RNG) for _ in range(30)]


@pytest.fixture(scope="module")
def fitted():
    return PatchGaussianDetector(**TINY).fit(iter(GOOD))


def test_the_defaults_are_the_published_settings():
    defaults = {k: p.default for k, p in inspect.signature(PatchGaussianDetector).parameters.items()}
    published = {"dimensions": 550, "side": 224, "backbone": "ResNet50", "weights": "imagenet"}
    assert published.items() <= defaults.items()


def test_distances_are_scipys_mahalanobis_at_every_position(fitted):
    image = scratched(surface(np.random.default_rng(1)), 20, 30)
    good = np.stack([fitted.features(one) for one in GOOD]).astype(np.float64)
    asked, distances = fitted.features(image).astype(np.float64), fitted.distance_map(image)
    assert distances.shape == (16, 16)
    assert distances.dtype == np.float32
    for row, column in ((0, 0), (5, 8), (15, 3)):
        here = good[:, row, column]
        covariance = np.cov(here, rowvar=False) + 0.01 * np.eye(20)
        expected = scipy.spatial.distance.mahalanobis(
            asked[row, column], here.mean(axis=0), np.linalg.inv(covariance)
        )
        assert distances[row, column] == pytest.approx(expected, rel=1e-3)


def test_score_of_tiny_features_equals_plain_numpy(monkeypatch):
    """Mean, covariance, distance at each position; enlarged, smoothed, maximum: none of the method's code."""
    rng = np.random.default_rng(5)
    table = rng.standard_normal((9, 3, 4, 5)) @ rng.standard_normal((5, 5)) + rng.standard_normal((3, 4, 5))
    table = table.astype(np.float32)
    detector = PatchGaussianDetector(**TINY)
    monkeypatch.setattr(detector, "features", lambda number: table[number])
    detector.fit(range(8))
    distances = np.empty((3, 4))
    for row in range(3):
        for column in range(4):
            here = table[:8, row, column].astype(np.float64)
            centered = here - here.mean(axis=0)
            covariance = centered.T @ centered / 7 + 0.01 * np.eye(5)
            difference = table[8, row, column] - here.mean(axis=0)
            distances[row, column] = np.sqrt(difference @ np.linalg.inv(covariance) @ difference)
    np.testing.assert_allclose(detector.distance_map(8), distances, rtol=1e-4)
    enlarged = bilinear(bilinear(distances, 64).T, 64).T
    assert detector.score(8) == pytest.approx(smooth(smooth(enlarged).T).max(), rel=1e-3)


def bilinear(rows, count):
    """Interpolate between rows (n, m) at pixel centers; rows are mirrored at both ends."""
    last = len(rows) - 1
    place = last - np.abs(last - np.abs((np.arange(count) + 0.5) * len(rows) / count - 0.5))
    low = np.minimum(place.astype(int), last - 1)
    share = (place - low)[:, np.newaxis]
    return (1 - share) * rows[low] + share * rows[low + 1]


def smooth(rows):
    """Smooth over rows with a Gaussian of 4, cut off at 16."""
    weights = np.exp(-(np.arange(-16, 17) ** 2) / 32)
    padded = np.pad(rows, ((16, 16), (0, 0)), mode="symmetric")
    return sum(w * padded[k : k + len(rows)] for k, w in enumerate(weights / weights.sum()))


@pytest.mark.parametrize("together", [1, 7, 30])
def test_images_merged_in_any_batches_give_the_same(fitted, monkeypatch, together):
    monkeypatch.setattr(patch_gaussian, "_TOGETHER", together)
    monkeypatch.setattr(patch_gaussian, "_POSITIONS", 5)
    again = PatchGaussianDetector(**TINY).fit(GOOD)
    image = surface(np.random.default_rng(1))
    np.testing.assert_allclose(again.distance_map(image), fitted.distance_map(image), rtol=1e-3)


def test_dimensions_are_chosen_by_the_seed():
    def chosen(**settings):
        return PatchGaussianDetector(**TINY | settings).features(GOOD[0])

    every = chosen(dimensions=10_000)
    assert every.shape == (16, 16, 24 + 32 + 96)
    some = chosen()
    np.testing.assert_array_equal(some, chosen())
    assert some.shape == (16, 16, 20)
    # Each is one of all, and none is chosen twice.
    columns = {column.tobytes() for column in every.reshape(-1, every.shape[-1]).T}
    kept = [column.tobytes() for column in some.reshape(-1, 20).T]
    assert set(kept) <= columns
    assert len(set(kept)) == 20


def test_a_scratch_scores_higher_and_lights_up(fitted):
    rng = np.random.default_rng(2)
    good = [surface(rng) for _ in range(5)]
    marked = [scratched(image, 36, 12, side=12) for image in good]
    assert min(map(fitted.score, marked)) > max(map(fitted.score, good))
    for image in marked:
        row, column = np.unravel_index(fitted.anomaly_map(image).argmax(), image.shape)
        assert 30 <= row <= 54
        assert 6 <= column <= 30


def test_score_is_the_maximum_of_the_smoothed_map_and_maps_have_the_images_size(fitted):
    assert fitted.score(GOOD[0]) == pytest.approx(float(fitted.anomaly_map(GOOD[0]).max()))
    assert fitted.score(GOOD[0]) < fitted.distance_map(GOOD[0]).max()
    anomaly_map = fitted.anomaly_map(surface(np.random.default_rng(3), side=90)[:70])
    assert anomaly_map.shape == (70, 90)
    assert anomaly_map.dtype == np.float32


def test_color_is_seen_where_there_is_any():
    rng = np.random.default_rng(4)
    good = [colored(rng, image) for image in GOOD]
    fitted = PatchGaussianDetector(**TINY).fit(good)
    assert fitted.takes_color
    assert fitted.anomaly_map(good[0]).shape == (64, 64)
    swapped = good[0].copy()
    swapped[20:40, 20:40] = swapped[20:40, 20:40, ::-1]  # red and blue
    assert fitted.score(swapped) > max(map(fitted.score, good))


def test_the_same_seed_gives_the_same_scores(fitted):
    again = PatchGaussianDetector(**TINY).fit(GOOD)
    assert again.score(GOOD[0]) == fitted.score(GOOD[0])


def test_one_good_image_is_enough_to_compare():
    fitted = PatchGaussianDetector(**TINY).fit(GOOD[:1])
    assert fitted.score(GOOD[0]) == 0
    difference = fitted.features(GOOD[1]) - fitted.features(GOOD[0])
    # Nothing is known but the regularisation: a distance of 0.1 is a deviation.
    expected = np.linalg.norm(difference, axis=-1) / 0.1
    np.testing.assert_allclose(fitted.distance_map(GOOD[1]), expected, rtol=1e-3)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="dimensions must be at least 1"):
        PatchGaussianDetector(**TINY | {"dimensions": 0})
    with pytest.raises(ValueError, match="side must be at least 32"):
        PatchGaussianDetector(**TINY | {"side": 16})
    with pytest.raises(ValueError, match="backbone must be one of"):
        PatchGaussianDetector(**TINY | {"backbone": "VGG16"})
    with pytest.raises(ValueError, match="no images to fit to"):
        PatchGaussianDetector(**TINY).fit([])
