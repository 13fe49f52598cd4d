"""Measure what each ingredient of the default is worth: AUROC on labeled surfaces with one changed at a time.

    python scripts/ablation.py --data surfaces --data dagm2007/class1 --data PREPARED/magnetic_tile \
      --data PARTS --data-dir PREPARED --work WORK

Each variant is fitted to the images that `metricad evaluate` fits to, and scores all test images. Variants
that only change steps after the distances use the distances of one fit. PARTS is a folder of parts in the
MVTec layout. Finished surfaces are kept in the work folder: after an interruption, repeat the command; after
a change of the code, give a new work folder. Writes ablation.md and ablation.csv into results/.
"""

import argparse
import copy
import csv
import io
import json
import os
import shlex
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import rivals
import tensorflow as tf

from metricad import files, metrics
from metricad.cli import display
from metricad.data import datasets
from metricad.errors import DataError
from metricad.evaluation.protocol import Protocol, images_of
from metricad.inspection import fit_detector
from metricad.inspection.detector import PartDetector
from metricad.inspection.model import LINES
from metricad.networks import SHIPPED, pretrained
from metricad.preprocessing.intensity import LINEAR, IntensityTransform
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Section, Table
from metricad.scoring.score import ImageScore
from metricad.scoring.score_names import DEFAULT, SCORES
from metricad.scoring.standardize import LEAST, Fuse, Standardize
from metricad.versions import versions

WHOLE = "whole"

VARIANTS = {
    WHOLE: "the default as it is",
    "one Gaussian": "one Gaussian for each feature map; no mixture, no positional density",
    "mixture": "always a mixture",
    "positional": "always a Gaussian at each position",
    **{name: f"the score is the {name} of the map" for name in SCORES if name != DEFAULT},
    "one scale": "the network fast: neither the half nor the quarter of the image's size, no line filters",
    "no lines": "no line filters",
    "no color": "luminance alone",
    "no places": "standard scores from one mean and one deviation for the whole map",
    "no logarithm": "gray levels, never their logarithm",
}
"""What is changed, by the name of its column."""

Group = str


@dataclass(frozen=True)
class Found:
    """Results on one surface.

    Attributes
    ----------
    dataset, surface : str
    chosen : str
        Density, channels and intensity curve of the default.
    fitted : int
        Good images fitted to.
    defect : list of bool
        Of each test image.
    scores : dict of str to list of float, or None
        Of each test image, by variant; None where a variant is not possible.
    same : list of str
        Variants that are the default, since there is nothing to change.
    """

    dataset: str
    surface: str
    chosen: str
    fitted: int
    defect: list[bool]
    scores: dict[str, list[float] | None]
    same: list[str]


