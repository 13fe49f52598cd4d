"""The denoising autoencoder: any size, noise only in training, Hu's invariants, registration undone."""

import inspect
import sys

import numpy as np
import pytest
from scipy import ndimage

from metricad.errors import DataError, MetricadError
from tests.helpers import COLLECTING, scratched, texture

if not COLLECTING:
    import keras

    from metricad.methods import denoising, training_loop
    from metricad.methods.denoising import DenoisingDetector
    from metricad.methods.heat_maps import hu_moments

pytestmark = pytest.mark.tf

TINY = {"units": 4, "code": 4, "crop": 32, "epochs": 2, "batch_size": 8}
RNG = np.random.default_rng(0)
GOOD = [texture(RNG, side=48) for _ in range(16)]


@pytest.fixture(scope="module")
def fitted():
    settings = {**TINY, "units": 8, "epochs": 40, "learning_rate": 3e-3}
    return DenoisingDetector(**settings).fit(iter(GOOD))


def test_the_network_has_residual_blocks_and_a_narrow_bottleneck():
    model = denoising.build()
    assert model.input_shape == model.output_shape == (None, None, None, 1)
    assert sum(isinstance(layer, keras.layers.Add) for layer in model.layers) == 6
    narrow = next(layer for layer in model.layers if getattr(layer, "filters", None) == 8)
    encoder = keras.Model(model.input, narrow.output)
    assert encoder.compute_output_shape((1, 64, 96, 1)) == (1, 8, 12, 8)
    assert model.loss == "mean_squared_error"
    assert inspect.signature(DenoisingDetector).parameters["epochs"].default == denoising.PUBLISHED_EPOCHS


@pytest.mark.parametrize("shape", [(48, 48), (64, 40), (33, 71), (5, 90)])
def test_any_size_is_judged_at_its_own_size(fitted, shape):
    image = np.resize(GOOD[0], shape).astype(np.float32)
    anomaly_map = fitted.anomaly_map(image)
    assert anomaly_map.shape == shape
    assert anomaly_map.dtype == np.float32
    assert anomaly_map.min() >= 0


def test_map_and_score_are_the_squared_difference_and_its_sum(fitted):
    """In two by two tiles of 32 pixels, which overlap by 16."""
    image = scratched(GOOD[0], 20, 12)
    total, count = np.zeros((48, 48)), np.zeros((48, 48))
    for row in (0, 16):
        for column in (0, 16):
            place = np.s_[row : row + 32, column : column + 32]
            tile = image[place][np.newaxis, ..., np.newaxis]
            total[place] += fitted.model.predict(tile, verbose=0)[0, ..., 0]
            count[place] += 1
    expected = (image - total / count) ** 2
    np.testing.assert_allclose(fitted.anomaly_map(image), expected, rtol=1e-4, atol=1e-5)
    assert fitted.score(image) == pytest.approx(expected.sum(), rel=1e-4)


