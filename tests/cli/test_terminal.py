"""What is printed fits into a terminal: help, tables; and shells complete verbs and options."""

import pytest
from rich.console import Console
from typer.testing import CliRunner

import data_prep.cli
from metricad.cli import app, console, display
from tests.cli.test_startup import VERBS


def printed(program, *arguments, **variables):
    done = CliRunner().invoke(
        program, list(arguments), env={"TERMINAL_WIDTH": "80", "COLUMNS": "80", **variables}
    )
    assert done.exit_code in (0, 2), done
    return done.output


@pytest.mark.parametrize("arguments", [(), *((verb, "--help") for verb in VERBS)], ids=" ".join)
def test_help_fits_into_80_columns(arguments):
    lines = printed(app.app, *arguments).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if "…" in line or "<bool>" in line] == []


def test_every_verb_is_in_a_group_and_fits_into_a_line():
    lines = printed(app.app).splitlines()
    assert [verb for verb in VERBS if not any(line.split()[1:2] == [verb] for line in lines)] == []
    assert len(lines) < len(VERBS) + 30


def test_options_in_groups_exist():
    import typer

    verbs = typer.main.get_command(app.app).commands
    for verb, panels in console.PANELS.items():
        known = {option for one in verbs[verb].params for option in one.opts}
        named = " ".join(panels.values()).split()
        assert sorted(named) == sorted(set(named) & known)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("metricad pro", "prototype"),
        ("metricad inspect --fail", "--fail-on-defect"),
        ("metricad prototype --kind mix", "mixture"),
    ],
)
def test_shells_complete_words(words, expected):
    count = str(len(words.split()) - 1)
    said = printed(app.app, _METRICAD_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert said.split() == [expected]


def test_both_programs_install_completion():
    assert all("--install-completion" in printed(one, "--help") for one in (app.app, data_prep.cli.app))


def test_a_table_too_wide_for_the_terminal_loses_columns_not_digits(monkeypatch, capsys):
    rows = [["surface", *(f"method {k}" for k in range(20))], ["wood", *["0.123"] * 20]]
    for width, whole in ((60, False), (400, True)):
        monkeypatch.setattr(display, "_console", lambda width=width: Console(width=width))
        display.table(rows, title="AUROC", has_summary=False)
        said = capsys.readouterr().out
        assert ("columns left out" not in said) == whole
        assert (said.count("0.123") == 20) == whole
        assert "…" not in said
