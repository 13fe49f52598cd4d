"""`metricad prototype`: fit an inspector to images of good parts."""

import hashlib
import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metricad import files
from metricad.cli import display
from metricad.cli.options import Bits, FalseAlarmRate, Page, PartPreset, Sign, Weights, given, read_settings
from metricad.density import MEANS, Kind, Metric
from metricad.deploy import signature
from metricad.deploy.native_output import load_tensorflow
from metricad.errors import DataError
from metricad.methods import Method
from metricad.networks import SHIPPED, WITH_IMAGENET
from metricad.preprocessing.regions import ForegroundRegion, MaskRegion, Region
from metricad.scoring.calibration import FEWEST, Calibration, needed, split

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from metricad.inspection.inspector import Inspector
    from metricad.methods.choice import Choice


def prototype(
    context: typer.Context,
    good: Annotated[list[Path], typer.Argument(help="Images of good parts, or folders.")],
    out: Annotated[Path, typer.Option(help="Inspector to write, a .metricad file.")],
    method: Annotated[
        Method | None,
        typer.Option(help="Published method to fit instead of metricad's own model.", show_default=False),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of a method that is trained.", show_default="as published: long"),
    ] = None,
    weights: Weights = None,
    resize: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pixels a side that a pre-trained method resizes images to.",
            show_default="as published",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Another setting of the method, such as registration=true.",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            help="Shipped network (accurate, fast), one with ImageNet features (joint, imagenet; needs the "
            "extra imagenet), or run folder of 'metricad train'."
        ),
    ] = SHIPPED[0],
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="Density of good features: mean (the paper), positional-mean (the paper's, one mean at each "
            "position), gaussian, mixture (of Gaussians), positional (a Gaussian at each position), or auto "
            "(mixture or positional, by held-out likelihood).",
            show_default="auto; mean for a run folder",
        ),
    ] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="Metric of the mean densities.", show_default="euclidean")
    ] = None,
    preset: Annotated[
        PartPreset | None,
        typer.Option(help="paper: mean density, Euclidean distance and maximum, on the network of a run."),
    ] = None,
    gray: Annotated[
        bool, typer.Option("--gray", help="Use only the luminance, also of color images.")
    ] = False,
    false_alarm_rate: FalseAlarmRate = 0.01,
    holdout: Annotated[
        float | None,
        typer.Option(
            help="Share of the images held out from fitting: they promise the false-alarm rate. 0: all fit, "
            "there is no threshold, and inspections give scores without verdicts.",
            show_default="none of up to 200 images, two fifths of more; of a method a fifth, at least 5",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds, held-out images and fitting.")] = 0,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Image of the same size as the parts' images, white is inspected; or a JSON file with "
            "polygons to inspect or to ignore.",
            show_default=False,
        ),
    ] = None,
    foreground: Annotated[
        bool,
        typer.Option("--foreground", help="Inspect only the part: find it in front of an even background."),
    ] = False,
    min_defect: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Area in pixels of the smallest defect that matters; smaller ones are let through.",
            show_default="every defect is reported",
        ),
    ] = None,
    bits: Bits = None,
    page: Page = None,
    margin: Annotated[
        int | None,
        typer.Option(
            min=0, help="Width in pixels of the rim of the part that is left out.", show_default="8"
        ),
    ] = None,
    keep_suspects: Annotated[
        bool,
        typer.Option(
            "--keep-suspects", help="Also fit to good images that stand clearly apart from the rest."
        ),
    ] = False,
    confirmed_defects: Annotated[
        Path | None,
        typer.Option(help="Text file: one name of a good image in a line that is a defect; it is left out."),
    ] = None,
    sign: Sign = None,
) -> None:
    """Make an inspector from images of good parts.

    A density is fitted to their features, and a threshold is set. Up to 200 images all fit, and scores by
    cross-validation set the threshold. Of more, some are held out. The last line says what the threshold
    stands for: a false-alarm rate promised (by held-out images), expected (by cross-validation, no guarantee)
    or estimated (if there are too few images for the rate).

    Good images that stand clearly apart are left out as suspects and count as false alarms, until they are
    confirmed as defects. 'metricad check' shows them.

    Example: metricad prototype parts/good/ --out part.metricad
    """
    if method is not None:
        _refuse(context, method)
    elif wrong := given(context, *_OF_METHODS):
        raise typer.BadParameter(f"{wrong[0]} only applies to a published method: give --method as well")
    if preset is PartPreset.paper:
        kind, metric = _paper(network, kind, metric)
    if metric is not None and kind not in (None, *MEANS):
        raise typer.BadParameter(
            f"the {kind} density has its own metric; leave out --metric, or give --kind mean"
        )
    key = None if sign is None else signature.read_private(sign)
    files.check_writable(out)
    region = _region(mask, foreground=foreground, margin=margin)
    paths = display.found(good)
    defects = _confirmed(confirmed_defects, paths)
    paths = [path for path in paths if path not in defects]
    needed(false_alarm_rate)  # refuses a number that is no rate
    if method is None:
        fit_count, held_out = split(len(paths), holdout)
        reads = 2 * fit_count + held_out  # once to fit to, once to score
    else:
        load_tensorflow()
        choice = _choice(method, setting or [], epochs=epochs, weights=weights, side=resize, seed=seed)
    groups, unusual = _look_at(paths, page)
    load_tensorflow()
    from metricad.inspection import fit
    from metricad.inspection import min_defect as smallest
    from metricad.training.loading import load_network

    if method is not None:
        fitted = _fit_method(
            paths,
            choice,
            out,
            is_gray=gray,
            false_alarm_rate=false_alarm_rate,
            holdout=holdout,
            groups=groups,
            seed=seed,
            bits=bits,
            page=page,
        )
        _keep(fitted, out, defects, key)
        typer.echo(f"{out}: {choice.title}, {_said(fitted)}")
        for line in unusual:
            typer.echo(line)
        return
    # --metric only applies to the mean densities.
    wanted = Kind.mean if kind is None and metric is not None else kind
    with display.turned(), display.progress("good parts", reads) as advance:
        made = fit.fit_inspector(
            paths,
            load_network(network),
            kind=wanted,
            metric=metric or "euclidean",
            is_gray=gray,
            region=region,
            false_alarm_rate=false_alarm_rate,
            holdout=holdout,
            groups=groups,
            keeps_suspects=keep_suspects or preset is PartPreset.paper,
            smallest=min_defect,
            seed=seed,
            bits=bits,
            page=page,
            on_image=advance,
        )
    _keep(made, out, defects, key)
    counts, detector, why = made.fitted_on, made.detector, ""
    if detector.likelihood_gain is not None:
        other = "a mixture" if detector.needs_positions else "a Gaussian at each position"
        why = f" (held-out log-likelihood {detector.likelihood_gain:.3g} above that of {other})"
    typer.echo(f"{out}: {detector.description}{why}, {_said(made)}")
    if min_defect is not None:
        typer.echo(smallest.describe(counts["min_defect"]))
    for line in unusual:
        typer.echo(line)
    if unsure := counts.get("doubtful", []):
        typer.echo(
            f"{len(unsure)} of {len(paths)} good images are doubtful, but fit: {', '.join(unsure)}; "
            "look at them with 'metricad check'"
        )
    names = counts.get("suspects", [])
    apart = f"{len(names)} of {len(paths)} good images stand apart and are left out"
    if names and made.calibration is None:
        typer.echo(f"{apart}: {', '.join(names)}")
    elif names:
        rest = len(made.calibrated.scores) - len(names)
        typer.echo(
            f"{apart}: {', '.join(names)}. They count as alarms until confirmed: with --confirmed-defects "
            f"about 1 false alarm in {min(1 / false_alarm_rate, rest + 1):.3g} if all are defects; with "
            "--keep-suspects they fit"
        )


