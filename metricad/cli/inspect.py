"""`metricad inspect`: inspect images and print verdicts."""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metricad import files
from metricad.cli import console, display
from metricad.cli.options import Format, Page, Verify
from metricad.data import images
from metricad.deploy import loading, runtimes

if TYPE_CHECKING:
    import numpy as np

    from metricad.inspection.inspector import Inspection


def inspect(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype', or an export of it.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Images or folders of images.")],
    maps: Annotated[Path | None, typer.Option(help="Folder for heat maps drawn over the images.")] = None,
    format: Annotated[Format, typer.Option(help="Output format of the verdicts.")] = Format.table,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Exit with status 1 if a defect was found.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of images inspected at once.", show_default="one for each core"),
    ] = None,
    page: Page = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print the time of each stage on standard error.")
    ] = False,
    verify: Verify = None,
) -> None:
    """Inspect images: score, verdict, heat map.

    The table also has the threshold, the percentile among good images, and the position of the peak. A file
    that cannot be read or judged is reported. The other files are still inspected, and the exit status is 2.

    Example: metricad inspect part.metricad line/ --maps maps/ --format jsonl
    """
    search = images.search(paths, missing_ok=True)
    display.left_out(search.skipped)
    found = search.paths + search.others  # these are reported as errors: they were not judged
    workers = runtimes.cores() if workers is None else workers
    if maps is not None:
        files.check_writable(maps, folder=True)
    inspector = loading.load(part, workers=workers, key=verify)
    if fail_on_defect:
        inspector.check_threshold()
    names = dict(zip(found, images.map_names(found), strict=True))

    def draw(folder: Path, inspection: "Inspection", image: "np.ndarray", anomaly: "np.ndarray") -> None:
        path = Path(inspection.path or "")
        images.write(folder / names[path], inspector.picture(inspection, image, anomaly))

    verdicts = set()
    began = time.perf_counter()
    with display.turned(), display.verdicts(format, len(found)) as show:
        judged = inspector.inspect_files(
            found, workers=workers, draw=None if maps is None else partial(draw, maps), page=page
        )
        for inspection, _, _ in judged:
            show(inspection)
            verdicts.add(inspection.verdict)
    if profile:
        taken = time.perf_counter() - began
        display.profile(inspector.detector.timer, len(found), seconds=taken, workers=workers)
    if "error" in verdicts:
        raise typer.Exit(console.EXIT_ERROR)
    if fail_on_defect and "defect" in verdicts:
        raise typer.Exit(console.EXIT_DEFECT)
