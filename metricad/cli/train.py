"""`metricad train`: train the paper's network."""

from pathlib import Path
from typing import Annotated

import typer

from metricad import files
from metricad.cli import display
from metricad.cli.options import (
    DataDir,
    Normals,
    read_numbers,
    refuse_all_but,
)
from metricad.density import Metric
from metricad.deploy.native_output import load_tensorflow
from metricad.errors import RunError
from metricad.training.settings import Settings


def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the run: new, or an interrupted one with --resume.")],
    source: Annotated[
        list[str] | None,
        typer.Option(help="Folder of classes, or name of a prepared data set; may be repeated."),
    ] = None,
    data_dir: DataDir = None,
    normals: Normals = None,
    mix: Annotated[
        str | None, typer.Option(help="Share of each source, such as 1,1,2.", show_default="equal")
    ] = None,
    units: Annotated[int, typer.Option(min=1, help="Filters of every layer: 16 or 32 in the paper.")] = 16,
    rounds: Annotated[
        int, typer.Option(min=1, help="Number of rounds, each with a new set of triplets.")
    ] = 6,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs in each round.")] = 15,
    triplets: Annotated[int, typer.Option(min=1, help="Triplets in each round.")] = 3_840,
    batch_size: Annotated[int, typer.Option(min=1, help="Triplets in a batch.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of Adam, constant.")] = 1e-4,
    pyramid: Annotated[
        str, typer.Option(help="Sides, in pixels, that texture images are resized to.")
    ] = "512,256,128,64",
    noise_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of texture triplets whose negative gets a noise patch."),
    ] = 0.5,
    noise_side: Annotated[
        str, typer.Option(help="Smallest and largest side of a noise patch, in pixels.")
    ] = "4,16",
    noise_strength: Annotated[
        str,
        typer.Option(help="Smallest and largest standard deviation of the noise; 2 is the whole gray range."),
    ] = "0.05,0.6",
    noise_relative: Annotated[
        bool,
        typer.Option(
            "--noise-relative", help="--noise-strength is a multiple of each patch's own standard deviation."
        ),
    ] = False,
    never_enlarge: Annotated[
        bool,
        typer.Option("--never-enlarge", help="Leave out sides of the pyramid above the size of the images."),
    ] = False,
    metric: Annotated[
        Metric, typer.Option(help="Metric of the distances in the loss: Euclidean in the paper.")
    ] = Metric.euclidean,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, triplets and batches.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run; its options are stored.")
    ] = False,
) -> None:
    """Train the paper's network on textures and objects.

    The defaults are those of the paper.

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
        noise_is_relative=noise_relative,
        enlarges=not never_enlarge,
        metric=metric.value,
        seed=seed,
    )
    files.check_writable(out, folder=True)
    load_tensorflow()
    from metricad.training import runs, triplet_training

    if resume:
        settings, _ = runs.read_config(out)
    with display.training(settings) as (on_round, on_epoch):
        try:
            triplet_training.train_network(
                out,
                source or [],
                data_dir=data_dir,
                normals=normals,
                settings=settings,
                resume=resume,
                on_round=on_round,
                on_skipped=display.left_out,
                callbacks=[triplet_training.after_each_epoch(on_epoch)],
            )
        except KeyboardInterrupt:
            raise RunError(f"interrupted; {runs.describe_progress(out)}") from None
    rounds_done = f"{settings.rounds} round{'s' * (settings.rounds > 1)}"
    typer.echo(f"{out}: trained {rounds_done}; next: metricad prototype GOOD --network {out}")
