"""The tone that good images choose: light that multiplies is undone, light that adds is left alone."""

import numpy as np
import pytest
from metricad.prototype import MeanPrototype

from metricad.inspection.detector import SharedFeatures, TripletDetector
from metricad.networks import residual as network
from metricad.preprocessing.intensity import LOOK, Tone, stabilising


def lit(power, seed=0, *, count=8, side=128):
    """Noise whose deviation grows with the power of the light, which falls off from stripe to stripe."""
    rng = np.random.default_rng(seed)
    light = np.geomspace(0.15, 0.6, side // 16).repeat(16)[:, np.newaxis] * np.ones(side)
    images = light + 0.1 * light**power * rng.standard_normal((count, side, side))
    return [(image, None) for image in (2 * images.clip(0, 1) - 1).astype(np.float32)]


@pytest.mark.parametrize(
    ("power", "curve"),
    [
        (-0.5, "linear"),
        (0.0, "linear"),
        (0.3, "linear"),
        (0.7, "logarithmic"),
        (1.0, "logarithmic"),
        (1.8, "logarithmic"),
    ],
)
def test_the_logarithm_is_for_variation_that_grows_with_the_light(power, curve):
    assert stabilising(lit(power)).curve == curve


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 64)), np.full((256, 256), -1.0), np.zeros((4, 300)), np.zeros((256, 256))],
    ids=["even and small", "black", "narrow", "even"],
)
def test_images_that_say_nothing_are_left_as_they_are(image):
    assert stabilising([(image.astype(np.float32), None)]).curve == "linear"


def test_only_pixels_inside_are_looked_at():
    inside = np.zeros((128, 128), bool)
    inside[:, :32] = True
    part = [(image.copy(), inside) for image, _ in lit(1.0)]
    for image, _ in part:
        image[:, 32:] = lit(0.0, seed=1, count=1)[0][0][:, 32:]
    assert stabilising(part).curve == "logarithmic"
    assert stabilising((image, None) for image, _ in part).curve == "linear"


def test_the_logarithm_makes_the_variation_alike():
    toned = np.stack([Tone("logarithmic")(image) for image, _ in lit(1.0)])
    dark, bright = (toned[:, rows].std() for rows in (slice(0, 16), slice(-16, None)))
    assert dark == pytest.approx(bright, rel=0.3)
    plain = np.stack([image for image, _ in lit(1.0)])
    assert plain[:, -16:].std() > 3 * plain[:, :16].std()


def test_the_logarithm_keeps_order_and_ends():
    gray = np.linspace(-1, 1, 101, dtype=np.float32)[np.newaxis]
    toned = Tone("logarithmic")(gray)
    assert toned.dtype == np.float32
    assert toned.min() == pytest.approx(-1, abs=1e-6)
    assert toned.max() == pytest.approx(1, abs=1e-6)
    assert (np.diff(toned) > 0).all()
    light = (gray + 1) / 2
    np.testing.assert_allclose(toned, 2 * np.log(1 + 20 * light) / np.log(21) - 1, atol=1e-5)


def test_linear_is_the_image_itself():
    gray = np.linspace(-1, 1, 101, dtype=np.float32)[np.newaxis]
    assert Tone("linear")(gray) is gray


def test_an_unknown_curve_is_refused():
    with pytest.raises(ValueError, match="linear or logarithmic, received 'gamma'"):
        Tone("gamma")


def test_a_tone_yet_to_be_chosen_cannot_be_applied():
    with pytest.raises(ValueError, match="yet to be chosen"):
        Tone()(np.zeros((4, 4), np.float32))


# In a detector.


@pytest.fixture(scope="module")
def model():
    return network.build(4, seed=0)


def test_a_detector_shows_its_network_the_toned_image(model):
    images = [image for image, _ in lit(1.0, count=3, side=48)]
    toned = TripletDetector(model, MeanPrototype(), tone=Tone("logarithmic")).fit(images)
    by_hand = TripletDetector(model, MeanPrototype()).fit(Tone("logarithmic")(image) for image in images)
    np.testing.assert_array_equal(
        toned.distance_map(images[0]), by_hand.distance_map(Tone("logarithmic")(images[0]))
    )


def test_fitting_chooses_the_tone_by_the_first_images_and_learns_from_all(model):
    images = [image for image, _ in lit(1.0, count=LOOK + 2, side=64)]
    found = TripletDetector(model, MeanPrototype(), tone=Tone()).fit(iter(images))
    assert found.tone == stabilising((image, None) for image in images[:LOOK])
    given = TripletDetector(model, MeanPrototype(), tone=found.tone).fit(images)
    np.testing.assert_array_equal(found.prototype.mean, given.prototype.mean)


def test_what_was_prepared_is_not_chosen_again(model):
    detector = TripletDetector(model, MeanPrototype(), tone=Tone())
    detector.prepare([])
    assert detector.tone.curve is None
    detector.prepare([image for image, _ in lit(1.0)])
    chosen = detector.tone
    detector.update(lit(0.0)[0][0])
    assert detector.tone is chosen
    assert chosen.curve == "logarithmic"


def test_shared_features_are_those_of_the_tone_asked_for(model):
    shared = SharedFeatures(model)
    (image, _), *_ = lit(1.0, side=48)
    plain, dark = shared(image), shared(image, Tone("logarithmic"))
    assert np.abs(plain - dark).max() > 1e-3
    assert shared(image, Tone("logarithmic")) is dark
    np.testing.assert_array_equal(shared(image), plain)
