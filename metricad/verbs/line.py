"""Verbs that take an inspector to the line: it is exported to where TensorFlow is not."""

# Nothing here may import TensorFlow at module level: --help and option errors answer at once.

from pathlib import Path
from typing import Annotated

import typer

from metricad import console, images
from metricad.options import ExportFormat, InputType


def export(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype'.")],
    out: Annotated[
        Path, typer.Option(help="The .onnx or .tflite file, or the new folder of the other formats.")
    ],
    format: Annotated[ExportFormat, typer.Option(help="What to write.")] = ExportFormat.onnx,
    input_type: Annotated[
        InputType, typer.Option(help="What pixels are given as: levels 0 to 255, uint8 only whole ones.")
    ] = InputType.float32,
    compare: Annotated[
        list[Path] | None,
        typer.Option(help="Images, or folders of them, to compare on.", show_default="made-up textures"),
    ] = None,
) -> None:
    """Write an inspector for another runtime: from pixels to distance map, score and verdict.

    Both are run on images, and nothing is kept when a score differs by more than 0.01 %.

    Example: metricad export part.metricad --format onnx --out part.onnx
    """
    paths = images.find(compare) if compare else None
    console.load_tensorflow()
    from metricad import bundle
    from metricad import export as exporting

    inspector = bundle.load(part)
    smallest = inspector.detector.sampling.smallest
    found = exporting.export(
        inspector,
        out,
        format=format,
        input_type=input_type,
        bundle=part,
        images=None if paths is None else (images.read(path, minimum_size=smallest) for path in paths),
    )
    typer.echo(
        f"{out}: {format}, the same as {part.name} on {found.images} images; largest difference "
        f"{found.difference:.1e} of the score"
    )
