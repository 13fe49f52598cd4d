"""Measure `metricad batch`: throughput, kills in a simulated cluster and over S3, memory, listing.

    python scripts/bench_scale.py --work WORK --part throughput    # needs a machine without other work
    python scripts/bench_scale.py --work WORK                      # all parts

Linux only. Each part keeps what it has measured in the work folder and goes on from there when it is started
again; `--again` measures it anew. At the end scale.md is written from all that is there. Leaves with 1 if a
row is lost, doubled or different.
"""

import argparse
import contextlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import measuring
import numpy as np

from metricad import files
from metricad.batch import cluster, shards, sources
from metricad.batch.rows import MAP
from metricad.batch.store import Store
from metricad.data import images
from metricad.inspection.inspector import FIELDS
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Section, Table
from metricad.versions import versions

METRICAD = [sys.executable, "-m", "metricad"]
SMALL = 128  # side of images where their size does not matter, in pixels
MIB = 2**20
CLUSTER = 10, 16  # machines and cores of each, of the cost model
MILLION = 1_000_000
COMPARED = [name for name in (*FIELDS, MAP) if name != "time"]


def main() -> int:
    """Measure the parts, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for images and what was measured")
    parser.add_argument("--part", action="append", choices=PARTS, help="only these; all when not given")
    parser.add_argument("--again", action="store_true", help="measure these parts anew")
    parser.add_argument("--images", type=int, default=2000, help="of 512×512 pixels, for throughput")
    parser.add_argument("--rounds", type=int, default=3, help="of throughput; medians are told")
    parser.add_argument("--kills", type=int, default=20, help="in the simulated cluster")
    parser.add_argument("--s3-kills", type=int, default=5)
    parser.add_argument("--rows", type=int, default=100_000, help="for memory")
    parser.add_argument("--paths", type=int, default=MILLION, help="to list")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the page")
    parser.add_argument(
        "--remark", default="", help="what else the page says, such as what else ran meanwhile"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.part or PARTS:
        kept = options.work / f"{name}.json"
        if options.again:
            kept.unlink(missing_ok=True)
        done = json.loads(kept.read_text()) if kept.is_file() else {}
        PARTS[name](options, done, lambda done, kept=kept: files.write_text(kept, json.dumps(done, indent=1)))
    found = {
        name: json.loads((options.work / f"{name}.json").read_text())
        for name in PARTS
        if (options.work / f"{name}.json").is_file()
    }
    files.write_text(options.out / "scale.md", markdown.render(page(found, options.remark)))
    wrong = sum(found.get(name, {}).get("wrong", 0) for name in ("kills", "s3"))
    print(f"{wrong} batches with wrong rows")
    return 1 if wrong else 0


Keep = Callable[[dict], object]


def throughput(options: argparse.Namespace, done: dict, keep: Keep) -> None:
    """Time whole commands, start and end included, alternately."""
    line, part = images_of(options.work, measuring.SIDE, options.images), export(options.work, "accurate")
    ways = {
        "inspect, 2 at once": (["inspect", part, line, "--workers", "2", "--format", "csv"], 2),
        "batch, local, 2 workers": (["batch", part, line, "--workers", "2"], 2),
        "batch, Ray, 2 actors": (["batch", part, line, "--workers", "2", "--engine", "ray"], 2),
        "batch, local, 1 worker on 1 core": (["batch", part, line, "--workers", "1"], 1),
    }
    done.setdefault("seconds", {name: [] for name in ways})
    done.update(images=options.images, cores=2)
    for number in range(options.rounds):
        for name, (words, cores) in ways.items():
            if len(done["seconds"][name]) > number:
                continue
            out = options.work / "throughput"
            shutil.rmtree(out, ignore_errors=True)
            began = time.monotonic()
            subprocess.run(
                [*METRICAD, *map(str, words), *(["--out", str(out)] if words[0] == "batch" else [])],
                check=True,
                stdout=subprocess.DEVNULL,
                preexec_fn=lambda cores=cores: os.sched_setaffinity(0, range(cores)),
            )
            done["seconds"][name].append(time.monotonic() - began)
            print(f"{name}: {options.images / done['seconds'][name][-1]:.1f} images/s", flush=True)
            if name.startswith("batch, local, 2"):
                done["bytes"] = sum(path.stat().st_size for path in out.glob("part-*"))
            keep(done)


def kills(options: argparse.Namespace, done: dict, keep: Keep) -> None:
    """Kill actors, nodes and drivers of batches in a simulated cluster of three nodes."""
    line = links(options.work, 5_120)
    part = export(options.work, "fast")
    batch = ["batch", str(part), str(line)]
    expected = unbroken(batch, options.work)
    rng = random.Random(0)
    with simulated() as (address, nodes):
        batch += ["--engine", "ray", "--address", address]
        killed(batch, options, done, keep, expected=expected, count=options.kills, rng=rng, nodes=nodes)


def s3(options: argparse.Namespace, done: dict, keep: Keep) -> None:
    """Kill drivers and workers of batches that read from S3 and write to it, served by moto."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    line = links(options.work, 2_560)
    part = export(options.work, "fast")
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        system, _ = sources.filesystem("s3://line")
        for bucket in ("line", "results"):
            system.mkdir(bucket)
        for path in sorted(line.rglob("*.png")):
            system.pipe_file(f"line/{path.relative_to(line)}", path.read_bytes())
        batch = ["batch", str(part), "s3://line/"]
        expected = unbroken(batch, options.work)
        rng = random.Random(1)
        killed(
            batch,
            options,
            done,
            keep,
            expected=expected,
            count=options.s3_kills,
            rng=rng,
            place="s3://results",
        )
    finally:
        server.stop()


