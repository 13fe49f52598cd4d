"""`metricad calibrate`: set the threshold with good images that the inspector has not seen."""

from pathlib import Path
from typing import Annotated

import typer

from metricad import files
from metricad.cli import display
from metricad.cli.options import Page, Sign, UnseenGood
from metricad.deploy import signature
from metricad.deploy.native_output import load_tensorflow


def calibrate(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype'.")],
    good: UnseenGood,
    out: Annotated[
        Path | None,
        typer.Option(help="Inspector to write, a .metricad file.", show_default="the same file"),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good images that may be called defects.", show_default="as of the inspector"
        ),
    ] = None,
    page: Page = None,
    sign: Sign = None,
) -> None:
    """Set the threshold with good images that were not used before.

    They promise a false-alarm rate. Scores from fitting are not used for it.

    Example: metricad calibrate part.metricad parts/more-good/ --out promised.metricad
    """
    out = part if out is None else out
    key = None if sign is None else signature.read_private(sign)
    files.check_writable(out)
    paths = display.found(good)
    load_tensorflow()
    from metricad.inspection import bundle, fit

    given = bundle.load(part)
    with display.turned(), display.progress("good parts", len(paths)) as advance:
        made = fit.calibrate_inspector(
            given, paths, false_alarm_rate=false_alarm_rate, page=page, on_image=advance
        )
    bundle.save(made, out)
    if key is not None:
        signature.write(out, bundle.checksum(out), key)
    before = "none" if given.calibration is None else f"{given.threshold:.4g}"
    typer.echo(f"{out}: threshold {made.threshold:.4g}, before {before}; {made.calibrated.describe()}")
