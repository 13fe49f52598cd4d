"""`metricad tune`: choose the image score with synthetic defects."""

from pathlib import Path
from typing import Annotated

import typer

from metricad import files
from metricad.cli import display
from metricad.cli.options import Sign, UnseenGood
from metricad.deploy import signature
from metricad.deploy.native_output import load_tensorflow


def tune(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype'.")],
    good: UnseenGood,
    out: Annotated[Path, typer.Option(help="Tuned inspector to write, a .metricad file.")],
    defects_per_image: Annotated[
        int, typer.Option(min=1, help="Number of synthetic defects on each image.")
    ] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the defects.")] = 0,
    sign: Sign = None,
) -> None:
    """Choose the image score with synthetic defects.

    They are drawn on good images, which also set the threshold again. The score determines which sizes of
    defects are found best and which kinds of feature maps are used. The inspector keeps its score unless
    another one is significantly better.

    Example: metricad tune part.metricad parts/more-good/ --out tuned.metricad
    """
    key = None if sign is None else signature.read_private(sign)
    files.check_writable(out)
    paths = display.found(good)
    load_tensorflow()
    from metricad.inspection import bundle, tuning

    given = bundle.load_own(part, verb="tune")
    with display.progress("good parts", len(paths)) as advance:
        tuned, found = tuning.tune_inspector(
            given, paths, defects_each=defects_per_image, seed=seed, on_image=advance
        )
    bundle.save(tuned, out)
    if key is not None:
        signature.write(out, bundle.checksum(out), key)
    title = "AUROC of synthetic defects by score and sources"
    display.table(tuning.table(found), title=title, has_summary=False)
    named = {one: f"{one[0]} of {one[1]} sources" for one in found.aurocs}
    if found.choice == found.base:
        choice = f"keeps {named[found.base]}, because no other is significantly better"
    else:
        choice = (
            f"takes {named[found.choice]}: AUROC {found.aurocs[found.choice]:.3f} against "
            f"{found.aurocs[found.base]:.3f} of {named[found.base]}"
        )
    typer.echo(
        f"{out}: {choice}; threshold {tuned.threshold:.4g} from {len(paths)} good images; false-alarm rate "
        f"{tuned.calibrated.false_alarm_rate:.3g} {tuned.calibrated.basis}, as the same images chose the "
        "score; 'metricad calibrate' promises one with others"
    )
