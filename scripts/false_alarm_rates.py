"""Compare expected and estimated false-alarm rates with those observed, over many draws of good images.

    python scripts/false_alarm_rates.py --data parts/casting --data parts/elpv_mono --network fast

Each draw takes some good images of a surface at random, as `metricad prototype` would get them. All are
fitted to, and cross-validated scores set the threshold. Then the inspector scores other good images of the
surface. Prints a table in Markdown.
"""

import argparse
import os
import time
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from metricad.data import datasets
from metricad.evaluation.protocol import images_of
from metricad.inspection import cross_validation
from metricad.inspection.detector import PartDetector
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Table
from metricad.scoring.calibration import calibrate
from metricad.training.loading import load_network

RATES = (0.1, 0.01)


def main() -> None:
    """Draw, fit, score, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, action="append", help="as of 'metricad evaluate'")
    parser.add_argument("--data-dir", help="as of 'metricad evaluate'")
    parser.add_argument("--network", default="fast", help="a network that ships, or a run folder")
    parser.add_argument("--images", type=int, nargs="+", default=[10, 20, 50, 100], help="of each draw")
    parser.add_argument("--splits", type=int, default=20, help="draws of each number of images")
    parser.add_argument("--stream", type=int, default=100, help="most other images that are scored")
    parser.add_argument("--halve", action="store_true", help="halve images first, for a quick look")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    network = load_network(options.network)
    rows = []
    for source in options.data:
        for surface in datasets.load(source, data_dir=options.data_dir):
            samples = [s for s in (*surface.fit, *surface.test) if not s.is_defect]
            images = [halved(image) if options.halve else image for image in images_of(samples, color=False)]
            for count in options.images:
                began = time.perf_counter()
                rng = np.random.default_rng([options.seed, count])
                found = [draw(network, images, count, options.stream, rng) for _ in range(options.splits)]
                rows += summary(surface.name, count, found)
                print(f"{surface.name}, {count}: {time.perf_counter() - began:.0f} s", flush=True)
    header = ["surface", "images", "basis", "said, %", "observed, %", "95 % interval of it", "ratio"]
    print("\n".join(markdown.table(Table("", header, rows))))


def halved(image: np.ndarray) -> np.ndarray:
    """Average squares of two by two pixels of an image (H, W)."""
    rows, columns = (side // 2 for side in image.shape)
    return image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))


def draw(
    network: object, images: Sequence[np.ndarray], count: int, stream: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Fit to some images; return their cross-validated scores, and the scores of others."""
    order = rng.permutation(len(images))
    seed = int(rng.integers(2**31))
    detector = PartDetector(network, seed=seed)
    folds = cross_validation.folds(count, seed=seed)
    own = cross_validation.fit(detector, [images[i] for i in order[:count]], folds)
    return own, np.array([detector.score(images[i]) for i in order[count : count + stream]])


def summary(name: str, count: int, found: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[list[Cell]]:
    """Return one row of the table for each rate."""
    rows, said_before = [], set()
    for rate in RATES:
        made = [calibrate(own, rate, is_held_out=False) for own, _ in found]
        said = made[0].false_alarm_rate
        if said in said_before:
            continue
        said_before.add(said)
        observed = np.array(
            [np.mean(stream > one.threshold) for one, (_, stream) in zip(made, found, strict=True)]
        )
        error = 1.96 * observed.std(ddof=1) / np.sqrt(len(observed))
        mean = observed.mean()
        rows.append(
            [
                Cell(name),
                Cell(str(count)),
                Cell(str(made[0].basis)),
                Cell(f"{100 * said:.1f}"),
                Cell(f"{100 * mean:.1f}"),
                Cell(f"{100 * (mean - error):.1f} to {100 * (mean + error):.1f}"),
                Cell(f"{mean / said:.2f}"),
            ]
        )
    return rows


if __name__ == "__main__":
    main()
