"""Compare expected and estimated false-alarm rates with those observed, over many draws of good images.

    python scripts/false_alarm_rates.py --data PARTS/casting --data PARTS/wood --halve --work WORK

Each draw takes some good images of a surface at random, as `metricad prototype` would get them. All are
fitted to, and cross-validated scores set the threshold. Then the inspector scores other good images of the
surface. In the first draws a second inspector is fitted to four fifths of the images, as if the rest were
held out for the threshold, and both score defects: the AUROC of both ways. Each draw is a line of
WORK/draws.jsonl: an interrupted run goes on where it was. Writes false-alarm-rates.md into results/.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import numpy as np

from metricad import files
from metricad.data import datasets
from metricad.evaluation.protocol import images_of
from metricad.inspection import cross_validation
from metricad.inspection.detector import PartDetector
from metricad.metrics.image import auroc
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Table
from metricad.scoring.calibration import calibrate
from metricad.training.loading import load_network

RATES = (0.1, 0.01)
FEWEST_OTHERS = 10
"""A surface needs at least as many good images that are not drawn."""

SMALLEST = 100
"""Shorter side in pixels of the smallest image used; with --halve all are shrunk to less than twice that."""

HELD_OUT = 0.2
"""Share of the images that the second inspector of a draw is not fitted to."""


def main() -> int:
    """Draw, fit, score, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, action="append", help="as of 'metricad evaluate'")
    parser.add_argument("--data-dir", help="as of 'metricad evaluate'")
    parser.add_argument("--network", default="fast", help="a network that ships, or a run folder")
    parser.add_argument("--images", type=int, nargs="+", default=[10, 20, 50, 100], help="of each draw")
    parser.add_argument("--splits", type=int, default=200, help="draws of each number of images")
    parser.add_argument("--compared", type=int, default=10, help="draws with a second inspector")
    parser.add_argument("--stream", type=int, default=30, help="most other images that are scored")
    parser.add_argument(
        "--halve", action="store_true", help="halve images until the shorter side is below 200 pixels"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="folder of what is done")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the page")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    log = options.work / "draws.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    network = load_network(options.network)
    surfaces = {}
    for source in options.data:
        for surface in datasets.load(source, data_dir=options.data_dir):
            samples = (*surface.fit, *surface.test)
            surfaces[surface.name] = [
                _images([s for s in samples if s.is_defect == is_defect], is_halved=options.halve)
                for is_defect in (False, True)
            ]
    with measuring.features_once():
        draw_all(network, surfaces, options, done, log)
    return 0


def draw_all(
    network: object,
    surfaces: Mapping[str, Sequence[list[np.ndarray]]],
    options: argparse.Namespace,
    done: list[dict[str, Any]],
    log: Path,
) -> None:
    """Make all draws that are not done; `surfaces` has the good images and the defects of each."""
    keys = {tuple(one["key"]) for one in done}
    for split in range(options.splits):
        for name, (good, defects) in surfaces.items():
            for count in options.images:
                key = name, count, split
                if key in keys or count + FEWEST_OTHERS > len(good):
                    continue
                began = time.perf_counter()
                found = draw(
                    network,
                    good,
                    defects if split < options.compared else [],
                    count,
                    stream=options.stream,
                    rng=np.random.default_rng([options.seed, count, split]),
                )
                done.append({"key": key, **found, "seconds": round(time.perf_counter() - began, 2)})
                with log.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
        print(f"split {split + 1} of {options.splits}", flush=True)
        files.write_text(options.out / "false-alarm-rates.md", markdown.render(page(done, options)))


def _images(samples: Sequence[datasets.Sample], *, is_halved: bool) -> list[np.ndarray]:
    """Read images as luminance; halve the large ones; leave out those smaller than `SMALLEST`."""
    found = []
    for image in images_of(samples, color=False):
        while is_halved and min(image.shape) >= 2 * SMALLEST:
            image = halved(image)
        if min(image.shape) >= SMALLEST:
            found.append(image)
    return found


