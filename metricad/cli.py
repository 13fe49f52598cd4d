"""The command line: each verb reads its options, calls the library, and shows what came back."""

from pathlib import Path
from typing import Annotated

import typer

from metricad import console, datasets, display, images
from metricad.calibration import check_split
from metricad.errors import RunError
from metricad.options import (
    DataDir,
    FalseAlarmRate,
    Format,
    Holdout,
    Kind,
    Metric,
    Normals,
    Preset,
    read_numbers,
    refuse_all_but,
)
from metricad.settings import Settings

# Nothing here may import TensorFlow at module level: --help and option errors answer at once.
app = typer.Typer(
    name="metricad",
    help="Inspect textured surfaces: learn from good parts only, mark what lies far from them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def metricad(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Inspect textured surfaces: learn from good parts only, mark what lies far from them."""
    if version:
        from metricad.versions import versions

        print(f"metricad {versions()['metricad']}")
        raise typer.Exit


@app.command()
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


@app.command()
def prototype(
    good: Annotated[list[Path], typer.Argument(help="Images of good parts, or folders of them.")],
    out: Annotated[Path, typer.Option(help="The inspector to write, one .metricad file.")],
    network: Annotated[Path, typer.Option(help="Run folder of 'metricad train'.")],
    kind: Annotated[Kind, typer.Option(help="Distance to the mean (the paper), or Mahalanobis.")] = Kind.mean,
    metric: Annotated[
        Metric | None, typer.Option(help="Distance to the mean.", show_default="euclidean")
    ] = None,
    false_alarm_rate: FalseAlarmRate = 0.01,
    holdout: Annotated[float, typer.Option(help="Share of the images kept for setting the threshold.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the images held out.")] = 0,
) -> None:
    """Make an inspector from images of good parts: a prototype and a threshold.

    Example: metricad prototype parts/good/ --network run --out part.metricad
    """
    paths = images.find(good)
    check_split(len(paths), holdout=holdout, false_alarm_rate=false_alarm_rate)
    console.load_tensorflow()
    from metricad import bundle, inspector, methods, runs

    with display.progress("good parts", len(paths)) as advance:
        made = inspector.fit_inspector(
            paths,
            runs.load_network(network),
            prototype=methods.empty_prototype(kind, metric=metric),
            false_alarm_rate=false_alarm_rate,
            holdout=holdout,
            seed=seed,
            on_image=advance,
        )
    bundle.save(made, out)
    counts = made.fitted_on
    typer.echo(
        f"{out}: {kind} prototype from {counts['fit_images']} images; threshold {made.threshold:.4g} from "
        f"{counts['held_out_images']} held-out images, false-alarm rate at most {false_alarm_rate:g}"
    )


@app.command()
def inspect(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype'.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, or folders of them.")],
    maps: Annotated[
        Path | None, typer.Option(help="Write heat maps over the images into this folder.")
    ] = None,
    format: Annotated[Format, typer.Option(help="How the verdicts are printed.")] = Format.table,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Leave with exit status 1 when a defect was found.")
    ] = False,
) -> None:
    """Judge images: score, threshold, percentile among good images, verdict, and where the peak is.

    A file that cannot be read is reported, the rest goes on, and the exit status is 2.

    Example: metricad inspect part.metricad line/ --maps maps/ --format jsonl
    """
    found = images.find(paths, missing_ok=True)
    console.load_tensorflow()
    from metricad import bundle

    inspector = bundle.load(part)
    names = dict(zip(map(str, found), images.map_names(found), strict=True))
    verdicts = set()
    with display.verdicts(format, len(found)) as show:
        for inspection, image, anomaly_map in inspector.inspect_files(found):
            if maps is not None and image is not None:
                picture = images.overlay(image, anomaly_map, **inspector.map_scale())
                images.write(maps / names[inspection.path], picture)
            show(inspection)
            verdicts.add(inspection.verdict)
    if "error" in verdicts:
        raise typer.Exit(console.EXIT_ERROR)
    if fail_on_defect and "defect" in verdicts:
        raise typer.Exit(console.EXIT_DEFECT)


@app.command()
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
        list[Path] | None, typer.Option(help="Run folder of 'metricad train'; several for several seeds.")
    ] = None,
    kind: Annotated[list[Kind], typer.Option(help="Prototypes to make on the network.")] = [Kind.mean],  # noqa: B006
    metric: Annotated[
        list[Metric], typer.Option(help="Distances to the mean; several stand side by side.")
    ] = [Metric.euclidean],  # noqa: B006
    data_dir: DataDir = None,
    normals: Normals = None,
    holdout: Holdout = 0.2,
    false_alarm_rate: FalseAlarmRate = 0.05,
) -> None:
    """Measure the AUROC per surface (the paper's protocol), beside an untrained network and a baseline.

    Example: metricad evaluate --network run --kind mean --kind gaussian --data tiles/ --out results.json
    """
    if not parts and not network:
        raise typer.BadParameter("nothing to evaluate; give inspectors (part.metricad) or --network RUN")
    console.load_tensorflow()
    from metricad import comparison, report
    from metricad import results as records
    from metricad.evaluation import Protocol

    protocol = Protocol(holdout=holdout, false_alarm_rate=false_alarm_rate)
    surfaces = [s for source in data for s in datasets.load(source, data_dir=data_dir, normals=normals)]
    plan = comparison.plan(surfaces, parts or [], network or [], kinds=kind, metrics=metric)
    with display.progress("images", sum(task.image_count for task in plan)) as advance:
        study = comparison.run(plan, network or [], protocol=protocol, on_image=advance)
    records.save(out, study)
    display.table(report.table(study.results), title="AUROC")
    typer.echo(f"{out}: written; next: metricad report {out} --out REPORT")


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Results made by 'metricad evaluate'.")],
    out: Annotated[Path, typer.Option(help="Folder of the report.")],
) -> None:
    """Write the per-class AUC report as Markdown, CSV, JSON and one web page: tables, curves, heat maps.

    Example: metricad report results.json --out report/
    """
    from metricad import report as reports
    from metricad import results as records

    for path in reports.write(records.merge(map(records.load, results)), out):
        typer.echo(path)


@app.command()
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


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="A new folder for everything the demo makes.")] = Path("demo"),
) -> None:
    """Run the whole path on four synthetic surfaces, in a few minutes."""
    from metricad import demonstration

    demonstration.run(out, invoke=lambda arguments: app(arguments, standalone_mode=False))


def main() -> None:
    """Entry point of the console script."""
    console.run(app, prog="metricad")
