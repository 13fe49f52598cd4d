"""The Kylberg builder on small trees of the original's layout."""

from pathlib import Path

import numpy as np
import pytest
import skimage
from typer.testing import CliRunner

from data_prep.cli import app
from data_prep.kylberg import layout
from metricad.errors import DataError
from tests.helpers import COLLECTING

if not COLLECTING:
    import tensorflow_datasets as tfds

    from data_prep.building import prepare
    from data_prep.kylberg.builder import Kylberg

pytestmark = pytest.mark.tf


def patch(root: Path, name: str, level: int = 0) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(level).integers(0, 256, (12, 12), dtype=np.uint8)
    skimage.io.imsave(path, pixels, check_contrast=False)
    return path


def run(*arguments: str | Path) -> list[str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.fixture
def archive(tmp_path):
    """An archive unpacked into folders of its own, with what such copies carry along."""
    root = tmp_path / "manual"
    inner = root / "Kylberg Texture Dataset v. 1.0/without-rotations-zip"
    for level, name in enumerate(
        ("rice1/rice1-a-p001.png", "rice1/rice1.b-p001.png", "blanket1/blanket1-d-p011.png")
    ):
        patch(inner, name, level)
    patch(inner, "blanket1/wrong-c-p002.PNG", 9)  # the folder names the texture, the file does not
    (inner / "rice1/Thumbs.db").write_bytes(b"x")
    (root / "readme.txt").write_text("x", encoding="utf-8")
    return root


def test_prepared_data_set_holds_the_images_and_what_their_names_say(archive, tmp_path):
    lines = run("kylberg", "--manual-dir", archive, "--data-dir", tmp_path / "out")
    builder = tfds.builder_from_directory(tmp_path / "out/kylberg/1.0.0")
    assert builder.info.features["label"].names == ["blanket1", "rice1"]
    assert builder.info.features["sample"].names == ["a", "b", "c", "d"]
    found = {}
    for example in tfds.as_numpy(builder.as_dataset(split="train")):
        assert example["image"].shape == (12, 12, 1)
        labels = int(example["label"]), int(example["sample"]), int(example["rotation"])
        found[example["name"].decode()] = labels
        source = next(archive.rglob(example["name"].decode().split("/")[1]))
        np.testing.assert_array_equal(example["image"][..., 0], skimage.io.imread(source))
    assert found == {
        "blanket1/blanket1-d-p011.png": (0, 3, 0),
        "blanket1/wrong-c-p002.PNG": (0, 2, 0),
        "rice1/rice1-a-p001.png": (1, 0, 0),
        "rice1/rice1.b-p001.png": (1, 1, 0),
    }
    assert lines[-1].endswith("kylberg/1.0.0: train 4 images (2 classes)")
    assert "a partial copy: 4 images of 2 textures; the original has 160 of each of 28" in lines[0]


def test_rotated_set_gives_degrees(tmp_path):
    for degrees in (0, 30, 330):
        patch(tmp_path, f"blanket1-with-rotations/blanket1-d-p011-r{degrees}.png")
    patches = layout.find(tmp_path)
    assert {found.rotation for found in patches} == {0, 30, 330}
    assert {found.texture for found in patches} == {"blanket1"}
    assert "the original has 1920 of each" in layout.notes(patches)[0]


def test_folder_of_one_texture_will_do(tmp_path):
    patch(tmp_path, "rug1/rug1-a-p001.png")
    assert [found.name for found in layout.find(tmp_path / "rug1")] == ["rug1/rug1-a-p001.png"]


def test_complete_copy_has_no_notes(tmp_path):
    patches = [
        layout.Patch(f"texture{texture}", "a", 0, tmp_path / f"{number}.png")
        for texture in range(28)
        for number in range(160)
    ]
    assert layout.notes(patches) == []
    assert layout.notes(patches[:-1]) != []


def test_plain_and_rotated_set_together_are_refused(tmp_path):
    patch(tmp_path, "plain/rug1/rug1-a-p001.png")
    patch(tmp_path, "rotated/rug1/rug1-a-p001-r30.png")
    with pytest.raises(DataError, match=r"texture rug1 exists twice, in .*plain.* and in .*rotated"):
        layout.find(tmp_path)


def test_other_file_in_a_texture_folder_is_refused(tmp_path):
    patch(tmp_path, "rug1/rug1-a-p001.png")
    patch(tmp_path, "rug1/holiday.png")
    with pytest.raises(
        DataError, match=r"holiday\.png: not a Kylberg file name; expected one like rug1-d-p011"
    ):
        layout.find(tmp_path)


@pytest.mark.parametrize(
    ("name", "remedy"), [("rug1.zip", "unpack the zip files"), ("a.txt", "give the folder")]
)
def test_folder_without_textures_is_refused_with_the_remedy(tmp_path, name, remedy):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"no Kylberg textures here; expected .*; {remedy}"):
        layout.find(tmp_path)


def test_truncated_image_is_named_and_nothing_is_left_behind(archive, tmp_path):
    path = next(archive.rglob("rice1.b-p001.png"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"rice1\.b-p001\.png: not a readable image"):
        prepare(Kylberg, manual_dir=archive, data_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_full_disk_is_said_in_one_line_and_nothing_left_behind(tmp_path):
    resource = pytest.importorskip("resource", reason="no limits to set on this system")
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    skimage.io.imsave(patch(tmp_path / "in", "rug1/rug1-a-p001.png"), noise)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # bytes a file
    try:
        with pytest.raises(DataError, match=r"kylberg: TensorFlow could not .* \(File too large\)"):
            prepare(Kylberg, manual_dir=tmp_path / "in", data_dir=tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "out").exists()


def test_prepared_data_set_is_kept_unless_overwritten(archive, tmp_path):
    prepare(Kylberg, manual_dir=archive, data_dir=tmp_path / "out")
    info = tmp_path / "out/kylberg/1.0.0/dataset_info.json"
    before = info.stat().st_mtime_ns
    patch(archive, "stone1/stone1-a-p001.png")
    lines = prepare(Kylberg, manual_dir=archive, data_dir=tmp_path / "out")
    assert "already prepared, nothing done" in lines[0]
    assert lines[-1].endswith("train 4 images (2 classes)")
    assert info.stat().st_mtime_ns == before

    lines = prepare(Kylberg, manual_dir=archive, data_dir=tmp_path / "out", overwrite=True)
    assert lines[-1].endswith("train 5 images (3 classes)")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["kylberg"]


def test_failed_overwrite_keeps_the_data_set(archive, tmp_path):
    prepare(Kylberg, manual_dir=archive, data_dir=tmp_path / "out")
    patch(archive, "stone1/stone1-a-p001.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"stone1-a-p001\.png"):
        prepare(Kylberg, manual_dir=archive, data_dir=tmp_path / "out", overwrite=True)
    builder = tfds.builder_from_directory(tmp_path / "out/kylberg/1.0.0")
    assert builder.info.splits["train"].num_examples == 4
    assert len(list(builder.as_dataset(split="train"))) == 4


def test_something_else_in_its_place_is_refused(archive, tmp_path):
    (tmp_path / "out/kylberg/1.0.0").mkdir(parents=True)
    with pytest.raises(DataError, match=r"not a complete data set .* --overwrite"):
        prepare(Kylberg, manual_dir=archive, data_dir=tmp_path / "out")
    assert prepare(Kylberg, manual_dir=archive, data_dir=tmp_path / "out", overwrite=True)[-1].endswith(
        "train 4 images (2 classes)"
    )
