"""Export with less than float32: faster on processors that support it. Measure the loss of accuracy."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metricad.deploy import export as exporting
from metricad.deploy import exported
from metricad.inspection import min_defect
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector, for_each
from metricad.inspection.interface import ImageJudge
from metricad.metrics.image import auroc
from metricad.scoring.calibration import calibrate, check_total

SAMPLES = 32
"""Largest number of good images used to learn ranges for int8; a third of all images below 96."""


@dataclass(frozen=True)
class Cost:
    """Effect of reduced precision on an inspector.

    Attributes
    ----------
    inspector : Inspector
        The exported inspector, with its own threshold.
    images : int
        Number of good images used for the threshold and the differences.
    median, largest : float
        Differences of their scores, relative to the score or to 1 if that is larger.
    aurocs : (float, float) or None
        AUROC on labeled images, in float32 and in reduced precision.
    """

    inspector: Inspector[ImageJudge]
    images: int
    median: float
    largest: float
    aurocs: tuple[float, float] | None = None


def export(
    inspector: Inspector[PartDetector],
    path: str | os.PathLike[str],
    *,
    format: str,
    precision: str,
    good: Sequence[str | os.PathLike[str]],
    labelled: Iterable[tuple[np.ndarray, bool]] = (),
    input_type: str = "float32",
    bundle: str | os.PathLike[str] | None = None,
) -> Cost:
    """Export an inspector in reduced precision, calibrate it again, and measure the effect.

    Reduced precision changes scores, mostly those of good images. So the threshold is calibrated again at the
    rate that was asked for.

    Parameters
    ----------
    good : sequence of path
        Good images that were not used for fitting. For int8 the first ones set the ranges of values; all
        others set the threshold.
    labelled : iterable of (float32 (H, W) in [-1, 1], bool)
        Images with their labels (true for a defect), to compare the AUROC.
    inspector, path, format, precision, input_type, bundle
        Parameters and errors of `export.export`.

    Raises
    ------
    DataError
        There are too few good images to set a threshold; see `calibration.FEWEST`.
    """
    count = min(SAMPLES, len(good) // 3) if precision == "int8" else 0
    rate = inspector.calibrated.asked
    check_total(len(good) - count)
    read = inspector.read
    settings: dict[str, Any] = {
        "format": format,
        "precision": precision,
        "samples": [read(one) for one in good[:count]],
        "input_type": input_type,
        "bundle": bundle,
    }
    others = good[count:]
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / Path(path).name
        # The threshold is part of the graph, but is known only after the graph has been run.
        plain = inspector.changed(detector=inspector.detector.with_opening(None))
        exporting.export(plain, draft, images=[read(others[0])], **settings)
        faster = exported.load(draft)
        scores = for_each(
            others,
            lambda image: (faster.inspect(image)[0].score, plain.inspect(image)[0].score),
            read=read,
        )
        reduced, full = np.array(list(scores)).T
    final = min_defect.with_calibration(inspector, calibrate(reduced, rate))
    exporting.export(final, path, images=[read(others[0])], **settings)
    made = exported.load(path)
    differences = np.abs(reduced - full) / np.maximum(np.abs(full), 1)
    return Cost(
        made,
        len(others),
        float(np.median(differences)),
        float(differences.max()),
        _aurocs(inspector, made, labelled),
    )


def _aurocs(
    full: Inspector[ImageJudge], reduced: Inspector[ImageJudge], labelled: Iterable[tuple[np.ndarray, bool]]
) -> tuple[float, float] | None:
    found = [
        (full.inspect(image)[0].score, reduced.inspect(image)[0].score, is_defect)
        for image, is_defect in labelled
    ]
    if not found:
        return None
    before, after, labels = np.array(found).T
    return auroc(labels.astype(bool), before), auroc(labels.astype(bool), after)
