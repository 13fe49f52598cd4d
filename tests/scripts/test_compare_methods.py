"""The script that puts published methods beside metricad's own: sizes, and the page."""

import contextlib
import json
import sys

import numpy as np
import pytest

from metricad.evaluation import results as records
from metricad.evaluation.results import Cost, Result, Study
from metricad.metrics.image import auroc_interval
from metricad.reporting import markdown
from tests.helpers import COLLECTING, load_script, save, scratched, texture

if not COLLECTING:
    script = load_script("compare_methods")


def result(method, role, auroc, **more):
    values = {
        "dataset": "made", "surface": "tile", "method": method, "role": role, "network": None, "units": None,
        "seed": 0, "is_known": None, "fit_normals": 8, "held_out_normals": 2, "test_normals": 5,
        "test_defects": 5, "threshold": None, "false_alarm_rate": None, "auroc": auroc,
        "average_precision": 0.5, "f1_max": 0.5, "fpr_at_95_tpr": 0.5, "pixel_auroc": None, "aupro": None,
        "scores": [
            {"name": str(k), "kind": "good" if k < 5 else "hole", "score": float(k % 4)} for k in range(10)
        ],
    }  # fmt: skip
    return Result(**values | more)


def test_the_page_has_every_method_with_what_it_takes():
    found = [
        result("auto", "trained", 0.9, network="fast"),
        result("mean euclidean", "trained", 0.75, network="base-0"),
        result("auto", "untrained", 0.55, network="accurate"),
        result("per-pixel variation", "baseline", 0.5),
        result("cae-kde (3 of 100 epochs)", "compared", 0.6),
    ]
    taken = [
        {"peak_mib": 900.4, "bytes": 12_000, "settings": {}},
        *3 * [{"peak_mib": 900.4, "bytes": 12_000, "settings": {}}],
        {"peak_mib": 1200.0, "bytes": 1_000_000, "settings": {"epochs": 3}},
    ]
    study = Study(found, [[]] * 5, [*4 * [Cost(1.0, 20.0)], Cost(60.0, 30.0)])
    text = markdown.render(script.build(study, taken, command="python x"))
    low, high = auroc_interval(found[0].defect, found[0].score_values, rng=np.random.default_rng(0))
    between = f"{low:.3f} to {high:.3f}"
    assert 0 < low < high < 1
    assert f"| metricad fast | 0.900 | {between} | 0.500 | – | – | 1.0 | 20.0 | 900 | 12 |" in text
    assert (
        f"| cae-kde (3 of 100 epochs) | 0.600 | {between} | 0.500 | – | – | 60.0 | 30.0 | 1200 | 1000 |"
        in text
    )
    assert "| the paper's method | 0.750 |" in text
    assert "| accurate, untrained | 0.550 |" in text
    assert "| per-pixel variation | 0.500 |" in text
    assert "| cae-kde (3 of 100 epochs) | epochs 3 |" in text
    assert "python x" in text


def test_the_command_names_no_folder_of_this_machine(tmp_path):
    class Options:
        data = ("surfaces", str(tmp_path))
        data_dir, work, weights = tmp_path / "prepared", tmp_path / "work", str(tmp_path / "w.h5")
        method, epochs, resize, most = ["cae-kde"], ["cae-kde=3"], [256], 60
        paper = str(tmp_path / "base-0")

    words = script.describe(Options)
    assert str(tmp_path.parent) not in words
    assert "--most 60 --method cae-kde --epochs cae-kde=3 --weights w.h5 --resize 256" in words
    assert words.endswith(" --paper RUNS/base-0")
    assert script.place(tmp_path, "cae-kde", 2).name == "2-cae-kde.json"


def test_methods_that_are_resized_run_once_for_each_side():
    names = ["accurate", "variation", "cae-kde", "patch-bank"]
    assert script.at_sides(names, [256, 512]) == [*names[:3], "patch-bank@256", "patch-bank@512"]
    assert script.at_sides(names, []) == names


def test_what_was_decided_by_something_else_is_done_again(tmp_path):
    marks = [
        script.mark("cae-kde", images, epochs=epochs, weights=weights)
        for images in "ab" for epochs in (None, 3) for weights in (None, "none", str(tmp_path / "w.h5"))
    ]  # fmt: skip
    assert len(set(marks)) == 12
    assert marks[0] == script.mark("cae-kde", "a", epochs=None, weights=None)
    path = script.place(tmp_path, "cae-kde", 0)
    path.write_text("results")
    assert not script.is_done(path, marks[0])  # killed before the second file
    path.with_suffix(".taken.json").write_text(json.dumps({"mark": marks[0]}))
    assert script.is_done(path, marks[0])
    assert not script.is_done(path, marks[1])


def test_the_options_are_read(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare_methods", "--help"])
    with pytest.raises(SystemExit, match="0"):
        script.main()
    assert "--weights" in capsys.readouterr().out


def test_after_an_interruption_only_what_is_missing_is_done(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for surface in ("steel", "wood"):
        for number in range(4):
            save(tmp_path / "data" / surface / "train" / "good" / f"{number}.png", texture(rng))
        save(tmp_path / "data" / surface / "test" / "good" / "0.png", texture(rng))
        save(tmp_path / "data" / surface / "test" / "hole" / "0.png", scratched(texture(rng), 20, 30))
    begun = []

    def run(unit, folder):
        """Stand in for a process of its own; the second is killed between its two files."""
        begun.append(unit.words[-2])
        monkeypatch.setattr(sys, "argv", list(unit.words[1:]))
        with monkeypatch.context() as patch:
            if len(begun) == 2:
                patch.setattr(script.files, "write_text", lambda *_: 1 / 0)
            script.main()
        monkeypatch.setattr(sys, "argv", arguments)

    out = tmp_path / "out"
    arguments = ["x", "--data", str(tmp_path / "data"), "--work", str(out), "--out", str(out)]
    arguments += ["--method", "variation"]
    monkeypatch.setattr(script.tasks, "run_command", run)
    for _ in range(3):
        monkeypatch.setattr(sys, "argv", arguments)
        with contextlib.suppress(ZeroDivisionError):
            script.main()
    assert begun == ["0", "1", "1"]
    assert [one.surface for one in records.load(out / "all.json").results] == ["steel", "wood"]
    assert "| per-pixel variation |" in (out / "methods.md").read_text()
    save(tmp_path / "data" / "wood" / "test" / "good" / "0.png", texture(rng))
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    assert begun == ["0", "1", "1", "1"]  # as another image decides it


def test_it_is_said_where_methods_left_out_other_images():
    bad = [{"name": "0.png", "what": "image", "reason": "damaged"}]
    even = [result(name, "compared", 0.5, left_out=bad) for name in "ab"]
    assert script.uneven(Study(even, [], [])) == []
    assert len(script.uneven(Study([*even, result("c", "compared", 0.5)], [], []))) == 1
