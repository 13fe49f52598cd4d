"""Ray: all shards once, whatever dies."""

import os
import threading
import time

import pytest

from metricad.batch import cluster, on_ray, shards
from metricad.batch.store import Store
from metricad.batch.work import Job
from metricad.errors import MetricadError
from tests.batch.conftest import draw
from tests.batch.fakes import DeadlyStore, FakePart, StuckStore

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def nodes():
    """A cluster of one node with one core, to which this process is connected."""
    ray = cluster.load_ray()
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def todo(small_shards, tmp_path):
    part = FakePart()
    return list(shards.cut(draw(tmp_path / "line", [0] * 11), part.name, part.sha256))


def assert_done(outcomes, todo, store):
    assert sorted(one.shard.name for one in outcomes) == sorted(shard.name for shard in todo)
    assert [one.error for one in outcomes] == [None] * 3
    assert Store(store.place).shards() == sorted(shard.name for shard in todo)


def test_a_worker_that_dies_is_replaced(nodes, todo, tmp_path):
    store = DeadlyStore(str(tmp_path / "out"))
    outcomes = list(on_ray.run(Job([FakePart()], store), todo, workers=1, address=None))
    assert (tmp_path / "out" / "_killed").exists()
    assert_done(outcomes, todo, store)


def test_a_node_that_dies_is_done_without(nodes, todo, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "PATIENCE", 0.5)
    node = nodes.add_node(num_cpus=1)
    store = StuckStore(str(tmp_path / "out"), node.node_id)

    def kill():
        while not (tmp_path / "stuck").exists():
            time.sleep(0.1)
        nodes.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = list(on_ray.run(Job([FakePart()], store), todo, workers=2, address=None))
    killer.join()
    assert_done(outcomes, todo, store)


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch):
    ray = cluster.load_ray()

    def fail(*_, **__):
        raise ConnectionError("no\ncluster")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(MetricadError) as caught, cluster.connected("127.0.0.1:1"):
        pass
    assert "\n" not in str(caught.value)


def test_ray_reports_to_nobody():
    cluster.load_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
