"""Checks of a surface before methods are evaluated on it."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from metricad.data.datasets import Sample, Surface, with_levels
from metricad.data.levels import Levels
from metricad.errors import DataError
from metricad.inspection.detector import PartDetector
from metricad.inspection.interface import Detector


def check_unseen(surface: Surface, trained_on: Sequence[dict[str, Any]]) -> None:
    """Raise an error if a network was trained on test images.

    Parameters
    ----------
    surface : Surface
    trained_on : sequence of dict
        Records of the training data, made by `datasets.describe`.

    Raises
    ------
    DataError
        The network was trained on test images, because the two splits differ.
    """
    for source in trained_on:
        if source["dataset"] == surface.dataset:
            seen = set(source["labelled"].get(surface.name, ())) & {sample.name for sample in surface.test}
            if seen:
                raise DataError(
                    f"{surface.dataset}: {len(seen)} test images of {surface.name} were trained on "
                    f"({min(seen)}, …); evaluate with the --normals of the training"
                )


def check_labels(surface: Surface) -> None:
    """Raise DataError unless a surface has labeled test images of both classes."""
    defects = sum(sample.is_defect for sample in surface.test)
    if not 0 < defects < len(surface.test):
        raise DataError(
            f"{surface.dataset}: surface {surface.name} has {len(surface.test) - defects} good and {defects} "
            "defective images to test on; an AUROC needs both"
        )


def with_range(surface: Surface, levels: Collection[Levels | None]) -> Surface:
    """Read a surface with the range of levels that bundles were fitted to, if there are any."""
    wanted = set(levels) - {None}
    if len(wanted) > 1:
        raise DataError(
            f"{surface.name}: its inspectors were fitted to {' and '.join(sorted(map(str, wanted)))}; "
            "evaluate them one by one"
        )
    return with_levels(surface, found) if (found := next(iter(wanted), None)) else surface


def refusing_small(surface: Surface, detectors: Sequence[Detector]) -> Surface:
    """Wrap a surface so that images too small for a network raise an error with their name."""
    smallest = max((d.grid.smallest for d in detectors if isinstance(d, PartDetector)), default=1)

    def checked(sample: Sample) -> Sample:
        def read() -> np.ndarray:
            image = sample.read()
            if min(image.shape[:2]) < smallest:
                raise DataError(
                    f"{surface.dataset}: {sample.name}: expected an image of at least {smallest}×{smallest} "
                    f"pixels, received {image.shape}"
                )
            return image

        return replace(sample, read=read)

    return replace(surface, fit=tuple(map(checked, surface.fit)), test=tuple(map(checked, surface.test)))
