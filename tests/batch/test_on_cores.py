"""Processes of this machine: all shards once, also if a process dies."""

from metricad.batch import on_cores, shards
from metricad.batch.store import Store
from metricad.batch.work import Job
from tests.batch.conftest import draw
from tests.batch.fakes import DeadlyStore, FakePart


def cut(tmp_path, part):
    return list(shards.cut(draw(tmp_path / "line", [0] * 11), part.name, part.sha256))


def test_a_process_that_dies_is_replaced(small_shards, tmp_path):
    part = FakePart()
    todo = cut(tmp_path, part)
    outcomes = list(on_cores.run(Job([part], DeadlyStore(str(tmp_path / "out"))), todo, workers=2))
    assert (tmp_path / "out" / "_killed").exists()
    assert sorted(one.shard.name for one in outcomes) == sorted(shard.name for shard in todo)
    assert [one.error for one in outcomes] == [None] * 3
    assert Store(str(tmp_path / "out")).shards() == sorted(shard.name for shard in todo)
