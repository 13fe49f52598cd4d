"""`metricad evaluate`: measure AUROC on labeled surfaces."""

import contextlib
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from metricad import files
from metricad.batch import Engine
from metricad.cli import console, display
from metricad.cli.options import (
    Address,
    DataDir,
    FalseAlarmRate,
    Holdout,
    Normals,
    Resources,
    Weights,
    on_engine,
    read_epochs,
    read_settings,
)
from metricad.data import datasets
from metricad.density import Kind, Metric
from metricad.deploy.native_output import load_tensorflow
from metricad.methods import Method
from metricad.networks import SHIPPED


def evaluate(
    data: Annotated[
        list[str],
        typer.Option(help="Labeled surfaces: a folder in the MVTec layout, or a prepared data set."),
    ],
    out: Annotated[Path, typer.Option(help="Results to write: a JSON file; pictures are written beside it.")],
    parts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PART", help="Inspectors made by 'metricad prototype'."),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="Network: accurate, fast, joint, imagenet, or run folder of 'metricad train'; may be "
            "repeated.",
            show_default="accurate, unless there are inspectors",
        ),
    ] = None,
    method: Annotated[
        list[Method] | None,
        typer.Option(help="Published methods to compare with; may be repeated.", show_default=False),
    ] = None,
    epochs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[METHOD=]N",
            help="Epochs of methods that are trained; cae-kde=30 are those of one.",
            show_default="as published: long",
        ),
    ] = None,
    weights: Weights = None,
    resize: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Pixels a side that these methods resize images to; this option may be repeated.",
            show_default="as published",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD.NAME=VALUE",
            help="Another setting of a published method, such as denoising.registration=true.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        list[Kind] | None,
        typer.Option(
            help="Densities to fit to the features of the networks.",
            show_default="auto; mean for a run folder",
        ),
    ] = None,
    metric: Annotated[
        list[Metric], typer.Option(help="Metrics of the mean density; this option may be repeated.")
    ] = [Metric.euclidean],  # noqa: B006
    data_dir: DataDir = None,
    normals: Normals = None,
    holdout: Holdout = 0.2,
    false_alarm_rate: FalseAlarmRate = 0.05,
    embedding: Annotated[
        bool, typer.Option("--embedding", help="Store embeddings of the test images for 'metricad report'.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Number of surfaces evaluated at once.")] = 1,
    engine: Annotated[
        Engine, typer.Option(help="Processes of this machine, or Ray; machines must share --out and data.")
    ] = Engine.local,
    address: Address = None,
    resources: Resources = None,
) -> None:
    """Measure the AUROC on labeled surfaces.

    Each is measured by the paper's protocol, and so are an untrained network and a baseline. After an
    interruption, run the same command again: finished surfaces are kept, and training of a method continues
    where it stopped. Images and masks that cannot be used are left out and named; the exit status is 2 then.
    More than 5 % bad images are an error of their surface; the others are still evaluated.

    Example: metricad evaluate --data tiles/ --out results.json
    """
    networks = network or ([] if parts else [SHIPPED[0]])
    if method is None and not (epochs is None and weights is None and resize is None and setting is None):
        raise typer.BadParameter(
            "--epochs, --weights, --resize and --setting only apply to published methods: give --method"
        )
    counts, settings = read_epochs(epochs or [], method or []), read_settings(setting or [], method or [])
    run = on_engine(engine, address, resources)
    files.check_writable(out)
    load_tensorflow()
    from metricad.evaluation import results as records
    from metricad.evaluation.protocol import Protocol
    from metricad.evaluation.request import Cell, Request
    from metricad.reporting import report

    checkpoints = out.with_name(f"{out.stem}.training")
    request = Request(
        tuple(data),
        checkpoints,
        parts=tuple(parts or ()),
        networks=tuple(networks),
        methods=tuple(method or ()),
        epochs=counts,
        weights=weights,
        sides=tuple(resize or ()),
        settings=settings,
        kinds=None if kind is None else tuple(kind),
        metrics=tuple(metric),
        data_dir=data_dir,
        normals=normals,
        protocol=Protocol(holdout=holdout, false_alarm_rate=false_alarm_rate),
        is_embedded=embedding,
    )
    surfaces = request.surfaces()
    display.left_out(sum((surface.skipped for surface in surfaces), Counter()))
    for surface in surfaces:
        for remark in datasets.mask_problems(surface):
            print(f"warning: {surface.name}: {remark}; its pixels are left out", file=sys.stderr)
    plan = request.plan(surfaces)
    if engine is Engine.ray or jobs > 1:
        cells = [Cell(number, f"{number} {task.surface.name}") for number, task in enumerate(plan)]
        at_once = None if engine is Engine.ray else jobs
        with display.cells_at_once(len(cells)) as calls:
            run(
                cells,
                ("metricad.evaluation.request", "work"),
                request,
                jobs=at_once,
                prepare=load_tensorflow,
                **calls,
            )
    try:
        with display.progress("images", sum(task.step_count for task in plan)) as advance:
            study = request.run(plan, on_image=advance)  # what cells have kept is not done again
    finally:
        with contextlib.suppress(OSError):
            checkpoints.rmdir()  # where nothing is kept
    records.save(out, study)
    if not study.failed:  # else finished surfaces are kept until the others are mended
        shutil.rmtree(checkpoints, ignore_errors=True)
    display.table(report.table(study.results), title="AUROC")
    typer.echo(f"{out}: written; next: metricad report {out} --out REPORT")
    for problem in study.problems():
        print(problem, file=sys.stderr)
    if not study.is_whole:
        raise typer.Exit(console.EXIT_ERROR)
