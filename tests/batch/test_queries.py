"""The queries of docs/batch.md, run on rows whose answers are known."""

import re
from datetime import datetime

import duckdb
import pyarrow
import pytest
from pyarrow import parquet

from metricad.batch import rows
from tests.helpers import ROOT

QUERIES = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "batch.md").read_text(encoding="utf-8"), re.DOTALL)


def row(path, score, *, part="a", area=4):
    """Return a row: a defect above 1, an error without a score."""
    box = {"row": 1, "col": 2, "height": 2, "width": 2, "area": area, "length": 2.8, "value": score}
    verdict = "error" if score is None else "defect" if score > 1 else "good"
    return {
        "path": path,
        "part": part,
        "score": score,
        "threshold": 1.0,
        "verdict": verdict,
        "defects": [box] if verdict == "defect" else [],
        "error": "damaged" if score is None else None,
    }


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Run a query of the page by its number."""
    one, two, three = (f"/line/2026-11-{day}/{number}.png" for day, number in ((26, 1), (27, 1), (27, 2)))
    shards = [
        [row(one, 0.0), row(two, 3.0, area=9), row(three, None)],
        [row(one, 2.0, part="b"), row(two, 2.0, part="b"), row(three, 0.5, part="b")],
    ]
    (tmp_path / "results").mkdir()
    for number, shard in enumerate(shards):
        (tmp_path / "results" / f"part-{number}.parquet").write_bytes(rows.to_parquet(shard))
    taken = [datetime(2026, 11, 27, 9, minute) for minute in (0, 59)] + [datetime(2026, 11, 27, 10)]
    parquet.write_table(pyarrow.table({"path": [one, two, three], "taken": taken}), tmp_path / "list.parquet")
    monkeypatch.chdir(tmp_path)
    return lambda number: duckdb.sql(QUERIES[number]).fetchall()


def test_every_query_is_here():
    assert len(QUERIES) == 6


def test_yield_by_hour(ask):
    nine, ten = datetime(2026, 11, 27, 9), datetime(2026, 11, 27, 10)
    assert ask(0) == [(nine, 4, 0.25), (ten, 1, 1.0)]


def test_drift(ask):
    assert ask(1) == [("2026-11-26", 1.0, 1.0), ("2026-11-27", 2.0, 1.0)]


def test_worst_images(ask):
    assert [(path[-5:], above) for path, above, *_ in ask(2)] == [
        ("1.png", 2.0),
        ("1.png", 1.0),
        ("1.png", 1.0),
    ]


def test_disagreement(ask):
    assert [(path[-16:], *rest) for path, *rest in ask(3)] == [
        ("2026-11-26/1.png", "a", "good", "b", "defect"),
        ("2026-11-27/2.png", "a", "error", "b", "good"),
    ]


def test_largest_defects(ask):
    assert ask(4)[0] == ("/line/2026-11-27/1.png", 9, 1, 2)
    assert len(ask(4)) == 3


def test_errors(ask):
    assert ask(5) == [("damaged", 1, "/line/2026-11-27/2.png")]
