"""Where a distance lands on the image, and the detector that puts network and prototype together."""

import itertools
from functools import partial

import numpy as np
import pytest
from conftest import scratched, texture
from hypothesis import given, settings
from hypothesis import strategies as st
from metricad.positional import PositionalPrototype
from metricad.prototype import GaussianPrototype, MeanPrototype
from scipy import ndimage

from metricad.errors import DataError
from metricad.inspection.detector import Detector, SharedFeatures, TripletDetector
from metricad.networks import factory as architectures
from metricad.networks import residual as network
from metricad.scoring import maps
from metricad.scoring.maps import image_score

HALF = network.RECEPTIVE_FIELD // 2
peak, place = (partial(function, sampling=network.GRID) for function in (maps.peak, maps.place))

image_shapes = st.tuples(st.integers(32, 90), st.integers(32, 90))


def random_map(shape, seed=0):
    features = network.feature_shape(shape)
    return np.random.default_rng(seed).normal(size=features).astype(np.float32)


# Placing a map on its image.


@settings(max_examples=60)
@given(shape=image_shapes, seed=st.integers(0, 1000))
def test_place_is_linear_interpolation_between_centres_clamped_outside(shape, seed):
    distance_map = random_map(shape, seed)
    first = (network.RECEPTIVE_FIELD - 1) / 2
    positions = (np.indices(shape) - first) / network.STRIDE
    expected = ndimage.map_coordinates(distance_map, positions, order=1, mode="nearest")
    placed = place(distance_map, shape)
    assert placed.dtype == np.float32
    np.testing.assert_allclose(placed, expected, atol=1e-5)


@settings(max_examples=30)
@given(shape=image_shapes, seed=st.integers(0, 1000))
def test_place_stays_within_the_maps_values(shape, seed):
    distance_map = random_map(shape, seed)
    placed = place(distance_map, shape)
    assert placed.min() >= distance_map.min() - 1e-6
    assert placed.max() <= distance_map.max() + 1e-6
    np.testing.assert_array_equal(placed[:15, :15], distance_map[0, 0])


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.transpose])
def test_place_has_no_favourite_direction(turn):
    shape = (64, 80)  # even sides: the last feature is as far from its border as the first
    distance_map = random_map(shape)
    placed = place(turn(distance_map), turn(np.empty(shape)).shape)
    np.testing.assert_allclose(placed, turn(place(distance_map, shape)), atol=1e-6)


def test_place_puts_a_feature_between_the_middle_pixels_of_its_receptive_field():
    distance_map = np.zeros(network.feature_shape((64, 64)), np.float32)
    distance_map[3, 7] = 1
    placed = place(distance_map, (64, 64))
    bright = np.argwhere(placed == placed.max())
    np.testing.assert_allclose(bright.mean(axis=0), (3 * 2 + 15.5, 7 * 2 + 15.5))


def test_peak_is_the_pixel_in_the_middle_of_the_farthest_feature():
    distance_map = random_map((70, 90))
    distance_map[4, 9] = 10
    assert peak(distance_map) == (4 * 2 + 16, 9 * 2 + 16)
    assert all(type(coordinate) is int for coordinate in peak(distance_map))
    assert peak(np.ones((1, 1))) == (16, 16)


def test_image_score_is_the_maximum():
    assert image_score(np.float32([[1, 5], [2, 3]])) == 5
    assert type(image_score(np.float32([[1]]))) is float


def farthest(distance_map, count):
    """The slow way: sort all, take the last, add them up."""
    return sum(sorted(map(float, distance_map.ravel()))[-count:]) / count


@pytest.mark.parametrize(
    ("shape", "reduction", "count"),
    [
        ((40, 50), "max", 1),
        ((40, 50), "top-0.1%", 2),
        ((40, 50), "top-1%", 20),
        ((40, 50), "top-10%", 200),
        ((9, 9), "top-0.1%", 1),
        ((9, 9), "top-10%", 8),
        ((1, 1), "top-10%", 1),
    ],
)
def test_reductions_are_means_of_the_farthest_features(shape, reduction, count):
    distance_map = np.random.default_rng(1).uniform(1e3, 1e6, shape).astype(np.float32)
    before = distance_map.copy()
    assert image_score(distance_map, reduction) == pytest.approx(farthest(distance_map, count), rel=1e-12)
    np.testing.assert_array_equal(distance_map, before)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60), columns=st.integers(1, 60))
