"""What the scoreboard's script works out from results."""

import argparse

import pytest

from metricad.evaluation.results import Cost, Study
from metricad.methods.variation import VariationDetector
from metricad.reporting import markdown
from tests.evaluation.test_results import result
from tests.helpers import COLLECTING, load_script

if not COLLECTING:
    from metricad.evaluation import candidates
    from metricad.evaluation.protocol import Method, Protocol

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def scoreboard():
    return load_script("scoreboard")


OPTIONS = argparse.Namespace(
    data=["made"],
    data_dir=None,
    paper=None,
    method=None,
    epochs=[],
    weights=None,
    resize=[],
    side=96,
    set_up=50,
)


def test_a_kind_stands_against_all_good_images(scoreboard):
    scores = [("good", 1.0), ("good", 3.0), ("hole", 2.0), ("crack", 4.0), ("hole", 0.5)]
    one = result(scores=[{"name": str(k), "kind": k, "score": score} for k, score in scores])
    assert scoreboard.auroc_of_kind(one, "crack") == 1
    assert scoreboard.auroc_of_kind(one, "hole") == pytest.approx(1 / 4)


def test_rows_have_names_of_their_own(scoreboard):
    (baseline,) = candidates.BASELINES
    assert scoreboard.key(baseline) == "per-pixel variation"
    assert scoreboard.key(result()) == "h16-0: mean euclidean"
    assert scoreboard.key(result(role="untrained")) == "untrained h16-0: mean euclidean"
    same = Method("mean euclidean", "trained", VariationDetector, network="h16-0")
    assert scoreboard.key(same) == scoreboard.key(result())


def test_the_page(scoreboard):
    found = [
        result(surface=surface, network=network, auroc=value, pixel_auroc=0.5)
        for network, values in (("h16-0", (0.5, 0.7)), ("fast", (0.9, 1.0)))
        for surface, value in zip(("wood", "steel"), values, strict=True)
    ]
    study = Study(found, [[]] * 4, [Cost(1.0, 20.0)] * 4)
    cost = {"milliseconds": 10.0, "ratio": 2.0, "set_up": 3.0, "over_inspection": 1.5, "bytes": 4000}
    cost |= {"components": "network, 1/1: 16", "color_ratio": 2.5, "color_over_inspection": 1.75}
    document = scoreboard.build(study, {"fast: mean euclidean": cost}, OPTIONS, protocol=Protocol())
    rows = markdown.table(document.blocks[-1])
    assert rows[0].startswith("| method | made, mean of 2 | lowest | pixel AUROC | ms | × bare network |")
    assert rows[2] == "| h16-0: mean euclidean | 0.600 | 0.500 | 0.500 | – | – | – | – | – | – | – |"
    assert rows[3] == (
        "| fast: mean euclidean | 0.950 | 0.900 | 0.500 | 10.0 | 2.00 | 3.0 | 1.50 | 2.50 | 1.75 | 4 |"
    )
    text = markdown.render(document)
    assert "Made by: python scripts/scoreboard.py --data made" in text
    assert "Costs are of 96×96 images" in text
    assert "from 50 good images" in text
    assert "| fast: mean euclidean | network, 1/1: 16 | – |" in text
    assert "| steel | 0.700 | 1.000 |" in text
    assert "| made, mean | 0.600 | 0.950 |" in text
    assert "| wood | made/small | 80 | 20 | 1 | 1 |" in text


def test_means_over_pixels_are_of_the_surfaces_with_masks(scoreboard):
    found = [
        result(surface=surface, network=network, auroc=0.5, pixel_auroc=value)
        for network, values in (("h16-0", (0.5, None, 0.7)), ("fast", (0.9, None, None)))
        for surface, value in zip(("wood", "steel", "tile"), values, strict=True)
    ]
    study = Study(found, [[]] * 6, [None] * 6)
    document = scoreboard.build(study, {}, OPTIONS, protocol=Protocol())
    rows = markdown.table(document.blocks[-1])
    assert "| pixel AUROC, 2 with masks |" in rows[0]
    assert rows[2].startswith("| h16-0: mean euclidean | 0.500 | 0.500 | 0.600 |")
    assert rows[3].startswith("| fast: mean euclidean | 0.500 | 0.500 | – |")
    text = markdown.render(document)
    assert "| steel | – | – |" in text
    assert "| made, mean of 2 | 0.600 | – |" in text


@pytest.mark.parametrize(("role", "has_color"), [("baseline", False), ("trained", True)])
def test_costs_are_of_color_images_as_well_where_a_method_takes_color(scoreboard, role, has_color):
    found = {one.role: one for one in (*candidates.BASELINES, *candidates.of_network("fast", ("gaussian",)))}
    cost = scoreboard.measure(found[role], side=128, count=10)
    names = {"milliseconds", "ratio", "set_up", "over_inspection", "components"}
    expected = names | {"bytes"} | ({f"color_{name}" for name in names} if has_color else set())
    assert set(cost) == expected
    assert cost["components"] == ("network, 1/1: 1" if has_color else "–")
    assert cost.get("color_components") == ("network, 1/1: 1, color: 1" if has_color else None)
    assert cost["bytes"] > 0


def test_the_command_names_no_folder_of_this_machine(scoreboard, tmp_path):
    options = argparse.Namespace(
        data=[str(tmp_path), "surfaces:woven_grid"],
        data_dir=str(tmp_path),
        paper=str(tmp_path / "h16"),
        method=["cae-kde"],
        epochs=["cae-kde=3"],
        weights=None,
        resize=[],
    )
    assert scoreboard.command(options) == (
        f"python scripts/scoreboard.py --data PREPARED/{tmp_path.name} --data surfaces:woven_grid --data-dir "
        "PREPARED --paper RUNS/h16 --method cae-kde --epochs cae-kde=3"
    )


def test_costs_that_were_measured_are_kept_until_something_changes(scoreboard, tmp_path):
    measured = []

    def measure():
        measured.append(1)
        return {"milliseconds": 0.1 + len(measured)}

    assert scoreboard.kept(tmp_path, ["a", 512], measure) == {"milliseconds": 1.1}
    assert scoreboard.kept(tmp_path, ["a", 512], measure) == {"milliseconds": 1.1}
    assert scoreboard.kept(tmp_path, ["a", 128], measure) == {"milliseconds": 2.1}
