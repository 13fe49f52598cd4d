"""The demo: the commands that a user would type, on synthetic surfaces, each shown before it runs."""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from metricad.errors import DataError

_SURFACES = "1,3,7,8"
_PART = "woven_grid"


def run(out: Path, *, invoke: Callable[[list[str]], object]) -> None:
    """Generate surfaces, train, evaluate, report, make an inspector and let it judge.

    Parameters
    ----------
    out : path
        A new or empty folder.
    invoke : function
        Runs metricad's command line with these arguments, in this process.

    Raises
    ------
    DataError
        The folder holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not empty; remove it or give another --out")
    began = time.perf_counter()
    data, network, results, report, part = (
        str(out / name) for name in ("surfaces", "network", "results.json", "report", f"{_PART}.metricad")
    )
    # data_prep stands beside metricad, not below it, so its command runs in a process of its own.
    generate = ["surfaces", "--data-dir", str(out), "--folders", "--size", "256", "--surfaces", _SURFACES]
    _show("metricad-data", [*generate, "--normals", "120", "--defects", "40"])
    command = [sys.executable, "-m", "data_prep", *generate, "--normals", "120", "--defects", "40"]
    if subprocess.run(command, check=False).returncode:
        raise DataError("the synthetic surfaces could not be generated; see the line above")
    training = ["--rounds", "4", "--epochs", "10", "--triplets", "5120", "--learning-rate", "0.0003"]
    for arguments in (
        ["train", "--out", network, "--source", data, "--pyramid", "256,128,64", *training],
        ["evaluate", "--network", network, "--kind", "mean", "--kind", "gaussian"]
        + ["--data", data, "--out", results],
        ["report", results, "--out", report],
        ["prototype", f"{data}/{_PART}/train/good", "--out", part, "--network", network]
        + ["--kind", "gaussian", "--holdout", "0.4", "--false-alarm-rate", "0.05"],
        ["inspect", part, f"{data}/{_PART}/test/defect", "--maps", str(out / "maps")],
    ):
        _show("metricad", arguments)
        invoke(arguments)
    minutes, seconds = divmod(round(time.perf_counter() - began), 60)
    print(
        f"\ndone in {minutes} min {seconds} s; the report is {report}/report.md, heat maps are in {out}/maps"
    )


def _show(program: str, arguments: list[str]) -> None:
    print(f"\n$ {program} {shlex.join(arguments)}", flush=True)