def test_a_wider_reduction_is_never_larger(seed, rows, columns):
    distance_map = np.random.default_rng(seed).exponential(size=(rows, columns)).astype(np.float32)
    scores = [image_score(distance_map, reduction) for reduction in maps.REDUCTIONS]
    assert next(iter(maps.REDUCTIONS)) == "max"
    assert all(wide <= narrow + 1e-6 * narrow for narrow, wide in itertools.pairwise(scores))


def test_a_map_with_a_hole_has_no_score_under_any_reduction():
    """A network that diverged is told from its scores."""
    distance_map = np.ones((40, 40), np.float32)
    distance_map[3, 4] = np.nan
    assert all(np.isnan(image_score(distance_map, reduction)) for reduction in maps.REDUCTIONS)


def test_a_detector_scores_by_its_reduction(model, good):
    made = TripletDetector(model, MeanPrototype(), reduction="top-10%").fit(good)
    plain = TripletDetector(model, made.prototype)
    assert made.score(good[0]) == image_score(plain.distance_map(good[0]), "top-10%") < plain.score(good[0])


def test_an_unknown_reduction_is_refused(model):
    words = "one of max, top-0.1%, top-1%, top-10%, received 'median'"
    with pytest.raises(ValueError, match=words):
        TripletDetector(model, MeanPrototype(), reduction="median")
    with pytest.raises(ValueError, match=words):
        image_score(np.ones((2, 2), np.float32), "median")


# The detector.


@pytest.fixture(scope="module")
def model():
    return network.build(4, seed=3)


@pytest.fixture(scope="module")
def good():
    rng = np.random.default_rng(0)
    return [texture(rng) for _ in range(8)]


@pytest.fixture(scope="module", params=[MeanPrototype, GaussianPrototype])
def fitted(model, good, request):
    return TripletDetector(model, request.param()).fit(iter(good))


def test_the_prototype_is_fitted_to_the_networks_features(model, good, fitted):
    maps = [model.predict(image[np.newaxis, ..., np.newaxis], verbose=0)[0] for image in good]
    expected = type(fitted.prototype)().fit(maps).distance(maps[0])
    np.testing.assert_allclose(fitted.distance_map(good[0]), expected, rtol=1e-3, atol=1e-4)


def test_map_and_score_come_from_the_distances(fitted, good):
    image = scratched(good[0], 20, 30)
    distances = fitted.distance_map(image)
    assert distances.shape == network.feature_shape(image.shape)
    assert fitted.score(image) == distances.max()
    np.testing.assert_array_equal(fitted.anomaly_map(image), place(distances, image.shape))
    assert fitted.anomaly_map(image).shape == image.shape


def test_images_may_differ_in_size(model, good):
    rng = np.random.default_rng(5)
    mixed = [texture(rng, side=side) for side in (32, 64, 100)]
    fitted = TripletDetector(model, MeanPrototype()).fit(mixed)
    for image in mixed:
        assert fitted.anomaly_map(image).shape == image.shape
        assert fitted.score(image) < fitted.score(scratched(image, 10, 10))


@pytest.mark.parametrize("place_of_dot", [(16, 16), (20, 70), (47, 40), (70, 25), (83, 83)])
def test_a_bright_dot_peaks_within_half_a_receptive_field(fitted, place_of_dot):
    """End to end through network and prototype: no axis swapped, no offset lost."""
    row, column = place_of_dot
    plain = texture(np.random.default_rng(7), side=100)
    marked = plain.copy()
    marked[row - 1 : row + 2, column - 1 : column + 2] = 1
    change = fitted.distance_map(marked) - fitted.distance_map(plain)
    found = peak(change)
    assert abs(found[0] - row) <= HALF
    assert abs(found[1] - column) <= HALF
    # Away from the border, where the outermost values are kept, the dot changes only what can see it.
    inside = np.s_[HALF:-HALF]
    rows, columns = np.nonzero(place(np.abs(change), plain.shape)[inside, inside])
    assert np.abs(rows + HALF - row).max() <= HALF + 1 + network.STRIDE
    assert np.abs(columns + HALF - column).max() <= HALF + 1 + network.STRIDE


