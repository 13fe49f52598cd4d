"""The DAGM 2007 builder on small trees of both layouts, and on a real copy where there is one."""

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import skimage
from typer.testing import CliRunner

from data_prep.cli import app
from data_prep.dagm2007 import ellipses, layout
from metricad.errors import DataError
from tests.helpers import COLLECTING

if not COLLECTING:
    import tensorflow_datasets as tfds

    from data_prep.building import prepare
    from data_prep.dagm2007.builder import Dagm2007

pytestmark = pytest.mark.tf

SIDE = 24
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
MASK = np.zeros((SIDE, SIDE), np.uint8)
MASK[4:9, 5:12] = 255


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix of the original is upper case, which the writer does not know.
    skimage.io.imsave(path.with_suffix(".png"), pixels, check_contrast=False)
    return path.with_suffix(".png").rename(path)


def listed(folder: Path, defects: str, *, suffix: str = ".PNG") -> Path:
    """Make a split of today's layout; ``"0100"`` has four images, the second of them defective."""
    lines = ["1"]
    for number, flag in enumerate(defects, 1):
        write(folder / f"{number:04d}{suffix}", NOISE + np.uint8(number))
        if flag == "1":
            write(folder / f"Label/{number:04d}_label{suffix}", MASK)
        mask = f"{number:04d}_label{suffix}" if flag == "1" else "0"
        lines.append(f"{number:04d}\t{flag}\t{number:04d}{suffix}\t0\t{mask}\t")
    labels = folder / "Label/Labels.txt"
    labels.parent.mkdir(exist_ok=True)
    labels.write_text("\r\n".join(lines), encoding="utf-8", newline="")
    (folder / "Thumbs.db").write_bytes(b"x")
    return labels


def read(folder: Path, split: str) -> tuple["tfds.core.DatasetBuilder", dict]:
    builder = tfds.builder_from_directory(folder)
    examples = tfds.as_numpy(builder.as_dataset(split=split))
    return builder, {example["name"].decode(): example for example in examples}


def test_prepared_class_has_images_masks_and_labels(tmp_path):
    listed(tmp_path / "DAGM/Class3/Train", "0100")
    listed(tmp_path / "DAGM/Class3/Test", "10")
    options = [
        "--manual-dir",
        str(tmp_path / "DAGM"),
        "--data-dir",
        str(tmp_path / "out"),
        "--config",
        "class3",
    ]
    result = CliRunner().invoke(app, ["dagm2007", *options])
    assert result.exit_code == 0, result.output
    builder, train = read(tmp_path / "out/dagm2007/class3/1.0.0", "train")
    features = builder.info.features
    assert set(features) == {"image", "mask", "label", "surface", "name"}
    assert features["label"].names == ["normal", "defect"]
    assert features["surface"].names == [f"class{number}" for number in range(1, 11)]
    assert sorted(train) == [f"class3/train/000{number}.PNG" for number in range(1, 5)]
    for number in range(1, 5):
        example = train[f"class3/train/000{number}.PNG"]
        np.testing.assert_array_equal(example["image"][..., 0], NOISE + np.uint8(number))
        np.testing.assert_array_equal(example["mask"][..., 0], MASK if number == 2 else 0 * MASK)
        assert example["label"] == (number == 2)
        assert features["surface"].int2str(example["surface"]) == "class3"
    assert result.stdout.splitlines() == [
        "note: class3, train: 4 of the original's 575 images in this copy",
        "note: class3, test: 2 of the original's 575 images in this copy",
        f"{tmp_path}/out/dagm2007/class3/1.0.0: train 4 images (3 good, 1 defect, 1 class); "
        "test 2 images (1 good, 1 defect, 1 class)",
    ]


