"""The range of levels: found on good images, then asked of every other image."""

import numpy as np
import pytest
import tifffile

from metricad.data import images, levels
from metricad.data.levels import Levels
from metricad.data.picture import Picture
from metricad.errors import DataError

RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (40, 50), dtype=np.uint16)
TWELVE[0, 0] = 4095
EIGHT = (TWELVE >> 4).astype(np.uint8)


def write(path, pixels, **options):
    tifffile.imwrite(path, pixels, **options)
    return path


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(0, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (16383, 14), (16384, 16), (65535, 16)],
)
def test_the_fewest_bits_that_hold_the_largest_level(tmp_path, largest, bits):
    dark = np.zeros((40, 50), np.uint16)
    bright = np.full((40, 50), largest, np.uint16)
    paths = [write(tmp_path / "a.tif", dark), write(tmp_path / "b.tif", bright)]
    assert images.find_levels(paths) == Levels("uint16", bits)


def test_12_bits_look_like_their_twin_of_8(tmp_path):
    path = write(tmp_path / "i.tif", TWELVE)
    found = images.read(path, levels=images.find_levels([path]))
    np.testing.assert_allclose(found, TWELVE / 2047.5 - 1, atol=1e-6)
    assert np.abs(found - images.from_uint8(EIGHT)).max() < 2 / 255
    assert images.read(path).max() < -0.8  # alone, a file of 16 bits is taken for what it says

    color = np.dstack([TWELVE, TWELVE[::-1], TWELVE])
    path = write(tmp_path / "c.tif", color, photometric="rgb")
    both = [images.read(path, levels=Levels("uint16", 12), color=color) for color in (True, False)]
    np.testing.assert_allclose(both[0], color / 2047.5 - 1, atol=1e-6)
    np.testing.assert_allclose(both[1], both[0] @ [0.2125, 0.7154, 0.0721], atol=1e-6)


def test_only_as_many_files_are_read_as_needed():
    def pictures(*kinds):
        for kind in kinds:
            if kind is None:
                pytest.fail("one more was read")
            yield "i", kind

    eight, twelve = Picture(EIGHT), Picture(TWELVE)
    assert levels.find(pictures(eight, None)) == Levels("uint8", 8)
    assert levels.find(pictures(Picture(EIGHT / 255), None)) == Levels("float", None)
    assert levels.find(pictures(twelve, None), bits=14) == Levels("uint16", 14)
    assert levels.find(pictures(Picture(TWELVE // 16, bits=12), None)) == Levels("uint16", 12)
    assert levels.find(pictures(twelve, twelve)) == Levels("uint16", 12)
    for picture, bits in ((eight, 12), (Picture(EIGHT / 255), 8)):
        with pytest.raises(DataError, match="--bits"):
            levels.find(pictures(picture), bits=bits)
    with pytest.raises(DataError, match="no images"):
        levels.find([])


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Picture(EIGHT), "8-bit levels, expected 12-bit levels in 16-bit files"),
        (Picture(EIGHT / 255), "float levels, expected 12-bit"),
        (Picture(TWELVE + 1), "a level of 4096; expected 4095 at most"),
        (Picture(TWELVE // 4, bits=10), "have 10 bits; expected 12-bit"),
    ],
)
def test_what_does_not_fit_is_refused(picture, words):
    with pytest.raises(DataError, match=words):
        images.to_image(picture, levels=Levels("uint16", 12))


@pytest.mark.parametrize("picture", [Picture(TWELVE), Picture(TWELVE // 16), Picture(EIGHT / 255)])
def test_more_bits_do_not_fit_where_8_are_expected(picture):
    with pytest.raises(DataError, match="expected 8-bit levels"):
        images.to_image(picture, levels=Levels("uint8", 8))


def test_what_the_file_says_is_taken(tmp_path):
    (tmp_path / "i.pgm").write_bytes(b"P5 50 40 4095\n" + TWELVE.astype(">u2").tobytes())
    np.testing.assert_allclose(images.read(tmp_path / "i.pgm"), TWELVE / 2047.5 - 1, atol=1e-6)
    assert images.find_levels([tmp_path / "i.pgm"]) == Levels("uint16", 12)


def test_levels_survive_json():
    for one in (Levels("uint8", 8), Levels("uint16", 12), Levels("float", None)):
        assert Levels.from_dict(one.to_dict()) == one
    assert Levels.from_dict(None) is None
    for damaged in ({}, {"container": "int8", "bits": 8}, {"container": "uint8", "bits": 12}, []):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Levels.from_dict(damaged)


def test_files_that_cannot_be_read_may_be_passed_over(tmp_path):
    deep = write(tmp_path / "a.tif", np.full((8, 8), 4000, np.uint16))
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"no image")
    for paths in ([bad, deep], [deep, bad]):
        assert images.find_levels(paths, skips_bad=True) == Levels("uint16", 12)
        with pytest.raises(DataError):
            images.find_levels(paths)
    with pytest.raises(DataError, match=r"bad\.tif"):
        images.find_levels([bad], skips_bad=True)
