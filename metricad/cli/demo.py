"""`metricad demo`: run typical commands on synthetic surfaces; each is printed before it runs."""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from metricad import files
from metricad.errors import DataError

_COMMANDS = """
metricad-data surfaces --data-dir {out} --folders --size 256 --surfaces 1,3,7,8 --normals 100 --defects 30
# The paper's method: train its network on good images, make a prototype of them, measure the distance to it.
metricad train --source {out}/surfaces --rounds 1 --out {out}/network
metricad prototype {good} --network {out}/network --preset paper --out {out}/paper.metricad
metricad inspect {out}/paper.metricad {some} --maps {out}/maps/paper
# The default: the network that ships, and a density of good features. Nothing is trained.
metricad prototype {good} --out {out}/woven_grid.metricad
metricad inspect {out}/woven_grid.metricad {some} --maps {out}/maps/default
# Both on all surfaces, beside the controls: the same networks untrained, and per-pixel variation.
metricad evaluate --network {out}/network --network accurate --data {out}/surfaces --false-alarm-rate 0.1
  --out {out}/results.json
metricad report {out}/results.json --out {out}/report
"""

_GOOD = "{out}/surfaces/woven_grid/train/good"
_SOME = (
    "{out}/surfaces/woven_grid/test/defect/0000.png {out}/surfaces/woven_grid/test/defect/0006.png "
    "{out}/surfaces/woven_grid/test/good/0050.png {out}/surfaces/woven_grid/test/good/0051.png"
)


def demo(
    out: Annotated[Path, typer.Option(help="New folder for all files of the demo.")] = Path("demo"),
) -> None:
    """Run all steps on four synthetic surfaces, by the paper's method and the default: under four minutes."""
    from metricad.cli.app import app

    files.check_writable(out, folder=True)

    run(out, invoke=lambda arguments: app(arguments, standalone_mode=False))


def run(out: Path, *, invoke: Callable[[list[str]], object]) -> None:
    """Render surfaces; train, make inspectors and inspect, by the paper's way and the default; report both.

    Parameters
    ----------
    out : path
        A new or empty folder.
    invoke : function
        Function that runs metricad's command line with these arguments in this process.

    Raises
    ------
    DataError
        The folder is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not empty; remove it or give another --out")
    began = time.perf_counter()
    written = _COMMANDS.replace("\n  ", " ").replace("{good}", _GOOD).replace("{some}", _SOME)
    for command in written.strip().splitlines():
        command = command.replace("{out}", shlex.quote(str(out)))
        if command.startswith("#"):
            print(f"\n{command}", end="")
            continue
        print(f"\n$ {command}", flush=True)
        program, *arguments = shlex.split(command)
        if program == "metricad":
            invoke(arguments)
        # data_prep is not part of metricad, so its command runs in its own process.
        elif subprocess.run([sys.executable, "-m", "data_prep", *arguments], check=False).returncode:
            raise DataError("the synthetic surfaces could not be generated; see the line above")
    minutes, seconds = divmod(round(time.perf_counter() - began), 60)
    print(
        f"\ndone in {minutes} min {seconds} s; look at\n"
        f"  {out}/report/report.html   both ways beside the controls: AUROC by surface, curves, heat maps\n"
        f"  {out}/maps/                the four images inspected, by the paper's way and by the default"
    )