def test_all_takes_what_is_there_and_says_what_is_not(tmp_path):
    listed(tmp_path / "class1/train", "01", suffix=".png")  # a copy in lower case
    listed(tmp_path / "Class10/Test", "10")
    splits, notes = layout.find(tmp_path)
    assert [(image.name, image.defective) for image in splits["train"]] == [
        ("class1/train/0001.png", False),
        ("class1/train/0002.png", True),
    ]
    assert [image.surface for image in splits["test"]] == ["class10", "class10"]
    assert notes[0] == "not in this copy: class2, class3, class4, class5, class6, class7, class8, class9"
    assert "class1 has no test split in this copy" in notes
    assert "class10, test: 2 of the original's 1150 images in this copy" in notes


def test_names_in_the_list_match_files_in_either_case(tmp_path):
    labels = listed(tmp_path / "Class1/Test", "01")
    labels.write_text(labels.read_text(encoding="utf-8").lower(), encoding="utf-8")
    splits, _ = layout.find(tmp_path)
    assert [image.image.name for image in splits["test"]] == ["0001.PNG", "0002.PNG"]


def test_archive_unpacked_into_a_folder_of_its_name_is_found(tmp_path):
    listed(tmp_path / "Class1/Class1/Test", "01")
    assert len(layout.find(tmp_path)[0]["test"]) == 2


def blank_split(folder: Path, images: int, defects: int) -> None:
    """Make a split of many files that nobody decodes."""
    (folder / "Label").mkdir(parents=True)
    lines = ["1"]
    for number in range(1, images + 1):
        (folder / f"{number}.PNG").touch()
        mask = f"{number}_label.PNG" if number <= defects else "0"
        if mask != "0":
            (folder / "Label" / mask).touch()
        lines.append(f"{number}\t{int(mask != '0')}\t{number}.PNG\t0\t{mask}\t")
    (folder / "Label/Labels.txt").write_text("\n".join(lines), encoding="utf-8")


def test_complete_class_has_no_notes(tmp_path):
    blank_split(tmp_path / "Class1/Train", 575, 79)
    blank_split(tmp_path / "Class1/Test", 575, 71)
    splits, notes = layout.find(tmp_path, ["class1"])
    assert notes == []
    assert {split: sum(image.defective for image in splits[split]) for split in splits} == {
        "train": 79,
        "test": 71,
    }


@pytest.mark.parametrize(("images", "defects"), [(575, 70), (576, 71)])
def test_complete_split_with_other_counts_is_refused(tmp_path, images, defects):
    blank_split(tmp_path / "Class1/Test", images, defects)
    with pytest.raises(
        DataError, match=f"class1, test: {images} images, {defects} of .* expected 575 and 71"
    ):
        layout.find(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "0001.PNG\t0\t0",
            "0009.PNG\t0\t0",
            "1 of the 2 images it lists are not there, the first is 0009.PNG",
        ),
        (
            "0002_label.PNG",
            "0009_label.PNG",
            "1 of the 1 masks of defective images .* the first is 0009_label",
        ),
        (
            "0002_label.PNG",
            "0",
            "line 3: 0002.PNG is marked 1 and has the mask '0'; expected 1 with a mask file",
        ),
        ("0001\t0", "0001\t1", "line 2: 0001.PNG is marked 1 and has the mask '0'"),
        ("0001\t0", "0001\tx", "line 2: expected number, 0 or 1, image file, flag, and mask file or 0"),
        ("0002.PNG", "0001.PNG", "line 3: 0001.PNG is listed twice"),
        ("\t", " only ", "line 2: expected number"),
    ],
)
def test_damaged_list_is_refused_with_the_line(tmp_path, old, new, message):
    labels = listed(tmp_path / "Class1/Test", "01")
    labels.write_text(labels.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=f"Labels.txt.*{message}"):
        layout.find(tmp_path)


def test_list_is_missing_or_empty(tmp_path):
    labels = listed(tmp_path / "Class1/Test", "01")
    labels.write_text("1\n", encoding="utf-8")
    with pytest.raises(DataError, match="lists no images"):
        layout.find(tmp_path)
    labels.unlink()
    with pytest.raises(DataError, match=r"Test: no Label/Labels\.txt"):
        layout.find(tmp_path)


