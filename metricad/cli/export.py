"""`metricad export`: export an inspector to another runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metricad import files
from metricad.cli import display
from metricad.cli.options import DataDir, Sign
from metricad.deploy import Format, InputType, Precision, sealed, signature
from metricad.deploy.native_output import load_tensorflow

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from metricad.inspection.detector import PartDetector
    from metricad.inspection.inspector import Inspector


_BY_SUFFIX = {".onnx": Format.onnx, ".tflite": Format.litert}


def export(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype'.")],
    out: Annotated[Path, typer.Option(help="An .onnx or .tflite file; for the other formats, a new folder.")],
    format: Annotated[
        Format | None,
        typer.Option(help="Format to write.", show_default="by the name: .onnx, .tflite, else openvino"),
    ] = None,
    input_type: Annotated[
        InputType,
        typer.Option(help="Data type of the pixels: levels from 0 to 255, for uint8 only whole ones."),
    ] = InputType.float32,
    compare: Annotated[
        list[Path] | None,
        typer.Option(help="Images or folders for the comparison.", show_default="made-up textures"),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(help="Precision of the network: less than float32 is faster but less accurate."),
    ] = Precision.float32,
    good: Annotated[
        list[Path] | None,
        typer.Option(help="Good images not used for fitting; for reduced precision.", show_default=False),
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option(help="Labeled surface, as for 'evaluate', to compare the AUROC.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    sign: Sign = None,
) -> None:
    """Export an inspector, to run without TensorFlow.

    The export is one model from pixels to anomaly map, score and verdict. The inspector and the export are
    run on the same images. If a score differs by more than 0.01 %, nothing is written. Reduced precision
    changes scores. So the threshold is calibrated again with more good images, and the loss is measured.

    OpenVINO is the fastest on most processors. ONNX is supported by most programs.

    Example: metricad export part.metricad --out part.onnx
    """
    _check_precision(precision, good, compare, labelled)
    key = None if sign is None else signature.read_private(sign)
    files.check_writable(out, folder=not out.suffix)
    format = _BY_SUFFIX.get(out.suffix, Format.openvino) if format is None else format
    paths = display.found(good or compare or [])
    load_tensorflow()
    from metricad.deploy import export as exporting
    from metricad.inspection import bundle

    settings: dict[str, Any] = {"format": format, "input_type": input_type, "bundle": part}
    if precision is not Precision.float32:
        own = bundle.load_own(part, verb=f"--precision {precision}")
        typer.echo(_reduced(own, out, paths, labelled, data_dir, precision=precision, **settings))
        _sign(out, key)
        return
    inspector = bundle.load(part)
    chosen = map(inspector.read, paths) if paths else None
    found = exporting.export(inspector, out, images=chosen, **settings)
    typer.echo(
        f"{out}: {format}, the same as {part.name} on {found.images} images; largest difference "
        f"{found.difference:.1e} of the score"
    )
    _sign(out, key)


def _sign(out: Path, key: "Ed25519PrivateKey | None") -> None:
    if key is not None:
        typer.echo(f"{signature.write(out, sealed.check(sealed.read(out), out), key)}: written")


def _check_precision(
    precision: Precision, good: list[Path] | None, compare: list[Path] | None, labelled: str | None
) -> None:
    if precision is Precision.float32 and (good or labelled):
        raise typer.BadParameter("--good and --labelled are for reduced precision: give --precision as well")
    if precision is not Precision.float32 and (compare or not good):
        raise typer.BadParameter(
            f"--precision {precision} moves scores and needs a threshold of its own: give --good images that "
            "took no part in fitting the inspector, and no --compare"
        )


def _reduced(
    inspector: "Inspector[PartDetector]",
    out: Path,
    good: list[Path],
    labelled: str | None,
    data_dir: Path | None,
    **settings: Any,
) -> str:
    """Export in reduced precision; return a summary of the differences."""
    from metricad.data import datasets
    from metricad.deploy import reduced_precision

    surfaces = datasets.load(labelled, data_dir=data_dir) if labelled else []
    if inspector.levels is not None:
        surfaces = [datasets.with_levels(surface, inspector.levels) for surface in surfaces]
    known = ((sample.read(), sample.is_defect) for surface in surfaces[:1] for sample in surface.test)
    cost = reduced_precision.export(inspector, out, good=good, labelled=known, **settings)
    said = (
        f"{out}: {settings['precision']}; scores of {cost.images} good images differ by "
        f"{100 * cost.median:.1f} % (median) and {100 * cost.largest:.1f} % (at most); threshold "
        f"{cost.inspector.threshold:.4g} from them, before {inspector.threshold:.4g}"
    )
    if cost.aurocs is None:
        return f"{said}; AUROC not compared: give --labelled"
    return f"{said}; AUROC {cost.aurocs[1]:.4f}, in float32 {cost.aurocs[0]:.4f}"
