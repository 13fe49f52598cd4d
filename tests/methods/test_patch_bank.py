"""PatchCore: the greedy coreset, the search and the weighed score against slow ones, on a light network."""

import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import COLLECTING, colored, scratched

if not COLLECTING:
    from sklearn.random_projection import GaussianRandomProjection

    from metricad.methods import patch_bank
    from metricad.methods.patch_bank import PatchBankDetector

pytestmark = pytest.mark.tf

TINY = {"side": 64, "backbone": "MobileNetV2", "weights": "none"}


def surface(rng, *, side=64):
    """A plain one with a little noise: what differs from image to image must not hide a scratch."""
    return (0.05 * rng.standard_normal((side, side))).astype(np.float32)


RNG = np.random.default_rng(0)
GOOD = [surface(RNG) for _ in range(12)]


@pytest.fixture(scope="module")
def fitted():
    return PatchBankDetector(**TINY).fit(iter(GOOD))


def slow_greedy(points, count, first):
    chosen = [first]
    while len(chosen) < count:
        to_chosen = [min(math.dist(point, points[c]) for c in chosen) for point in points]
        if max(to_chosen) == 0:
            break
        chosen.append(to_chosen.index(max(to_chosen)))
    return chosen


def test_the_defaults_are_the_published_settings():
    defaults = {k: p.default for k, p in inspect.signature(PatchBankDetector).parameters.items()}
    published = {"share": 0.1, "side": 224, "backbone": "ResNet50", "weights": "imagenet"}
    assert published.items() <= defaults.items()


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 5), st.sampled_from([np.inf, 0.3, 0.02]))
def test_greedy_coreset_equals_a_slow_greedy_one(seed, size, dimensions, spread):
    """Also where points lie in narrow clusters, which is where most of them can be left out of a search."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((size, dimensions))
    if np.isfinite(spread):
        points = rng.standard_normal((4, dimensions))[rng.integers(4, size=size)] + spread * points
    count, first = int(rng.integers(1, size + 1)), int(rng.integers(size))
    ours = patch_bank.greedy_coreset(points, count, first=first)
    assert ours.tolist() == slow_greedy(points, count, first)


def test_copies_are_chosen_once():
    points = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    chosen = patch_bank.greedy_coreset(points, 10, first=5)
    assert sorted(k // 4 for k in chosen) == [0, 1, 2]


def test_averaging_takes_the_neighbors_that_there_are():
    features = np.random.default_rng(1).standard_normal((5, 4, 3)).astype(np.float32)
    averaged = patch_bank.averaged(features)
    for row in range(5):
        for column in range(4):
            window = features[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            np.testing.assert_allclose(averaged[row, column], window.mean(axis=(0, 1)), atol=1e-6)


def test_the_bank_holds_a_tenth_of_the_good_features(fitted):
    features = np.concatenate([fitted.features(image).reshape(-1, 128) for image in GOOD])
    assert fitted.bank.shape == (round(0.1 * len(features)), 128)  # 8×8 features an image, 32 + 96 wide
    assert {row.tobytes() for row in fitted.bank} <= {row.tobytes() for row in features}


def test_the_bank_covers_good_features_better_than_a_random_tenth(fitted):
    features = np.concatenate([fitted.features(image).reshape(-1, 128) for image in GOOD])

    def farthest(bank):
        return max(np.linalg.norm(bank - feature, axis=1).min() for feature in features)

    rng = np.random.default_rng(0)
    random = [features[rng.choice(len(features), len(fitted.bank), replace=False)] for _ in range(5)]
    assert farthest(fitted.bank) < min(map(farthest, random))


def test_distances_and_score_equal_slow_ones(fitted):
    image = scratched(surface(np.random.default_rng(1)), 20, 30, side=10)
    features = fitted.features(image)
    distances = np.array([[np.linalg.norm(fitted.bank - f, axis=1) for f in row] for row in features])
    np.testing.assert_allclose(fitted.distance_map(image), distances.min(axis=-1), rtol=1e-4)
    # Equation 7 of the source: m_test is the farthest feature, m its nearest, and N the 9 nearest to m.
    row, column = np.unravel_index(distances.min(axis=-1).argmax(), features.shape[:2])
    m_test = features[row, column].astype(np.float64)
    m = fitted.bank[distances[row, column].argmin()]
    near = sorted(fitted.bank.astype(np.float64), key=lambda other: np.linalg.norm(other - m))[:9]
    distance = np.linalg.norm(m_test - m)
    total = sum(math.exp(np.linalg.norm(m_test - other) - distance) for other in near)
    assert fitted.score(image) == pytest.approx((1 - 1 / total) * distance, rel=1e-4)


def test_the_bank_is_the_slow_greedy_choice_of_projected_features(monkeypatch):
    rng = np.random.default_rng(6)
    table = {number: rng.standard_normal((3, 4, 5)).astype(np.float32) for number in range(6)}
    images = [np.full((64, 64), number, np.float32) for number in table]
    detector = PatchBankDetector(**TINY, share=0.25)
    monkeypatch.setattr(detector, "features", lambda image: table[int(image[0, 0])])
    monkeypatch.setattr(detector._backbone, "dimensions", 5)
    detector.fit(images)
    features = np.concatenate([each.reshape(-1, 5) for each in table.values()])
    projected = GaussianRandomProjection(5, random_state=0).fit_transform(features)
    first = np.random.default_rng(0).integers(72)
    chosen = sorted(slow_greedy(projected, 18, first))
    np.testing.assert_array_equal(detector.bank, features[chosen])
    detector.most = 5  # of 20 drawn ones
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.choice(72, 20, replace=False))
    chosen = drawn[slow_greedy(projected[drawn], 5, rng.integers(20))]
    np.testing.assert_array_equal(detector.fit(images).bank, features[np.sort(chosen)])


def test_color_is_seen_where_there_is_any():
    rng = np.random.default_rng(4)
    good = [colored(rng, image) for image in GOOD[:6]]
    fitted = PatchBankDetector(**TINY).fit(good)
    assert fitted.takes_color
    assert fitted.anomaly_map(good[0]).shape == (64, 64)
    swapped = good[0].copy()
    swapped[20:40, 20:40] = swapped[20:40, 20:40, ::-1]  # red and blue
    assert fitted.score(swapped) > max(map(fitted.score, good))


def test_weight_is_less_where_the_neighbors_are_as_near():
    assert patch_bank.reweighted(np.array([2.0])) == 2
    assert patch_bank.reweighted(np.array([2.0, 2.0])) == pytest.approx(1)
    assert patch_bank.reweighted(np.array([2.0, 3.0])) == pytest.approx(2 * (1 - 1 / (1 + math.e)))
    assert patch_bank.reweighted(np.array([2.0, 900.0])) == pytest.approx(2)  # and nothing overflows


def test_a_scratch_scores_higher_and_lights_up():
    # Stride 8 alone: the next layer of an untrained network blurs over the whole of so small an image.
    fitted = PatchBankDetector(**TINY, layers=["block_5_add"]).fit(GOOD)
    rng = np.random.default_rng(2)
    good = [surface(rng) for _ in range(5)]
    marked = [scratched(image, 34, 24, side=12) for image in good]
    assert min(map(fitted.score, marked)) > max(map(fitted.score, good))
    for image in marked:
        row, column = np.unravel_index(fitted.anomaly_map(image).argmax(), image.shape)
        assert 28 <= row <= 52
        assert 18 <= column <= 42


def test_maps_have_the_images_size(fitted):
    anomaly_map = fitted.anomaly_map(surface(np.random.default_rng(3), side=90)[:70])
    assert anomaly_map.shape == (70, 90)
    assert anomaly_map.dtype == np.float32


def test_the_same_seed_gives_the_same_bank(fitted):
    again = PatchBankDetector(**TINY).fit(GOOD)
    np.testing.assert_array_equal(again.bank, fitted.bank)
    assert again.score(GOOD[0]) == fitted.score(GOOD[0])


def test_with_the_whole_bank_good_images_have_no_distance():
    fitted = PatchBankDetector(**TINY, share=1.0).fit(GOOD[:2])
    np.testing.assert_allclose(fitted.distance_map(GOOD[0]), 0, atol=1e-3)


def test_a_flat_image_is_enough():
    flat = np.zeros((64, 64), np.float32)
    fitted = PatchBankDetector(**TINY, share=0.01).fit([flat])
    assert len(fitted.bank) == 1
    assert fitted.score(GOOD[0]) == pytest.approx(float(fitted.distance_map(GOOD[0]).max()))


def test_bad_arguments_are_refused():
    for share in (0, 1.1):
        with pytest.raises(ValueError, match="share must lie in"):
            PatchBankDetector(**TINY, share=share)
    with pytest.raises(ValueError, match="most must be at least 1"):
        PatchBankDetector(**TINY, most=0)
    with pytest.raises(ValueError, match="neighbors must be at least 1"):
        PatchBankDetector(**TINY, neighbors=0)
    with pytest.raises(ValueError, match="side must be at least 32"):
        PatchBankDetector(**TINY | {"side": 16})
    with pytest.raises(ValueError, match="no images to fit to"):
        PatchBankDetector(**TINY).fit([])
