"""What the documentation says is so: commands have these options, examples run, links lead somewhere."""

import contextlib
import doctest
import functools
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer

import data_prep.cli
import metricad
from metricad.cli import app
from tests.helpers import ROOT, save, surface, texture

PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("results/**/*.md"),
        ROOT / "metricad/methods/README.md",
        ROOT / "metricad/networks/pretrained/README.md",
    }
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
DOCS = [page for page in PAGES if page.parent == ROOT / "docs"]

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^(?: {4}|\t)[^\n]*\n)+", re.MULTILINE)
_LINK = re.compile(r"\]\((?![a-z]+:)([^)\s]*)\)")
_PROGRAMS = {"metricad": app.app, "metricad-data": data_prep.cli.app}
_ENDS = {";", "&", "&&", "|", "||", ">", "$("}


def fences(page: Path, language: str) -> list[str]:
    """Return the blocks of a page in a language."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [re.sub(f"^{indent}", "", block, flags=re.M) for indent, name, block in found if name == language]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the commands of our programs in a block: their words, without what the shell does."""
    text = re.sub(r"\$\w+", "1", re.sub(r"\\\n\s*", " ", text))  # variables of the shell are numbers
    for line in text.splitlines():
        words: list[str] = []
        with contextlib.suppress(ValueError):  # prose with an apostrophe
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|>")
            lexer.whitespace_split = True
            words = [*lexer, ";"]
        begin = next((k for k, word in enumerate(words) if word in _PROGRAMS), None)
        while begin is not None:
            end = next(k for k in range(begin, len(words)) if words[k] in _ENDS)
            yield words[begin:end]
            begin = next((k for k in range(end, len(words)) if words[k] in _PROGRAMS), None)


def blocks(page: Path) -> Iterator[str]:
    """Yield the blocks of a page that may hold commands."""
    text = page.read_text(encoding="utf-8")
    yield from (block for _, name, block in _FENCE.findall(text) if name in ("", "sh"))
    yield from (found[0] for found in _INDENTED.finditer(_FENCE.sub("", text)))


@functools.cache
def program(name: str):
    return typer.main.get_command(_PROGRAMS[name])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_are_ones_that_the_program_takes(page):
    wrong = []
    for words in (words for block in blocks(page) for words in commands(block)):
        name, verb, *arguments = words
        try:
            program(name).commands[verb].make_context(verb, arguments)
        except (KeyError, typer.TyperException, typer.Exit) as error:
            wrong.append(f"{shlex.join(words)}: {error}")
    assert wrong == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "CHANGELOG"])
def test_commands_in_sentences_have_these_options(page):
    wrong = []
    for quoted in re.findall(
        r"(?<!`)`(metricad(?:-data)? [a-z][^`]*)`(?!`)", page.read_text(encoding="utf-8")
    ):
        name, verb, *words = quoted.split()
        found = program(name).commands.get(verb)
        options = {option for one in found.params for option in one.opts} if found else set()
        unknown = {word for word in words if word.startswith("--")} - options - {"--help"}
        if not found or unknown:
            wrong.append(quoted)
    assert wrong == []


@functools.cache
def anchors(page: Path) -> set[str]:
    """Return the names of the headings of a page, as in its addresses."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.*?)#*$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    dead = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if target.name == "command-line.md":  # made from the program
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.resolve())):
            dead.append(link)
    assert dead == []


def test_statements_of_the_sources_name_modules_and_tests_that_exist():
    text = (ROOT / "results/statements.md").read_text(encoding="utf-8")
    wrong = []
    for name, test in set(re.findall(r"`((?:\w+/)*\w+\.py)(?:::(\w+))?`", text)):
        package = "tests" if test else "" if name.startswith("data_prep/") else "metricad"
        path = ROOT / package / name
        if not path.is_file() or (test and f"def {test}(" not in path.read_text(encoding="utf-8")):
            wrong.append(f"{name}::{test}")
    assert wrong == []


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in DOCS if f" {page.name}\n" not in navigation] == []


def test_every_public_name_is_on_the_page_about_python():
    named = re.findall(r"^::: metricad\.(\w+)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.M)
    assert sorted([*named, "__version__"]) == sorted(metricad.__all__)


def test_every_verb_is_on_the_page_about_the_command_line():
    pytest.importorskip("mkdocs")
    import docs_hooks

    page = "\n".join(docs_hooks.command_line())
    verbs = [f"{name} {verb}" for name in _PROGRAMS for verb in program(name).commands]
    assert [verb for verb in verbs if f"# {verb}\n" not in page] == []
    assert "| `--min-defect` | Area" in page


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "metricad").rglob("*.py")) if ">>>" in path.read_text(encoding="utf-8")],
    ids=lambda path: path.stem,
)
def test_examples_of_docstrings(path):
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    failed, tried = doctest.testmod(module, extraglobs={"np": np, "metricad": metricad})
    assert tried
    assert not failed


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A folder with images as the pages have them: good ones, those of a line, and one in color."""
    rng = np.random.default_rng(0)
    for number in range(12):
        save(tmp_path / "good" / f"{number:04}.png", texture(rng, side=72))
    for number in range(3):
        save(tmp_path / "line" / f"{number:04}.png", texture(rng, side=72))
    save(tmp_path / "image.png", surface(rng, (72, 80), color=True))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.tf
@pytest.mark.parametrize(
    "page", [page for page in DOCS if fences(page, "python")], ids=lambda page: page.stem
)
def test_examples_of_pages(page, folders, eager):
    for block in fences(page, "python"):
        exec(compile(block, str(page), "exec"), {})


@pytest.mark.parametrize("page", [page for page in DOCS if fences(page, "py")], ids=lambda page: page.stem)
def test_other_examples_of_pages_name_what_exists(page):
    for block in fences(page, "py"):
        compile(block, str(page), "exec")
        used = set(re.findall(r"metricad\.(\w+)\(", block))
        assert used <= set(metricad.__all__)


_LONG = {"check", "tune", "detectability", "export", "serve"}
"""Verbs of the tutorial that take longer than a test may, or do not end; their own tests run them."""


@pytest.mark.tf
def test_the_tutorial(run_metricad, tmp_path, monkeypatch, eager):
    """Its other commands, as written, one after the other; fewer models are tried than a user would have."""
    from metricad.inspection import cross_validation, fit_detector

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fit_detector, "ALONE", (1,))
    monkeypatch.setattr(cross_validation, "FOLDS", 2)
    for words in commands("\n".join(fences(ROOT / "docs/tutorial.md", "sh"))):
        name, verb, *arguments = words
        if name == "metricad-data":
            program(name).main([verb, *arguments], standalone_mode=False)
        elif verb not in _LONG:
            arguments = ["wood.metricad" if word == "wood" else word for word in arguments]  # not exported
            outcome = run_metricad(verb, *arguments)
            assert outcome.status == ("--fail-on-defect" in arguments), outcome
