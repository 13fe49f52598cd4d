"""Color channels: luminance and opponents against NumPy, and which images suit which part."""

import numpy as np
import pytest
import skimage

from metricad.data.channels import channels_of, is_colored, to_channels, to_luminance
from metricad.errors import DataError
from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.preprocessing.color import Luminance, Opponents

pytestmark = pytest.mark.tf


def colored(shape=(6, 8), seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (*shape, 3)).astype(np.float32)


def gray(image):
    """The same gray in three channels."""
    return np.repeat(image[..., :1], 3, axis=-1)


def test_luminance_is_that_of_scikit_image():
    light = (colored() + 1) / 2
    expected = skimage.color.rgb2gray(light) * 2 - 1
    np.testing.assert_allclose(to_luminance(colored()), expected, atol=1e-6)
    np.testing.assert_allclose(Luminance()(colored()[None])[0, ..., 0], expected, atol=1e-6)


def test_the_luminance_of_gray_is_gray_itself():
    image = colored()[..., 0]
    assert to_luminance(image) is image
    np.testing.assert_array_equal(Luminance()(image[None, ..., None])[0, ..., 0], image)
    np.testing.assert_allclose(to_luminance(gray(colored())), image, atol=1e-6)


def test_opponents_are_two_differences():
    red, green, blue = np.moveaxis(colored(), -1, 0)
    found = Opponents()(colored()[None])[0]
    np.testing.assert_allclose(found, np.stack([red - green, blue - (red + green) / 2], -1), atol=1e-6)


def test_opponents_of_gray_are_0_at_any_brightness():
    np.testing.assert_allclose(Opponents()(gray(colored())[None]), 0, atol=1e-6)


def test_an_image_is_colored_where_its_channels_differ_anywhere():
    image = gray(colored())
    assert not is_colored(image)
    assert not is_colored(image[..., 0])
    image[3, 4, 2] += 0.01
    assert is_colored(image)


def test_a_part_has_color_when_any_of_its_images_has():
    assert channels_of([gray(colored()), colored()[..., 0]]) == 1
    assert channels_of([gray(colored()), colored()]) == 3


def test_a_gray_part_sees_the_luminance_of_a_color_image():
    found = to_channels(colored(), 1)
    assert found.shape == (6, 8, 1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., 0], to_luminance(colored()))


def test_a_color_part_takes_color_images_as_they_are_and_refuses_gray_ones():
    np.testing.assert_array_equal(to_channels(colored(), 3), colored())
    with pytest.raises(DataError, match="expected a color image, received a gray one"):
        to_channels(colored()[..., 0], 3)
