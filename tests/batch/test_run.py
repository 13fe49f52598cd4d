"""Batches: a row for each image, nothing twice, nothing lost."""

import errno
import json

import pyarrow
import pytest
from pyarrow import parquet

from metricad.batch import on_cores, rows, run, work
from metricad.batch.store import Store
from metricad.errors import DataError, RunError
from metricad.inspection.inspector import FIELDS
from tests.batch.conftest import draw
from tests.batch.fakes import FakePart

PART = "/parts/bright_b"


def test_rows_are_records(here, line, tmp_path, table):
    tally = run.batch([PART], str(line), tmp_path / "out")
    found = table(tmp_path / "out")
    inspector = FakePart(PART).load()
    expected = [one.record() for one, _, _ in inspector.inspect_files(sorted(line.glob("*.png")))]
    assert tuple(found[0]) == (*FIELDS, rows.MAP)
    for one, other in zip(found, expected, strict=True):
        assert {**one, "time": None} == {**other, "time": None, "map": None}
    assert tally.rows == {("bright_b", "b" * 64): {"good": 9, "defect": 2, "error": 1}}
    assert (tally.asked, tally.before, len(here)) == (12, 0, 3)


def test_schema_has_all_fields_with_their_types():
    assert rows.schema().names == [*FIELDS, rows.MAP]
    assert rows.schema().field("defects").type.value_type.field("length").type == pyarrow.float64()


def test_what_is_done_is_not_done_again(here, line, tmp_path, table, monkeypatch):
    out, complete = tmp_path / "out", on_cores.run

    def interrupted(job, todo, *, workers):
        yield next(complete(job, todo, workers=1))
        raise KeyboardInterrupt

    monkeypatch.setattr(on_cores, "run", interrupted)
    for done in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run.batch([PART], str(line), out)
        assert len(here) == len([*out.glob("part-*")]) == done
    monkeypatch.setattr(on_cores, "run", complete)
    tally = run.batch([PART], str(line), out)
    assert (tally.asked, tally.before) == (12, 8)
    assert len(set(here)) == len(here) == 3
    assert len(table(out)) == len({row["path"] for row in table(out)}) == 12
    assert run.batch([PART], str(line), out).before == 12
    assert len(here) == 3


