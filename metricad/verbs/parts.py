"""Verbs about one part: an inspector is made of good images, asked for verdicts, tuned and measured."""

# Nothing here may import TensorFlow at module level: --help and option errors answer at once.

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metricad import console, display, images
from metricad.deploy import runtimes
from metricad.options import SHIPPED, DefectKind, FalseAlarmRate, Format, Kind, Metric, PartPreset
from metricad.preprocessing.regions import ForegroundRegion, MaskRegion, Region
from metricad.scoring.calibration import check_count, check_split

if TYPE_CHECKING:
    import numpy as np

UnseenGood = Annotated[
    list[Path],
    typer.Argument(help="Images of good parts, or folders of them, that took no part in fitting it."),
]


def prototype(
    good: Annotated[list[Path], typer.Argument(help="Images of good parts, or folders of them.")],
    out: Annotated[Path, typer.Option(help="The inspector to write, one .metricad file.")],
    network: Annotated[
        str, typer.Option(help="A network that ships, accurate or fast, or a run folder of 'metricad train'.")
    ] = SHIPPED[0],
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="Density of good features: their mean (the paper), a mixture of Gaussians, one Gaussian, "
            "one at each position, or what suits.",
            show_default="auto; mean for a run folder",
        ),
    ] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="Distance to the mean.", show_default="euclidean")
    ] = None,
    preset: Annotated[
        PartPreset | None,
        typer.Option(help="paper: the mean, its Euclidean distance, the maximum, on the network of a run."),
    ] = None,
    gray: Annotated[
        bool, typer.Option("--gray", help="Inspect the luminance alone, also of color images.")
    ] = False,
    false_alarm_rate: FalseAlarmRate = 0.01,
    holdout: Annotated[float, typer.Option(help="Share of the images kept for setting the threshold.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the images held out.")] = 0,
    mask: Annotated[
        Path | None,
        typer.Option(help="Image of the parts' size, white where they are judged.", show_default=False),
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Judge only the part, found before its even background.")
    ] = False,
    margin: Annotated[
        int | None,
        typer.Option(min=0, help="Pixels left out along the edge of the foreground.", show_default="8"),
    ] = None,
) -> None:
    """Make an inspector from images of good parts: a density of their features and a threshold.

    Example: metricad prototype parts/good/ --out part.metricad
    """
    if preset is PartPreset.paper:
        kind, metric = _paper(network, kind, metric)
    if metric is not None and kind not in (None, Kind.mean):
        raise typer.BadParameter(
            f"the {kind} density has a metric of its own; leave out --metric, or give --kind mean"
        )
    region = _region(mask, foreground=foreground, margin=margin)
    paths = images.find(good)
    check_split(len(paths), holdout=holdout, false_alarm_rate=false_alarm_rate)
    console.load_tensorflow()
    from metricad import methods
    from metricad.inspection import bundle, fit

    # A metric is one of the distance to the mean.
    wanted = Kind.mean if kind is None and metric is not None else kind
    with display.progress("good parts", len(paths)) as advance:
        made = fit.fit_inspector(
            paths,
            methods.load_network(network),
            kind=wanted,
            metric=metric or "euclidean",
            is_gray=gray,
            region=region,
            false_alarm_rate=false_alarm_rate,
            holdout=holdout,
            seed=seed,
            on_image=advance,
        )
    bundle.save(made, out)
    counts, detector, why = made.fitted_on, made.detector, ""
    if detector.likelihood_gain is not None:
        other = "a mixture" if detector.needs_positions else "a Gaussian at each position"
        why = f" (held-out log-likelihood {detector.likelihood_gain:.3g} above that of {other})"
    typer.echo(
        f"{out}: {detector.description}{why}, from {counts['fit_images']} "
        f"{'color' if detector.channels == 3 else 'gray'} images; threshold {made.threshold:.4g} from "
        f"{counts['held_out_images']} held-out images, false-alarm rate at most {false_alarm_rate:g}"
    )


def _paper(network: str, kind: Kind | None, metric: Metric | None) -> tuple[Kind, Metric]:
    """Kind and metric of the paper; whatever else was asked for is refused."""
    if network in SHIPPED:
        raise typer.BadParameter(
            "--preset paper needs the paper's network: give --network RUN of 'metricad train'"
        )
    if kind not in (None, Kind.mean) or metric not in (None, Metric.euclidean):
        raise typer.BadParameter(
            "--preset paper is the Euclidean distance to the mean on a run's network as it is; leave out the "
            "preset, or --kind and --metric"
        )
    return Kind.mean, Metric.euclidean


def _region(mask: Path | None, *, foreground: bool, margin: int | None) -> Region | None:
    """Make what three options ask for; None is the whole image."""
    if mask is not None and foreground:
        raise typer.BadParameter("--mask and --foreground are two ways to say where; leave out one")
    if margin is not None and not foreground:
        raise typer.BadParameter("--margin goes with --foreground; a mask is drawn with its margin")
    if mask is not None:
        return MaskRegion.read(mask)
    if foreground:
        return ForegroundRegion() if margin is None else ForegroundRegion(margin=margin)
    return None


