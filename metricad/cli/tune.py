"""`metricad tune`: choose the image score with synthetic defects."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metricad.cli import display
from metricad.cli.options import UnseenGood
from metricad.data import images
from metricad.deploy.native_output import load_tensorflow
from metricad.scoring.calibration import check_count

if TYPE_CHECKING:
    pass


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
    load_tensorflow()
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
