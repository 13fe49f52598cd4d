"""The magnetic tiles in MVTec's layout, from small trees and from a real copy where there is one."""

import os
from pathlib import Path

import numpy as np
import pytest
import skimage
from typer.testing import CliRunner

from data_prep import magnetic_tile
from data_prep.cli import app
from data_prep.magnetic_tile import convert
from metricad.errors import DataError

MASK = np.zeros((20, 16), np.uint8)
MASK[3:9, 4:7] = (10, 120, 255)  # a soft border, as in copies that somebody has resized


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    skimage.io.imsave(path, pixels, check_contrast=False)
    return path


def tile(root: Path, folder: str, stem: str, mask: np.ndarray | None = None) -> None:
    pixels = np.random.default_rng(len(stem)).integers(0, 256, MASK.shape, dtype=np.uint8)
    write(root / folder / "Imgs" / f"{stem}.jpg", pixels)
    if mask is not None:
        write(root / folder / "Imgs" / f"{stem}.png", mask)


@pytest.fixture
def original(tmp_path):
    root = tmp_path / "in/datasets"
    for number in range(9):
        tile(root, "MT_Free", f"exp1_num_{number}", mask=0 * MASK)  # the original has masks here, too
    tile(root, "MT_Crack", "exp2_num_1", MASK)
    tile(root, "MT_Crack", "exp2_num_2", MASK)
    tile(root, "MT_Uneven", "exp3_num_1", 0 * MASK)
    return tmp_path / "in"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_converted_folder_has_the_layout_and_the_stated_split(original, tmp_path):
    options = ["--manual-dir", str(original), "--data-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["magnetic-tile", *options])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert files(tmp_path / "out") == [
        "magnetic_tile/ground_truth/crack/exp2_num_1_mask.png",
        "magnetic_tile/ground_truth/crack/exp2_num_2_mask.png",
        "magnetic_tile/ground_truth/uneven/exp3_num_1_mask.png",
        "magnetic_tile/test/crack/exp2_num_1.jpg",
        "magnetic_tile/test/crack/exp2_num_2.jpg",
        "magnetic_tile/test/good/exp1_num_3.jpg",
        "magnetic_tile/test/good/exp1_num_7.jpg",
        "magnetic_tile/test/uneven/exp3_num_1.jpg",
        *(f"magnetic_tile/train/good/exp1_num_{number}.jpg" for number in (0, 1, 2, 4, 5, 6, 8)),
    ]
    assert lines[0].startswith("split: of the sorted good images every 4th is in test/good")
    assert "note: 9 of the original's 952 images of MT_Free in this copy" in lines
    assert "note: 0 of the original's 115 images of MT_Blowhole in this copy" in lines
    assert "note: 1 defective images have an empty mask: test/uneven/exp3_num_1.jpg" in lines
    assert lines[-1] == (
        f"{tmp_path}/out/magnetic_tile: train 7 images (7 good); "
        "test 5 images (2 good, 3 defects: 2 crack, 1 uneven)"
    )


def test_masks_are_written_as_0_and_255(original, tmp_path):
    convert(original, tmp_path / "out")
    mask = skimage.io.imread(tmp_path / "out/magnetic_tile/ground_truth/crack/exp2_num_1_mask.png")
    np.testing.assert_array_equal(mask, np.where(MASK == 255, 255, 0))


@pytest.mark.parametrize("copy", [False, True])
def test_images_are_links_or_copies_and_outlive_the_original(original, tmp_path, copy):
    source = original / "datasets/MT_Crack/Imgs/exp2_num_1.jpg"
    content = source.read_bytes()
    convert(original, tmp_path / "out", copy=copy)
    placed = tmp_path / "out/magnetic_tile/test/crack/exp2_num_1.jpg"
    assert placed.samefile(source) == (not copy)
    source.unlink()
    assert placed.read_bytes() == content


def test_images_are_copied_where_links_are_refused(original, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("another file system")

    monkeypatch.setattr(magnetic_tile.os, "link", refuse)
    convert(original, tmp_path / "out")
    source = original / "datasets/MT_Crack/Imgs/exp2_num_1.jpg"
    placed = tmp_path / "out/magnetic_tile/test/crack/exp2_num_1.jpg"
    assert not placed.samefile(source)
    assert placed.read_bytes() == source.read_bytes()


def test_converted_folder_is_kept_unless_overwritten(original, tmp_path):
    convert(original, tmp_path / "out")
    tile(original / "datasets", "MT_Fray", "exp4_num_1", MASK)
    lines = convert(original, tmp_path / "out")
    assert "already converted, nothing done" in lines[0]
    assert lines[-1].endswith("3 defects: 2 crack, 1 uneven)")
    assert convert(original, tmp_path / "out", overwrite=True)[-1].endswith("2 crack, 1 fray, 1 uneven)")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["magnetic_tile"]


def test_original_is_never_replaced(original, tmp_path):
    (original / "datasets").rename(original / "magnetic_tile")
    before = files(original)
    with pytest.raises(DataError, match="exists and is no converted data set"):
        convert(original, original, overwrite=True)
    assert files(original) == before


def test_folder_of_somebody_else_is_never_replaced(original, tmp_path):
    write(tmp_path / "out/magnetic_tile/train/good/mine.png", MASK)
    with pytest.raises(DataError, match="is no converted data set"):
        convert(original, tmp_path / "out", overwrite=True)
    assert files(tmp_path / "out") == ["magnetic_tile/train/good/mine.png"]


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("MT_Crack/Imgs/exp2_num_2.jpg", "not a readable image"),
        ("MT_Free/Imgs/exp1_num_8.jpg", "not a readable image"),
        ("MT_Crack/Imgs/exp2_num_2.png", "not a readable image"),
    ],
)
def test_damaged_file_is_named_and_nothing_left_behind(original, tmp_path, damaged, message):
    path = original / "datasets" / damaged
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{path.name}: {message}"):
        convert(original, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_missing_mask_is_refused(original, tmp_path):
    (original / "datasets/MT_Crack/Imgs/exp2_num_2.png").unlink()
    with pytest.raises(DataError, match=r"exp2_num_2\.jpg: no mask exp2_num_2\.png beside it"):
        convert(original, tmp_path / "out")


def test_mask_of_another_size_is_refused(original, tmp_path):
    write(original / "datasets/MT_Crack/Imgs/exp2_num_2.png", MASK.T)
    with pytest.raises(DataError, match=r"exp2_num_2\.png: a mask of 16×20 pixels; expected 20×16"):
        convert(original, tmp_path / "out")


def test_folder_without_tiles_is_refused(tmp_path):
    (tmp_path / "in/MT_Free/Imgs").mkdir(parents=True)
    with pytest.raises(DataError, match=r"expected the folders MT_Free/Imgs, .* Received: MT_Free"):
        convert(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in/MT_Fray/Imgs").mkdir(parents=True)
    with pytest.raises(DataError, match=r"Imgs: no \.jpg images here"):
        convert(tmp_path / "in", tmp_path / "out")


def test_real_copy(tmp_path):
    root = Path(os.environ.get("METRICAD_DATA", "")) / "magnetic_tile"
    if "METRICAD_DATA" not in os.environ or not (root / "MT_Free").is_dir():
        pytest.skip("METRICAD_DATA names no folder with magnetic_tile/MT_Free")
    lines = convert(root, tmp_path)
    assert "392 defects: 115 blowhole, 85 break, 57 crack, 32 fray, 103 uneven" in lines[-1]
    assert len(list((tmp_path / "magnetic_tile/ground_truth").rglob("*_mask.png"))) == 392
