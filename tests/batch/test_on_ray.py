"""Ray: all shards once, whatever dies."""

import os
import threading
import time

import pytest

from metricad.batch import cluster, on_ray, shards, tasks
from metricad.batch.store import Store
from metricad.batch.work import Job
from metricad.errors import MetricadError
from tests.batch.conftest import draw
from tests.batch.fakes import DeadlyStore, FakePart, StuckStore
from tests.batch.test_workers import Log, Unit

pytestmark = [pytest.mark.ray, pytest.mark.slow]


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


def test_units_are_tasks_in_order_and_repeated_if_they_die(nodes, tmp_path):
    units = [
        Unit("b", needs="a"), Unit("a"), Unit("once", "die once"), Unit("bad", "refuse"),
        Unit("after bad", needs="bad"),
    ]  # fmt: skip
    log = Log()
    tasks.run(
        units, ("tests.batch.test_workers", "work"), str(tmp_path), jobs=2,
        on_start=log.start, on_done=log.done, on_failure=log.failure,
    )  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "once", "once.died"}
    assert log.lines.index("done a") < log.lines.index("start b")
    assert log.most == 2
    messages = {name: failure.message for name, failure in log.failures.items()}
    assert messages == {"bad": "bad: bad data", "after bad": "not begun: bad failed"}


@pytest.mark.parametrize("asked", [{"cores": 1000}, {"gpus": 1000}, {"memory": 1e6}])
def test_what_no_machine_has_is_refused(nodes, asked):
    with pytest.raises(MetricadError):
        cluster.check_fits(cluster.load_ray(), **asked)
    cluster.check_fits(cluster.load_ray(), cores=1)


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


@pytest.mark.parametrize("text", ["", "cores", "cores=x", "cores=-1", "disks=2"])
def test_resources_are_numbers_of_what_ray_counts(text):
    assert tasks.Resources.read("gpus=0.5,memory=4") == tasks.Resources(1.0, 0.5, 4.0)
    with pytest.raises(ValueError, match="cores=2"):
        tasks.Resources.read(text)
