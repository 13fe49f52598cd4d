"""Findings: what is counted, said and advised, from files to JSON."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from metricad.check import check, summary
from metricad.scoring.suspects import Suspects
from tests.helpers import save


@pytest.fixture
def folder(tmp_path):
    """Thirty images of noise, which are all different."""
    rng = np.random.default_rng(0)
    return [
        save(tmp_path / "good" / f"{number}.png", rng.uniform(-0.5, 0.5, (32, 32))) for number in range(30)
    ]


def said(found):
    return dict(summary.rows(found))


def test_all_is_well(folder):
    found = check(folder)
    assert found.usable == list(range(30))
    assert found.unreadable == found.leaks == found.sets(found.near) == []
    assert said(found)["duplicates"] == "none"
    assert len(summary.advice(found)) == 1
    assert summary.unusual(found) == []


def test_files_are_in_the_order_of_their_numbers(folder):
    assert [image.path for image in check(sorted(folder)).good] == [str(path) for path in folder]


def test_everything_unusual_is_said_once(folder, tmp_path):
    good, test = folder[0].parent, tmp_path / "test"
    test.mkdir()
    (good / "broken.png").write_bytes(b"no image")
    copy = shutil.copy(folder[3], good / "copy.png")
    leak = shutil.copy(folder[4], test / "leak.png")
    color = save(good / "color.png", np.random.default_rng(1).uniform(-0.5, 0.5, (32, 32, 3)))
    dark = save(good / "dark.png", np.random.default_rng(2).uniform(-1, -0.9, (32, 32)))
    found = check(
        [*folder, good / "broken.png", copy, color, dark],
        [leak, folder[0].parent / "gone.png"],
        others=[good / "x.heic"],
        skipped=Counter({".db": 2}),
    )
    names = {str(path) for path in (copy, leak, dark)}
    assert [image.path.endswith(("broken.png", "gone.png")) for image in found.unreadable] == [True, True]
    assert {found.name(number) for group in found.sets(found.exact) for number in group} & names == {
        str(copy),
        str(leak),
    }
    assert [found.name(number) for number in found.leaks] == [str(leak)]
    assert len(found.usable) == 32  # neither the broken file nor one of both copies
    advice = " ".join(summary.advice(found))
    for name in ("broken.png", "x.heic", "leak.png", "dark.png", "--gray"):
        assert name in advice
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["leaks"] == [str(leak)]
    assert written["suspects"] is None
    assert len(written["good"]) == len(written["exact_groups"]) - 2 == 34


def test_suspects_are_named(folder):
    scores = np.arange(30.0)
    found = replace(check(folder), suspects=Suspects([29, 7], [3], scores, scores))
    assert "29.png, 7.png; 1 doubtful: 3.png" in said(found)["suspects"]
    assert found.to_dict()["suspects"] == [str(folder[29]), str(folder[7])]
    assert "--keep-suspects" in summary.advice(found)[-2]
    assert "doubtful" in summary.advice(found)[-1]


def test_few_images_are_told_to_be_few(folder):
    assert any("4 good ones" in step for step in summary.advice(check(folder[:4])))
    assert any("1 false alarm in 13" in step for step in summary.advice(check(folder[:12])))
    assert len(summary.advice(check(folder[:20]))) == 1


def test_all_files_unreadable(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    found = check([tmp_path / "a.png"])
    assert found.usable == []
    assert len(summary.advice(found)) == 2
    assert summary.unusual(found) == []