def main() -> None:
    """Run all variants on every surface, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, action="append", help="as of 'metricad evaluate'")
    parser.add_argument("--data-dir", help="as of 'metricad evaluate'")
    parser.add_argument("--network", choices=SHIPPED, default=SHIPPED[0])
    parser.add_argument(
        "--variant", action="append", choices=[*VARIANTS][1:], help="only these; all when not given"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the fits and of the intervals")
    parser.add_argument("--work", type=Path, help="folder for what is done")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the two files")
    options = parser.parse_args()
    surfaces = [s for source in options.data for s in datasets.load(source, data_dir=options.data_dir)]
    names = [name for name in VARIANTS if name == WHOLE or name in (options.variant or VARIANTS)]
    found = []
    with display.progress("images", sum(len(surface.test) for surface in surfaces)) as advance:
        for surface in surfaces:
            found.append(explore_once(surface, names, options, on_image=advance))
    page = build(found, names, options)
    files.write_text(options.out / "ablation.md", markdown.render(page))
    files.write_text(options.out / "ablation.csv", to_csv(found, names, seed=options.seed))
    print("\n".join(markdown.table(page.blocks[-1])))


def explore_once(
    surface: datasets.Surface,
    names: Sequence[str],
    options: argparse.Namespace,
    *,
    on_image: Callable[[], object],
) -> Found:
    """Run all variants on a surface, unless the work folder has the results."""
    path = None
    if options.work:
        words = f"{options.network}-{options.seed}-{surface.dataset}-{surface.name}".replace("/", "-")
        path = options.work / f"{words}.json"
        if path.is_file():
            kept = Found(**json.loads(path.read_text(encoding="utf-8")))
            if set(names) <= set(kept.scores):
                for _ in surface.test:
                    on_image()
                return kept
    found = explore(surface, names, network=options.network, seed=options.seed, on_image=on_image)
    if path:
        files.write_text(path, json.dumps(asdict(found)))
    return found


def explore(
    surface: datasets.Surface,
    names: Sequence[str],
    *,
    network: str = SHIPPED[0],
    seed: int = 0,
    on_image: Callable[[], object] = lambda: None,
) -> Found:
    """Fit all variants to a surface's good images and score its test images.

    Parameters
    ----------
    surface : Surface
    names : sequence of str
        Of `VARIANTS`.
    network : str
        One that ships.
    seed : int
        Of the fits.
    on_image : function, optional
        Called after each test image.
    """
    samples, _ = Protocol().split(surface.fit)
    good = images_of(samples, color=True)
    models = {name: pretrained.load(name) for name in SHIPPED}

    def fitted(kind: str = "auto", *, of: str = network, is_gray: bool = False) -> PartDetector:
        return PartDetector(models[of], kind, is_gray=is_gray, seed=seed).fit(good)

    with distances_kept() as kept:
        whole = fitted()
    is_positional = whole.needs_positions
    # Distances of a fit, and the detectors that say in different ways what follows from them.
    same: list[str] = []
    if "no lines" in names and LINES not in _kinds(whole):
        same.append("no lines")
    shared = {name: make(whole, kept) for name, make in _SHARED.items() if name in names and name not in same}
    groups: list[tuple[PartDetector, dict[str, PartDetector]]] = [(whole, {WHOLE: whole, **shared})]
    scores: dict[str, list[float] | None] = {name: [] for name in names}
    others: dict[str, tuple[bool, Callable[[], PartDetector]]] = {
        "one Gaussian": (False, lambda: fitted("gaussian")),
        "mixture": (not is_positional, lambda: fitted("mixture")),
        "positional": (is_positional, lambda: fitted("positional")),
        "one scale": (network == "fast", lambda: fitted(of="fast")),
        "no color": (whole.channels == 1, lambda: fitted(is_gray=True)),
        "no logarithm": (whole.settings["curve"] == LINEAR, lambda: _linear(fitted)),
    }
    for name, (is_same, make) in others.items():
        if name not in names:
            continue
        if is_same:
            same.append(name)
            continue
        try:
            detector = make()
        except DataError:
            if name != "positional":
                raise
            scores[name] = None  # images of several sizes
        else:
            groups.append((detector, {name: detector}))
    for image in images_of(surface.test, color=True):
        for detector, variants in groups:
            try:
                distances = detector.distances(image)
            except DataError:
                if "positional" not in variants:
                    raise
                scores["positional"] = None  # as above, among the test images alone
                continue
            for name, variant in variants.items():
                if scores[name] is not None:
                    scores[name].append(variant.verdict(distances).score)
        on_image()
    return Found(
        dataset=surface.dataset,
        surface=surface.name,
        chosen=f"{whole.description}, {whole.settings['curve']}",
        fitted=len(samples),
        defect=[sample.is_defect for sample in surface.test],
        scores={name: list(scores[WHOLE]) if name in same else scores[name] for name in names},
        same=same,
    )


@contextmanager
def distances_kept() -> Iterator[list]:
    """Record the distances and regions that standard scores are learned from while the block fits."""
    kept: list = []

    class Keeping(Standardize):
        """The same, which keeps what it learns from."""

        def adapt_and_score(
            self, maps: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]
        ) -> list[np.ndarray]:
            kept.extend([list(maps), list(insides)])
            return super().adapt_and_score(maps, insides)

    with mock.patch.object(fit_detector, "Standardize", Keeping):
        yield kept


class WholeMap(Standardize):
    """Standard scores from one mean and one standard deviation for all positions."""

    def __init__(self, sources: int) -> None:
        super().__init__(sources, (1, 1), name="standardize")

    def _sums(self, one: np.ndarray, inside: np.ndarray | None) -> list[np.ndarray]:
        values = np.log(np.maximum(one if inside is None else one[inside], LEAST), dtype=np.float64)
        values = values.reshape(-1, self.sources)
        sums = np.array([len(values)]), values.sum(axis=0), np.square(values).sum(axis=0)
        return [each.reshape(1, 1, -1) for each in sums]


def _without_places(whole: PartDetector, kept: list) -> PartDetector:
    """Learn standard scores and their fusion again, from the same distances."""
    distances, insides = kept
    standardize = WholeMap(len(whole.densities))
    scores = standardize.adapt_and_score(distances, insides)
    fuse = Fuse(whole.fuse.kinds, name="fuse").adapt(scores, insides)
    other = copy.copy(whole)
    other.assemble(standardize, fuse, ImageScore(whole.score_name, name="score"))
    return other


def _with_score(name: str) -> Callable[[PartDetector, list], PartDetector]:
    # Where scores of good images lie does not matter here: no AUROC depends on it.
    return lambda whole, kept: whole.with_score(name, _kinds(whole), center=0.0, spread=1.0)


def _without_lines(whole: PartDetector, kept: list) -> PartDetector:
    kinds = [kind for kind in _kinds(whole) if kind != LINES]
    return whole.with_score(whole.score_name, kinds, center=0.0, spread=1.0)


def _kinds(detector: PartDetector) -> list[str]:
    return list(dict.fromkeys(source.kind for source in detector.features.sources))


_SHARED: dict[str, Callable[[PartDetector, list], PartDetector]] = {
    **{name: _with_score(name) for name in SCORES if name != DEFAULT},
    "no lines": _without_lines,
    "no places": _without_places,
}
"""Variants that use the distances of the default's fit."""


