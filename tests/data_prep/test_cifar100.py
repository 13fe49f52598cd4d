"""The gray CIFAR-100, from a small data set prepared as TFDS prepares the original, and from a real one."""

import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from data_prep.cli import app
from metricad.errors import DataError
from tests.helpers import COLLECTING

if not COLLECTING:
    import tensorflow_datasets as tfds

    from data_prep.building import prepare
    from data_prep.cifar100.builder import Cifar100Gray, open_original
    from tests.data_prep.cifar100 import NAMES, PIXELS, Original

pytestmark = pytest.mark.tf


@pytest.fixture
def manual(tmp_path):
    Original(data_dir=tmp_path / "manual").download_and_prepare()
    return tmp_path / "manual"


def slow_gray(color: np.ndarray) -> np.ndarray:
    """Weigh the channels one pixel at a time."""
    gray = np.zeros(color.shape[:2], np.uint8)
    for row, column in np.ndindex(gray.shape):
        red, green, blue = map(int, color[row, column])
        gray[row, column] = round(0.2125 * red + 0.7154 * green + 0.0721 * blue)
    return gray


def test_prepared_data_set_is_the_original_in_gray(manual, tmp_path):
    options = ["--manual-dir", str(manual), "--data-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["cifar100", *options])
    assert result.exit_code == 0, result.output
    builder = tfds.builder_from_directory(tmp_path / "out/cifar100_gray/1.0.0")
    assert builder.info.features["label"].names == NAMES
    assert builder.info.features["image"].shape == (32, 32, 1)
    for split, indices in (("train", range(6)), ("test", range(6, 9))):
        examples = list(tfds.as_numpy(builder.as_dataset(split=split)))
        by_name = {example["name"].decode(): example for example in examples}
        assert sorted(by_name) == sorted(f"{NAMES[i % 3]}/{split}_{i:05d}" for i in indices)
        for index in indices:
            example = by_name[f"{NAMES[index % 3]}/{split}_{index:05d}"]
            assert example["label"] == index % 3
            np.testing.assert_array_equal(example["image"][..., 0], slow_gray(PIXELS[index]))
    assert result.stdout.splitlines() == [
        "note: train: 6 of the original's 50000 images in this copy",
        "note: test: 3 of the original's 10000 images in this copy",
        f"{tmp_path}/out/cifar100_gray/1.0.0: train 6 images (3 classes); test 3 images (3 classes)",
    ]


@pytest.mark.parametrize("below", [".", "cifar100", "cifar100/3.0.2"])
def test_folder_of_the_data_set_or_its_version_will_do(manual, below):
    assert open_original(manual / below).info.splits["train"].num_examples == 6


def test_newest_version_is_taken(manual):
    newer = manual / "cifar100/3.0.10"
    (manual / "cifar100/3.0.2").rename(newer)
    Original(data_dir=manual).download_and_prepare()
    info = newer / "dataset_info.json"
    info.write_text(info.read_text(encoding="utf-8").replace("3.0.2", "3.0.10"), encoding="utf-8")
    assert str(open_original(manual).version) == "3.0.10"


def test_missing_original_is_refused_with_the_command_that_makes_it(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r'no prepared CIFAR-100 here.*"tfds build cifar100 --data_dir DIR"'):
        open_original(tmp_path)


def test_other_data_set_is_refused(manual):
    info = manual / "cifar100/3.0.2/dataset_info.json"
    info.write_text(info.read_text(encoding="utf-8").replace('"cifar100"', '"cifar10"'), encoding="utf-8")
    with pytest.raises(DataError, match="expected cifar100 with id, image and label, received cifar10"):
        open_original(manual)


def test_damaged_description_is_refused(manual):
    (manual / "cifar100/3.0.2/dataset_info.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"3\.0\.2: a damaged data set"):
        open_original(manual)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_records_are_refused_and_nothing_left_behind(manual, tmp_path, damage):
    (records,) = (manual / "cifar100/3.0.2").glob("*test.tfrecord*")
    if damage == "missing":
        records.unlink()
    else:
        records.write_bytes(records.read_bytes()[:-900])
    with pytest.raises(
        DataError, match=r"3\.0\.2: damaged test records .*; prepare CIFAR-100 again"
    ) as raised:
        prepare(Cifar100Gray, manual_dir=manual, data_dir=tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_real_copy():
    root = Path(os.environ.get("METRICAD_DATA", "")) / "tfds"
    if "METRICAD_DATA" not in os.environ or not (root / "cifar100").is_dir():
        pytest.skip("METRICAD_DATA names no folder with tfds/cifar100")
    original = open_original(root)
    assert len(original.info.features["label"].names) == 100
    assert original.info.splits["train"].num_examples == 10 * original.info.splits["test"].num_examples