def killed(
    batch: Sequence[str],
    options: argparse.Namespace,
    done: dict,
    keep: Keep,
    *,
    expected: dict,
    count: int,
    rng: random.Random,
    nodes: "Nodes | None" = None,
    place: str | None = None,
) -> None:
    """Start a batch again until it ends, with kills at random moments; compare its rows. Repeat."""
    done.setdefault("kills", {"driver": 0, "worker": 0, "node": 0})
    for name in ("ended", "wrong"):
        done.setdefault(name, 0)
    done["images"] = len(expected["rows"])
    while sum(done["kills"].values()) < count:
        out = f"{place or options.work / 'killed'}/{time.time_ns()}"
        is_done = False
        while not is_done:
            process = subprocess.Popen(
                [*METRICAD, *batch, "--out", out], stdout=subprocess.DEVNULL, start_new_session=True
            )
            while not is_done and process.poll() is None:
                is_left = sum(done["kills"].values()) < count
                try:
                    process.wait(rng.uniform(0.1, 1) * expected["seconds"] if is_left else None)
                except subprocess.TimeoutExpired:
                    kind = rng.choice(["driver", "worker", *(["node"] if nodes else [])])
                    if kill(kind, process, rng, nodes):
                        done["kills"][kind] += 1
                        print(f"{kind} killed, {len(Store.at(out).shards())} shards done", flush=True)
                        keep(done)
            is_done = process.returncode == 0
            if process.returncode not in (0, -signal.SIGKILL):
                raise RuntimeError(f"the batch left with {process.returncode}")
        found = rows(out)
        done["ended"] += 1
        done["wrong"] += found != expected["rows"]
        print(f"ended; {'equal' if found == expected['rows'] else 'DIFFERENT'}", flush=True)
        keep(done)


def kill(kind: str, process: subprocess.Popen, rng: random.Random, nodes: "Nodes | None") -> bool:
    """Kill the driver, a worker of it or a node; whether there was one."""
    if kind == "node":
        assert nodes is not None
        nodes.replace(rng)
        return True
    if kind == "driver":
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    found = workers()
    if not found:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(found), signal.SIGKILL)
    return True


class Nodes:
    """Two nodes of a core each beside the head of a simulated cluster."""

    def __init__(self, simulation: object) -> None:
        self._cluster = simulation
        self._nodes = [simulation.add_node(num_cpus=1) for _ in range(2)]

    def replace(self, rng: random.Random) -> None:
        """Kill one, and start another one some seconds later."""
        node = self._nodes.pop(rng.randrange(len(self._nodes)))
        self._cluster.remove_node(node, allow_graceful=False)
        time.sleep(5)
        self._nodes.append(self._cluster.add_node(num_cpus=1))


