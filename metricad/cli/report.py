"""`metricad report`: write the report of an evaluation."""

from pathlib import Path
from typing import Annotated

import typer

from metricad import files


def report(
    results: Annotated[list[Path], typer.Argument(help="Results written by 'metricad evaluate'.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    embedding: Annotated[
        bool,
        typer.Option("--embedding", help="Add t-SNE plots of the embeddings stored by 'metricad evaluate'."),
    ] = False,
) -> None:
    """Write the report of evaluations.

    It has the AUROC of each surface, curves and heat maps: a web page, Markdown, CSV and JSON.

    Example: metricad report results.json --out report/
    """
    files.check_writable(out, folder=True)
    from metricad.evaluation import results as records
    from metricad.reporting import report as reports

    for path in reports.write(records.merge(map(records.load, results)), out, is_embedded=embedding):
        typer.echo(path)
