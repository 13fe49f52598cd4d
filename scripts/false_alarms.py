"""Compare promised and observed false-alarm rates over many random splits of good images.

    python scripts/false_alarms.py --data PREPARED/magnetic_tile --data surfaces:woven_grid \
      --data-dir PREPARED

For each surface, the default is fitted to a random part of the good images, and all others are scored once.
These scores are split many times into a calibration and a stream of new images. Then the default is fitted to
another part. Writes false-alarms.md and its figure into results/.

In random splits of scores without ties, the number of alarms has a beta-binomial distribution on every
surface (split conformal prediction). So the comparison tests the program: ranks, ties and the split. Whether
later images of a line have the same distribution as the calibration depends on their order. Therefore the
page also has the rate if the first images are the calibration and the later ones the stream. To show that the
test can fail, it also has the rate if the threshold is set on the images that were used for fitting.
"""

import argparse
import math
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import rivals
from matplotlib import rc_context
from scipy import stats

from metricad import files
from metricad.cli import display
from metricad.data import datasets
from metricad.evaluation import candidates
from metricad.evaluation.protocol import Method, images_of
from metricad.inspection.interface import as_taken
from metricad.networks import SHIPPED
from metricad.reporting import figures, markdown
from metricad.reporting.document import Cell, Document, Picture, Section, Table
from metricad.scoring.calibration import calibrate, needed, split

RATES = (0.01, 0.05, 0.1)
SHARES = 0.2, 0.5  # of the good images: fit to, calibration; the rest is the stream


@dataclass
class Found:
    """Results on one surface at one rate; one entry for each split, draw or order.

    Attributes
    ----------
    rate : float
        Promised.
    calibration, stream : int
        Images of a split.
    alarms : list of int
        Of each random split.
    in_order, not_held_out : list of float
        Observed rates in the files' order, and with a threshold on the images that were fitted to.
    """

    rate: float
    calibration: int
    stream: int
    alarms: list[int] = field(default_factory=list)
    in_order: list[float] = field(default_factory=list)
    not_held_out: list[float] = field(default_factory=list)

    @property
    def expected(self) -> "stats.rv_frozen":
        """Exact distribution of the number of alarms in a split, if no scores are equal."""
        return expected(self.rate, self.calibration, self.stream)