def test_new_images_make_new_shards(here, line, tmp_path, table):
    out = tmp_path / "out"
    run.batch([PART], str(line), out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    draw(line / "0", [1, 2])  # sorted before the others
    run.batch([PART], str(line), out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len([*out.glob("part-*")]) == 4
    assert len(table(out)) == len({row["path"] for row in table(out)}) == 14


def test_results_hold_shards_and_names_with_an_underscore(here, line, tmp_path):
    out = tmp_path / "out"
    run.batch([PART], str(line), out, maps=True)
    names = {path.name for path in out.iterdir() if not path.name.startswith("part-")}
    assert names == {"_run.json", "_summary.json", "_log", "_lock", "_maps"}
    description = json.loads((out / "_run.json").read_text())
    assert (description["parts"], description["images"]) == ({"bright_b": "b" * 64}, 12)
    summary = json.loads((out / "_summary.json").read_text())
    counts = {"part": "bright_b", "part_sha256": "b" * 64, "good": 9, "defect": 2, "error": 1}
    assert (summary["images"], summary["parts"], summary["failed"]) == (12, [counts], [])
    (log,) = (out / "_log").iterdir()
    assert sum(json.loads(line)["images"] for line in log.read_text().splitlines()) == 12


def test_maps_are_of_defects_only(here, line, tmp_path, table):
    out = tmp_path / "out"
    run.batch([PART], str(line), out, maps=True)
    maps = {row["map"] for row in table(out) if row["verdict"] == "defect"}
    assert {str(path.relative_to(out)) for path in out.rglob("*.png")} == maps
    assert len(maps) == 2
    assert all(row["map"] is None for row in table(out) if row["verdict"] != "defect")
    with pytest.raises(RunError):  # else some defects would have none
        run.batch([PART], str(line), out)


def test_each_part_inspects_each_image(here, line, tmp_path, table):
    tally = run.batch([PART, "/parts/bright_c"], str(line), tmp_path / "out")
    assert tally.asked == 24
    found = {(row["path"], row["part"]) for row in table(tmp_path / "out")}
    assert len(found) == len(table(tmp_path / "out")) == 24


def test_a_list_says_which_part_inspects_an_image(here, line, tmp_path, table):
    columns = {"path": ["line/000.png", "line/001.png"], "part": ["bright_b", "bright_c"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    source = str(tmp_path / "list.parquet")
    run.batch([PART, "/parts/bright_c"], source, tmp_path / "out")
    assert [(row["path"][-7:], row["part"]) for row in table(tmp_path / "out")] == [
        ("000.png", "bright_b"),
        ("001.png", "bright_c"),
    ]
    with pytest.raises(DataError):
        run.batch([PART], source, tmp_path / "other")


def test_another_inspector_adds_its_rows(here, line, tmp_path, table):
    run.batch([PART], str(line), tmp_path / "out")
    tally = run.batch(["/parts/bright_c"], str(line), tmp_path / "out")
    assert tally.before == 0
    assert {part for part, _ in tally.rows} == {"bright_b", "bright_c"}
    assert list(json.loads((tmp_path / "out" / "_run.json").read_text())["parts"]) == ["bright_c"]
    assert len(table(tmp_path / "out")) == 24


def test_a_shard_that_fails_is_done_by_the_next_run(here, line, tmp_path, table, monkeypatch):
    write, full = Store.put, [True]

    def put(store, name, content):
        if name.startswith("part-") and full and full.pop():
            raise OSError(errno.ENOSPC, "full", name)
        write(store, name, content)

    monkeypatch.setattr(Store, "put", put)
    tally = run.batch([PART], str(line), tmp_path / "out")
    assert [len(each.shard.paths) for each in tally.failed] == [4]
    assert len(json.loads((tmp_path / "out" / "_summary.json").read_text())["failed"]) == 1
    assert len(table(tmp_path / "out")) == 8
    assert run.batch([PART], str(line), tmp_path / "out").failed == []
    assert len(table(tmp_path / "out")) == 12


def test_an_image_that_is_too_large_is_a_row(here, line, tmp_path, table, monkeypatch):
    def judge(self, image):
        raise error

    monkeypatch.setattr("tests.batch.fakes.Brightness.judge", judge)
    error = TypeError("a bug")  # is no row
    assert len(run.batch([PART], str(line), tmp_path / "out").failed) == 3
    error = MemoryError("10 GiB")
    assert run.batch([PART], str(line), tmp_path / "out").failed == []
    assert {row["verdict"] for row in table(tmp_path / "out")} == {"error"}


def test_damaged_and_doubled_shards_are_refused(here, line, tmp_path):
    out = tmp_path / "out"
    run.batch([PART], str(line), out)
    one = next(out.glob("part-*"))
    content = one.read_bytes()
    (out / "part-copy.parquet").write_bytes(content)
    with pytest.raises(DataError):
        run.batch([PART], str(line), out)
    (out / "part-copy.parquet").write_bytes(content[:-9])
    with pytest.raises(DataError):
        run.batch([PART], str(line), out)


def test_other_folders_and_running_batches_are_refused(here, line, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-1.parquet").touch()
    with pytest.raises(RunError):
        run.batch([PART], str(line), out)
    with Store.at(str(tmp_path / "other")).locked(), pytest.raises(RunError):
        run.batch([PART], str(line), tmp_path / "other")


def test_what_killed_writers_left_is_removed(here, line, tmp_path):
    left = tmp_path / "out" / "_partial" / "left"
    left.parent.mkdir(parents=True)
    left.touch()
    run.batch([PART], str(line), tmp_path / "out")
    assert not left.parent.exists()


def test_results_may_be_at_a_url(here, line):
    import fsspec

    try:
        for before in (0, 12):
            assert run.batch([PART], str(line), "memory://results/today", maps=True).before == before
        found = fsspec.filesystem("memory").find("/results/today")
        assert sum(path.endswith(".parquet") for path in found) == 3
        assert sum(path.endswith(".png") for path in found) == 2
    finally:
        fsspec.filesystem("memory").store.clear()


def test_the_inspector_is_loaded_once(here, line, tmp_path, monkeypatch):
    loads, load = [], FakePart.load
    monkeypatch.setattr(FakePart, "load", lambda part: (loads.append(part), load(part))[1])
    run.batch([PART], str(line), tmp_path / "out")
    assert len(loads) == 1
    assert len(work._loaded) == 1
