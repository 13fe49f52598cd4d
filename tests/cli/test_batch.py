"""`metricad batch` with an export: the rows of `metricad inspect`."""

import importlib.util
import json
from collections import Counter

import numpy as np
import pytest
from pyarrow import parquet

from tests.helpers import save, scratched, texture

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    folder = tmp_path_factory.mktemp("line")
    rng = np.random.default_rng(9)
    for number in range(3):
        save(folder / f"{number}.png", texture(rng))
    save(folder / "scratched.png", scratched(texture(rng), 20, 30))
    (folder / "bad.png").write_bytes(b"no image")
    return folder


def test_rows_are_those_of_inspect(run_metricad, part_export, line, tmp_path):
    part = part_export("openvino")
    done = run_metricad("batch", part, line, "--out", tmp_path / "out", "--workers", 2)
    assert done.status == 2  # of the bad file
    expected = run_metricad("inspect", part, line, "--format", "jsonl").out.splitlines()
    verdicts = Counter(json.loads(text)["verdict"] for text in expected)
    counts = ", ".join(f"{verdicts[name]} {name}" for name in ("good", "defect", "error"))
    assert done.out.endswith(f": {counts}\n")
    (shard,) = (tmp_path / "out").glob("part-*.parquet")
    for row, text in zip(parquet.read_table(shard).to_pylist(), expected, strict=True):
        assert row == json.loads(text) | {"time": row["time"], "map": None}
    again = run_metricad("batch", part, line, "--out", tmp_path / "out")
    assert (again.status, again.out) == (done.status, done.out)


def test_what_is_missing_is_told_in_one_line(refused, part_export, line, tmp_path, monkeypatch):
    command = ["batch", part_export("openvino"), line, "--out", tmp_path / "out"]
    find = importlib.util.find_spec
    missing = {"ray"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    assert "metricad[ray]" in refused(*command, "--engine", "ray")
    missing.add("pyarrow")
    assert "metricad[batch]" in refused(*command)
    assert not (tmp_path / "out").exists()


def test_parts_of_one_name_and_no_images_are_refused(refused, part_export, line, tmp_path):
    part = part_export("openvino")
    (tmp_path / "empty").mkdir()
    refused("batch", part, part, line, "--out", tmp_path / "out")
    refused("batch", part, tmp_path / "empty", "--out", tmp_path / "out")
    refused("batch", tmp_path / "none", line, "--out", tmp_path / "out")
