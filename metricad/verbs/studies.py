"""Verbs about networks and whole data sets: train, evaluate, report, reproduce."""

# Nothing here may import TensorFlow at module level: --help and option errors answer at once.

import shutil
from pathlib import Path
from typing import Annotated

import typer

from metricad import console, datasets, display
from metricad.errors import RunError
from metricad.options import (
    SHIPPED,
    ComparedMethod,
    DataDir,
    FalseAlarmRate,
    Holdout,
    Kind,
    Metric,
    Normals,
    Preset,
    read_numbers,
    refuse_all_but,
)
from metricad.settings import Settings


def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the run: new, or an interrupted one with --resume.")],
    source: Annotated[
        list[str] | None,
        typer.Option(help="Folder of classes, or name of a prepared data set; several can be given."),
    ] = None,
    data_dir: DataDir = None,
    normals: Normals = None,
    mix: Annotated[
        str | None, typer.Option(help="Share of each source, such as 1,1,2.", show_default="equal")
    ] = None,
    units: Annotated[int, typer.Option(min=1, help="Filters of every layer: 16 or 32 in the paper.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh sets of triplets.")] = 6,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs on each set.")] = 15,
    triplets: Annotated[int, typer.Option(min=1, help="Triplets in a set.")] = 3_840,
    batch_size: Annotated[int, typer.Option(min=1, help="Triplets in a batch.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, fixed.")] = 1e-4,
    pyramid: Annotated[
        str, typer.Option(help="Sides, in pixels, that textures are resized to.")
    ] = "512,256,128,64",
    noise_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of texture triplets whose negative is corrupted by noise."),
    ] = 0.5,
    noise_side: Annotated[
        str, typer.Option(help="Smallest and largest side of a noise patch, in pixels.")
    ] = "4,16",
    noise_strength: Annotated[
        str,
        typer.Option(help="Smallest and largest standard deviation of the noise; 2 is the whole gray range."),
    ] = "0.05,0.6",
    seed: Annotated[int, typer.Option(min=0, help="Of weights, triplets and batches.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run; it knows its own options.")
    ] = False,
) -> None:
    """Train a network on textures and objects. The defaults are the paper's.

    Example: metricad train --out run --source textures/ --source cifar100_gray --data-dir prepared/
    """
    if resume:
        refuse_all_but(context, "out", "resume")
    settings = Settings(
        units=units,
        rounds=rounds,
        epochs=epochs,
        triplets_per_round=triplets,
        batch_size=batch_size,
        learning_rate=learning_rate,
        pyramid=read_numbers(pyramid, int, "--pyramid"),
        mix=None if mix is None else read_numbers(mix, float, "--mix"),
        noise_share=noise_share,
        noise_side=read_numbers(noise_side, int, "--noise-side", count=2),
        noise_strength=read_numbers(noise_strength, float, "--noise-strength", count=2),
        seed=seed,
    )
    console.load_tensorflow()
    from metricad import runs, training

    if resume:
        settings, _ = runs.read_config(out)
    with display.training(settings) as (on_round, on_epoch):
        try:
            training.train_network(
                out,
                source or [],
                data_dir=data_dir,
                normals=normals,
                settings=settings,
                resume=resume,
                on_round=on_round,
                callbacks=[training.after_each_epoch(on_epoch)],
            )
        except KeyboardInterrupt:
            raise RunError(f"interrupted; {runs.describe_progress(out)}") from None
    typer.echo(f"{out}: trained {settings.rounds} rounds; next: metricad prototype GOOD --network {out}")