@contextlib.contextmanager
def simulated() -> Iterator[tuple[str, Nodes]]:
    """Start a cluster of three nodes on this machine."""
    cluster.load_ray()
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield made.address, Nodes(made)
    finally:
        made.shutdown()


def memory(options: argparse.Namespace, done: dict, keep: Keep) -> None:
    """Sample the resident memory of the driver and of its actors over many rows."""
    line, part = links(options.work, options.rows), export(options.work, "fast")
    out = options.work / "memory"
    shutil.rmtree(out, ignore_errors=True)
    command = [*METRICAD, "batch", str(part), str(line), "--engine", "ray", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    samples = []
    while process.poll() is None:
        time.sleep(2)
        actors = map(resident, workers())
        samples.append(
            (len([*out.glob("part-*")]) * shards.SIZE, resident(process.pid), max(actors, default=0))
        )
    if process.returncode:
        raise RuntimeError(f"the batch left with {process.returncode}")
    working = [each for each in samples if each[0] and each[1] and each[2]]
    done["rows"] = options.rows
    done["samples"] = working[:: max(1, len(working) // 200)]
    keep(done)


def listing(options: argparse.Namespace, done: dict, keep: Keep) -> None:
    """List and cut many paths, in a folder and in a Parquet file, each in a process of its own."""
    import pyarrow
    from pyarrow import parquet

    folder = options.work / "listed"
    for number in range(0, options.paths, 1000):
        inside = folder / f"{number // 1000:04}"
        if not (inside / "999.png").exists():
            inside.mkdir(parents=True, exist_ok=True)
            for each in range(1000):
                (inside / f"{each:03}.png").touch()
    names = [f"/line/{number // 1000:04}/{number % 1000:03}.png" for number in range(options.paths)]
    parquet.write_table(pyarrow.table({"path": names}), options.work / "listed.parquet")
    for name, source in (("folder", folder), ("list", options.work / "listed.parquet")):
        code = f"import bench_scale; bench_scale.cut_all({str(source)!r})"
        printed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        done[name] = json.loads(printed)
        print(f"{name}: {done[name]}", flush=True)
    # What is done is read before the work: the columns of all shards that tell it.
    before = (Store(str(options.work.absolute() / name)) for name in ("memory", "throughput", "unbroken"))
    store = next((each for each in before if each.shards()), None)
    if store is not None:
        began = time.monotonic()
        read = sum(1 for _ in store.read(store.shards(), ("path", "part", "part_sha256", "verdict")))
        done["seconds_per_shard_read"] = (time.monotonic() - began) / read
    keep(done)


def cut_all(source: str) -> None:
    """Print how long it takes to find and cut the images of a source, and the peak memory, as JSON."""
    began = time.monotonic()
    found = sources.find(source)
    cut = list(shards.cut(found.paths[None], "part", 64 * "0"))
    names = {shard.name for shard in cut}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    words = {"paths": len(found.paths[None]), "shards": len(names), "seconds": time.monotonic() - began}
    print(json.dumps({**words, "peak_mib": peak}))


def images_of(work: Path, side: int, count: int) -> Path:
    """Render images once."""
    folder = work / f"{side}-{count}"
    if not folder.is_dir():
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            drawn = measuring.regions(min(count, 64), (side, side))
            shifts = np.random.default_rng(1).integers(side, size=(count, 2))
            for number, shift in enumerate(shifts):
                image = np.roll(drawn[number % len(drawn)], shift, axis=(0, 1))
                images.write(temporary / f"{number:05}.png", images.to_uint8(image))
    return folder


def links(work: Path, count: int) -> Path:
    """Give 512 rendered small images many names."""
    rendered = sorted(images_of(work, SMALL, 512).iterdir())
    folder = work / f"links-{count}"
    if not folder.is_dir():
        with files.replacing(folder) as temporary:
            for number in range(count):
                inside = temporary / f"{number // 1000:04}"
                inside.mkdir(parents=True, exist_ok=True)
                (inside / f"{number % 1000:03}.png").hardlink_to(rendered[number % len(rendered)])
    return folder


def export(work: Path, network: str) -> Path:
    """Make an inspector of images of this size once, and export it to OpenVINO."""
    side = measuring.SIDE if network == "accurate" else SMALL
    part = work / network
    if not part.is_dir():
        good = images_of(work, side, 60 if network == "accurate" else 512)
        bundle = work / f"{network}.metricad"
        chosen = ["--network", network, "--false-alarm-rate", "0.05", "--out", str(bundle)]
        some = sorted(good.iterdir())[:60]
        subprocess.run([*METRICAD, "prototype", *map(str, some), *chosen], check=True)
        subprocess.run([*METRICAD, "export", str(bundle), "--out", str(part)], check=True)
    return part


def unbroken(batch: Sequence[str], work: Path) -> dict:
    """Run a batch with local workers and without kills; return its seconds and rows."""
    out = work / "unbroken"
    shutil.rmtree(out, ignore_errors=True)
    began = time.monotonic()
    subprocess.run([*METRICAD, *batch, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    return {"seconds": time.monotonic() - began, "rows": rows(str(out))}


def rows(out: str) -> list[dict]:
    """Return all rows but their times, sorted."""
    store = Store.at(out)
    found = [row for _, table in store.read(store.shards(), COMPARED) for row in table.to_pylist()]
    return sorted(found, key=lambda row: (row["path"], row["part"]))


def workers() -> list[int]:
    """List the actors and the processes of joblib that this process has started, also through others."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
            if b"ray::Worker" in command or b"LokyProcess-" in command:
                found.append(pid)

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and is_ours(parents[pid]))

    return [pid for pid in found if is_ours(pid)]


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB; 0 if it has ended."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / MIB
    return 0.0


def page(found: dict[str, dict], remark: str = "") -> Document:
    """Arrange what was measured."""
    used = ", ".join(f"{name} {version}" for name, version in versions().items() if name != "commit")
    made = {"throughput": _throughput, "kills": _kills, "s3": _s3, "memory": _memory, "listing": _listing}
    blocks = [section(found[name]) for name, section in made.items() if name in found]
    missing = [name for name in made if name not in found]
    remarks = [f"Made by: python scripts/bench_scale.py --work WORK, with {used}."]
    if missing:
        remarks.append(f"Not measured yet: {', '.join(missing)}.")
    remarks += [remark] if remark else []
    return Document("Many images", remarks, [*blocks, _model(found)])


def _throughput(done: dict) -> Section:
    medians = {name: statistics.median(each) for name, each in done["seconds"].items() if each}
    first = next(iter(medians.values()))
    body = [
        [
            Cell(name),
            Cell(f"{seconds:.1f}"),
            Cell(f"{done['images'] / seconds:.2f}"),
            Cell(f"{first / seconds:.2f}"),
            Cell(str(len(done["seconds"][name]))),
        ]
        for name, seconds in medians.items()
    ]
    one, two = (medians.get(f"batch, local, {each}") for each in ("1 worker on 1 core", "2 workers"))
    text = f" From 1 to 2 cores: {one / two:.2f} ×." if one and two else ""
    return Section(
        "Throughput",
        [
            f"{done['images']} rendered images of 512×512 pixels (PNG), the default inspector exported to "
            "OpenVINO, two cores. Whole commands, from start to end; medians of rounds in which the ways "
            f"take turns. Targets: local 1.0 × or more, Ray 0.9 ×, 1 to 2 cores 1.8 ×.{text}",
            Table(
                "Seconds, and images per second",
                ["way", "s", "images/s", "relative to inspect", "rounds"],
                body,
            ),
        ],
    )


def _kills(done: dict) -> Section:
    return _killed(
        "Kills in a cluster",
        "three nodes of a core each, simulated on this machine; killed are actors, nodes (another one comes "
        "after 5 s) and drivers",
        done,
    )


def _s3(done: dict) -> Section:
    return _killed(
        "Kills over S3",
        "images and results in buckets of moto's server; killed are drivers and workers",
        done,
    )


def _killed(title: str, what: str, done: dict) -> Section:
    counts = done["kills"]
    body = [[Cell(str(n)) for n in (*counts.values(), done["ended"], done["wrong"])]]
    return Section(
        title,
        [
            f"{done['images']} images of {SMALL}×{SMALL} pixels; {what}. SIGKILL at random moments; a driver "
            "is started again with the same command. WRONG must be 0: an image without a row, with two, or "
            "with another one than in an unbroken run on one machine. Times are not compared.",
            Table("Kills", [*(f"{kind}s" for kind in counts), "batches ended", "WRONG"], body),
        ],
    )


def _memory(done: dict) -> Section:
    samples = np.array(done["samples"])
    body = []
    for low, high in ((0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.01)):
        some = samples[(samples[:, 0] >= low * done["rows"]) & (samples[:, 0] < high * done["rows"])]
        if len(some):
            body.append(
                [Cell(f"{100 * low:.0f} % on"), *(Cell(f"{each:.0f}") for each in some[:, 1:].max(axis=0))]
            )
    return Section(
        "Memory",
        [
            f"{done['rows']} images of {SMALL}×{SMALL} pixels with two Ray actors: largest resident memory "
            "by quarter of the rows.",
            Table("MiB", ["rows", "driver", "largest actor"], body),
        ],
    )


def _listing(done: dict) -> Section:
    body = [
        [Cell(name), *(Cell(f"{done[name][key]:,.0f}") for key in ("paths", "shards", "seconds", "peak_mib"))]
        for name in ("folder", "list")
    ]
    return Section(
        "Listing",
        [
            "Find and cut paths in folders of a thousand, and in a Parquet list. Targets: a minute, 1 GB.",
            Table("Paths", ["source", "paths", "shards", "s", "peak MiB"], body),
        ],
    )


def _model(found: dict[str, dict]) -> Section:
    """Tell what a million images would take."""
    done, listed = found.get("throughput", {}), found.get("listing", {})
    times = done.get("seconds", {}).get("batch, local, 1 worker on 1 core")
    if not (times and listed and "seconds_per_shard_read" in listed and "bytes" in done):
        return Section("A million images, on paper", ["Needs throughput and listing."])
    image = statistics.median(times) / done["images"]
    shard_count = -(-MILLION // shards.SIZE)
    machines, cores = CLUSTER
    listing_seconds = MILLION * listed["folder"]["seconds"] / listed["folder"]["paths"]
    reading = shard_count * listed["seconds_per_shard_read"]
    steps = {
        "list and cut": (listing_seconds, listing_seconds),
        "read what is done (before a last run)": (reading, reading),
        "inspect": (MILLION * image / 2, MILLION * image / (machines * cores)),
    }
    body = [[Cell(name), *(Cell(f"{seconds:,.0f}") for seconds in both)] for name, both in steps.items()]
    total = [sum(each[k] for each in steps.values()) for k in range(2)]
    body.append([Cell("all"), *(Cell(f"{seconds:,.0f}") for seconds in total)])
    size = done["bytes"] / done["images"]
    return Section(
        "A million images, on paper",
        [
            f"{1e3 * image:.0f} ms per image of 512×512 pixels on one core like these; {shard_count} "
            f"shards; {size:.0f} bytes per row, {MILLION * size / 1e6:.0f} MB in all. The cluster is "
            "supposed to have such cores, and to read as fast as it inspects.",
            Table(
                "Seconds", ["step", "this machine, 2 cores", f"cluster of {machines} × {cores} cores"], body
            ),
            "It stops being linear where one process does the work for all: listing, and reading the path "
            "columns of all shards before a run, which grows with what is done and not with what is new. "
            "From about ten million rows on, begin new results for each day or month. S3 lists a thousand "
            "names in a request, one after the other: a list of paths is faster. A shard is one row group of "
            "256 rows; for many queries over very many shards merge them: COPY (FROM 'part-*.parquet') TO "
            "'all.parquet'. With few shards for each core, the last ones leave cores idle.",
        ],
    )


PARTS = {"throughput": throughput, "kills": kills, "s3": s3, "memory": memory, "listing": listing}


if __name__ == "__main__":
    sys.exit(main())
