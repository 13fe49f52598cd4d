"""The demo's commands, without the minutes that they take."""

import subprocess
from types import SimpleNamespace

import pytest

from metricad.cli import demo
from metricad.errors import DataError


@pytest.fixture
def other_commands(monkeypatch):
    ran = []

    def run(command, check):
        ran.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return ran


def test_shows_and_runs_the_whole_path_below_its_folder(tmp_path, capsys, other_commands):
    out, invoked = tmp_path / "a folder", []
    demo.run(out, invoke=invoked.append)
    assert [arguments[0] for arguments in invoked] == [
        "train", "prototype", "inspect", "prototype", "inspect", "evaluate", "report"
    ]  # fmt: skip
    assert [command[1:4] for command in other_commands] == [["-m", "data_prep", "surfaces"]]
    for arguments in (*invoked, other_commands[0]):
        assert any(word.startswith(str(out)) for word in arguments)
    shown = capsys.readouterr().out
    assert shown.count("\n$ metricad") == 8
    assert f"'{out}'/maps/paper" in shown  # a blank in the path is quoted


def test_leaves_a_folder_that_is_in_use_alone(tmp_path, other_commands):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        demo.run(tmp_path, invoke=lambda arguments: pytest.fail("must not run"))
    assert not other_commands


def test_stops_when_the_surfaces_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, check: SimpleNamespace(returncode=2))
    with pytest.raises(DataError, match="could not be generated"):
        demo.run(tmp_path / "new", invoke=lambda arguments: pytest.fail("must not run"))