@pytest.mark.parametrize("shape", [(32, 32), (33, 71), (20, 100), (5, 5), (160, 200)])
def test_tiles_put_back_are_the_image(shape):
    """A network that gives back what it is given leaves no difference, wherever tiles lie or overlap."""
    detector = DenoisingDetector(**TINY)
    detector.side, detector.pixels = 32, 1024
    seen = []

    class Same:
        def predict_on_batch(self, tiles):
            seen.append(tiles.shape)
            return tiles

    detector.model = Same()
    image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    anomaly_map = detector.anomaly_map(image)
    assert anomaly_map.shape == shape
    assert anomaly_map.max() == pytest.approx(0, abs=1e-9)
    assert {tiles[1:] for tiles in seen} == {(32, 32, 1)}
    assert sum(tiles[0] for tiles in seen) == np.prod([-(-length // 32) for length in shape])


def test_scores_of_differing_sizes_compare(fitted):
    """Four times as much of the same surface has the score of one, not of four."""
    large = texture(np.random.default_rng(1), side=96)
    assert fitted.score(large) == pytest.approx(np.mean([fitted.score(image) for image in GOOD]), rel=0.3)
    assert fitted.anomaly_map(large).sum() == pytest.approx(4 * fitted.score(large), rel=1e-4)


def test_a_scratch_scores_higher_than_good_surface_and_lights_up(fitted):
    rng = np.random.default_rng(5)
    good = [texture(rng, side=48) for _ in range(8)]
    marked = [scratched(image, 10, 28) for image in good]
    assert min(map(fitted.score, marked)) > max(map(fitted.score, good))
    hits = [np.unravel_index(fitted.anomaly_map(image).argmax(), (48, 48)) for image in marked]
    assert all(8 <= row <= 18 and 26 <= column <= 36 for row, column in hits)


@pytest.fixture
def untrained(monkeypatch):
    """Leave out the training; give the examples and the function that prepares them."""
    given = {}
    monkeypatch.setattr(
        training_loop,
        "train",
        lambda model, examples, **settings: given.update(settings, examples=examples) or [],
    )
    return given


def test_noise_is_added_to_crops_that_are_to_come_back_without(untrained):
    DenoisingDetector(**TINY, noise=0.3).fit([*GOOD[:3], np.zeros((60, 90), np.float32)])
    prepare, examples = untrained["prepare"], untrained["examples"]
    noisy, clean = prepare(examples * 50, np.random.default_rng(0))
    assert noisy.shape == clean.shape == (200, 32, 32, 1)
    assert noisy.dtype == clean.dtype == np.float32
    assert (noisy - clean).std() == pytest.approx(0.3, rel=0.01)
    assert (noisy - clean).mean() == pytest.approx(0, abs=0.003)
    windows = np.lib.stride_tricks.sliding_window_view(GOOD[0], (32, 32)).reshape(-1, 32 * 32)
    places = [np.flatnonzero((windows == crop.ravel()).all(axis=1)) for crop in clean[::4, ..., 0]]
    assert all(len(place) == 1 for place in places)
    assert len(set(np.concatenate(places).tolist())) > 25


def test_small_images_are_cropped_to_the_smallest(untrained):
    for smallest, side in (((19, 50), 16), ((5, 50), 8)):
        DenoisingDetector(**TINY).fit([GOOD[0], np.zeros(smallest, np.float32)])
        noisy, clean = untrained["prepare"](untrained["examples"], np.random.default_rng(0))
        assert noisy.shape == clean.shape == (2, side, side, 1)


def test_the_seed_is_of_the_weights_and_of_the_training(untrained, eager):
    first, again, other = (DenoisingDetector(**TINY, seed=seed).fit(GOOD[:2]) for seed in (1, 1, 2))
    assert untrained["seed"] == 2
    weights = [detector.model.get_weights() for detector in (first, again, other)]
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not np.array_equal(weights[0][0], weights[2][0])


def test_neither_interruptions_nor_the_seed_of_keras_count(tmp_path, eager):

    class Stop(Exception):
        pass

    def stop():
        raise Stop

    with pytest.raises(Stop):
        DenoisingDetector(**TINY, checkpoint=tmp_path, on_epoch=stop).fit(GOOD[:8])
    keras.utils.set_random_seed(7)
    epochs = []
    resumed = DenoisingDetector(**TINY, checkpoint=tmp_path, on_epoch=lambda: epochs.append(1))
    unbroken = DenoisingDetector(**TINY).fit(GOOD[:8])
    assert resumed.fit(GOOD[:8]).score(GOOD[9]) == unbroken.score(GOOD[9])
    assert len(epochs) == 1


def blob(angle=0.0, *, shift=(0, 0), faint=1.0):
    """An anomaly map with one lopsided spot, drawn anew at each angle."""
    row, column = np.mgrid[:96, :96] - 47.5
    turn = np.radians(angle)
    x = np.cos(turn) * (column - shift[1]) + np.sin(turn) * (row - shift[0])
    y = np.cos(turn) * (row - shift[0]) - np.sin(turn) * (column - shift[1])
    spot = np.exp(-(((x + 0.06 * y**2) / 10) ** 2) - (y / 5) ** 2) + 0.6 * np.exp(
        -(((x - 12) / 4) ** 2) - ((y - 5) / 4) ** 2
    )
    return (faint * spot).astype(np.float32)


@pytest.mark.parametrize(
    "same",
    [
        blob(20),
        blob(90),
        blob(213),
        blob(shift=(9, -12)),
        np.rot90(blob()),
        blob()[:, ::-1],
        blob()[::-1],
    ],
    ids=["20°", "90°", "213°", "shifted", "quarter turn", "mirrored", "upside down"],
)
def test_hus_moments_are_invariant(same):
    np.testing.assert_allclose(hu_moments(same), hu_moments(blob()), atol=0.02)


def test_hus_moments_tell_shapes_and_strengths_apart():
    round_spot = ndimage.gaussian_filter(np.pad(np.ones((1, 1)), 47), 6)
    assert np.abs(hu_moments(round_spot) - hu_moments(blob()))[1:].max() > 1
    assert np.abs(hu_moments(blob(faint=0.1)) - hu_moments(blob())).min() > 0.5


def test_the_first_moment_by_hand():
    """Of a single row of three equal pixels: variance 2/3 over a sum of 3."""
    row = np.zeros((5, 9))
    row[2, 3:6] = 1
    assert hu_moments(row)[0] == pytest.approx(np.log10(2 / 3 / 3))


def test_a_map_of_nothing_has_moments():
    assert np.isfinite(hu_moments(np.zeros((8, 8)))).all()


def spoiled(seed):
    """A good surface with a long scratch, or with a small speck: a defect, and something harmless."""
    rng = np.random.default_rng(seed)
    long, speck = texture(rng, side=48), texture(rng, side=48)
    row, column = rng.integers(6, 30, 2)
    long[row : row + 3, 4:44:2] = 1
    long[row : row + 3, 5:44:2] = -1
    return long, scratched(speck, row, column, side=4)


def test_few_labelled_images_tell_defects_from_harmless_anomalies(fitted):
    pairs = [spoiled(seed) for seed in range(8)]
    images = [image for pair in pairs for image in pair]
    score = fitted.score(pairs[0][0])
    fitted.fit_classifier(images, [True, False] * 8)
    judged = np.array([[fitted.defect_probability(image) for image in spoiled(20 + k)] for k in range(6)])
    assert ((judged >= 0) & (judged <= 1)).all()
    assert np.mean(judged[:, 0] > 0.5) > 0.8
    assert np.mean(judged[:, 1] < 0.5) > 0.8
    assert fitted.score(pairs[0][0]) == score


def test_other_features_can_be_given(fitted):
    detector = DenoisingDetector(**TINY, features=lambda anomaly_map: [anomaly_map.max(), 1.0])
    detector.model, detector.side = fitted.model, fitted.side
    images = [*GOOD[:6], *(scratched(image, 20, 20) for image in GOOD[:6])]
    detector.fit_classifier(images, [False] * 6 + [True] * 6)
    assert detector.defect_probability(scratched(GOOD[8], 30, 8)) > 0.9
    assert detector.defect_probability(GOOD[8]) < 0.1


def test_a_classifier_needs_labels_of_both_kinds(fitted):
    detector = DenoisingDetector(**TINY)
    detector.model, detector.side = fitted.model, fitted.side
    with pytest.raises(ValueError, match="there is no classifier yet"):
        detector.defect_probability(GOOD[0])
    with pytest.raises(ValueError, match="a label for each of 2 images, received 1"):
        detector.fit_classifier(GOOD[:2], [True])
    with pytest.raises(ValueError, match="labels must include defects and others"):
        detector.fit_classifier(GOOD[:2], [True, True])


def plate(angle, shift):
    """A plate with a notch and a window, turned and shifted, on a dark ground: float32 (64, 64)."""
    fine = 3
    row, column = (np.mgrid[: 64 * fine, : 64 * fine] + 0.5) / fine
    y, x = row - 32 - shift[0], column - 32 - shift[1]
    turn = np.radians(-angle)
    x, y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    image = np.where((np.abs(x) < 18) & (np.abs(y) < 10) & (x + y < 20), 0.5, -0.5)
    image[(np.abs(x + 8) < 4) & (np.abs(y + 2) < 5)] = -0.1
    return image.reshape(64, fine, 64, fine).mean(axis=(1, 3)).astype(np.float32)


def test_registered_parts_are_learned_in_one_place_and_maps_lie_on_the_image(untrained):
    pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    good = [plate(0, (0, 0))]
    good += [plate(rng.uniform(-180, 180), rng.uniform(-4, 4, 2)) for _ in range(7)]
    detector = DenoisingDetector(**{**TINY, "crop": 64}, registration=True).fit(good)
    assert all(np.abs(example - good[0])[8:-8, 8:-8].mean() < 0.05 for example in untrained["examples"])
    image = plate(70, (3, -2))
    pose = detector.register(image)
    assert pose.angle == pytest.approx(70, abs=1.5)
    assert pose.confidence > 0.95
    aligned = pose.align(image)
    assert np.abs(aligned - good[0])[8:-8, 8:-8].mean() < 0.05
    # A network that gives back the reference, whatever it sees: what is left is the mark, in its place.
    detector.model = _Always(good[0])
    mark = image.copy()
    mark[33:37, 29:33] = 1.0
    anomaly_map = detector.anomaly_map(mark)
    assert anomaly_map.shape == mark.shape
    row, column = np.unravel_index(anomaly_map.argmax(), mark.shape)
    assert 32 <= row <= 37
    assert 28 <= column <= 33
    assert detector.score(mark) == pytest.approx(anomaly_map.sum(), rel=1e-4)


class _Always:
    def __init__(self, image):
        self._image = image[np.newaxis, ..., np.newaxis]

    def predict_on_batch(self, pixels):
        assert pixels.shape == self._image.shape
        return self._image


def test_images_without_the_part_are_refused_in_fitting_and_judged_as_they_lie(untrained):
    pytest.importorskip("cv2")
    part, flat = plate(0, (0, 0)), np.zeros((64, 64), np.float32)
    with pytest.raises(DataError, match="good image 2 cannot be registered to the first"):
        DenoisingDetector(**TINY, registration=True).fit([part, flat])
    detector = DenoisingDetector(**{**TINY, "crop": 64}, registration=True).fit([part] * 2)
    assert detector.register(flat).confidence == 0
    detector.model = _Always(part)
    np.testing.assert_allclose(detector.anomaly_map(flat), part**2)


def test_without_opencv_only_registration_is_refused(monkeypatch, fitted):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert fitted.register(GOOD[0]) is None
    with pytest.raises(MetricadError, match=r"metricad\[registration\]"):
        DenoisingDetector(**TINY, registration=True).fit(GOOD[:2])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"units": 0}, "units must be at least 1"),
        ({"code": 0}, "code must be at least 1"),
        ({"noise": -0.1}, "noise must be at least 0"),
        ({"crop": 20}, "crop must be a multiple of 8"),
        ({"minimum_confidence": 2}, "minimum_confidence must lie in"),
        ({"largest_angle": -1}, "largest_angle must lie in"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        DenoisingDetector(**{**TINY, **wrong})


def test_without_images_there_is_nothing_to_fit(fitted):
    with pytest.raises(ValueError, match="no images to fit to"):
        DenoisingDetector(**TINY).fit([])
    with pytest.raises(DataError, match="NaN or infinite"):
        fitted.score(np.full((8, 8), np.nan, np.float32))
