"""`metricad batch`: inspect many images, on all cores or on a Ray cluster."""

from pathlib import Path
from typing import Annotated

import typer

from metricad.batch import Engine
from metricad.cli import console, display
from metricad.cli.options import Address, Verify
from metricad.errors import RunError


def batch(
    parts: Annotated[
        list[Path],
        typer.Argument(metavar="PART", help="Inspectors: exports, or bundles, which need TensorFlow."),
    ],
    source: Annotated[
        str,
        typer.Argument(
            help="Folder, quoted glob or URL (s3://, gs://, az://) of images; or a .parquet or .csv list "
            "with their path and, for several parts, the part of each."
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder or URL of the results: Parquet files.")],
    engine: Annotated[Engine, typer.Option(help="Processes of this machine, or Ray.")] = Engine.local,
    address: Address = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of images inspected at once.", show_default="one for each core"),
    ] = None,
    gpus: Annotated[
        float, typer.Option(min=0, help="GPUs of each worker on Ray, such as 0.5; only for TensorFlow.")
    ] = 0,
    maps: Annotated[
        bool, typer.Option("--maps", help="Write heat maps of defects into the results.")
    ] = False,
    verify: Verify = None,
) -> None:
    """Inspect many images, on all cores or on a cluster.

    Parquet files have a row for each image, also for those that cannot be judged. What is done is kept: after
    an interruption, run the same command again. New images make new files only. The exit status is 2 if an
    image could not be judged.

    Example: metricad batch part line/ --out results/ && duckdb -c "SELECT verdict, count(*) FROM
    'results/part-*.parquet' GROUP BY verdict"
    """
    if address is not None and engine is not Engine.ray:
        raise typer.BadParameter("--address is of a Ray cluster: give --engine ray")
    from metricad.batch import run

    with display.batch() as progress:
        try:
            tally = run.batch(
                parts,
                source,
                out,
                engine=engine,
                address=address,
                workers=workers,
                gpus=gpus,
                maps=maps,
                key=verify,
                progress=progress,
            )
        except KeyboardInterrupt:
            raise RunError(
                f"interrupted; what is done is kept in {out}: run the same command again"
            ) from None
    display.tally(tally, out)
    if tally.failed:
        raise RunError(
            f"{len(tally.failed)} shards could not be done ({tally.failed[0].error}); run the same command "
            "again"
        )
    if any(counts["error"] for counts in tally.rows.values()):
        raise typer.Exit(console.EXIT_ERROR)