def halved(image: np.ndarray) -> np.ndarray:
    """Average squares of two by two pixels of an image (H, W)."""
    rows, columns = (side // 2 for side in image.shape)
    return image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))


def draw(
    network: object,
    good: Sequence[np.ndarray],
    defects: Sequence[np.ndarray],
    count: int,
    *,
    stream: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Fit to some images.

    Returns
    -------
    dict
        ``own``, their cross-validated scores; ``others``, scores of other good images; with defects,
        ``auroc``: of the inspector fitted to all images, and of one fitted to four fifths of them.
    """
    order = rng.permutation(len(good))
    seed = int(rng.integers(2**31))
    fitted = [good[i] for i in order[:count]]
    others = [good[i] for i in order[count : count + stream]]
    detector = PartDetector(network, seed=seed)
    own = cross_validation.fit(detector, fitted, cross_validation.folds(count, seed=seed))
    found = {"own": own.tolist(), "others": [detector.score(image) for image in others]}
    if len(defects):
        bad = [defects[i] for i in rng.permutation(len(defects))[:stream]]
        fewer = PartDetector(network, seed=seed).fit(fitted[round(HELD_OUT * count) :])
        found["auroc"] = [
            auroc(
                np.repeat([False, True], [len(others), len(bad)]),
                [one.score(image) for image in [*others, *bad]],
            )
            for one in (detector, fewer)
        ]
    return found


def page(done: Sequence[dict[str, Any]], options: argparse.Namespace) -> Document:
    """Build the page."""
    rows: list[list[object]] = []
    for name, count in dict.fromkeys((one["key"][0], one["key"][1]) for one in done):
        rows += summary(name, count, [one for one in done if tuple(one["key"][:2]) == (name, count)])
    rows.sort(key=lambda row: (str(row[0]), int(str(row[1]))))
    header = [
        "surface", "images", "draws", "basis", "said, %", "observed, %", "95 % interval of it", "ratio",
        "AUROC, all fit", "a fifth held out",
    ]  # fmt: skip
    data = " ".join(f"--data {Path(source).name}" for source in options.data)
    halve, size = (
        ("--halve ", ", images halved until the shorter side is below 200 pixels")
        if options.halve
        else ("", "")
    )
    return Document(
        "Expected false alarms, and those observed",
        [
            f"Made by: python scripts/false_alarm_rates.py {data} --network {options.network} {halve}"
            f"--splits {options.splits} --stream {options.stream} --seed {options.seed} --work WORK",
            f"Network {options.network}, gray{size}. Each draw fits to some good images, all of them, and "
            "sets the threshold by their cross-validated scores; then other good images of the surface are "
            "scored. The rate that is said is what the number of images allows, or 10 and 1 % where it "
            "allows them; the observed rate is a mean over draws. AUROC: means of "
            f"{options.compared} draws.",
            Table("", header, [[Cell(str(one)) for one in row] for row in rows]),
        ],
        [],
    )


def summary(name: str, count: int, found: Sequence[dict[str, Any]]) -> list[list[object]]:
    """Return one row of the table for each rate."""
    rows: list[list[object]] = []
    compared = [one["auroc"] for one in found if "auroc" in one]
    reached = [f"{one:.3f}" for one in np.mean(compared, axis=0)] if compared else ["", ""]
    for rate in RATES:
        made = [calibrate(one["own"], rate, is_held_out=False) for one in found]
        said = made[0].false_alarm_rate
        if f"{100 * said:.1f}" in [row[4] for row in rows]:
            continue
        observed = np.array(
            [np.mean(np.array(one["others"]) > set_.threshold) for set_, one in zip(made, found, strict=True)]
        )
        error = 1.96 * observed.std(ddof=1) / np.sqrt(len(observed)) if len(observed) > 1 else np.nan
        mean = observed.mean()
        rows.append(
            [
                name,
                count,
                len(found),
                made[0].basis,
                f"{100 * said:.1f}",
                f"{100 * mean:.2f}",
                f"{100 * max(mean - error, 0):.2f} to {100 * (mean + error):.2f}",
                f"{mean / said:.2f}",
                *(reached if not rows else ["", ""]),
            ]
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