def _linear(fitted: Callable[[], PartDetector]) -> PartDetector:
    with mock.patch.object(IntensityTransform, "adapt", lambda self, images: self):
        return fitted()


def to_csv(found: Sequence[Found], names: Sequence[str], *, seed: int) -> str:
    """Write one CSV line for each variant on each surface."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["data set", "surface", "good", "defects", "variant", "is default", "auroc", "low", "high"]
    )
    for one in found:
        for name in names:
            areas = resampled(one, [name], seed=seed)
            numbers = ["", "", ""]
            if areas is not None:
                numbers = [f"{each:.6f}" for each in (auroc(one, name), *interval(areas[0]))]
            counts = [one.defect.count(False), one.defect.count(True)]
            is_default = int(_is_default(name, [one]))
            writer.writerow([one.dataset, one.surface, *counts, name, is_default, *numbers])
    return buffer.getvalue()


def auroc(one: Found, name: str) -> float | None:
    """Compute the AUROC of a variant on a surface; None if the variant is not possible there."""
    return None if one.scores[name] is None else metrics.auroc(one.defect, one.scores[name])


def resampled(one: Found, names: Sequence[str], *, seed: int) -> np.ndarray | None:
    """Compute AUROCs of variants on resampled test images of a surface; same ones for all variants."""
    if any(one.scores[name] is None for name in names):
        return None
    rng = np.random.default_rng([seed, zlib.crc32(f"{one.dataset}/{one.surface}".encode())])
    return metrics.auroc_resamples(one.defect, np.array([one.scores[name] for name in names]), rng=rng)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Compute the interval that contains the middle 95 % of the values."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def grouped(found: Sequence[Found]) -> dict[Group, list[Found]]:
    """Group the results by data set."""
    groups: dict[Group, list[Found]] = {}
    for one in found:
        groups.setdefault(one.dataset.split("/")[0], []).append(one)
    return groups


def build(found: Sequence[Found], names: Sequence[str], options: argparse.Namespace) -> Document:
    """Build the page; the table of changes is its last block before the sections."""
    words = ["python", "scripts/ablation.py", *rivals.sources(options), "--network", options.network]
    words += [word for name in options.variant or () for word in ("--variant", name)]
    return Document(
        "What each ingredient is worth",
        [
            f"Made by: {shlex.join([*words, '--seed', str(options.seed)])}",
            f"The default is the network {options.network}, the density chosen between a mixture and a "
            f"Gaussian at each position, and the {DEFAULT} of the map as score. One ingredient is changed at "
            "a time, and all later steps are learned again; labels are not used for any choice. Fitted to "
            f"{1 - Protocol().holdout:.0%} of the training images, or to all of them if the rest would be "
            "too few for a threshold; scored on all test images.",
            "In brackets are 95 % intervals over the choice of test images (stratified bootstrap, 2,000 "
            "resamples); for a difference, both variants use the same resamples. = means that the variant "
            "changes nothing on this surface, so the default's value enters the means; – means that the "
            "variant is not possible. Surfaces have equal weight in a group, and groups in the mean.",
            _changes(found, names, seed=options.seed),
        ],
        [
            Section("Surfaces", [_surfaces(found, names, seed=options.seed)]),
            Section("What was chosen", [_chosen(found)]),
            Section("Versions", [Table("Versions", ["package", "version"], _pairs(versions()))]),
        ],
    )


def _changes(found: Sequence[Found], names: Sequence[str], *, seed: int) -> Table:
    """Make the table of variants, a row each: means of the groups, and differences from the default."""
    groups = grouped(found)
    rows = []
    for name in names:
        cells, means, changes = [Cell(name), Cell(VARIANTS[name])], [], []
        for group in groups.values():
            areas = [auroc(one, name) for one in group]
            pairs = [resampled(one, [name, WHOLE], seed=seed) for one in group]
            if None in areas:
                cells.append(Cell("–"))
                means.append(None)
                continue
            means.append(float(np.mean(areas)))
            change = means[-1] - float(np.mean([auroc(one, WHOLE) for one in group]))
            changes.append((change, np.mean([pair[0] - pair[1] for pair in pairs], axis=0)))
            cells.append(_mean(means[-1], *(() if _is_default(name, group) else changes[-1])))
        if None in means:
            cells.append(Cell("–"))
        else:
            change, spread = (np.mean([pair[k] for pair in changes], axis=0) for k in range(2))
            cells.append(
                _mean(float(np.mean(means)), *(() if _is_default(name, found) else (change, spread)))
            )
        rows.append(cells)
    header = ["variant", "what is changed", *(f"{name}, {len(group)}" for name, group in groups.items())]
    return Table("AUROC, mean of each group, and its difference from the default", [*header, "mean"], rows)


def _is_default(name: str, found: Sequence[Found]) -> bool:
    """Whether a variant is the default on all of these surfaces."""
    return all(name == WHOLE or name in one.same for one in found)


def _mean(mean: float, change: float | None = None, resamples: np.ndarray | None = None) -> Cell:
    if change is None:
        return Cell(f"{mean:.3f}", mean)
    low, high = interval(resamples)
    return Cell(f"{mean:.3f}, {change:+.3f} [{low:+.3f}, {high:+.3f}]", mean)


def _surfaces(found: Sequence[Found], names: Sequence[str], *, seed: int) -> Table:
    """Make the table of surfaces, a row each, with group means; a column for each variant."""
    rows: list[list[Cell]] = []
    means: dict[str, list[float | None]] = {name: [] for name in names}
    for group, members in grouped(found).items():
        for one in members:
            rows.append([Cell(one.surface), *(_area(one, name, seed) for name in names)])
        for name in names:
            areas = [auroc(one, name) for one in members]
            means[name].append(None if None in areas else float(np.mean(areas)))
        if len(members) > 1:
            last = [means[name][-1] for name in names]
            rows.append([Cell(f"{group}, mean of {len(members)}", mark="strong"), *map(_number, last)])
    overall = [None if None in each else float(np.mean(each)) for each in means.values()]
    footer = [[Cell("mean of groups", mark="strong"), *map(_number, overall)]]
    return Table("AUROC", ["surface", *names], rows, footer)


def _area(one: Found, name: str, seed: int) -> Cell:
    if name in one.same:
        return Cell("=", auroc(one, name))
    areas = resampled(one, [name], seed=seed)
    if areas is None:
        return Cell("–")
    low, high = interval(areas[0])
    area = auroc(one, name)
    return Cell(f"{area:.3f} [{low:.3f}, {high:.3f}]", area)


def _chosen(found: Sequence[Found]) -> Table:
    rows = [
        [Cell(text) for text in (one.surface, one.chosen, str(one.fitted))]
        + [Cell(str(one.defect.count(is_defect))) for is_defect in (False, True)]
        for one in found
    ]
    return Table("The default", ["surface", "chosen", "fitted to", "good tested", "defects tested"], rows)


def _number(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(f"{value:.3f}", value, "strong")


def _pairs(values: dict[str, str]) -> list[list[Cell]]:
    return [list(map(Cell, pair)) for pair in values.items()]


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")  # that several networks are traced is no news
    main()
