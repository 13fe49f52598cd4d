"""Masks as other programs write them, beside the mask that is meant."""

import numpy as np
import pytest
from PIL import Image

from metricad.data import datasets, images, masks
from metricad.errors import DataError
from tests.helpers import save, texture

MASK = np.zeros((40, 50), bool)
MASK[5:20, 10:30] = True
LEVELS = MASK.astype(np.uint8)
COLOR = np.dstack([LEVELS * 200, LEVELS * 30, LEVELS * 0])


def picture(name):
    if name.startswith("alpha"):
        return Image.fromarray(np.dstack([np.full((40, 50, 3), 7, np.uint8), LEVELS * 255]))
    if name.startswith("palette"):
        made = Image.fromarray(LEVELS, "P")
        made.putpalette([0, 0, 0, 120, 20, 20])
        return made
    kinds = {
        "01": LEVELS,
        "0255": LEVELS * 255,
        "bool": MASK,
        "16": LEVELS * np.uint16(65535),
        "color": COLOR,
    }
    return Image.fromarray(kinds[name.partition(".")[0]])


@pytest.mark.parametrize(
    "name",
    ["01.png", "01.bmp", "0255.png", "0255.jpg", "0255.tif", "0255.pgm", "bool.png", "bool.tif", "16.png",
     "palette.png", "alpha.png", "alpha.tif", "color.png", "0255.webp"],
)  # fmt: skip
@pytest.mark.parametrize("gray", ["inside", "outside"])
def test_masks_of_every_kind(tmp_path, name, gray):
    picture(name).convert("L" if name.endswith(".jpg") else None).save(tmp_path / name)
    np.testing.assert_array_equal(masks.read(tmp_path / name, gray=gray), MASK)


def test_a_lossy_mask_is_thresholded_at_its_middle(tmp_path):
    """Also one of few levels; one without contrast is all inside or all outside."""
    for high in (255, 128):
        Image.fromarray(LEVELS * np.uint8(high)).save(tmp_path / "i.jpg", quality=60)
        np.testing.assert_array_equal(masks.read(tmp_path / "i.jpg"), MASK)
    rng = np.random.default_rng(0)
    for level, inside in ((3, False), (250, True)):
        Image.fromarray(level + rng.integers(-3, 4, MASK.shape, np.int8).astype(np.uint8)).save(
            tmp_path / "i.jpg"
        )
        assert (masks.read(tmp_path / "i.jpg") == inside).all()


def test_a_mask_is_turned_as_an_image_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(LEVELS * 255).save(tmp_path / "i.png", exif=exif)
    np.testing.assert_array_equal(masks.read(tmp_path / "i.png"), np.rot90(MASK, -1))


def test_what_is_wrong_with_a_mask_is_said():
    assert masks.problem(MASK, (40, 50, 3)) is None
    assert "40×50 pixels, the image 50×40" in masks.problem(MASK, (50, 40))
    assert "98 %" in masks.problem(np.arange(2000).reshape(40, 50) > 30, (40, 50))


@pytest.mark.parametrize("name", ["0_mask.png", "0_mask.TIF", "0.png", "0.bmp", "deep/1_mask.png"])
def test_masks_are_found_by_name_whatever_their_kind(tmp_path, name):
    rng = np.random.default_rng(0)
    for path in ("train/good/0.png", "test/good/1.png", "test/crack/0.jpg.png", "test/crack/deep/1.png"):
        save(tmp_path / "tile" / path, texture(rng))
    save(tmp_path / "tile" / "test" / "crack" / "0.png", texture(rng))
    mask = tmp_path / "tile" / "ground_truth" / "crack" / name
    mask.parent.mkdir(parents=True)
    Image.fromarray(np.eye(64, dtype=np.uint8)).save(mask)
    (tile,) = datasets.load(tmp_path)
    found = [one.name for one in tile.test if one.read_mask is not None]
    assert found == ["test/crack/deep/1.png" if "deep" in name else "test/crack/0.png"]
    assert list(datasets.mask_problems(tile)) == []


def test_bad_masks_are_named(tmp_path):
    rng = np.random.default_rng(0)
    for path in ("train/good/0.png", "test/good/1.png", *(f"test/crack/{k}.png" for k in range(4))):
        save(tmp_path / "tile" / path, texture(rng))
    folder = tmp_path / "tile" / "ground_truth" / "crack"
    images.write(folder / "0_mask.png", np.eye(64, dtype=np.uint8))
    images.write(folder / "1_mask.png", 1 - np.eye(64, dtype=np.uint8))
    images.write(folder / "2_mask.png", np.eye(32, dtype=np.uint8))
    (folder / "3_mask.png").write_bytes(b"damaged")
    (tile,) = datasets.load(tmp_path)
    inverted, size, damaged = datasets.mask_problems(tile)
    assert "1.png" in inverted
    assert "2.png" in size
    assert "3_mask.png" in damaged
    with pytest.raises(DataError):
        datasets.known_mask(tile.test[1], (64, 64))
