"""The command line program and its verbs, in the order of its help."""

from typing import Annotated

import typer

from metricad.cli import console
from metricad.cli.batch import batch
from metricad.cli.calibrate import calibrate
from metricad.cli.check import check
from metricad.cli.classify import classify
from metricad.cli.demo import demo
from metricad.cli.detectability import detectability
from metricad.cli.evaluate import evaluate
from metricad.cli.export import export
from metricad.cli.inspect import inspect
from metricad.cli.prototype import prototype
from metricad.cli.report import report
from metricad.cli.reproduce import reproduce
from metricad.cli.serve import serve
from metricad.cli.train import train
from metricad.cli.tune import tune
from metricad.cli.watch import watch

# Modules of verbs must not import TensorFlow at the top, so that --help and option errors answer at once.
app = typer.Typer(
    name="metricad",
    cls=console.Program,
    help="Inspect textured surfaces: learn from images of good parts only, mark what differs from them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def metricad(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Inspect textured surfaces: learn from images of good parts only, mark what differs from them."""
    if version:
        from metricad.versions import versions

        print(f"metricad {versions()['metricad']}")
        raise typer.Exit


VERBS = {
    "From good images to verdicts": (check, prototype, inspect, calibrate, tune, detectability),
    "On the line": (export, watch, serve, batch),
    "Compare": (evaluate, report, classify),
    "The paper's method": (train, reproduce),
    "Try it": (demo,),
}
"""Verbs by the panel of the help that they are in."""

for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(cls=console.Verb, rich_help_panel=panel)(verb)


def main() -> None:
    """Run the command line; entry point of the console script."""
    console.run(app, prog="metricad")
