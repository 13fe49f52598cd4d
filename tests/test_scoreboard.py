"""What the scoreboard's script works out from results."""

import argparse
import importlib.util
from pathlib import Path

import pytest
from test_results import result

from metricad import methods
from metricad.evaluation import Method
from metricad.methods.variation import VariationDetector

SCRIPTS = Path(__file__).parent.parent / "scripts"


def load_script(name):
    """Import a script, which is no module of a package."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture(scope="module")
def scoreboard():
    return load_script("scoreboard")


def test_a_kind_stands_against_all_good_images(scoreboard):
    scores = [("good", 1.0), ("good", 3.0), ("hole", 2.0), ("crack", 4.0), ("hole", 0.5)]
    one = result(scores=[{"name": str(k), "kind": k, "score": score} for k, score in scores])
    assert scoreboard.auroc_of_kind(one, "crack") == 1
    assert scoreboard.auroc_of_kind(one, "hole") == pytest.approx(1 / 4)


def test_rows_have_names_of_their_own(scoreboard):
    (baseline,) = methods.BASELINES
    assert scoreboard.key(baseline) == "per-pixel variation"
    assert scoreboard.key(result()) == "h16-0: mean euclidean"
    assert scoreboard.key(result(role="untrained")) == "untrained h16-0: mean euclidean"
    same = Method("mean euclidean", "trained", VariationDetector, network="h16-0")
    assert scoreboard.key(same) == scoreboard.key(result())


def test_the_command_names_no_folder_of_this_machine(scoreboard, tmp_path):
    options = argparse.Namespace(
        data=[str(tmp_path), "surfaces:woven_grid"],
        data_dir=str(tmp_path),
        paper=str(tmp_path / "h16"),
        method=["cae-kde"],
        epochs=["cae-kde=3"],
        weights=None,
    )
    assert scoreboard.command(options) == (
        f"python scripts/scoreboard.py --data PREPARED/{tmp_path.name} --data surfaces:woven_grid --data-dir "
        "PREPARED --paper RUNS/h16 --method cae-kde --epochs cae-kde=3"
    )
