"""Run the first command of README on folders of good images: what it says, and how long it takes.

    python scripts/first_hour.py GOOD5 GOOD20 GOOD120 --work WORK

Runs `metricad prototype FOLDER --out FILE` and `metricad inspect FILE FOLDER`, each as a user would, and
compares their times. Both start Python and TensorFlow, which takes some seconds. Of more than 200 images some
set the threshold; the time of inspecting is that of those that fit. Writes first-hour.md into results/.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from metricad import files
from metricad.data import images
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Table
from metricad.scoring.calibration import SWITCH, split


def main() -> int:
    """Run both commands on each folder, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of good images")
    parser.add_argument("--work", type=Path, required=True, help="folder of what is done")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the page")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for folder in options.folders:
        kept = options.work / f"{folder.name}.json"
        if not kept.exists():
            files.write_text(kept, json.dumps(measured(folder)))
        rows.append(list(map(Cell, json.loads(kept.read_text(encoding="utf-8")))))
        print(*(cell.text for cell in rows[-1]), sep="; ", flush=True)
    header = ["good images", "number", "prototype, s", "inspect, s", "ratio", "what prototype says"]
    names = " ".join(folder.name for folder in options.folders)
    document = Document(
        "The first command",
        [
            f"Made by: python scripts/first_hour.py {names} --work WORK",
            "Whole commands with their defaults, start of Python and TensorFlow included, one run each. "
            f"Inspecting: the images that fit, all of up to {SWITCH}, three fifths of more.",
            Table("", header, rows),
        ],
        [],
    )
    files.write_text(options.out / "first-hour.md", markdown.render(document))
    return 0


def measured(folder: Path) -> list[str]:
    """Run both commands on a folder; return a row of the table."""
    paths = images.find([folder])
    fitted, _ = split(len(paths), None)
    with tempfile.TemporaryDirectory() as temporary:
        part = Path(temporary, "part.metricad")
        said, setting_up = command("prototype", str(folder), "--out", str(part))
        _, inspecting = command("inspect", str(part), *map(str, paths[:fitted]))
    said = re.sub(r"^.*?part\.metricad: ", "", " ".join(said.split()))
    numbers = f"{setting_up:.1f}", f"{inspecting:.1f}", f"{setting_up / inspecting:.1f}"
    return [folder.name, str(len(paths)), *numbers, said]


def command(*words: str) -> tuple[str, float]:
    """Run a command of metricad; return its output and seconds."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "metricad", *words], check=True, capture_output=True, text=True
    )
    return done.stdout, time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
