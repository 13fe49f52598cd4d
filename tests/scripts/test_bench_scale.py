"""The benchmark of batches: what it counts and writes, not how long anything takes."""

import os
import subprocess
import sys

from metricad.batch import shards
from metricad.reporting import markdown
from tests.helpers import load_script

script = load_script("bench_scale")


def test_the_page_has_medians_and_the_model():
    found = {
        "throughput": {
            "images": 1000,
            "cores": 2,
            "bytes": 200_000,
            "seconds": {
                "inspect, 2 at once": [50, 52, 99],
                "batch, local, 2 workers": [50, 50, 1],
                "batch, local, 1 worker on 1 core": [100, 100, 100],
            },
        },
        "listing": {
            name: {"paths": 1000, "shards": 4, "seconds": 0.5, "peak_mib": 100.0}
            for name in ("folder", "list")
        }
        | {"seconds_per_shard_read": 0.01},
        "kills": {"images": 10, "kills": {"driver": 1, "worker": 2, "node": 3}, "ended": 4, "wrong": 0},
        "memory": {"rows": 100, "samples": [[10, 200.0, 300.0], [90, 201.0, 302.0]]},
    }
    text = markdown.render(script.page(found))
    assert "| batch, local, 2 workers | 50.0 | 20.00 | 1.04 | 3 |" in text
    assert "From 1 to 2 cores: 2.00 ×" in text
    assert "| 1 | 2 | 3 | 4 | 0 |" in text
    assert "| 75 % on | 201 | 302 |" in text
    assert "| inspect | 50,000 | 625 |" in text  # a million at 0.1 s on 2 and on 160 cores
    assert "Not measured yet: s3." in text


def test_only_own_workers_are_found():
    """Others may be left from tests before, in this process or in others."""
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen([*sleeps, "LokyProcess-1"]) as worker, subprocess.Popen(sleeps) as other:
        found = script.workers()
        worker.kill()
        other.kill()
    assert worker.pid in found
    assert other.pid not in found
    assert os.getppid() not in found
    assert script.resident(os.getpid()) > 10


def test_small_images_get_many_names(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "SMALL", 128)
    monkeypatch.setattr(script.measuring, "regions", lambda count, shape: [script.np.zeros(shape)] * count)
    folder = script.links(tmp_path, 600)
    script.cut_all(str(folder))
    assert f'"paths": 600, "shards": {-(-600 // shards.SIZE)}' in capsys.readouterr().out
