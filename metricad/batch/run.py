"""Run a batch: find the images, leave out what is done, do the rest, count.

The folder or URL of results::

    part-<hash>.parquet       a shard: one row an image; it is done when its file is there
    _run.json                 what the last run was asked to do, with which inspectors and versions
    _summary.json             rows of all shards, by inspector and verdict
    _log/<time>.jsonl         a line for each shard of a run
    _maps/<shard>/<n>.png     heat map of the n-th image of a shard, if it is a defect and maps are asked for
"""

import importlib.util
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metricad.batch import Engine, cluster, on_cores, on_ray, parts, shards, sources
from metricad.batch.shards import Shard
from metricad.batch.sources import Source
from metricad.batch.store import LOG, RUN, SUMMARY, Store
from metricad.batch.work import Job, Outcome
from metricad.deploy import runtimes
from metricad.errors import DataError, MetricadError, RunError
from metricad.versions import versions

_LOG_SECONDS = 60  # between two writings of the log

Key = tuple[str, str]
"""Name and checksum of an inspector."""


@dataclass
class Tally:
    """Rows of all shards in the results, and what failed.

    Attributes
    ----------
    rows : dict of Key to Counter
        Number of rows by verdict, for each inspector that the results have rows of.
    before : int
        Rows of these inspectors and images that were there when the run began.
    asked : int
        Rows that the run should end with.
    failed : list of Outcome
        Shards that could not be done.
    """

    rows: dict[Key, Counter[str]] = field(default_factory=dict)
    before: int = 0
    asked: int = 0
    failed: list[Outcome] = field(default_factory=list)

    def add(self, key: Key, verdicts: Counter[str]) -> None:
        """Count the rows of a shard."""
        self.rows.setdefault(key, Counter()).update(verdicts)


@dataclass(frozen=True)
class Progress:
    """Callbacks of `batch`; by default they do nothing.

    Attributes
    ----------
    on_source : function of (Source)
    on_plan : function of (Tally)
        Called when it is known what is left to do.
    on_shard : function of (Outcome)
    """

    on_source: Callable[..., object] = lambda source: None
    on_plan: Callable[..., object] = lambda tally: None
    on_shard: Callable[..., object] = lambda outcome: None


def batch(
    paths: Sequence[str | os.PathLike[str]],
    source: str,
    out: str | os.PathLike[str],
    *,
    engine: Engine | str = Engine.local,
    address: str | None = None,
    workers: int | None = None,
    gpus: float = 0,
    maps: bool = False,
    key: Path | None = None,
    progress: Progress | None = None,
) -> Tally:
    """Inspect all images of a source that have no row yet.

    Parameters
    ----------
    paths : sequence of path
        Inspectors: exports, or bundles, which run in TensorFlow. Each inspects all images, unless the source
        is a list that names the part of each.
    source : str
        See `sources.find`.
    out : path or str
        Folder or URL of the results.
    engine : Engine
    address : str, optional
        Of a Ray cluster; by default one on this machine.
    workers : int, optional
        Processes or actors; by default one for each core.
    gpus : float
        GPUs of each Ray actor.
    maps : bool
        Write heat maps of defects.
    key : path, optional
        See `loading.load`.
    progress : Progress, optional

    Returns
    -------
    Tally

    Raises
    ------
    MetricadError
        An inspector, the source or the results cannot be used, or a package is not installed.
    """
    progress = progress or Progress()
    if any(importlib.util.find_spec(name) is None for name in ("pyarrow", "fsspec")):
        raise MetricadError("a batch needs pyarrow and fsspec: pip install 'metricad[batch]'")
    if engine == Engine.ray:
        cluster.load_ray()
    store = Store.at(os.fspath(out))
    found = parts.check([Path(path) for path in paths], key=key)
    with store.locked():
        images = sources.find(source)
        progress.on_source(images)
        description = {
            "parts": {part.name: part.sha256 for part in found},
            "source": source,
            "maps": maps,
            "images": sum(map(len, images.paths.values())),
            "versions": versions(),
        }
        _keep(store, description)
        tally, done = _read(store)
        todo = list(_cut(images, found, done))
        tally.asked = sum(len(paths) for _, paths in _pairs(images, found))
        tally.before = tally.asked - sum(len(shard.paths) for shard in todo)
        progress.on_plan(tally)
        log = _Log(store)
        try:
            if todo:
                job = Job(found, store, maps)
                outcomes = (
                    on_ray.run(job, todo, workers=workers, address=address, gpus=gpus)
                    if engine == Engine.ray
                    else on_cores.run(job, todo, workers=min(workers or runtimes.cores(), len(todo)))
                )
                for outcome in outcomes:
                    log.add(outcome)
                    if outcome.error is None:
                        tally.add((outcome.shard.part, outcome.shard.part_sha256), outcome.verdicts)
                    else:
                        tally.failed.append(outcome)
                    progress.on_shard(outcome)
        finally:
            log.write()
            store.put(SUMMARY, _json(_summary(tally)))
    return tally