def evaluate(
    data: Annotated[
        list[str],
        typer.Option(help="Labelled surfaces: a folder in the MVTec layout, or a prepared data set."),
    ],
    out: Annotated[
        Path, typer.Option(help="The results to write, one JSON file with its pictures beside it.")
    ],
    parts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PART...]", help="Inspectors made by 'metricad prototype'."),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="A network that ships, accurate or fast, or a run folder of 'metricad train'; or several.",
            show_default="accurate, unless there are inspectors",
        ),
    ] = None,
    method: Annotated[
        list[ComparedMethod] | None,
        typer.Option(help="Published methods to put beside them; several can be given.", show_default=False),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of the methods that train.", show_default="as published: long"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Pre-trained weights of the methods that need some: imagenet, a file, or none (random).",
            show_default="imagenet",
        ),
    ] = None,
    kind: Annotated[
        list[Kind] | None,
        typer.Option(help="Densities to fit on the networks.", show_default="auto; mean for a run folder"),
    ] = None,
    metric: Annotated[
        list[Metric], typer.Option(help="Distances to the mean; several stand side by side.")
    ] = [Metric.euclidean],  # noqa: B006
    data_dir: DataDir = None,
    normals: Normals = None,
    holdout: Holdout = 0.2,
    false_alarm_rate: FalseAlarmRate = 0.05,
    embedding: Annotated[
        bool, typer.Option("--embedding", help="Keep the test images' embeddings for 'metricad report'.")
    ] = False,
) -> None:
    """Measure the AUROC per surface (the paper's protocol), beside an untrained network and a baseline.

    After an interruption the same command goes on with the training of a method where it was.

    Example: metricad evaluate --data tiles/ --out results.json
    """
    networks = network or ([] if parts else [SHIPPED[0]])
    if method is None and (epochs is not None or weights is not None):
        raise typer.BadParameter("--epochs and --weights are those of the published methods: give --method")
    console.load_tensorflow()
    from metricad import comparison, methods, report
    from metricad import results as records
    from metricad.evaluation import Protocol

    protocol = Protocol(holdout=holdout, false_alarm_rate=false_alarm_rate)
    surfaces = [s for source in data for s in datasets.load(source, data_dir=data_dir, normals=normals)]
    compared = [methods.of_name(name, epochs=epochs, weights=weights) for name in method or []]
    plan = comparison.plan(surfaces, parts or [], networks, compared=compared, kinds=kind, metrics=metric)
    checkpoints = out.with_name(f"{out.stem}.training")
    with display.progress("images", sum(task.step_count for task in plan)) as advance:
        study = comparison.run(
            plan,
            networks,
            protocol=protocol,
            checkpoints=checkpoints,
            is_embedded=embedding,
            on_image=advance,
        )
    records.save(out, study)
    shutil.rmtree(checkpoints, ignore_errors=True)
    display.table(report.table(study.results), title="AUROC")
    typer.echo(f"{out}: written; next: metricad report {out} --out REPORT")


def report(
    results: Annotated[list[Path], typer.Argument(help="Results made by 'metricad evaluate'.")],
    out: Annotated[Path, typer.Option(help="Folder of the report.")],
    embedding: Annotated[
        bool,
        typer.Option("--embedding", help="Also a t-SNE plot of the embeddings kept by 'metricad evaluate'."),
    ] = False,
) -> None:
    """Write the per-class AUC report as Markdown, CSV, JSON and one web page: tables, curves, heat maps.

    Example: metricad report results.json --out report/
    """
    from metricad import report as reports
    from metricad import results as records

    for path in reports.write(records.merge(map(records.load, results)), out, is_embedded=embedding):
        typer.echo(path)


def reproduce(
    out: Annotated[Path, typer.Option(help="Folder of the grid: new, or one that was begun.")],
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
        typer.Option(help="Texture classes to train on, instead of the preset's.", show_default=False),
    ] = None,
    objects: Annotated[
        str | None, typer.Option(help="Objects to train on, instead of the preset's.", show_default=False)
    ] = None,
    known: Annotated[
        list[str] | None,
        typer.Option(help="Labelled surfaces to train and test on, besides the preset's."),
    ] = None,
    novel: Annotated[
        list[str] | None, typer.Option(help="Labelled surfaces only to test on, besides the preset's.")
    ] = None,
    units: Annotated[
        str | None, typer.Option(help="Sizes of the network, such as 16,32.", show_default="the preset's")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds of each setting, such as 0,1,2.", show_default="the preset's")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Fresh sets of triplets.", show_default="the preset's")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs on each set.", show_default="the preset's")
    ] = None,
    triplets: Annotated[
        int | None, typer.Option(min=1, help="Triplets in a set.", show_default="the preset's")
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            help="Share of the good images kept for setting a threshold.", show_default="the preset's"
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time.", show_default="one for each core")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, and how long.")
    ] = False,
) -> None:
    """Reproduce the paper's table: train every network, test each on every surface, write the report.

    What is done is kept: after an interruption the same command goes on. A cell that fails is reported, the
    others go on, and the exit status is 2.

    Example: metricad reproduce --preset paper --data-dir prepared/ --out grid/ --dry-run
    """
    chosen_units = None if units is None else read_numbers(units, int, "--units")
    chosen_seeds = None if seeds is None else read_numbers(seeds, int, "--seeds")
    console.load_tensorflow()
    from metricad import grid as grids
    from metricad import report as reports
    from metricad import reproduction

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
    )
    jobs = jobs or reproduction.cores()
    if dry_run:
        cells = reproduction.plan(grid, data_dir=data_dir)
        display.cells(cells, seconds=reproduction.estimate(cells), jobs=jobs)
        return
    with display.grid(jobs) as progress:
        try:
            study, missing = reproduction.reproduce(
                grid, out, data_dir=data_dir, jobs=jobs, progress=progress
            )
        except KeyboardInterrupt:
            raise RunError(
                f"interrupted; what is done is kept in {out}: run the same command again"
            ) from None
    display.table(reports.table(study.results), title="AUROC")
    if missing:
        raise RunError(f"{len(missing)} cells are missing; {out}/errors says why; run the same command again")
    typer.echo(f"{out}: done; look at {out / 'report' / 'report.html'}")
