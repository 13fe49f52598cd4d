"""`metricad check`: look at good images before an inspector is fitted."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metricad.cli import display
from metricad.cli.options import Bits, Page
from metricad.deploy.native_output import load_tensorflow
from metricad.errors import DataError
from metricad.networks import SHIPPED

if TYPE_CHECKING:
    from metricad.check.findings import Shown


def check(
    good: Annotated[list[Path], typer.Argument(help="Images of good parts, or folders.")],
    test: Annotated[
        list[Path] | None,
        typer.Option(help="Test images or a folder, to find those that are also good ones. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page, with JSON and CSV beside it.")
    ] = None,
    network: Annotated[
        str,
        typer.Option(help="Network: accurate, fast, joint, imagenet, or run folder of 'metricad train'."),
    ] = SHIPPED[0],
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Look at the files alone; do not score suspects.")
    ] = False,
    gray: Annotated[bool, typer.Option("--gray", help="Score only the luminance of color images.")] = False,
    bits: Bits = None,
    page: Page = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
) -> None:
    """Look at good images before fitting.

    It lists files, duplicates, light over time, and suspects: good images that look unlike the rest to models
    that have not seen them. It ends with what to do.

    Example: metricad check parts/good/ --test parts/test/ --out report/
    """
    from metricad.check import summary
    from metricad.check.findings import check as check_files
    from metricad.data import images

    searched = images.search(good)
    tested = images.search(test or [])
    with display.progress("files", len(searched.paths) + len(tested.paths)) as advance:
        found = check_files(
            searched.paths,
            tested.paths,
            bits=bits,
            page=page,
            others=[*searched.others, *tested.others],
            skipped=searched.skipped + tested.skipped,
            on_image=advance,
        )
    sheet: list[Shown] = []
    if not files_only and found.usable:
        load_tensorflow()
        from metricad.check import unseen
        from metricad.training.loading import load_network

        loaded = load_network(network)
        try:
            with display.progress("suspects", 4 * len(found.usable)) as advance:
                found, sheet = unseen.score(
                    found, loaded, is_gray=gray, page=page, seed=seed, on_image=advance
                )
        except DataError as error:  # an image that no inspector takes; the rest of the check is still of use
            print(f"suspects are not scored: {error}", file=sys.stderr)
    display.lines(summary.rows(found))
    for step in summary.advice(found):
        typer.echo(f"→ {step}")
    if out is not None:
        from metricad.reporting import check_page

        written = check_page.write(found, sheet, out, name=", ".join(map(str, good)))
        typer.echo(f"{out}: written; look at {written[1]}")