def main() -> None:
    """Score, split, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, action="append", help="as of 'metricad evaluate'")
    parser.add_argument("--data-dir", help="as of 'metricad evaluate'")
    parser.add_argument("--network", default=SHIPPED[0], help="a network that ships, or a run folder")
    parser.add_argument("--draws", type=int, default=4, help="fits, each to another part")
    parser.add_argument("--splits", type=int, default=100, help="random splits of each fit's scores")
    parser.add_argument("--images", type=int, help="good images, split as by 'metricad prototype'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"))
    options = parser.parse_args()
    surfaces = [s for source in options.data for s in datasets.load(source, data_dir=options.data_dir)]
    method = candidates.of_network(options.network)[0]
    found = {}
    with display.progress("images", sum(map(_count, surfaces)) * options.draws) as advance:
        for surface in surfaces:
            rng = np.random.default_rng(options.seed)
            found[surface.name] = observe(
                good_images(surface),
                lambda fitted, others: scores(method, fitted, others, advance),
                draws=options.draws,
                splits=options.splits,
                rng=rng,
                images=options.images,
            )
    document = build(found, options)
    files.write_text(options.out / "false-alarms.md", markdown.render(document))
    for block in document.blocks:
        match block:
            case Picture():
                with files.replacing(options.out / block.name) as temporary:
                    temporary.write_bytes(block.content)
            case Table():
                print("\n".join(markdown.table(block)))


def good_images(surface: datasets.Surface) -> list[datasets.Sample]:
    """Return all good images of a surface, in the order of their names."""
    return sorted(
        (s for s in (*surface.fit, *surface.test) if not s.is_defect), key=lambda sample: sample.name
    )


def scores(
    method: Method,
    fitted: Sequence[datasets.Sample],
    others: Sequence[datasets.Sample],
    on_image: Callable[[], object],
) -> tuple[np.ndarray, np.ndarray]:
    """Fit to some images; score these and all others."""
    detector = method.make()
    detector.fit(images_of(fitted, color=getattr(detector, "takes_color", False)))
    found = []
    for image in images_of([*fitted, *others], color=True, on_image=on_image):
        found.append(detector.score(as_taken(detector, image)))
    return np.array(found[: len(fitted)]), np.array(found[len(fitted) :])


def observe(
    samples: Sequence[object],
    score: Callable[[list, list], tuple[np.ndarray, np.ndarray]],
    *,
    draws: int,
    splits: int,
    rng: np.random.Generator,
    rates: Sequence[float] = RATES,
    images: int | None = None,
) -> list[Found]:
    """Count false alarms over random splits.

    Parameters
    ----------
    samples : sequence
        Good images, in the order in which they were taken as far as it is known.
    score : function
        Of the samples to fit to and of the others: both's scores.
    draws, splits : int
        Fits, and splits of each one's scores.
    rng : numpy.random.Generator
    rates : sequence of float
        Promised rates; one that the calibration is too small for is left out.
    images : int, optional
        Number of images that are split into those to fit to and the calibration, as by `metricad prototype`;
        by default `SHARES` of all.
    """
    fit, calibration = split(images, None) if images else (round(len(samples) * one) for one in SHARES)
    stream = len(samples) - fit - calibration
    found = [Found(rate, calibration, stream) for rate in rates if calibration >= needed(rate)]
    for _ in range(draws):
        order = rng.permutation(len(samples))
        chosen, rest = np.sort(order[:fit]), np.sort(order[fit:])
        own, unseen = score([samples[i] for i in chosen], [samples[i] for i in rest])
        for _ in range(splits):
            shuffled = unseen[rng.permutation(len(unseen))]
            for one in found:
                one.alarms.append(_alarms(shuffled[:calibration], shuffled[calibration:], one.rate))
        for one in found:
            one.in_order.append(_alarms(unseen[:calibration], unseen[calibration:], one.rate) / stream)
            if len(own) >= needed(one.rate):
                one.not_held_out.append(_alarms(own, unseen, one.rate) / len(unseen))
    return found


def expected(rate: float, calibration: int, stream: int) -> "stats.rv_frozen":
    """Return the distribution of the number of alarms among good images under a split-conformal threshold.

    The threshold is the k-th smallest of n scores, so that a good image lies above it with a probability that
    is Beta(n + 1 − k, k) distributed over calibrations; the count is beta-binomial, its mean rate is
    (n + 1 − k) / (n + 1), at most what is promised.
    """
    above = math.floor((calibration + 1) * rate + 1e-9)  # n + 1 − k
    return stats.betabinom(stream, above, calibration + 1 - above)


def interval(found: Found) -> tuple[float, float]:
    """Compute the 95 % interval of the mean observed rate over this number of splits."""
    distribution, splits = found.expected, len(found.alarms)
    mean, deviation = distribution.mean(), distribution.std() / np.sqrt(splits)
    return (mean - 1.96 * deviation) / found.stream, (mean + 1.96 * deviation) / found.stream


def build(found: dict[str, list[Found]], options: argparse.Namespace) -> Document:
    """Build the page."""
    header = [
        "surface", "calibration / stream", "promised", "expected", "observed mean", "95 % interval of it",
        "mean inside", "observed 5–95 % of splits", "expected 5–95 %", "in the files' order", "not held out",
    ]  # fmt: skip
    rows = [[Cell(name), *_row(one)] for name, each in found.items() for one in each]
    splits = options.draws * options.splits
    words = shlex.join(rivals.sources(options))
    return Document(
        "False alarms, promised and observed",
        [
            f"Made by: python scripts/false_alarms.py {words} --network "
            f"{Path(options.network).name} --draws {options.draws} --splits {options.splits} --seed "
            f"{options.seed}{f' --images {options.images}' if options.images else ''}",
            f"{splits} random splits of each surface: {options.draws} fits, each to another part "
            f"of the good images, and {options.splits} splits of the other images' scores into a calibration "
            "and a stream of new images. Expected is the exact mean of the beta-binomial distribution of the "
            "alarms; the observed mean lies in the interval with a probability of 95 %.",
            Table("Rates of false alarms, in percent", header, rows),
            Picture(
                "false-alarms.png",
                figures.to_png(draw(found)),
                "Observed and expected distributions of the rate of false alarms",
                "Rate of false alarms over the splits: bars as observed, the line as expected.",
            ),
        ],
        [Section("How to read it", _READ)],
    )


def _row(one: Found) -> list[Cell]:
    observed = np.array(one.alarms) / one.stream
    low, high = interval(one)
    return [
        Cell(f"{one.calibration} / {one.stream}"),
        _percent(one.rate),
        _percent(one.expected.mean() / one.stream),
        _percent(observed.mean()),
        Cell(f"{100 * low:.2f} to {100 * high:.2f}"),
        Cell("yes") if low <= observed.mean() <= high else Cell("no", mark="warning"),
        Cell(" to ".join(f"{100 * q:.1f}" for q in np.quantile(observed, (0.05, 0.95)))),
        Cell(" to ".join(f"{100 * one.expected.ppf(q) / one.stream:.1f}" for q in (0.05, 0.95))),
        _percent(np.mean(one.in_order)),
        _percent(np.mean(one.not_held_out)) if one.not_held_out else Cell("–"),
    ]


def draw(found: dict[str, list[Found]]) -> "figures.Figure":
    """Draw a panel for each surface and rate."""
    each = [(name, one) for name, several in found.items() for one in several]
    with rc_context(figures.LOOK):
        figure, panels = figures.lay_out(len(each), across=3, ratio=0.7, entries=0)
        for (name, one), panel in zip(each, panels, strict=True):
            most = max(*one.alarms, int(one.expected.ppf(0.999)))
            counts = np.arange(most + 1)
            percent = 100 * counts / one.stream
            panel.bar(percent, np.bincount(one.alarms, minlength=most + 1), 80 / one.stream, color="#9ecae1")
            panel.plot(percent, one.expected.pmf(counts) * len(one.alarms), color="#c0392b", linewidth=1.2)
            panel.set_title(f"{name}, {100 * one.rate:g} %")
            panel.set(xlabel="false alarms, %", ylabel="splits")
    return figure


def _alarms(calibration: np.ndarray, stream: np.ndarray, rate: float) -> int:
    return int((stream > calibrate(calibration, rate).threshold).sum())


def _count(surface: datasets.Surface) -> int:
    return len(good_images(surface))


def _percent(share: float) -> Cell:
    return Cell(f"{100 * share:.2f}", float(share))


_READ = (
    "With random splits the promise holds on every surface, so these columns test the program. The column of "
    "the files' order tests whether images change over time: the first images are the calibration, the "
    "later ones the stream (mean of the fits). The last column shows the rate if the threshold "
    "were set on the images that were used for fitting.",
    "A promise of 1 % holds on average over calibrations, not for each one. With few held-out images, the "
    "rates of single calibrations vary; the two columns of 5–95 % show by how much. With more held-out good "
    "images, each threshold is closer to its promise.",
)

if __name__ == "__main__":
    main()
