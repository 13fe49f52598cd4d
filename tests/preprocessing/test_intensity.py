"""The curve that good images choose: light that multiplies is undone, light that adds is left alone."""

import numpy as np
import pytest

from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.preprocessing.intensity import LINEAR, LOGARITHMIC, IntensityTransform

pytestmark = pytest.mark.tf


def lit(power, seed=0, *, count=8, side=128):
    """Noise whose deviation grows with the power of the light, which differs from stripe to stripe."""
    rng = np.random.default_rng(seed)
    light = np.geomspace(0.15, 0.6, side // 16).repeat(16)[:, np.newaxis] * np.ones(side)
    images = light + 0.1 * light**power * rng.standard_normal((count, side, side))
    return [(image, None) for image in (2 * images.clip(0, 1) - 1).astype(np.float32)]


def chosen(images):
    return IntensityTransform().adapt(images).curve


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
    assert chosen(lit(power)) == curve


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 64)), np.full((256, 256), -1.0), np.zeros((4, 300)), np.zeros((256, 256))],
    ids=["even and small", "black", "narrow", "even"],
)
def test_images_that_say_nothing_are_left_as_they_are(image):
    assert chosen([(image.astype(np.float32), None)]) == LINEAR


def test_only_pixels_inside_are_looked_at():
    inside = np.zeros((128, 128), bool)
    inside[:, :32] = True
    part = [(image.copy(), inside) for image, _ in lit(1.0)]
    for image, _ in part:
        image[:, 32:] = lit(0.0, seed=1, count=1)[0][0][:, 32:]
    assert chosen(part) == LOGARITHMIC
    assert chosen((image, None) for image, _ in part) == LINEAR


def test_a_layer_that_adapts_again_chooses_again():
    layer = IntensityTransform().adapt(lit(1.0))
    assert layer.adapt(lit(0.0)).curve == LINEAR


def test_the_logarithm_makes_the_variation_alike():
    plain = np.stack([image for image, _ in lit(1.0)])
    found = IntensityTransform(LOGARITHMIC)(plain).numpy()
    dark, bright = (found[:, rows].std() for rows in (slice(0, 16), slice(-16, None)))
    assert dark == pytest.approx(bright, rel=0.3)
    assert plain[:, -16:].std() > 3 * plain[:, :16].std()


def test_the_logarithm_keeps_order_and_ends():
    gray = np.linspace(-1, 1, 101, dtype=np.float32)
    found = IntensityTransform(LOGARITHMIC)(gray).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[[0, -1]], [-1, 1], atol=1e-6)
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(found, 2 * np.log(1 + 20 * (gray + 1) / 2) / np.log(21) - 1, atol=1e-5)


def test_linear_is_the_image_itself():
    gray = np.linspace(-1, 1, 101, dtype=np.float32)
    np.testing.assert_array_equal(IntensityTransform(LINEAR)(gray), gray)


def test_the_curve_is_kept_in_the_configuration():
    layer = IntensityTransform.from_config(IntensityTransform(LOGARITHMIC).get_config())
    assert layer.curve == LOGARITHMIC


def test_an_unknown_curve_is_refused():
    with pytest.raises(ValueError, match="linear or logarithmic, received 'gamma'"):
        IntensityTransform("gamma")