def test_class_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    listed(tmp_path / "Class1/Test", "01")
    with pytest.raises(
        DataError, match=r"no class2 here \(it has class1\); expected folders like Class1/Train"
    ):
        layout.find(tmp_path, ["class2"])


def test_class_that_is_there_twice_is_refused(tmp_path):
    listed(tmp_path / "a/Class1/Test", "01")
    listed(tmp_path / "b/Class1/Test", "01")
    with pytest.raises(DataError, match="class1 exists twice"):
        layout.find(tmp_path)


def test_folder_without_classes_is_refused(tmp_path):
    (tmp_path / "Photos").mkdir()
    with pytest.raises(DataError, match="no DAGM 2007 classes here; expected folders like"):
        layout.find(tmp_path)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [(MASK[:-1], "a mask of 23×24 pixels; expected 24×24"), (0 * MASK, "without a marked pixel")],
)
def test_mask_that_does_not_fit_is_refused_and_nothing_left_behind(tmp_path, pixels, message):
    listed(tmp_path / "in/Class1/Test", "01")
    write(tmp_path / "in/Class1/Test/Label/0002_label.PNG", pixels)
    with pytest.raises(DataError, match=rf"0002_label\.PNG: .*{message}"):
        prepare(Dagm2007, manual_dir=tmp_path / "in", data_dir=tmp_path / "out", config="all")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


# The competition's layout


def slow_ellipse(ellipse: ellipses.Ellipse, side: int) -> np.ndarray:
    """Ask of each pixel whether it is inside, in the ellipse's own axes."""
    mask = np.zeros((side, side), np.uint8)
    for row, column in np.ndindex(side, side):
        x, y = column - ellipse.x, row - ellipse.y
        along = x * math.cos(ellipse.angle) + y * math.sin(ellipse.angle)
        across = -x * math.sin(ellipse.angle) + y * math.cos(ellipse.angle)
        mask[row, column] = 255 * ((along / ellipse.semi_major) ** 2 + (across / ellipse.semi_minor) ** 2 < 1)
    return mask


@pytest.mark.parametrize(
    "ellipse",
    [
        ellipses.Ellipse(11.3, 4.2, 0.0, 20.1, 15.2),
        ellipses.Ellipse(11.3, 4.2, math.pi / 2, 20.1, 15.2),
        ellipses.Ellipse(12.7, 3.1, 0.6, 18.4, 17.3),
        ellipses.Ellipse(12.7, 3.1, -2.2, 18.4, 17.3),
        ellipses.Ellipse(12.7, 6.1, 4.9, 2.4, 37.3),  # beyond the border, an angle above pi
    ],
)
def test_drawn_ellipse_agrees_with_the_slow_one(ellipse):
    mask = ellipses.draw(ellipse, (40, 40))
    assert mask.any()
    np.testing.assert_array_equal(mask, slow_ellipse(ellipse, 40))


@pytest.fixture
def competition(tmp_path):
    """Three normal and two defective images as the competition had them."""
    for number in (1, 2, 10):
        write(tmp_path / f"in/Class8/{number}.png", NOISE + np.uint8(number))
    for number in (1, 2):
        write(tmp_path / f"in/Class8_def/{number}.png", NOISE - np.uint8(number))
    (tmp_path / "in/Class8_def/labels.txt").write_text(
        "1\t6.1\t3.2\t0.7\t11.3\t12.4\r\n2\t8.2\t2.1\t-1.1\t9.3\t13.4\r\n", encoding="utf-8"
    )
    return tmp_path / "in"


