"""Images of one level each, and a batch that runs in this process."""

import numpy as np
import pytest

from metricad.batch import on_cores, parts, shards, work
from metricad.data import images
from tests.batch.fakes import FakePart


def draw(folder, levels):
    """Write an image of each level, 0 to 255; return their paths."""
    paths = [folder / f"{number:03}.png" for number in range(len(levels))]
    for path, level in zip(paths, levels, strict=True):
        images.write(path, np.full((8, 8), level, np.uint8))
    return list(map(str, paths))


@pytest.fixture
def line(tmp_path):
    """Eleven images, of which the last two are defects; a bad file; and a file that is no image."""
    folder = tmp_path / "line"
    draw(folder, [*range(9), 200, 255])
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("")
    return folder


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SIZE", 4)


@pytest.fixture
def here(small_shards, monkeypatch):
    """Batches run in this process, with small shards and the parts that are named; gives what was done."""
    done = []

    def attempts(job, todo, *, workers):
        for shard in todo:
            done.append(shard.name)
            yield work.attempt(job, shard)

    def fakes(paths, *, key=None):
        return [FakePart(str(path), sha256=path.stem[-1] * 64) for path in paths]

    monkeypatch.setattr(on_cores, "run", attempts)
    monkeypatch.setattr(parts, "check", fakes)
    monkeypatch.setattr(work, "_loaded", {})
    return done


@pytest.fixture
def table():
    """Read all rows of a folder of results, sorted by path and part."""
    from pyarrow import dataset

    def read(out):
        files = sorted(map(str, out.glob("part-*.parquet")))
        rows = dataset.dataset(files).to_table().to_pylist()
        return sorted(rows, key=lambda row: (row["path"], row["part"]))

    return read