def _stands_for(calibration: Calibration | None) -> str:
    if calibration is None:
        return "no threshold, so scores without verdicts; 'metricad calibrate' sets one"
    return f"threshold {calibration.threshold:.4g}; {calibration.describe()}"


_OF_METHODS = ("epochs", "weights", "resize", "setting")
_OF_NETWORKS = (
    "network", "kind", "metric", "preset", "mask", "foreground", "margin", "min_defect", "keep_suspects",
)  # fmt: skip


def _refuse(context: typer.Context, method: Method) -> None:
    """Refuse options of metricad's own model beside a published method."""
    if wrong := given(context, *_OF_NETWORKS):
        raise typer.BadParameter(
            f"{wrong[0]} is for metricad's own model, not for {method}; leave it out, or leave out --method"
        )


def _choice(method: Method, settings: Sequence[str], *, seed: int, **asked: Any) -> "Choice":
    """Choose a method with these settings; refuse those that it does not have."""
    from metricad.methods import choice

    known = choice.defaults(method)
    has = {"epochs": "epochs" in known, "weights": "weights" in known, "side": choice.is_resized(method)}
    for name, value in asked.items():
        if value is not None and not has[name]:
            option = "resize" if name == "side" else name
            raise typer.BadParameter(f"{method} has no --{option}; leave it out")
    chosen = read_settings(settings, [method]).get(method)
    return choice.choose(method, **asked, seed=seed, settings=chosen)


