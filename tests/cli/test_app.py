"""The command line from training to the report, as a user types it."""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_prep.cli import app as data_prep
from metricad.data import images
from metricad.inspection.inspector import FIELDS
from metricad.versions import versions
from tests.helpers import save, scratched, texture

TINY = [
    *("--units", "4", "--rounds", "2", "--epochs", "2", "--triplets", "64"),
    *("--batch-size", "32", "--pyramid", "64,48", "--seed", "5"),
]


def crossed(rng):
    """Another surface: the stripes turned by a right angle."""
    return texture(rng).T


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two labelled surfaces in the MVTec layout."""
    root = tmp_path_factory.mktemp("data") / "parts"
    rng = np.random.default_rng(0)
    for surface, draw in (("stripes", texture), ("crossed", crossed)):
        for number in range(30):
            save(root / surface / "train" / "good" / f"{number:02}.png", draw(rng))
        for number in range(5):
            save(root / surface / "test" / "good" / f"{number}.png", draw(rng))
            row, column = rng.integers(10, 45, 2)
            scratch = scratched(draw(rng), row, column)
            save(root / surface / "test" / "scratch" / f"{number}.png", scratch)
            mask = np.zeros((64, 64), np.uint8)
            mask[row : row + 6, column : column + 6] = 255
            images.write(root / surface / "ground_truth" / "scratch" / f"{number}_mask.png", mask)
    return root


@pytest.mark.slow
def test_from_training_to_the_report(run_metricad, parts, tmp_path):
    run, part, results = tmp_path / "run", tmp_path / "stripes.metricad", tmp_path / "results.json"

    done = run_metricad("train", "--out", run, "--source", parts, "--normals", 20, *TINY)
    assert done.status == 0, done
    assert [line.split()[:2] for line in done.err.splitlines()] == [["round", "1/2"], ["round", "2/2"]]
    assert done.out == f"{run}: trained 2 rounds; next: metricad prototype GOOD --network {run}\n"
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["units"] == 4
    assert config["settings"]["pyramid"] == [64, 48]
    assert config["settings"]["seed"] == 5
    assert config["data"]["normals"] == 20
    assert config["data"]["seen"][0]["images"] == 40
    assert config["versions"] == versions()
    assert len((run / "log.jsonl").read_text().splitlines()) == 2

    good = parts / "stripes" / "train" / "good"
    options = ["--network", run, "--kind", "gaussian", "--holdout", 0.3, "--false-alarm-rate", 0.1]
    done = run_metricad("prototype", good, "--out", part, *options)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"{part}: Gaussian, from 21 gray images; threshold ")
    assert "9 held-out good images: at most 1 false alarm in 10 promised" in done.out

    test = parts / "stripes" / "test"
    done = run_metricad("inspect", part, test, "--format", "jsonl", "--maps", tmp_path / "maps")
    assert (done.status, done.err) == (0, "")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in images.find([test])]
    assert {row["verdict"] for row in rows if "scratch" in row["path"]} == {"defect"}
    assert sum(row["verdict"] == "good" for row in rows) >= 3
    maps = sorted(path.relative_to(tmp_path / "maps") for path in (tmp_path / "maps").rglob("*.png"))
    assert maps == [path.relative_to(test).with_name(f"{path.name}.png") for path in images.find([test])]

    done = run_metricad(
        "evaluate", part, "--network", run, "--kind", "mean", "--kind", "gaussian", "--normals", 20,
        "--metric", "euclidean", "--metric", "manhattan", "--holdout", 0.25, "--false-alarm-rate", 0.2,
        "--data", parts, "--out", results,
    )  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert "stripes" in done.out
    assert "crossed" in done.out
    assert done.out.endswith(f"{results}: written; next: metricad report {results} --out REPORT\n")
    document = json.loads(results.read_text())
    found = {(row["surface"], row["method"], row["role"]): row for row in document["results"]}
    assert len(found) == 2 * 7 + 1
    assert found["stripes", "stripes: gaussian", "bundle"]["auroc"] == 1
    trained = found["crossed", "gaussian", "trained"]
    assert trained["auroc"] == 1
    assert (trained["fit_normals"], trained["held_out_normals"]) == (15, 5)
    assert (trained["test_normals"], trained["test_defects"]) == (5, 5)
    assert trained["is_known"] is True
    assert trained["pixel_auroc"] > 0.9

    done = run_metricad("report", results, "--out", tmp_path / "report")
    assert (done.status, done.err) == (0, "")
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.md", "report.html", "report.csv", "report.json"} <= written
    assert {line.rpartition("/")[2] for line in done.out.splitlines()} == written
    assert "stripes | 5 / 5 |" in (tmp_path / "report" / "report.md").read_text()

    assert not list(tmp_path.rglob(".partial*"))


@pytest.fixture
def small_surfaces(tmp_path):
    """Rendered surfaces of the quick grid, small and few."""
    options = ["--size", "64", "--normals", "50", "--defects", "3", "--surfaces", "1,4,5,7,8"]
    done = CliRunner().invoke(data_prep, ["surfaces", *options, "--data-dir", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    return tmp_path / "data"


def test_the_quick_grid(run_metricad, small_surfaces, tmp_path, monkeypatch):
    """The plan is that of the preset. What runs is one network of it on one known and one novel surface."""
    from metricad.reproduction import grid

    arguments = ["reproduce", "--preset", "quick", "--seeds", "0", "--data-dir", small_surfaces]
    done = run_metricad(*arguments, "--out", tmp_path / "grid", "--dry-run")
    assert (done.status, done.err) == (0, "")
    counted = re.findall(r"^ +(\w[\w ]*?)  +(\d+)  ", done.out, flags=re.MULTILINE)
    assert counted == [
        ("train", "1"), ("evaluate trained networks", "5"), ("evaluate controls", "10"), ("all", "16")
    ]  # fmt: skip
    assert not (tmp_path / "grid").exists()

    quick = grid.PRESETS["quick"]
    fewer = replace(
        quick,
        known=("surfaces:woven_grid",),
        novel=("surfaces:plain_weave",),
        settings=replace(quick.settings, triplets_per_round=320),
    )
    monkeypatch.setitem(grid.PRESETS, "quick", fewer)
    options = ["--out", tmp_path / "grid", "--holdout", 0.4, "--epochs", 2]
    done = run_metricad(*arguments, *options, "--jobs", 1)
    assert done.status == 0, done
    lines = done.err.splitlines()
    assert lines[0].startswith("7 cells, 0 done before, ")
    assert len(lines) == 8
    assert lines[-1].startswith("7/7  evaluate ")
    assert done.out.endswith(f"look at {tmp_path / 'grid' / 'report' / 'report.html'}\n")
    document = json.loads((tmp_path / "grid" / "results.json").read_text())
    assert {row["surface"]: row["is_known"] for row in document["results"] if row["role"] == "trained"} == {
        "woven_grid": True, "plain_weave": False,
    }  # fmt: skip
    assert {row["held_out_normals"] for row in document["results"]} == {0}  # 10 do not do for 5 %

    again = run_metricad(*arguments, *options, "--jobs", 1)
    assert again.err.splitlines() == [lines[0].replace("0 done", "7 done")]
    other = run_metricad(*arguments, "--out", tmp_path / "grid")
    assert other.status == 2
    assert "holds a grid with other settings" in other.err


def test_a_grid_with_failed_cells_says_so_and_ends_with_an_error(run_metricad, tmp_path, monkeypatch):
    from metricad.batch.workers import Failure
    from metricad.evaluation.results import Study
    from metricad.reproduction import grid, runner
    from tests.evaluation.test_results import result

    cells = [
        grid.Cell(f"evaluate h16-0 on {name}", name, None, True, ("data", name), None, 1.0)
        for name in ("wood", "steel")
    ]

    def reproduce(grid, out, *, data_dir, jobs, run, progress):
        progress.on_plan(cells, set())
        progress.on_start(cells[0])
        progress.on_done(cells[0], 83.0)
        progress.on_failure(cells[1], Failure("3.png: damaged"))
        return Study([result()], [[]], [None]), cells[1:]

    monkeypatch.setattr(runner, "reproduce", reproduce)
    done = run_metricad("reproduce", "--out", tmp_path / "grid", "--jobs", 3)
    assert done.status == 2
    assert "flat" in done.out  # what there is, is shown
    assert done.err.splitlines() == [
        "2 cells, 0 done before, 3 at a time",
        "1/2  evaluate h16-0 on wood: 1 min 23 s  0 s to go",
        "2/2  evaluate h16-0 on steel: FAILED: 3.png: damaged",
        f"error: 1 cells are missing; {tmp_path}/grid/errors says why; run the same command again",
    ]


def test_an_interrupted_grid_says_how_to_go_on(run_metricad, tmp_path, monkeypatch):
    from metricad.reproduction import runner

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "reproduce", interrupted)
    done = run_metricad("reproduce", "--out", tmp_path / "grid")
    assert done.status == 2
    assert (
        done.err
        == f"error: interrupted; finished cells are kept in {tmp_path}/grid: run the same command again\n"
    )


# Verdicts.


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """One good part and one scratched one, the latter near row 23 and column 33."""
    folder = tmp_path_factory.mktemp("line")
    plain = texture(np.random.default_rng(99))
    save(folder / "a good.png", plain)
    save(folder / "b.png", scratched(plain, 20, 30))
    return folder


def test_json_lines(run_metricad, part, line):
    done = run_metricad("inspect", part, line, "--format", "jsonl")
    assert (done.status, done.err) == (0, "")
    good, defect = (json.loads(row) for row in done.out.splitlines())
    assert list(good) == list(defect) == list(FIELDS)
    assert (good["verdict"], defect["verdict"]) == ("good", "defect")
    assert good["score"] <= good["threshold"] == defect["threshold"] < defect["score"]
    assert good["path"] == str(line / "a good.png")
    assert good["error"] is None
    assert abs(defect["peak_row"] - 23) <= 19
    assert abs(defect["peak_col"] - 33) <= 19


def test_csv_says_the_same(run_metricad, part, line):
    expected = [
        json.loads(row) for row in run_metricad("inspect", part, line, "--format", "jsonl").out.splitlines()
    ]
    done = run_metricad("inspect", part, line, "--format", "csv")
    assert (done.status, done.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert list(rows[0]) == list(FIELDS)
    for row, other in zip(rows, expected, strict=True):
        other["time"] = row["time"]
        row["defects"] = str(json.loads(row["defects"])) if row["defects"] else ""
        assert row == {key: "" if value is None else str(value) for key, value in other.items()}


def test_a_table_says_the_same_in_short(run_metricad, part, line):
    rows = [
        json.loads(row) for row in run_metricad("inspect", part, line, "--format", "jsonl").out.splitlines()
    ]
    done = run_metricad("inspect", part, line)
    assert (done.status, done.err) == (0, "")
    for row in rows:
        (shown,) = [text for text in done.out.splitlines() if text.rstrip().endswith(row["path"])]
        cells = shown.split()
        assert cells[0] == row["verdict"]
        assert float(cells[1]) == pytest.approx(row["score"], rel=1e-3)
        assert float(cells[2]) == pytest.approx(row["threshold"], rel=1e-3)
        assert f"{row['peak_row']}, {row['peak_col']}" in shown


def test_a_pipe_gets_no_colors_and_no_progress(run_metricad, part, line):
    done = run_metricad("inspect", part, line)
    assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize(
    ("options", "names", "status"),
    [
        ([], ["a good.png", "b.png"], 0),
        (["--fail-on-defect"], ["a good.png"], 0),
        (["--fail-on-defect"], ["a good.png", "b.png"], 1),
        (["--fail-on-defect"], ["b.png", "missing.png"], 2),
        ([], ["a good.png", "missing.png"], 2),
    ],
    ids=["no wish", "all good", "a defect", "a defect and an error", "an error"],
)
def test_the_exit_status(run_metricad, part, line, options, names, status):
    assert run_metricad("inspect", part, *(line / name for name in names), *options).status == status


def test_maps_are_drawn_over_the_images(run_metricad, part, line, tmp_path):
    done = run_metricad("inspect", part, line, "--maps", tmp_path / "new" / "maps")
    assert done.status == 0
    good, defect = (
        np.asarray(Image.open(tmp_path / "new" / "maps" / f"{name}.png.png")).astype(int)
        for name in ("a good", "b")
    )
    assert good.shape == defect.shape == (64, 64, 3)
    # The outline is drawn around the defect and nowhere else.
    assert (defect == (255, 64, 64)).all(axis=-1)[10:46, 20:56].any()
    assert not (good == (255, 64, 64)).all(axis=-1).any()


def test_the_same_images_get_the_same_maps_whatever_stands_beside_them(run_metricad, part, line, tmp_path):
    run_metricad("inspect", part, line, "--maps", tmp_path / "both")
    run_metricad("inspect", part, line / "a good.png", "--maps", tmp_path / "one")
    both, one = (tmp_path / folder / "a good.png.png" for folder in ("both", "one"))
    np.testing.assert_array_equal(np.asarray(Image.open(both)), np.asarray(Image.open(one)))


def test_an_inspector_of_each_kind(run_metricad, good_folder, run_folder, line, tmp_path):
    options = ["--network", run_folder, "--holdout", 0.3, "--false-alarm-rate", 0.1]
    thresholds = set()
    for number, kind in enumerate((["mean"], ["mean", "--metric", "manhattan"], ["gaussian"])):
        path = tmp_path / f"{number}.metricad"
        assert run_metricad("prototype", good_folder, "--out", path, "--kind", *kind, *options).status == 0
        done = run_metricad("inspect", path, line, "--format", "jsonl")
        good, defect = (json.loads(row) for row in done.out.splitlines())
        assert (good["verdict"], defect["verdict"]) == ("good", "defect")
        thresholds.add(good["threshold"])
    assert len(thresholds) == 3


def test_a_stricter_rate_gives_a_higher_threshold(run_metricad, good_folder, run_folder, tmp_path):
    from metricad.inspection import bundle

    thresholds = []
    for rate in (0.1, 0.5):
        path = tmp_path / f"{rate}.metricad"
        options = ["--network", run_folder, "--holdout", 0.3, "--false-alarm-rate", rate]
        assert run_metricad("prototype", good_folder, "--out", path, *options).status == 0
        thresholds.append(bundle.load(path).threshold)
    assert thresholds[0] > thresholds[1]


# The program itself.


def test_the_module_is_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "metricad", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"metricad {versions()['metricad']}\n"
    assert done.stderr == ""


def test_a_bare_command_shows_its_help(run_metricad):
    done = run_metricad()
    assert done.status == 2
    assert "Usage: metricad" in done.out
    assert done.err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'; see 'metricad --help'"),
        (["inspect"], "Missing argument 'PART'; see 'metricad inspect --help'"),
        (["inspect", "a", "b", "--format", "xml"], "'xml' is not one of 'table', 'csv', 'jsonl'"),
        (["train", "--out"], "'--out' requires an argument"),
        (["train", "--out", "x", "--units", "0"], "greater than or equal to 1"),
        (["train", "--out", "x", "--pyramid", "64,a"], "--pyramid expects numbers with commas between them"),
        (["train", "--out", "x", "--noise-side", "4"], "--noise-side expects 2 numbers with a comma"),
        (["train", "--out", "x", "--noise-side", "9,3"], "noise_side must be ascending, 1 to 32"),
        (["train", "--out", "x", "--noise-strength", "0.5,0.1"], "noise_strength must be ascending"),
        (["train", "--out", "x", "--learning-rate", "nan"], "learning_rate must be greater than 0"),
        (["train", "--out", "x"], "no sources to train on; give at least one --source"),
        (["train", "--out", "x", "--source", "y", "--source", "z", "--mix", "1"], "mix must hold 2 shares"),
        (["evaluate", "--data", "x", "--out", "y"], "x: no such folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_one_line(refused, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(*arguments)
    assert not list(tmp_path.iterdir())


def test_a_fault_of_the_program_is_shown_and_is_no_defect(run_metricad, monkeypatch, part, line):
    """Status 1 would mean that a defect was found."""

    def fail(path, check):
        raise KeyError("a fault")

    monkeypatch.setattr("metricad.inspection.bundle.load", fail)
    done = run_metricad("inspect", part, line, "--fail-on-defect")
    assert done.status == 2
    assert "KeyError: 'a fault'" in done.err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["evaluate", "--data", "d", "--out", "r.json", "--network", "accurrate"], "accurate"),
        (["evaluate", "--data", "d", "--out", "r.json", "--method", "patch-bnk"], "patch-bank"),
        (["evaluate", "--data", "d", "--out", "r.json", "--kind", "mixtur"], "mixture"),
        (["prototpe", "good"], "prototype"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
def test_the_nearest_name_is_suggested(run_metricad, tmp_path, monkeypatch, arguments, meant):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "d" / "train" / "good" / "0.png", texture(np.random.default_rng(0)))
    save(tmp_path / "d" / "test" / "good" / "0.png", texture(np.random.default_rng(1)))
    save(tmp_path / "d" / "test" / "scratch" / "0.png", texture(np.random.default_rng(2)))
    done = run_metricad(*arguments)
    assert done.status == 2
    assert f"did you mean '{meant}'?" in done.err.lower()


def test_calibrate_writes_an_inspector_with_the_threshold_of_these_images(
    run_metricad, part, good_folder, tmp_path
):
    from metricad.inspection import bundle

    out = tmp_path / "again.metricad"
    done = run_metricad("calibrate", part, good_folder, "--out", out, "--false-alarm-rate", 0.05)
    assert (done.status, done.err) == (0, "")
    calibration = bundle.load(out).calibration
    assert (len(calibration.scores), calibration.false_alarm_rate, calibration.basis) == (
        30,
        0.05,
        "promised",
    )
    assert calibration.describe() in done.out
    assert bundle.load(part).calibration.false_alarm_rate == 0.1