def test_competition_layout_is_one_split_with_drawn_ellipses(competition, tmp_path):
    lines = prepare(Dagm2007, manual_dir=competition, data_dir=tmp_path / "out", config="class8")
    _, train = read(tmp_path / "out/dagm2007/class8/1.0.0", "train")
    assert {name: int(example["label"]) for name, example in train.items()} == {
        "class8/1.png": 0,
        "class8/2.png": 0,
        "class8/10.png": 0,
        "class8_def/1.png": 1,
        "class8_def/2.png": 1,
    }
    assert not train["class8/1.png"]["mask"].any()
    np.testing.assert_array_equal(
        train["class8_def/2.png"]["mask"][..., 0],
        slow_ellipse(ellipses.Ellipse(8.2, 2.1, -1.1, 9.3, 13.4), SIDE),
    )
    assert lines == [
        "note: class8, train: 5 of the original's 2300 images in this copy",
        f"{tmp_path}/out/dagm2007/class8/1.0.0: train 5 images (3 good, 2 defects, 1 class)",
    ]


def test_ellipses_on_two_lines_each_are_read_as_well(competition):
    path = competition / "Class8_def/labels.txt"
    on_one = ellipses.read(path)
    path.write_text(path.read_text(encoding="utf-8").replace("1\t6.1", "1\t\n6.1"), encoding="utf-8")
    assert ellipses.read(path) == on_one


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t6.1\t3.2\t0.7\t11.3\t12.4", "image 2 has no ellipse"),
        ("\n".join(f"{n}\t6\t3\t0\t9\t9" for n in (1, 2, 3)), "there is no image 3"),
        ("\n".join(f"{n}\t6\t3\t0\t9\t9" for n in (1, 2, 2)), "3 ellipses for 2 images"),
        ("1\t6\t3\t0\t9", "expected six numbers per image"),
        ("1\t6\t3\t0\t9\tnine", "expected six numbers per image"),
        ("1\t6\t3\tnan\t9\t9", "expected six numbers per image"),
    ],
)
def test_damaged_ellipses_are_refused(competition, text, message):
    (competition / "Class8_def/labels.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"labels\.txt: {message}"):
        layout.find(competition)


def test_defective_images_without_ellipses_are_refused(competition):
    (competition / "Class8_def/labels.txt").unlink()
    with pytest.raises(DataError, match=r"Class8_def: no labels\.txt"):
        layout.find(competition)


def test_both_layouts_of_a_class_together_are_refused(competition):
    listed(competition / "new/Class8/Test", "01")
    with pytest.raises(DataError, match="class8 exists twice"):
        layout.find(competition)


# A real copy


def test_real_copy(tmp_path):
    root = Path(os.environ.get("METRICAD_DATA", "")) / "dagm2007"
    if "METRICAD_DATA" not in os.environ or not (root / "Class1/Test").is_dir():
        pytest.skip("METRICAD_DATA names no folder with dagm2007/Class1/Test")
    splits, _ = layout.find(root, ["class1"])
    defects = [image for image in splits["test"] if image.defective]
    normals = [image for image in splits["test"] if not image.defective]
    if len(splits["test"]) == 200:  # the part that the project's own tests run on
        assert (len(normals), len(defects)) == (129, 71)
    # All would take long; the builder has to see whole images, whatever their number.
    labels = tmp_path / "in/Class1/Test/Label/Labels.txt"
    labels.parent.mkdir(parents=True)
    lines = ["1"]
    for image in normals[:3] + defects[:3]:
        shutil.copy(image.image, labels.parent.parent)
        if image.mask:
            shutil.copy(image.mask, labels.parent)
        mask = image.mask.name if image.mask else "0"
        lines.append(f"1\t{int(image.defective)}\t{image.image.name}\t0\t{mask}\t")
    labels.write_text("\n".join(lines), encoding="utf-8")
    prepare(Dagm2007, manual_dir=tmp_path / "in", data_dir=tmp_path / "out", config="class1")
    _, test = read(tmp_path / "out/dagm2007/class1/1.0.0", "test")
    for image in normals[:3] + defects[:3]:
        example = test[image.name]
        np.testing.assert_array_equal(example["image"][..., 0], skimage.io.imread(image.image))
        mask = skimage.io.imread(image.mask) if image.mask else np.zeros((512, 512))
        np.testing.assert_array_equal(example["mask"][..., 0], mask)
