"""Do one shard: read, inspect, write. The same function runs in local processes and on Ray."""

import io
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import PIL.Image

from metricad.batch import rows, sources
from metricad.batch.parts import Part
from metricad.batch.shards import Shard, shown
from metricad.batch.store import MAPS, Store
from metricad.errors import MetricadError, explain_os_error
from metricad.inspection.inspector import Inspection, Inspector
from metricad.inspection.interface import ImageJudge


@dataclass(frozen=True)
class Outcome:
    """What came of a shard.

    Attributes
    ----------
    shard : Shard
    verdicts : Counter of str
        Number of rows by verdict.
    seconds : float
    error : str or None
        Why it could not be done; nothing was written then.
    """

    shard: Shard
    verdicts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Job:
    """What all shards of a batch share.

    Attributes
    ----------
    parts : sequence of Part
    store : Store
    maps : bool
        Whether heat maps of defects are written.
    """

    parts: Sequence[Part]
    store: Store
    maps: bool = False


def attempt(job: Job, shard: Shard) -> Outcome:
    """Do a shard; what goes wrong with all of it, such as a full disk, is told in the outcome."""
    try:
        return do(job, shard)
    except (MetricadError, ValueError) as error:
        return Outcome(shard, error=str(error))
    except OSError as error:
        return Outcome(shard, error=explain_os_error(error))
    except Exception as error:  # each file system raises its own types of error
        return Outcome(shard, error=f"{type(error).__name__}: {error}")


def do(job: Job, shard: Shard) -> Outcome:
    """Inspect the images of a shard and write its file: one row an image, also for bad ones."""
    began = time.perf_counter()
    inspector = _inspector(next(part for part in job.parts if part.name == shard.part))
    maps: dict[str, str] = {}

    def draw(inspection: Inspection, image: np.ndarray, anomaly: np.ndarray) -> None:
        if inspection.defects:
            path = str(inspection.path)
            maps[path] = f"{MAPS}/{shard.name.partition('.')[0]}/{shard.paths.index(path):03}.png"
            content = io.BytesIO()
            PIL.Image.fromarray(inspector.picture(inspection, image, anomaly)).save(content, "PNG")
            job.store.put(maps[path], content.getvalue())

    judged = inspector.inspect_files(
        shard.paths, draw=draw if job.maps else None, read_bytes=sources.read_bytes
    )
    # Nothing but the record is kept of an image.
    found = [inspection.record() for inspection, _, _ in judged]
    for row in found:
        row[rows.MAP] = maps.get(row["path"])
        row.update(part=shard.part, path=shown(row["path"]))
        if row["error"] is not None:
            row["error"] = shown(row["error"])
    job.store.put(shard.name, rows.to_parquet(found))
    verdicts = Counter(row["verdict"] for row in found)
    return Outcome(shard, verdicts, time.perf_counter() - began)


_loaded: dict[tuple[str, str], Inspector[ImageJudge]] = {}


def _inspector(part: Part) -> Inspector[ImageJudge]:
    """Load an inspector once in each process."""
    key = part.path, part.sha256
    if key not in _loaded:
        # Read when TensorFlow starts: there is a process for each core. By default the first one that uses a
        # GPU would reserve all of its memory.
        for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ.setdefault(name, "1")
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        _loaded[key] = part.load()
    return _loaded[key]