def test_a_scratch_is_the_peak_of_the_whole_image(fitted):
    plain = texture(np.random.default_rng(7), side=100)
    for row, column in [(20, 60), (60, 20), (45, 45)]:
        found = peak(fitted.distance_map(scratched(plain, row, column)))
        middle = np.array([row, column]) + 2.5
        assert np.abs(found - middle).max() <= HALF + 3


def test_fit_gives_the_detector_itself(model, good):
    made = TripletDetector(model, MeanPrototype())
    assert made.fit(good) is made


@pytest.mark.parametrize("kind", [MeanPrototype, GaussianPrototype, PositionalPrototype])
def test_updates_by_image_are_a_fit(model, good, kind):
    pushed = TripletDetector(model, kind())
    for image in good:
        pushed.update(image)
    pulled = TripletDetector(model, kind()).fit(good)
    np.testing.assert_array_equal(pushed.anomaly_map(good[0]), pulled.anomaly_map(good[0]))


def test_a_scratch_is_found_by_position(model):
    rng = np.random.default_rng(0)
    good = [texture(rng) for _ in range(20)]
    by_position = TripletDetector(model, PositionalPrototype()).fit(good[:14])
    marked = scratched(good[-1], 30, 20)
    assert by_position.score(marked) > max(by_position.score(image) for image in good[14:])
    assert by_position.anomaly_map(marked).shape == marked.shape
    with pytest.raises(DataError, match=r"expected features \(17, 17\), received \(9, 17\)"):
        by_position.score(marked[:48])


# Several detectors on one network.


@pytest.fixture
def counted(model, monkeypatch):
    """Count the images that any network is run on."""
    images_seen = []
    extractor = architectures.extractor

    def counting(model):
        features = extractor(model)

        def extract(image):
            images_seen.append(image)
            return features(image)

        return extract

    monkeypatch.setattr(architectures, "extractor", counting)
    return images_seen


KINDS_TOGETHER = (MeanPrototype, GaussianPrototype, PositionalPrototype)


def test_detectors_that_share_features_run_the_network_once_an_image(model, good, counted):
    shared = SharedFeatures(model)
    together = [TripletDetector(model, kind(), features=shared) for kind in KINDS_TOGETHER]
    for image in good:
        for one in together:
            one.update(image)
    assert len(counted) == len(good)
    for one in together:
        one.score(good[0])
        one.anomaly_map(good[0])
    assert len(counted) == len(good) + 1


def test_shared_features_give_the_same_numbers_as_separate_ones(model, good):
    shared = SharedFeatures(model)
    together = [TripletDetector(model, kind(), features=shared) for kind in KINDS_TOGETHER]
    for image in good:
        for one in together:
            one.update(image)
    alone = [TripletDetector(model, kind()).fit(good) for kind in KINDS_TOGETHER]
    for image in (good[0], scratched(good[1], 10, 20)):
        for one, other in zip(together, alone, strict=True):
            # Alone, a Gaussian's distance is taken in TensorFlow: sums in another order.
            np.testing.assert_allclose(one.distance_map(image), other.distance_map(image), rtol=2e-6)


def test_shared_features_know_an_image_by_identity(model, good, counted):
    shared = SharedFeatures(model)
    first = shared(good[0])
    assert shared(good[0]) is first
    np.testing.assert_array_equal(shared(good[0].copy()), first)
    assert len(counted) == 2
    assert not np.array_equal(shared(good[1]), first)
    # Images that are dropped at once may come to lie at one address; the features are still each one's own.
    for level in (0.0, 0.25, 0.5):
        image = np.full((40, 40), level, np.float32)
        np.testing.assert_array_equal(shared(image), architectures.extractor(model)(image))
        del image


def test_shared_features_are_read_only_and_survive_a_refused_image(model, good):
    shared = SharedFeatures(model)
    first = shared(good[0])
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 1
    with pytest.raises(ValueError, match="at least 32×32"):
        shared(good[0][:20])
    assert shared(good[0]) is first


def test_every_method_follows_the_protocol(model):
    from metricad.methods.variation import VariationDetector

    wanted = [name for name in vars(Detector) if not name.startswith("_")]
    assert wanted == ["fit", "anomaly_map", "score"]
    for method in (TripletDetector, VariationDetector):
        assert all(callable(getattr(method, name)) for name in wanted)
