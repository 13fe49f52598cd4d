"""Compare rules that fuse ImageNet features with those of the shipped network.

    python scripts/joint_fusion.py --data PARTS/casting --data surfaces --data-dir PREPARED --work WORK

The inspector `joint` is fitted to at most 100 good images of each surface. The distance maps of up to 70 good
and 100 defective test images are kept in WORK; an interrupted run goes on where it was. Then all rules are
applied to the same maps. Prints a table in Markdown. No rule learns from labels.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from metricad.data import datasets
from metricad.evaluation.protocol import Protocol, images_of
from metricad.inspection import fit_detector
from metricad.inspection.detector import PartDetector
from metricad.metrics import image as metrics
from metricad.networks import pretrained
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Table
from metricad.scoring.score import top_mean
from metricad.scoring.standardize import AVERAGED, Fuse

FITTED, GOOD, DEFECTS = 100, 70, 100
TOP = 0.01

OWN = "own"
"""All maps of the shipped network, its line filters and color."""

Maps = Sequence[np.ndarray]


def main() -> None:
    """Compute the maps that are missing, apply the rules, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, action="append", help="as of 'metricad evaluate'")
    parser.add_argument("--data-dir", help="as of 'metricad evaluate'")
    parser.add_argument("--surface", action="append", help="names of surfaces; all by default")
    parser.add_argument("--work", type=Path, required=True, help="folder of the maps")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for source in options.data:
        for surface in datasets.load(source, data_dir=options.data_dir):
            if options.surface and surface.name not in options.surface:
                continue
            path = options.work / f"{Path(source).name}-{surface.name}.npz"
            if not path.exists():
                compute(surface, path)
            with np.load(path, allow_pickle=True) as kept:
                rows.append((surface.name, rules(**{key: kept[key] for key in kept.files})))
    names = list(rows[0][1])
    rows.append(("mean", {name: float(np.mean([found[name] for _, found in rows])) for name in names}))
    cells = [[Cell(name), *(Cell(f"{found[key]:.3f}") for key in names)] for name, found in rows]
    print("\n".join(markdown.table(Table("", ["surface", *names], cells))))


def compute(surface: datasets.Surface, path: Path) -> None:
    """Fit the inspector to a surface and write its distance maps."""
    rng = np.random.default_rng(0)
    fitted, _ = Protocol().split(surface.fit)
    fitted = [fitted[i] for i in sorted(rng.permutation(len(fitted))[:FITTED])]
    test = [[s for s in surface.test if s.is_defect == kind] for kind in (False, True)]
    chosen = [
        [one[i] for i in rng.permutation(len(one))[:n]] for one, n in zip(test, (GOOD, DEFECTS), strict=True)
    ]
    detector = PartDetector(pretrained.load("joint"))
    _, learned = fit_detector.fit(detector, images_of(fitted, color=True))
    name, _ = learned.choose()
    maps = [detector.distances(one) for one in images_of(chosen[0] + chosen[1], color=True)]
    np.savez(
        path,
        kept=_objects(learned.distances(name)),
        maps=_objects(maps),
        defect=np.arange(len(maps)) >= len(chosen[0]),
        kinds=[source.kind for source in detector.features.sources],
    )
    print(f"{surface.name}: {detector.description}", flush=True)


def _objects(maps: Maps) -> np.ndarray:
    """Put maps of any sizes into one array, with 16 bits."""
    found = np.empty(len(maps), object)
    for number, one in enumerate(maps):
        found[number] = one.astype(np.float16)
    return found


def rules(kept: np.ndarray, maps: np.ndarray, defect: np.ndarray, kinds: np.ndarray) -> dict[str, float]:
    """Compute the AUROC under each rule from distances in good images (`kept`) and in test images."""
    good, tested = ([one.astype(np.float32) for one in each] for each in (kept, maps))
    standardize = fit_detector.empty_standardize(good, list(map(str, kinds)))
    good = standardize.adapt_and_score(good, [None] * len(good))
    tested = [np.asarray(standardize(one[np.newaxis]))[0] for one in tested]

    def fused(*groups: str) -> tuple[Maps, Maps]:
        """Fuse some groups of maps by the product's rule; return the maps of test images and of good ones."""
        chosen = [k for k, kind in enumerate(kinds) if (kind if kind in AVERAGED else OWN) in groups]
        layer = Fuse([str(kinds[k]) for k in chosen]).adapt(
            [one[..., chosen] for one in good], [None] * len(good)
        )
        return tuple(
            [np.asarray(layer(one[np.newaxis][..., chosen]))[0].sum(axis=-1) for one in each]
            for each in (tested, good)
        )

    def tops(found: Maps) -> np.ndarray:
        return np.array([top_mean(one, TOP, None) for one in found])

    def standard(found: tuple[Maps, Maps]) -> np.ndarray:
        scores, of_good = tops(found[0]), tops(found[1])
        return (scores - of_good.mean()) / of_good.std()

    features, cells = AVERAGED
    every = [standard(fused(group)) for group in (OWN, features, cells)]
    scores = {
        "accurate": tops(fused(OWN)[0]),
        "features": tops(fused(features)[0]),
        "cells": tops(fused(cells)[0]),
        "imagenet: features, cells": tops(fused(features, cells)[0]),
        "accurate, features": tops(fused(OWN, features)[0]),
        "accurate, cells": tops(fused(OWN, cells)[0]),
        "joint: all three": tops(fused(OWN, features, cells)[0]),
        "mean of three scores": np.mean(every, axis=0),
        "largest of three scores": np.max(every, axis=0),
    }
    return {name: metrics.auroc(defect, values) for name, values in scores.items()}


if __name__ == "__main__":
    main()