def inspect(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype', or an export of it.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, or folders of them.")],
    maps: Annotated[
        Path | None, typer.Option(help="Write heat maps over the images into this folder.")
    ] = None,
    format: Annotated[Format, typer.Option(help="How the verdicts are printed.")] = Format.table,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Leave with exit status 1 when a defect was found.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Images judged at once.", show_default="one for each core")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say on standard error where the time went.")
    ] = False,
) -> None:
    """Judge images: score, threshold, percentile among good images, verdict, and where the peak is.

    A file that cannot be read is reported, the rest goes on, and the exit status is 2.

    Example: metricad inspect part.metricad line/ --maps maps/ --format jsonl
    """
    found = images.find(paths, missing_ok=True)
    workers = runtimes.cores() if workers is None else workers
    inspector = console.load_inspector(part, workers=workers)
    names = dict(zip(found, images.map_names(found), strict=True))

    def draw(path: Path, image: "np.ndarray", anomaly: "np.ndarray") -> None:
        anomaly_map = inspector.detector.on_pixels(anomaly, image)
        images.write(maps / names[path], images.overlay(image, anomaly_map, **inspector.map_scale()))

    verdicts = set()
    began = time.perf_counter()
    with display.verdicts(format, len(found)) as show:
        judged = inspector.inspect_files(found, workers=workers, draw=None if maps is None else draw)
        for inspection, _, _ in judged:
            show(inspection)
            verdicts.add(inspection.verdict)
    if profile:
        taken = time.perf_counter() - began
        display.profile(inspector.detector.clock, len(found), seconds=taken, workers=workers)
    if "error" in verdicts:
        raise typer.Exit(console.EXIT_ERROR)
    if fail_on_defect and "defect" in verdicts:
        raise typer.Exit(console.EXIT_DEFECT)


def tune(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype'.")],
    good: UnseenGood,
    out: Annotated[Path, typer.Option(help="The tuned inspector to write, one .metricad file.")],
    defects: Annotated[int, typer.Option(min=1, help="Synthetic defects put onto each image.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Draws the defects.")] = 0,
) -> None:
    """Choose how a map becomes a score, with synthetic defects on good images, and set the threshold anew.

    Which sizes of defects the score looks for, and which sources it takes. The inspector's own choice stays
    unless another is better by more than chance.

    Example: metricad tune part.metricad parts/more-good/ --out tuned.metricad
    """
    paths = images.find(good)
    console.load_tensorflow()
    import numpy as np

    from metricad.inspection import bundle, tuning
    from metricad.inspection import inspector as inspection

    given = bundle.load(part)
    rate = given.calibration.false_alarm_rate
    check_count(len(paths), rate)
    rng = np.random.default_rng(seed)
    with display.progress("good parts", len(paths)) as advance:
        trials = inspection.for_each(
            paths,
            lambda image: tuning.measure(given.detector, image, rng=rng, each=defects),
            smallest=given.detector.grid.smallest,
            color=given.detector.channels == 3,
            on_image=advance,
        )
        found = tuning.choose(list(trials), tuning.choices(given.detector), rng=rng)
    tuned = tuning.apply(given, found, seed=seed)
    bundle.save(tuned, out)
    display.table(tuning.table(found), title="AUROC of synthetic defects by score and sources")
    named = {one: f"{one[0]} of {one[1]} sources" for one in found.aurocs}
    if found.choice == found.base:
        choice = f"keeps {named[found.base]}, as no other is better by more than chance"
    else:
        choice = (
            f"takes {named[found.choice]}: AUROC {found.aurocs[found.choice]:.3f} against "
            f"{found.aurocs[found.base]:.3f} of {named[found.base]}"
        )
    typer.echo(
        f"{out}: {choice}; threshold {tuned.threshold:.4g} from {len(paths)} good images, false-alarm rate "
        f"at most {rate:g}"
    )


def detectability(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype'.")],
    good: UnseenGood,
    out: Annotated[Path, typer.Option(help="Folder of the datasheet.")],
    kind: Annotated[
        list[DefectKind] | None,
        typer.Option(help="Kinds of defects to try; several can be given.", show_default="all"),
    ] = None,
    defects: Annotated[int, typer.Option(min=1, help="Defects of each kind, size and contrast.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Draws the defects.")] = 0,
) -> None:
    """Measure which defects are found, by kind, size and contrast, with synthetic ones on good images.

    Writes a datasheet as a web page, Markdown and CSV.

    Example: metricad detectability part.metricad parts/more-good/ --out datasheet/
    """
    paths = images.find(good)
    console.load_tensorflow()
    import numpy as np

    from metricad import datasheet, detectability, limits
    from metricad.inspection import bundle
    from metricad.inspection import inspector as inspection

    given = bundle.load(part)
    tried = detectability.settings(tuple(kind) if kind else tuple(detectability.SIZES))
    with display.progress("defects", defects * len(tried)) as advance:
        measurement = detectability.Measurement(
            given,
            len(paths),
            tried=tried,
            each=defects,
            rng=np.random.default_rng(seed),
            on_defect=advance,
        )
        for _ in inspection.for_each(
            paths,
            measurement.add,
            smallest=given.detector.grid.smallest,
            color=given.detector.channels == 3,
        ):
            pass
    chart = measurement.chart
    facts = {
        "inspector": part.name,
        "score": given.detector.score_name,
        "threshold": f"{given.threshold:.4g}",
        "false-alarm rate": f"at most {given.calibration.false_alarm_rate:g}",
        "defects of each size and contrast": str(defects),
        "seed": str(seed),
    }
    written = datasheet.write(chart, out, name=part.stem, facts=facts)
    for statement in limits.statements(chart):
        typer.echo(statement)
    typer.echo(f"{chart.false_alarms} of {chart.good_images} good images are called defective as they are")
    typer.echo(f"{out}: written; look at {written[1]}")
