"""Kill `metricad evaluate` and the comparison of methods at random moments, and see whether anything is lost.

    python scripts/kills.py --count 20

Small surfaces are rendered. Each command runs once unbroken, then again with SIGKILL at random moments
between its start and its usual end; after each kill the same command is started again until it ends. Its
results must be those of the unbroken run, but for times. If it ends before all kills are used up, it begins
anew.

The comparison of methods runs each method in a process of its own: in every other kill only the first process
is killed, so that the other one goes on beside the next start.

Writes kills.md into results/; leaves with 1 if a result differs.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data_prep.surfaces.folders import render_folders
from data_prep.surfaces.plan import Plan
from metricad import files
from metricad.evaluation import results as records
from metricad.evaluation.results import Study
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Section, Table
from metricad.versions import versions

PLAN = Plan(size=96, normals=16, defects=4, surfaces=(1, 7))
COLUMNS = ("kills", "of them with finished work", "ended", "equal", "DIFFERENT")

Command = tuple[list[str], str]
"""Arguments after the interpreter, and the path of the results in the folder of a run."""


def main() -> int:
    """Kill, compare, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="kills, half of them for each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the page")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        render_folders(PLAN, Path(folder))
        found = {
            name: kill(command, Path(folder, name), count=options.count // 2, rng=rng)
            for name, command in commands(Path(folder, "surfaces")).items()
        }
    files.write_text(options.out / "kills.md", markdown.render(page(found, options)))
    different = sum(counts["DIFFERENT"] for counts in found.values())
    print(f"{different} results that differ")
    return 1 if different else 0


def commands(surfaces: Path) -> dict[str, Command]:
    """Return both commands by name; OUT stands for the folder of a run."""
    chosen = ["--data", str(surfaces), "--method", "autoencoder", "--out"]
    script = str(Path(__file__).with_name("compare_methods.py"))
    return {
        "evaluate": (
            ["-m", "metricad", "evaluate", "--network", "fast", "--epochs", "3", *chosen, "OUT/results.json"],
            "results.json",
        ),
        "compare_methods": (
            [script, "--method", "fast", "--epochs", "autoencoder=3", "--work", "OUT/work", *chosen, "OUT"],
            "work/all.json",
        ),
    }


def kill(command: Command, folder: Path, *, count: int, rng: np.random.Generator) -> Counter[str]:
    """Run a command unbroken, then with kills; count what came of it."""
    words, results = command
    began = time.monotonic()
    with running(words, folder / "unbroken") as process:
        ended(process)
    usual = time.monotonic() - began
    expected = records.load(folder / "unbroken" / results)
    print(f"{folder.name}: {usual:.0f} s unbroken", flush=True)
    found = Counter(dict.fromkeys(COLUMNS, 0))
    while found["kills"] < count:
        out = folder / str(found["ended"])
        with contextlib.ExitStack() as stack:  # orphans of all lives end with the last one
            while True:
                process = stack.enter_context(running(words, out))
                moment = rng.uniform(0, usual) if found["kills"] < count else None
                if has_ended(process, moment):
                    break
                kept = len([*out.rglob("*.costs.json")])
                found["kills"] += 1
                found["of them with finished work"] += kept > 0
                is_alone = found["kills"] % 2 == 0
                (os.kill if is_alone else os.killpg)(process.pid, signal.SIGKILL)
                process.wait()
                print(f"killed after {moment:.1f} s, {kept} done{', alone' * is_alone}", flush=True)
        found["ended"] += 1
        is_equal = same(records.load(out / results), expected)
        found["equal" if is_equal else "DIFFERENT"] += 1
        print(f"ended; {'equal' if is_equal else 'DIFFERENT'}", flush=True)
    return found


@contextlib.contextmanager
def running(words: list[str], out: Path) -> Iterator[subprocess.Popen]:
    """Start a command in a session of its own; end all that is left of it afterwards."""
    command = [sys.executable, *(word.replace("OUT", str(out)) for word in words)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def ended(process: subprocess.Popen, seconds: float | None = None) -> None:
    """Wait for the end of a command; raise an error if it failed."""
    _, errors = process.communicate(timeout=seconds)
    if process.returncode:
        raise RuntimeError(f"left with {process.returncode}: {errors}")


def has_ended(process: subprocess.Popen, seconds: float | None) -> bool:
    """Whether a command ends within this time, or at all."""
    try:
        ended(process, seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def same(one: Study, other: Study) -> bool:
    """Whether two studies hold the same but for times."""
    take: Callable[[Study], list] = lambda study: [  # noqa: E731
        (each.name, each.kind, each.role, each.score, each.image.tobytes(), each.anomaly_map.tobytes())
        for shown in study.examples
        for each in shown
    ]
    return one.results == other.results and one.versions == other.versions and take(one) == take(other)


def page(found: dict[str, Counter[str]], options: argparse.Namespace) -> Document:
    """Arrange the counts."""
    rows = [[Cell(name), *(Cell(str(counts[each])) for each in COLUMNS)] for name, counts in found.items()]
    used = ", ".join(f"{name} {version}" for name, version in versions().items() if name != "commit")
    return Document(
        "Kills",
        [f"`python scripts/kills.py --count {options.count} --seed {options.seed}`, with {used}."],
        [
            Section(
                "Results after SIGKILL at random moments",
                [
                    f"{len(PLAN.surfaces)} rendered surfaces of {PLAN.size}×{PLAN.size} pixels; the shipped "
                    "network fast, and a published autoencoder trained for 3 epochs. After each kill the "
                    "command is started again, until it ends. DIFFERENT must be 0: results or pictures "
                    "that are not those of an unbroken run. Times are not compared.",
                    Table("By command", ["command", *COLUMNS], rows),
                ],
            )
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
