"""`metricad reproduce`: run the paper's grid of experiments."""

from pathlib import Path
from typing import Annotated

import typer

from metricad import files
from metricad.batch import Engine
from metricad.cli import display
from metricad.cli.options import Address, DataDir, Resources, on_engine, read_numbers
from metricad.deploy.native_output import load_tensorflow
from metricad.errors import RunError
from metricad.reproduction import Preset


def reproduce(
    out: Annotated[Path, typer.Option(help="Folder of the grid: new, or one to continue.")],
    data_dir: DataDir = None,
    preset: Annotated[
        Preset,
        typer.Option(
            help="paper: Kylberg, DAGM 1-10, CIFAR-100. surfaces: a folder of textures, the synthetic ten, "
            "CIFAR-100. quick: five synthetic surfaces, two networks, minutes."
        ),
    ] = Preset.surfaces,
    textures: Annotated[
        list[str] | None,
        typer.Option(help="Texture classes to train on, instead of those of the preset.", show_default=False),
    ] = None,
    objects: Annotated[
        str | None,
        typer.Option(help="Objects to train on, instead of those of the preset.", show_default=False),
    ] = None,
    known: Annotated[
        list[str] | None,
        typer.Option(help="Labeled surfaces to train and test on, in addition to those of the preset."),
    ] = None,
    novel: Annotated[
        list[str] | None,
        typer.Option(help="Labeled surfaces to test on only, in addition to those of the preset."),
    ] = None,
    units: Annotated[
        str | None, typer.Option(help="Sizes of the network, such as 16,32.", show_default="the preset's")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds of each setting, such as 0,1,2.", show_default="the preset's")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of rounds, each with a new set of triplets.", show_default="the preset's"
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs in each round.", show_default="the preset's")
    ] = None,
    triplets: Annotated[
        int | None, typer.Option(min=1, help="Triplets in each round.", show_default="the preset's")
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(help="Share of the good images held out for a threshold.", show_default="the preset's"),
    ] = None,
    normals: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Good images of each surface to train on and fit to; the others are test images.",
            show_default="500 of the paper's surfaces, half of others",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of cells run at once.", show_default="one for each core")
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="Processes of this machine, or Ray; machines must share --out and data.")
    ] = Engine.local,
    address: Address = None,
    resources: Resources = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the plan and the estimated time.")
    ] = False,
) -> None:
    """Reproduce the paper's table of results.

    Every network is trained and tested on every surface. Finished cells are kept: after an interruption, run
    the same command again to continue. If a cell fails, it is reported, the others still run, and the exit
    status is 2.

    Example: metricad reproduce --preset paper --data-dir prepared/ --out grid/ --dry-run
    """
    chosen_units = None if units is None else read_numbers(units, int, "--units")
    chosen_seeds = None if seeds is None else read_numbers(seeds, int, "--seeds")
    run = on_engine(engine, address, resources)
    if not dry_run:
        files.check_writable(out, folder=True)
    load_tensorflow()
    from metricad.reporting import report as reports
    from metricad.reproduction import grid as grids
    from metricad.reproduction import runner

    grid = grids.change(
        grids.PRESETS[preset],
        textures=textures,
        objects=objects,
        known=known,
        novel=novel,
        units=chosen_units,
        seeds=chosen_seeds,
        rounds=rounds,
        epochs=epochs,
        triplets_per_round=triplets,
        holdout=holdout,
        normals=normals,
    )
    if engine is Engine.local:
        jobs = jobs or runner.cores()
    if dry_run:
        cells = runner.plan(grid, data_dir=data_dir)
        display.cells(cells, seconds=runner.estimate(cells), jobs=jobs or runner.cores())
        return
    with display.grid(jobs) as progress:
        try:
            study, missing = runner.reproduce(
                grid, out, data_dir=data_dir, jobs=jobs, run=run, progress=progress
            )
        except KeyboardInterrupt:
            raise RunError(
                f"interrupted; finished cells are kept in {out}: run the same command again"
            ) from None
    display.table(reports.table(study.results), title="AUROC")
    if missing:
        raise RunError(f"{len(missing)} cells are missing; {out}/errors says why; run the same command again")
    typer.echo(f"{out}: done; look at {out / 'report' / 'report.html'}")
