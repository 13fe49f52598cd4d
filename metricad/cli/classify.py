"""`metricad classify`: tell defects from harmless anomalies by their heat maps."""

from pathlib import Path
from typing import Annotated

import typer

from metricad import files
from metricad.cli import display
from metricad.cli.options import Page
from metricad.deploy.native_output import load_tensorflow


def classify(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype', or an export of it.")],
    defect: Annotated[list[Path], typer.Option(help="Images with defects, or folders.")],
    other: Annotated[
        list[Path], typer.Option(help="Good images and ones with harmless anomalies, or folders.")
    ],
    features: Annotated[
        str,
        typer.Option(
            help="What describes a heat map: hu (Hu's moments), efficientnet-lite2 (extra 'imagenet'), or "
            "weights of ResNet50: imagenet, or a file."
        ),
    ] = "hu",
    out: Annotated[
        Path | None,
        typer.Option(help="CSV file to write: score and probability of each image.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the folds and of the classifier.")] = 0,
    page: Page = None,
) -> None:
    """Measure whether heat maps tell defects from harmless anomalies, with a few labeled images.

    A multilayer perceptron on features of the heat maps is cross-validated: each image is classified by one
    that was trained without it (Buzzega et al.).

    Example: metricad classify part.metricad --defect scratches/ --other good/ --other dust/
    """
    if out is not None:
        files.check_writable(out)
    defects, others = display.found(defect), display.found(other)
    load_tensorflow()
    from metricad.deploy import loading
    from metricad.evaluation import heat_map_classes

    inspector = loading.load(part)
    with display.turned(), display.progress("images", len(defects) + len(others)) as advance:
        found = heat_map_classes.classify(
            inspector, defects, others, features=features, seed=seed, page=page, on_image=advance
        )
    if out is not None:
        files.write_text(out, found.to_csv())
    typer.echo(f"{part.name}, {features}: {found.describe()}")
