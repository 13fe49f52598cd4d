"""Help and option errors come back at once: without TensorFlow, whatever the verb."""

import json
import subprocess
import sys

VERBS = [
    "train", "check", "prototype", "calibrate", "tune", "inspect", "batch", "detectability", "classify",
    "export", "watch", "serve", "evaluate", "report", "reproduce", "demo",
]  # fmt: skip

# Runs command lines, tells their statuses, and whether TensorFlow was imported by any.
WATCH = """
import importlib, json, sys
heavy = set(["tensorflow", "keras", "matplotlib", "fastapi", "uvicorn", "ray", "pyarrow"])
main = importlib.import_module(sys.argv[1]).main
statuses = []
for arguments in json.loads(sys.argv[2]):
    sys.argv = ["program", *arguments]
    try:
        main()
    except SystemExit as leaving:
        statuses.append(leaving.code)
print("LOADED", json.dumps([statuses, sorted(heavy & set(sys.modules))]))
"""


def statuses(lines, tmp_path, *, module="metricad.cli.app"):
    """Run command lines in one process, which must not import what is heavy; return their exit statuses."""
    command = [sys.executable, "-c", WATCH, module, json.dumps(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found, loaded = json.loads(done.stdout.strip().splitlines()[-1].removeprefix("LOADED"))
    assert loaded == []
    assert not list(tmp_path.iterdir())
    return found, done.stderr


def test_help_does_without_tensorflow(tmp_path):
    lines = [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)]
    assert statuses(lines, tmp_path)[0] == [0] * len(lines)


def test_option_errors_do_without_tensorflow(tmp_path):
    lines = [
        ["nonsense"],
        ["train"],
        ["train", "--out", "x", "--mix", "a,b"],
        ["train", "--out", "x", "--noise-side", "9,3"],
        ["train", "--out", "x", "--source", "y", "--resume"],
        ["prototype", "nowhere", "--out", "part.metricad", "--network", "run"],
        ["prototype", "--kind", "nonsense", "good", "--out", "part.metricad", "--network", "run"],
        ["inspect", "part.metricad"],
        ["watch", "part.metricad", "line"],
        ["watch", "part.metricad", "nowhere", "--out", "line.jsonl"],
        ["watch", "part.metricad", ".", "--out", "line.jsonl", "--maps", "maps"],
        ["batch", "part", "--out", "results"],
        ["batch", "part", "line", "--out", "results", "--address", "auto"],
        ["serve"],
        ["serve", "a/part.metricad", "b/part.metricad"],
        ["serve", "part.metricad", "--host", "0.0.0.0"],
        ["serve", "part.metricad", "--port", "70000"],
        ["prototype", "good", "--out", "part.metricad", "--preset", "paper"],
        ["prototype", "good", "--out", "part.metricad", "--network", "run", "--adapt"],
        ["evaluate", "--data", "d", "--out", "results.json", "--network", "run", "--adapt"],
        ["reproduce", "--preset", "nonsense", "--out", "grid"],
        ["reproduce", "--out", "grid", "--seeds", "a"],
    ]
    found, printed = statuses(lines, tmp_path)
    assert dict(zip(map(" ".join, lines), found, strict=True)) == dict.fromkeys(map(" ".join, lines), 2)
    assert printed.count("rror") >= len(lines)  # each says something


def test_data_prep_help_does_without_tensorflow(tmp_path):
    assert statuses([["--help"]], tmp_path, module="data_prep.cli")[0] == [0]


def test_every_verb_is_documented_in_the_readme():
    from pathlib import Path

    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    assert [verb for verb in VERBS if f"metricad {verb}" not in readme] == []
