"""The page of a check: all files are written, and names of files cannot be markup."""

import csv
import json
import re

import numpy as np
import pytest

from metricad.check import check
from metricad.check.findings import Shown
from tests.helpers import COLLECTING, save

if not COLLECTING:
    from metricad.reporting import check_page


@pytest.fixture
def found(tmp_path):
    rng = np.random.default_rng(0)
    paths = [save(tmp_path / f"{number}.png", rng.uniform(-1, 1, (32, 32))) for number in range(3)]
    (tmp_path / "<b>broken.png").write_bytes(b"no image")
    return check([*paths, tmp_path / "<b>broken.png"], paths[:1])


def test_all_files_are_written(found, tmp_path):
    shown = Shown(found.good[0].path, 5.0, True, np.zeros((32, 32), np.float32), np.eye(32, dtype=np.float32))
    written = check_page.write(found, [shown] * 10, tmp_path / "page", name="<i>parts</i>")
    assert {path.name for path in written} == {
        "check.html", "check.md", "check.csv", "check.json", "light.png", "suspects-1.jpg", "suspects-2.jpg",
    }  # fmt: skip
    page = written[1].read_text(encoding="utf-8")
    assert page.count("<img") == 3
    assert not re.search("<(b|i)>", page)
    with (tmp_path / "page" / "check.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["set"] for row in rows] == ["good"] * 4 + ["test"]
    assert json.loads((tmp_path / "page" / "check.json").read_text())["leaks"] == [found.test[0].path]


def test_a_page_without_suspects_and_with_unreadable_files_only(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    document = check_page.build(check([tmp_path / "a.png"]), [], name="a")
    titles = [section.title for section in document.sections]
    assert titles == ["What to do", "What was found", "Files that were left out"]
