"""Compare the results of every export format with the library's, on images of twenty odd sizes.

    python scripts/export_parity.py

For each density, an inspector with a shipped network is fitted to rendered textures and exported to every
format. Each export inspects one good and one defective image of each size that it accepts. Aligned parts have
one size; their exports inspect the same number of images of it. Writes exports.md into results/; exits with 1
if a score differs by more than the tolerance of an export.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import numpy as np

from metricad import files
from metricad.cli import display
from metricad.density import MEANS
from metricad.deploy import export, exported
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspection, Inspector
from metricad.networks import pretrained, residual
from metricad.preprocessing.regions import MaskRegion
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Section, Table
from metricad.scoring.calibration import calibrate
from metricad.synthetic import defects
from metricad.versions import versions

SIZES = [
    (int(2 * r + 1), int(2 * c + 1)) for r, c in np.random.default_rng(0).integers(36, 180, size=(20, 2))
]
"""Height and width in pixels, all odd, from 73 to 359."""

SHAPE = (159, 181)
"""Height and width of images of aligned parts, in pixels."""

FITTED, HELD_OUT = 24, 19


@dataclass(frozen=True)
class Part:
    """What an inspector is fitted to, and its settings."""

    name: str
    network: str
    kind: str
    is_colored: bool = False
    in_register: bool = False
    is_masked: bool = False
    is_one_size: bool = True


PARTS = [
    Part("gray, mixture", "accurate", "mixture"),
    Part("color, mixture", "accurate", "mixture", is_colored=True),
    Part("gray, one Gaussian, fast", "fast", "gaussian"),
    Part("color, one Gaussian, fast", "fast", "gaussian", is_colored=True),
    Part("gray, positional, in a mask", "accurate", "positional", in_register=True, is_masked=True),
    Part("color, positional", "accurate", "positional", is_colored=True, in_register=True),
    Part("gray, mixture, in a mask", "accurate", "mixture", in_register=True, is_masked=True),
    Part("the paper's: mean, maximum", "paper", "mean"),
    Part("the paper's: mean at each position", "paper", "positional-mean", in_register=True),
    Part("gray, ImageNet features", "imagenet", "mixture"),
    Part("gray, joint", "joint", "mixture"),
    Part("gray, joint, fitted to several sizes", "joint", "mixture", is_one_size=False),
    Part("color, joint", "joint", "mixture", is_colored=True),
]


def main() -> int:
    """Fit, export, compare, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", action="append", help="name of a part; all by default")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="of twenty")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the page")
    options = parser.parse_args()
    rows, largest = [], 0.0
    parts = [part for part in PARTS if options.part is None or part.name in options.part]
    with display.progress("exports", len(parts) * len(export.FORMATS)) as advance:
        for part in parts:
            inspector = fit(part)
            judged = list(images(part, SIZES[: options.sizes]))
            expected = [inspector.inspect(image)[0] for image in judged]
            cells = [Cell(part.name), Cell(str(len(judged)))]
            for format in export.FORMATS:
                difference, verdicts = compare(inspector, format, judged, expected)
                cells.append(Cell(f"{difference:.1e}, {verdicts}"))
                largest = max(largest, difference)
                advance()
            rows.append(cells)
            print(" | ".join(cell.text for cell in cells), flush=True)
    is_kept = largest <= export.TOLERANCE["float32"]
    files.write_text(options.out / "exports.md", markdown.render(page(rows, largest)))
    return 0 if is_kept else 1


def fit(part: Part) -> Inspector:
    """Fit an inspector to textures, and calibrate its threshold with other ones."""
    count = FITTED + HELD_OUT
    if part.is_one_size:
        good = textures(part, SHAPE, count)
    else:
        good = [textures(part, SIZES[k % len(SIZES)], k + 1)[-1] for k in range(count)]
    network = residual.build(16, seed=0) if part.network == "paper" else pretrained.load(part.network)
    region = None
    if part.is_masked:
        mask = np.zeros(SHAPE, bool)
        mask[21:140, 31:170] = True
        mask[60:90, 80:120] = False
        region = MaskRegion(mask)
    score = {"score": "max"} if part.kind in MEANS else {}
    detector = PartDetector(network, part.kind, region=region, **score).fit(good[:FITTED])
    return Inspector(detector, calibrate([detector.score(one) for one in good[FITTED:]], 0.05), {})


def textures(part: Part, shape: tuple[int, int], count: int) -> list[np.ndarray]:
    """Draw images of a texture with regions; for aligned parts, the regions have fixed positions."""
    side = max(*shape, 128)
    side += side % 2
    drawn = measuring.regions(count, (side, side), is_colored=part.is_colored)
    if part.in_register:
        rng = np.random.default_rng(0)
        first = drawn[0]
        drawn = [np.clip(first + rng.normal(0, 0.05, first.shape), -1, 1).astype(np.float32) for _ in drawn]
    return [as_stored(image[: shape[0], : shape[1]]) for image in drawn]


def as_stored(image: np.ndarray) -> np.ndarray:
    """Round to the 256 gray levels of files, as exports get them."""
    return (np.round((image + 1) * 127.5) / np.float32(127.5) - 1).astype(np.float32)


def images(part: Part, sizes: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Draw one good and one defective image of each size."""
    rng = np.random.default_rng(1)
    for number, size in enumerate(sizes):
        image = textures(part, SHAPE if part.in_register else size, number + 1)[-1]
        yield image
        yield as_stored(defects.add_any(image, rng)[0])


def compare(
    inspector: Inspector, format: str, judged: Sequence[np.ndarray], expected: Sequence[Inspection]
) -> tuple[float, str]:
    """Compare scores, verdicts and deciding sources; and count the peaks that lie elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"part{export.FORMATS[format][0]}"
        export.export(inspector, path, format=format)
        found = exported.load(path)
        pairs = [(one, found.inspect(image)[0]) for one, image in zip(expected, judged, strict=True)]
    least = 0.0 if inspector.detector.standardize is None else export.SMALLEST_SCORE
    differences = [abs(one.score - other.score) / max(abs(one.score), least) for one, other in pairs]
    agree = sum((one.verdict, one.source) == (other.verdict, other.source) for one, other in pairs)
    elsewhere = sum((one.peak_row, one.peak_col) != (other.peak_row, other.peak_col) for one, other in pairs)
    return max(differences), f"{agree} of {len(pairs)}" + (
        f", {elsewhere} peaks elsewhere" if elsewhere else ""
    )


def page(rows: list[list[Cell]], largest: float) -> Document:
    """Build the page."""
    return Document(
        "Parity of exports",
        [
            "Made by: python scripts/export_parity.py",
            "Largest difference between the score of an export, run by its own runtime, and the library's, "
            f"as a share of the score (of {export.SMALLEST_SCORE:g} standard deviations for smaller scores), "
            "and the number of images on which verdict and source agree. The peak may differ if a map has "
            "two equal maxima, as the coarse color map often has. Each size has one good and one defective "
            f"image. Aligned parts, and those with a mask, have one size, {SHAPE[0]}×{SHAPE[1]}, all others "
            f"in these: {', '.join(f'{h}×{w}' for h, w in SIZES)}.",
            f"The largest difference of all is {largest:.1e}; an export is refused above "
            f"{export.TOLERANCE['float32']:g}.",
            Table("Differences of exports", ["part", "images", *export.FORMATS], rows),
        ],
        [
            Section(
                "Versions",
                [
                    Table(
                        "Versions",
                        ["package", "version"],
                        [[Cell(name), Cell(value)] for name, value in versions().items()],
                    )
                ],
            )
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
