"""Facts of image files: what is said of good files, and what becomes of bad ones."""

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from metricad.check.facts import survey
from metricad.data import images
from tests.helpers import save, texture


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_size_color_levels_and_light(tmp_path, rng):
    gray = np.full((40, 60), 51, np.uint8)
    gray[:, 30:] = 153
    images.write(tmp_path / "gray.png", gray)
    images.write(tmp_path / "same.png", np.stack([gray] * 3, axis=-1))
    images.write(tmp_path / "color.png", np.stack([gray, gray, 255 - gray], axis=-1))
    found = survey([tmp_path / f"{name}.png" for name in ("gray", "same", "color")]).all
    assert [one.color for one in found] == ["gray", "gray as color", "color"]
    assert {(one.height, one.width, one.container, one.bits) for one in found} == {(40, 60, "uint8", 8)}
    assert found[0].brightness == pytest.approx(0.4)
    assert found[0].contrast == pytest.approx(0.2)
    assert found[1].brightness == pytest.approx(0.4)
    assert len({one.digest for one in found}) == 3


def test_bits_are_found_on_all_files(tmp_path, rng):
    for number, top in enumerate((900, 4000)):
        levels = rng.integers(0, top, (32, 32)).astype(np.uint16)
        levels[0, 0] = top
        tifffile.imwrite(tmp_path / f"{number}.tif", levels)
    paths = sorted(tmp_path.iterdir())
    found = survey(paths).all
    assert [one.bits for one in found] == [12, 12]
    assert found[1].brightness == pytest.approx(2000 / 4095, rel=0.1)
    too_large, fits = reversed(survey(paths, bits=10).all)
    assert too_large.problem is not None
    assert (fits.problem, fits.bits) == (None, 10)


def test_blur_lowers_sharpness(tmp_path, rng):
    image = rng.uniform(-1, 1, (96, 96)).astype(np.float32)
    blurred = gaussian_filter(image, 2)
    sharp, soft = survey([save(tmp_path / "a.png", image), save(tmp_path / "b.png", blurred)]).all
    assert soft.sharpness < 0.9 * sharp.sharpness


def test_a_bad_file_costs_only_itself(tmp_path, rng):
    good = save(tmp_path / "good.png", texture(rng))
    broken = tmp_path / "broken.png"
    broken.write_bytes(good.read_bytes()[:200])
    text = tmp_path / "text.png"
    text.write_text("no image")
    blank = save(tmp_path / "blank.png", np.zeros((16, 16), np.float32))
    found = survey([broken, good, text, tmp_path / "gone.png", blank])
    assert [one.problem is None for one in found.all] == [False, True, False, False, True]
    assert np.isfinite(found.coarse).all()
    assert [bool(row.any()) for row in found.coarse] == [False, True, False, False, False]
