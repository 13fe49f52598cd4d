"""`metricad detectability`: measure which synthetic defects an inspector detects."""

from pathlib import Path
from typing import Annotated

import typer

from metricad import files
from metricad.cli import display
from metricad.cli.options import UnseenGood
from metricad.deploy.native_output import load_tensorflow
from metricad.synthetic import DefectKind


def detectability(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype'.")],
    good: UnseenGood,
    out: Annotated[Path, typer.Option(help="Folder for the datasheet.")],
    kind: Annotated[
        list[DefectKind] | None,
        typer.Option(help="Kinds of defects to test; may be repeated.", show_default="all"),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of synthetic defects of each kind, size and contrast.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the defects.")] = 0,
) -> None:
    """Measure which synthetic defects are found.

    They are drawn on good images, by kind, size and contrast. The datasheet is a web page, Markdown and CSV.

    Example: metricad detectability part.metricad parts/more-good/ --out datasheet/
    """
    files.check_writable(out, folder=True)
    paths = display.found(good)
    load_tensorflow()
    import numpy as np

    from metricad.evaluation import detectability
    from metricad.inspection import bundle
    from metricad.inspection import inspector as inspection
    from metricad.reporting import datasheet, detectability_summary

    given = bundle.load(part)
    tried = detectability.settings(tuple(kind) if kind else tuple(detectability.SIZES))
    with display.progress("defects", repeats * len(tried)) as advance:
        measurement = detectability.Measurement(
            given,
            len(paths),
            tried=tried,
            each=repeats,
            rng=np.random.default_rng(seed),
            on_defect=advance,
        )
        for _ in inspection.for_each(
            paths,
            measurement.add,
            read=given.read,
        ):
            pass
    chart = measurement.chart
    smallest = given.fitted_on.get("min_defect")
    facts = {
        "inspector": part.name,
        "score": given.detector.score_name,
        "threshold": f"{given.threshold:.4g}",
        "false-alarm rate": f"{given.calibrated.false_alarm_rate:.3g} {given.calibrated.basis}",
        **({} if smallest is None else {"smallest defect": f"{smallest['area']:g} pixels"}),
        "defects of each size and contrast": str(repeats),
        "seed": str(seed),
    }
    written = datasheet.write(chart, out, name=part.stem, facts=facts)
    for statement in detectability_summary.statements(chart):
        typer.echo(statement)
    typer.echo(f"{chart.false_alarms} of {chart.good_images} good images are called defective as they are")
    typer.echo(f"{out}: written; look at {written[1]}")
