"""Every command of the README and the how-to pages runs as written, in a folder as the pages assume it.

Fewer models are tried than a user would have. What is left out is named below, with the reason.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import ROOT, colored, make_run, once, save, scratched, texture
from tests.test_docs import PAGES, blocks, commands

pytestmark = [pytest.mark.tf, pytest.mark.slow]

SIDE = 72

LEFT_OUT = {
    "metricad serve": "does not end; tests/service",
    "metricad reproduce": "hours; tests/reproduction",
    "metricad-data": "needs the originals; tests/data_prep",
    "metricad train": "minutes; tests/training",
    "--engine ray": "tests/batch",
    "s3://": "needs a bucket; tests/batch",
    "dagm2007": "needs the originals",
    "--method": "minutes, and weights; tests/methods",
    "--precision": "minutes; tests/deploy",
    "--repeats 40": "minutes; the line before has fewer",
    "networks.json methods.json": "the second is made by --method",
}

README_AND_HOW_TO = [
    page
    for page in PAGES
    if (page.parent == ROOT / "docs" and page.stem != "tutorial") or page == ROOT / "README.md"
]


def is_left_out(words: list[str]) -> bool:
    line = " ".join(words)
    endless = words[1] == "watch" and "--once" not in words
    return endless or any(part in line for part in LEFT_OUT)


def written(page: Path) -> Iterator[list[str]]:
    """Yield the commands of a page, those in tables as well."""
    rows = re.findall(r"^\|.*\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    in_tables = re.findall(r"`(metricad \w+ [^`]*/[^`]*|metricad export [^`]*)`", "\n".join(rows))
    for block in (*blocks(page), *in_tables):
        yield from commands(block)


COMMANDS = {
    page: found
    for page in README_AND_HOW_TO
    if (found := [words for words in written(page) if not is_left_out(words)])
}


@pytest.fixture(autouse=True)
def fewer_models(monkeypatch, eager):
    """One component on each scale, two folds, no search: what is tried does not matter here."""
    from metricad.inspection import cross_validation, fit_detector

    monkeypatch.setattr(fit_detector, "ALONE", (1,))
    monkeypatch.setattr(fit_detector, "FINE", (1,))
    monkeypatch.setattr(fit_detector, "COARSE", (1,))
    monkeypatch.setattr(cross_validation, "FOLDS", 2)


@pytest.fixture
def folder(shared, tmp_path, run_metricad, monkeypatch):
    """What the pages assume: images of good parts, of a line, labeled ones, an inspector and its export."""

    def make(target):
        target.mkdir()
        rng = np.random.default_rng(0)

        def images(name: str, count: int, *, defect: bool = False, color: bool = False) -> None:
            for number in range(count):
                image = texture(rng, side=SIDE)
                image = scratched(image, 20 + number, 30, side=12) if defect else image
                save(target / name / f"{number:04}.png", colored(rng, image) if color else image)

        for name, count in {"good": 12, "more-good": 24, "line": 2, "dusty": 10, "good-parts": 2}.items():
            images(name, count)
        images("bad", 10, defect=True)
        for surface in ("parts", "parts/wood"):
            images(f"{surface}/train/good", 8, color=surface == "parts")
            images(f"{surface}/test/good", 3, color=surface == "parts")
            images(f"{surface}/test/scratch", 3, defect=True, color=surface == "parts")
        shutil.copytree(target / "parts/wood/test", target / "test")
        shutil.copy(target / "line/0000.png", target / "other.png")
        shutil.copy(target / "bad/0000.png", target / "line/0002.png")
        mask = np.ones((SIDE, SIDE), np.float32)
        mask[:6] = -1
        save(target / "mask.png", mask)
        areas = {"height": SIDE, "width": SIDE, "ignore": [[[0, 0], [0, 20], [20, 0]]]}
        (target / "areas.json").write_text(json.dumps(areas))
        (target / "defects.txt").write_text("0003.png\n")
        make_run(target / "network")
        shutil.copytree(target / "network", target / "run")
        monkeypatch.chdir(target)
        for words in (
            ("prototype", "good/", "--network", "fast", "--out", "part.metricad"),
            ("export", "part.metricad", "--out", "part"),
        ):
            assert run_metricad(*words).status == 0
        shutil.copy("part.metricad", "tuned.metricad")

    shutil.copytree(once(shared / "pages", make), tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    return tmp_path / "own"


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.stem)
def test_commands_of_a_page_run_as_written(page, folder, run_metricad):
    if page.stem in ("compare", "add-density"):  # a folder of surfaces
        for name in ("train", "test"):
            shutil.rmtree(folder / "parts" / name)
    else:
        shutil.rmtree(folder / "parts/wood")
    if page.stem == "defects":  # which are small, beside these
        rng = np.random.default_rng(1)
        for path in (folder / "good").iterdir():
            save(path, texture(rng, side=160))
    for words in COMMANDS[page]:
        if words[1] == "export":  # a folder of exports is not overwritten
            shutil.rmtree("part", ignore_errors=True)
        outcome = run_metricad(*words[1:])
        assert outcome.status == ("--fail-on-defect" in words), (words, outcome)


def test_what_is_left_out_is_on_a_page():
    everything = [" ".join(words) for page in README_AND_HOW_TO for words in written(page)]
    assert [part for part in LEFT_OUT if not any(part in line for line in everything)] == []
