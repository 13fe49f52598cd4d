"""Help and option errors come back at once: without TensorFlow, whatever the verb."""

import subprocess
import sys

import pytest

VERBS = [
    "train", "prototype", "tune", "inspect", "detectability", "export", "watch", "serve", "evaluate",
    "report", "reproduce", "demo",
]  # fmt: skip

# Runs a command line and tells, after it has left, whether TensorFlow was imported.
WATCH = """
import atexit, sys
heavy = set(["tensorflow", "keras", "matplotlib", "fastapi", "uvicorn"])
atexit.register(lambda: print("LOADED", *sorted(heavy & set(sys.modules))))
from {module} import main
sys.argv = {arguments!r}
main()
"""


def run(*arguments, module="metricad.cli.app"):
    code = WATCH.format(module=module, arguments=["program", *arguments])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [[], ["--version"], *([verb] for verb in VERBS)], ids=str)
def test_help_does_without_tensorflow(arguments):
    done = run(*arguments, *([] if arguments == ["--version"] else ["--help"]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "LOADED"


@pytest.mark.parametrize(
    "arguments",
    [
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
        ["serve"],
        ["serve", "a/part.metricad", "b/part.metricad"],
        ["serve", "part.metricad", "--host", "0.0.0.0"],
        ["serve", "part.metricad", "--port", "70000"],
        ["prototype", "good", "--out", "part.metricad", "--preset", "paper"],
        ["prototype", "good", "--out", "part.metricad", "--network", "run", "--adapt"],
        ["evaluate", "--data", "d", "--out", "results.json", "--network", "run", "--adapt"],
        ["reproduce", "--preset", "nonsense", "--out", "grid"],
        ["reproduce", "--out", "grid", "--seeds", "a"],
    ],
    ids=" ".join,
)
def test_option_errors_do_without_tensorflow(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert done.stdout.strip().splitlines()[-1] == "LOADED"
    assert not list(tmp_path.iterdir())


def test_data_prep_help_does_without_tensorflow():
    done = run("--help", module="data_prep.cli")
    assert done.returncode == 0
    assert done.stdout.strip().splitlines()[-1] == "LOADED"


def test_every_verb_is_documented_in_the_readme():
    from pathlib import Path

    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    assert [verb for verb in VERBS if f"metricad {verb}" not in readme] == []
