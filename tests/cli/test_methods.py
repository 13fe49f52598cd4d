"""Published methods on the command line: fitted, inspected with, classified with; or refused in one line."""

import csv
import json

import numpy as np
import pytest
import typer

from metricad.cli import options
from tests.helpers import save, scratched, texture

SIDE = 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Good images, scratched ones, and ones with a speck."""
    root = tmp_path_factory.mktemp("methods")
    rng = np.random.default_rng(0)
    for number in range(12):
        save(root / "good" / f"{number:02}.png", texture(rng, side=SIDE))
    for number in range(5):
        save(root / "scratch" / f"{number}.png", scratched(texture(rng, side=SIDE), 20, 30, side=16))
        save(root / "speck" / f"{number}.png", scratched(texture(rng, side=SIDE), 40, 10, side=3))
    return root


def test_from_good_images_to_verdicts_and_classes(run_metricad, folders, tmp_path):
    part, table = tmp_path / "part.metricad", tmp_path / "classes.csv"
    asked = ["--method", "nearest-image", "--setting", "side=48", "--false-alarm-rate", "0.2"]
    done = run_metricad("prototype", folders / "good", "--out", part, *asked)
    assert done.status == 0, done
    said = f"{part}: nearest-image (side 48), from 7 gray images; threshold "
    assert done.out.splitlines()[0].startswith(said)
    assert "5 held-out good images: at most 1 false alarm in 5 promised" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["part.metricad"]

    done = run_metricad(
        "inspect", part, folders / "scratch", "--format", "jsonl", "--maps", tmp_path / "maps"
    )
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert {(row["size_class"], row["source"]) for row in rows} == {("own", "nearest-image")}
    assert len(list((tmp_path / "maps").iterdir())) == 5

    given = ["--defect", folders / "scratch", "--other", folders / "speck", "--out", table]
    done = run_metricad("classify", part, *given)
    assert done.status == 0, done
    assert done.out.startswith("part.metricad, hu: 5 defects and 5 others, cross-validated: AUROC ")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["label"] for row in rows] == ["defect"] * 5 + ["other"] * 5
    found = np.array([float(row["probability"]) for row in rows])
    assert found[:5].mean() > 0.5 > found[5:].mean()


def test_classes_need_images_of_both(refused, part, folders):
    one = ["--defect", folders / "scratch" / "0.png", "--other", folders / "good"]
    assert "1 defects and 12 others are too few" in refused("classify", part, *one)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "3"], "--epochs only applies to a published method"),
        (["--setting", "side=3"], "--setting only applies to a published method"),
        (["--method", "denoising", "--kind", "mean"], "--kind is for metricad's own model"),
        (["--method", "denoising", "--min-defect", "9"], "--min-defect is for metricad's own model"),
        (["--method", "denoising", "--weights", "none"], "denoising has no --weights"),
        (["--method", "nearest-image", "--epochs", "3"], "nearest-image has no --epochs"),
        (["--method", "cae-kde", "--resize", "64"], "cae-kde has no --resize"),
        (["--method", "denoising", "--setting", "depth=3"], "denoising has no setting 'depth'"),
        (["--method", "denoising", "--setting", "noise=much"], "noise of denoising must be"),
        (["--method", "denoising", "--setting", "epochs=3"], "denoising has no setting 'epochs'"),
        (["--method", "denoising", "--setting", "noise"], "--setting expects"),
    ],
)
def test_options_that_do_not_go_together(refused, folders, tmp_path, arguments, words):
    assert words in refused("prototype", folders / "good", "--out", tmp_path / "a.metricad", *arguments)
    assert not list(tmp_path.iterdir())


def test_epochs_are_of_every_method_or_of_one():
    names = ["cae-kde", "denoising"]
    assert options.read_epochs(["denoising=7", "3"], names) == {"cae-kde": 3, "denoising": 7}
    assert options.read_epochs(["denoising=7"], names) == {"denoising": 7}
    for text in ("0", "many", "denoising=", "denoising=1.5", "patch-bank=3", "=3="):
        with pytest.raises(typer.BadParameter):
            options.read_epochs([text], names)


def test_settings_are_those_of_a_method():
    names = ["cae-kde", "denoising"]
    given = ["denoising.registration=true", "denoising.noise=0.2", "cae-kde.rule=either"]
    expected = {"denoising": {"registration": True, "noise": 0.2}, "cae-kde": {"rule": "either"}}
    assert options.read_settings(given, names) == expected
    assert options.read_settings(["filters=[4,4]"], names[:1]) == {"cae-kde": {"filters": [4, 4]}}
    for text in ("noise=1", "patch-bank.share=1", "denoising.noise"):
        with pytest.raises(typer.BadParameter):
            options.read_settings([text], names)
