"""The command line: the program, and its verbs in the order of its help."""

from pathlib import Path
from typing import Annotated

import typer

from metricad import console
from metricad.verbs import exporting, parts, serving, studies, watching

# Nothing here may import TensorFlow at module level: --help and option errors answer at once.
app = typer.Typer(
    name="metricad",
    help="Inspect textured surfaces: learn from good parts only, mark what lies far from them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def metricad(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Inspect textured surfaces: learn from good parts only, mark what lies far from them."""
    if version:
        from metricad.versions import versions

        print(f"metricad {versions()['metricad']}")
        raise typer.Exit


for verb in (
    studies.train,
    parts.prototype,
    parts.tune,
    parts.inspect,
    parts.detectability,
    exporting.export,
    watching.watch,
    serving.serve,
    studies.evaluate,
    studies.report,
    studies.reproduce,
):
    app.command()(verb)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="A new folder for everything the demo makes.")] = Path("demo"),
) -> None:
    """Run the whole path on four synthetic surfaces, in a minute or two."""
    from metricad import demonstration

    demonstration.run(out, invoke=lambda arguments: app(arguments, standalone_mode=False))


def main() -> None:
    """Entry point of the console script."""
    console.run(app, prog="metricad")
