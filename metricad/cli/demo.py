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
metricad-data surfaces --data-dir {out} --folders --size 256 --surfaces 1,3,7,8 --normals 120 --defects 40
metricad prototype {out}/surfaces/woven_grid/train/good --holdout 0.4 --false-alarm-rate 0.05
  --out {out}/woven_grid.metricad
metricad inspect {out}/woven_grid.metricad {out}/surfaces/woven_grid/test/defect/0000.png
  {out}/surfaces/woven_grid/test/defect/0006.png {out}/surfaces/woven_grid/test/good/0060.png
  {out}/surfaces/woven_grid/test/good/0061.png --maps {out}/maps
metricad evaluate --data {out}/surfaces --false-alarm-rate 0.1 --out {out}/results.json
metricad report {out}/results.json --out {out}/report
"""


def demo(
    out: Annotated[Path, typer.Option(help="New folder for all files of the demo.")] = Path("demo"),
) -> None:
    """Run all steps on four synthetic surfaces, in a minute or two."""
    from metricad.cli.app import app

    files.check_writable(out, folder=True)

    run(out, invoke=lambda arguments: app(arguments, standalone_mode=False))


def run(out: Path, *, invoke: Callable[[list[str]], object]) -> None:
    """Generate surfaces, fit an inspector, inspect images, evaluate, write a report.

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
    for command in _COMMANDS.replace("\n  ", " ").strip().splitlines():
        command = command.replace("{out}", shlex.quote(str(out)))
        print(f"\n$ {command}", flush=True)
        program, *arguments = shlex.split(command)
        if program == "metricad":
            invoke(arguments)
        # data_prep is not part of metricad, so its command runs in its own process.
        elif subprocess.run([sys.executable, "-m", "data_prep", *arguments], check=False).returncode:
            raise DataError("the synthetic surfaces could not be generated; see the line above")
    minutes, seconds = divmod(round(time.perf_counter() - began), 60)
    print(
        f"\ndone in {minutes} min {seconds} s; look at {out}/report/report.html and at the heat maps in "
        f"{out}/maps"
    )