def _keep(store: Store, description: dict[str, Any]) -> None:
    """Write what this run does; refuse results that were begun with or without maps, unlike this run."""
    before = store.get(RUN)
    if before is None and store.shards():
        raise RunError(f"{store.place}: has shards but no {RUN}; give another --out")
    if before is not None and json.loads(before)["maps"] != description["maps"]:
        with_or_not = "without" if description["maps"] else "with"
        raise RunError(f"{store.place}: was begun {with_or_not} --maps; repeat that, or give another --out")
    store.put(RUN, _json(description))


def _read(store: Store) -> tuple[Tally, dict[Key, set[str]]]:
    """Count the rows of all shards, and return the paths by inspector.

    Raises
    ------
    DataError
        A shard is damaged, or has images that another one has too.
    """
    tally, done = Tally(), dict[Key, set[str]]()
    columns = ("path", "part", "part_sha256", "verdict")
    for name, table in store.read(store.shards(), columns):
        key = table["part"][0].as_py(), table["part_sha256"][0].as_py()
        seen, paths = done.setdefault(key, set()), table["path"].to_pylist()
        before = len(seen)
        seen.update(paths)
        if len(seen) != before + len(paths):
            raise DataError(
                f"{store.place}/{name}: another shard has rows of the same images; delete this one"
            )
        tally.add(key, Counter(table["verdict"].to_pylist()))
    return tally, done


def _pairs(images: Source, found: Sequence[parts.Part]) -> Iterator[tuple[parts.Part, list[str]]]:
    """Pair inspectors with the images that they inspect.

    Raises
    ------
    DataError
        The list names a part that is not given.
    """
    names = {part.name for part in found}
    for name in images.paths:
        if name is not None and name not in names:
            raise DataError(f"the list names part {name!r}; expected one of {', '.join(sorted(names))}")
    for part in found:
        for name, paths in images.paths.items():
            if name in (None, part.name):
                yield part, paths


def _cut(images: Source, found: Sequence[parts.Part], done: dict[Key, set[str]]) -> Iterator[Shard]:
    for part, paths in _pairs(images, found):
        yield from shards.cut(paths, part.name, part.sha256, done=done.get((part.name, part.sha256), ()))


def _summary(tally: Tally) -> dict[str, Any]:
    return {
        "time": _now(),
        "images": sum(map(Counter.total, tally.rows.values())),
        "parts": [
            {"part": part, "part_sha256": sha256, **{verdict: counts[verdict] for verdict in sorted(counts)}}
            for (part, sha256), counts in sorted(tally.rows.items())
        ],
        "failed": [{"shard": one.shard.name, "error": one.error} for one in tally.failed],
    }


class _Log:
    """A file of JSON lines, which is written whole now and then: a URL cannot be appended to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._name = f"{LOG}/{_now().replace(':', '-')}.jsonl"
        self._lines: list[str] = []
        self._written = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """Add a line for a shard."""
        line = {
            "time": _now(),
            "shard": outcome.shard.name,
            "part": outcome.shard.part,
            "images": len(outcome.shard.paths),
            "verdicts": dict(outcome.verdicts),
            "seconds": round(outcome.seconds, 3),
            "error": outcome.error,
        }
        self._lines.append(json.dumps(line))
        if time.monotonic() - self._written > _LOG_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the lines so far."""
        if self._lines:
            self._store.put(self._name, "".join(f"{line}\n" for line in self._lines).encode())
        self._written = time.monotonic()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
