"""Images and results in buckets of S3, served by moto."""

import logging

import pytest

from metricad.batch import run, sources
from metricad.batch.store import Store

PART = "/parts/bright_b"


@pytest.fixture
def buckets(monkeypatch):
    """A server with two empty buckets, `line` and `results`."""
    from moto.server import ThreadedMotoServer  # takes seconds

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    system, _ = sources.filesystem("s3://line")
    for name in ("line", "results"):
        system.mkdir(name)
    yield system
    system.clear_instance_cache()
    server.stop()


def test_images_and_results_in_buckets(buckets, here, line, table, tmp_path):
    for path in line.iterdir():
        buckets.pipe_file(f"line/today/{path.name}", path.read_bytes())
    for before in (0, 12):
        tally = run.batch([PART], "s3://line/today/", "s3://results/today", maps=True)
        assert (tally.asked, tally.before, tally.failed) == (12, before, [])
    run.batch([PART], str(line), tmp_path / "out", maps=True)
    store = Store.at("s3://results/today")
    assert len(store.shards()) == 3
    found = [row for _, shard in store.read(store.shards(), ["path", "sha256", "score", "verdict", "map"])
             for row in shard.to_pylist()]  # fmt: skip
    by_name = {row["path"].rpartition("/")[2]: row for row in found}
    assert set(by_name) == {path.name for path in line.glob("*.png")}
    for row in table(tmp_path / "out"):
        other = by_name[row["path"].rpartition("/")[2]]
        assert other["path"].startswith("s3://line/today/")
        assert (row["sha256"], row["score"], row["verdict"]) == tuple(
            other[k] for k in ("sha256", "score", "verdict")
        )
        assert other["map"] is None or buckets.exists(f"results/today/{other['map']}")