def _fit_method(paths: Sequence[Path], choice: "Choice", out: Path, **options: Any) -> "Inspector[Any]":
    """Fit a published method; after an interruption the same command continues its training."""
    from metricad.inspection import fit_method

    kept = out.with_name(f"{out.stem}.training")
    words = json.dumps([choice.name, choice.settings, *map(str, paths)])
    checkpoint = kept / hashlib.sha256(words.encode()).hexdigest()[:16]
    with display.turned(), display.progress("good parts", fit_method.steps(len(paths), choice)) as advance:
        made = fit_method.fit_method(
            paths, choice, checkpoint=checkpoint, on_image=advance, on_epoch=advance, **options
        )
    shutil.rmtree(kept, ignore_errors=True)
    return made


def _keep(
    made: "Inspector[Any]", out: Path, defects: Collection[Path], key: "Ed25519PrivateKey | None"
) -> None:
    """Write the bundle, and its signature if there is a key."""
    from metricad.inspection import bundle

    if defects:
        made = replace(made, fitted_on={**made.fitted_on, "confirmed_defects": len(defects)})
    bundle.save(made, out)
    if key is not None:
        signature.write(out, bundle.checksum(out), key)


def _said(made: "Inspector[Any]") -> str:
    """Say what an inspector was fitted to, and what its threshold stands for."""
    depth = f" of {made.levels.bits} bits" if made.levels and made.levels.bits not in (None, 8) else ""
    kind = "color" if made.detector.channels == 3 else "gray"
    return f"from {made.fitted_on['fit_images']} {kind} images{depth}; {_stands_for(made.calibration)}"


def _look_at(paths: Sequence[Path], page: int | None) -> tuple[list[int] | None, list[str]]:
    """Check the files.

    Returns
    -------
    list of int or None
        Groups of near duplicates; None if there are too few to cross-validate.
    list of str
        What is unusual, in at most one line.
    """
    from metricad.check import check, summary

    with display.progress("files", len(paths)) as advance:
        found = check(paths, page=page, on_image=advance)
    if found.unreadable:
        raise DataError(f"{found.unreadable[0].path}: {found.unreadable[0].problem}")
    group = {image.path: int(number) for image, number in zip(found.good, found.near, strict=True)}
    is_enough = len(set(group.values())) >= FEWEST
    return [group[str(path)] for path in paths] if is_enough else None, summary.unusual(found)


def _confirmed(listed: Path | None, paths: Sequence[Path]) -> set[Path]:
    """Read which good images are confirmed defects, by path or file name."""
    if listed is None:
        return set()
    names = {line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()}
    found = {path for path in paths if names & {path.name, str(path)}}
    if missing := names - {path.name for path in found} - {str(path) for path in found}:
        raise DataError(
            f"{listed}: {min(missing)} is no good image; expected a name of one of them in each line"
        )
    return found


def _paper(network: str, kind: Kind | None, metric: Metric | None) -> tuple[Kind, Metric]:
    """Return kind and metric of the paper; reject other choices."""
    if network in (*SHIPPED, *WITH_IMAGENET):
        raise typer.BadParameter(
            "--preset paper needs the paper's network: give --network RUN of 'metricad train'"
        )
    if kind not in (None, *MEANS) or metric not in (None, Metric.euclidean):
        raise typer.BadParameter(
            "--preset paper means --kind mean (or positional-mean) with --metric euclidean; leave out the "
            "preset, or --kind and --metric"
        )
    return kind or Kind.mean, Metric.euclidean


def _region(mask: Path | None, *, foreground: bool, margin: int | None) -> Region | None:
    """Make the region of interest from the options; None is the whole image."""
    if mask is not None and foreground:
        raise typer.BadParameter("--mask and --foreground exclude each other; leave out one")
    if margin is not None and not foreground:
        raise typer.BadParameter("--margin needs --foreground; with --mask, draw the margin into the mask")
    if mask is not None:
        return MaskRegion.read(mask)
    if foreground:
        return ForegroundRegion() if margin is None else ForegroundRegion(margin=margin)
    return None
