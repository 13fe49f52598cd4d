"""The synthetic surfaces as a data set: which images, which split, and that they are the generator's."""

import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from data_prep.cli import app
from data_prep.surfaces import generator
from data_prep.surfaces.plan import Plan
from tests.helpers import COLLECTING

if not COLLECTING:
    import tensorflow_datasets as tfds

    from data_prep.surfaces.builder import Surfaces, config_of

SMALL = Plan(size=64, normals=3, defects=2, seed=5, surfaces=(8, 5))


def test_prepared_data_set_is_what_the_generator_renders(tmp_path):
    options = ["--size", "64", "--normals", "3", "--defects", "2", "--seed", "5", "--surfaces", "8,5"]
    result = CliRunner().invoke(app, ["surfaces", *options, "--data-dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "surfaces/size64_normals3_defects2_surfaces8-5_seed5/1.0.0"
    builder = tfds.builder_from_directory(folder)
    features = builder.info.features
    assert features["surface"].names == list(generator.NAMES)
    found = {}
    for split in ("train", "test"):
        for example in tfds.as_numpy(builder.as_dataset(split=split)):
            name = example["name"].decode()
            surface, its_split, file = name.split("/")
            condition, index = file.removesuffix(".png").split("_")
            assert its_split == split
            assert features["surface"].int2str(example["surface"]) == surface
            assert features["label"].int2str(example["label"]) == condition
            image, mask = generator.render(
                int(example["surface"]) + 1, int(index), seed=5, size=64, defect=condition == "defect"
            )
            np.testing.assert_array_equal(example["image"][..., 0], image)
            np.testing.assert_array_equal(example["mask"][..., 0], 255 * mask)
            found[name] = split
    assert len(found) == 10
    assert {name for name in found if name.startswith(generator.NAMES[4])} == {
        f"{generator.NAMES[4]}/train/normal_0000.png",
        f"{generator.NAMES[4]}/train/normal_0001.png",
        f"{generator.NAMES[4]}/test/normal_0002.png",
        f"{generator.NAMES[4]}/test/defect_0000.png",
        f"{generator.NAMES[4]}/test/defect_0001.png",
    }
    assert result.stdout.splitlines() == [
        f"{folder}: train 4 images (4 good, 0 defects, 2 classes); "
        "test 6 images (2 good, 4 defects, 2 classes)"
    ]


def test_default_plan_is_the_known_configuration():
    assert config_of(Plan()) is Surfaces.builder_configs["default"]
    assert Surfaces.builder_configs["default"].plan == Plan()


def test_every_choice_is_in_the_name():
    plans = [
        Plan(),
        SMALL,
        Plan(size=64),
        Plan(normals=4),
        Plan(defects=4),
        Plan(seed=1),
        Plan(surfaces=(1,)),
    ]
    assert len({plan.name for plan in plans}) == len(plans)
    assert Plan(seed=1).name == "size512_normals100_defects50_surfacesall_seed1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": generator.MIN_SIZE - 1}, "Invalid size: expected at least 64. Received: size=63"),
        ({"normals": 1}, "Invalid normals: expected at least 2"),
        ({"defects": 0}, "Invalid defects: expected at least 1"),
        ({"seed": -1}, "Invalid seed: expected at least 0"),
        ({"surfaces": ()}, "Invalid surfaces: expected different numbers from 1 to 10"),
        ({"surfaces": (1, 1)}, "Received: surfaces=1,1"),
        ({"surfaces": (0,)}, "Received: surfaces=0"),
        ({"surfaces": (11,)}, "Received: surfaces=11"),
    ],
)
def test_plan_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Plan(**options)


@pytest.mark.tf
def test_command_line_prepares_and_prints_the_counts_alone(tmp_path):
    command = [sys.executable, "-m", "data_prep", "surfaces", "--surfaces", "5", "--size", "64"]
    command += ["--normals", "2", "--defects", "1", "--data-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    folder = tmp_path / "surfaces/size64_normals2_defects1_surfaces5_seed0/1.0.0"
    counts = "train 1 image (1 good, 0 defects, 1 class); test 2 images (1 good, 1 defect, 1 class)"
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{folder}: {counts}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["surfaces"]
