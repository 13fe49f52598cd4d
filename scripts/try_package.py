"""Build wheel and source archive, and try them in new environments outside the checkout.

    python scripts/try_package.py --work WORK [--dist dist]

The wheel is installed with its dependencies, and `metricad demo` runs there. The source archive must give the
same wheel. Then the runtime without TensorFlow is installed as in the Dockerfile: it must inspect an export
with the same verdicts as the inspector. Prints how large each part of the runtime is.
"""

import argparse
import csv
import io
import os
import subprocess
import sys
import venv
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
LARGEST = 12
"""Number of parts of the runtime that are printed."""

SCORES = 1e-4
"""Largest difference of a score between inspector and export, relative to the larger of it and 5."""


def main() -> int:
    """Build, install, run; return 0 if all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="new folder for environments and results")
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="folder of wheel and source archive")
    options = parser.parse_args()
    options.work.mkdir(parents=True)
    dist, work = options.dist.resolve(), options.work.resolve()
    run([sys.executable, "-m", "build", "--outdir", str(dist), str(CHECKOUT)], work)
    (wheel,), (archive,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", str(archive), "-w", "again"], work)
    (again,) = (work / "again").glob("*.whl")
    if names(wheel) != names(again):
        print(f"{archive.name}: gives another wheel; different are {sorted(names(wheel) ^ names(again))}")
        return 1

    venv.create(work / "env", with_pip=True)
    python = str(work / "env" / ("Scripts" if os.name == "nt" else "bin") / "python")
    run([python, "-m", "pip", "install", "--quiet", f"{wheel}[runtime]"], work)
    metricad = [python, "-m", "metricad"]
    run([*metricad, "demo", "--out", "demo"], work)
    part, line = "demo/woven_grid.metricad", "demo/surfaces/woven_grid/test"
    run([*metricad, "export", part, "--out", "exported"], work)
    expected = verdicts([*metricad, "inspect", part, line, "--format", "csv"], work)

    run([str(CHECKOUT / "scripts/install_runtime.sh"), python, str(work / "runtime")], work)
    alone = {"PYTHONPATH": str(work / "runtime")}
    without = [sys.executable, "-S", "-m", "metricad"]  # -S: none of the packages of this environment
    run([*without, "--version"], work, alone)
    found = verdicts([*without, "inspect", "exported", line, "--format", "csv"], work, alone)
    tell_sizes(work / "runtime")
    if found.keys() != expected.keys():
        print(f"the runtime judged {len(found)} images of {len(expected)}")
        return 1
    worst = max(abs(found[name][1] - expected[name][1]) / max(5, abs(expected[name][1])) for name in expected)
    others = [name for name in expected if found[name][0] != expected[name][0]]
    print(f"{len(found)} images judged without TensorFlow; largest difference of a score {worst:.1e}")
    if worst > SCORES or others:
        print(f"expected {SCORES:g} at most and the same verdicts; other verdicts: {others}")
        return 1
    print(f"{wheel.name} and {archive.name}: fine")
    return 0


def run(command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """Run a command outside the checkout, without its packages; return its standard output."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    print("$", *command, flush=True)
    done = subprocess.run(
        command,
        cwd=folder,
        env=inherited | dict(variables or {}),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def verdicts(
    command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None
) -> dict[str, tuple[str, float]]:
    """Inspect; return verdict and score of each image by its path."""
    rows = csv.DictReader(io.StringIO(run(command, folder, variables)))
    return {row["path"]: (row["verdict"], float(row["score"])) for row in rows}


def names(wheel: Path) -> set[str]:
    """Return the names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def tell_sizes(folder: Path) -> None:
    """Print how many MB each part of a folder takes, the largest first."""
    sizes: dict[str, int] = defaultdict(int)
    for path in folder.rglob("*"):
        if path.is_file():
            sizes[path.relative_to(folder).parts[0].partition(".libs")[0]] += path.stat().st_size
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    for name, size in ordered[:LARGEST]:
        print(f"{size / 1e6:7.0f} MB  {name}")
    print(f"{sum(size for _, size in ordered[LARGEST:]) / 1e6:7.0f} MB  {len(ordered[LARGEST:])} others")
    print(f"{sum(sizes.values()) / 1e6:7.0f} MB  in all, beside Python itself")


if __name__ == "__main__":
    sys.exit(main())
