"""Checks of a surface before methods are evaluated on it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metricad.data.datasets import Sample, Surface, with_levels
from metricad.data.fingerprint import fingerprint
from metricad.data.levels import Levels
from metricad.errors import DataError
from metricad.inspection.detector import PartDetector
from metricad.inspection.interface import Detector


def check_unseen(surface: Surface, trained_on: Sequence[dict[str, Any]]) -> None:
    """Raise an error if a network was trained on test images, going by their names.

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


def check_new(surface: Surface, prints: Mapping[str, str], trained_on: Sequence[dict[str, Any]]) -> None:
    """Raise an error if a network was trained on test images, going by their pixels.

    Parameters
    ----------
    surface : Surface
    prints : mapping of str to str
        Names of images and their fingerprints, from `without_bad`.
    trained_on : sequence of dict
        As of `check_unseen`. Runs of older versions have no fingerprints.

    Raises
    ------
    DataError
        The same pixels are among the training data, under whatever name.
    """
    for source in trained_on:
        known = set(source.get("fingerprints", ()))
        seen = [sample.name for sample in surface.test if prints[sample.name] in known]
        if seen:
            raise DataError(
                f"{surface.dataset}: {len(seen)} test images of {surface.name} were trained on "
                f"({min(seen)}, …): the same pixels are in {source['dataset']}; leave them out of one of both"
            )


def is_known(surface: Surface, prints: Mapping[str, str], trained_on: Sequence[dict[str, Any]]) -> bool:
    """Tell whether a network was trained on good images of a surface; parameters as of `check_new`."""
    own = {prints[sample.name] for sample in surface.fit}
    return any(
        (source["dataset"] == surface.dataset and surface.name in source["labelled"])
        or not own.isdisjoint(source.get("fingerprints", ()))
        for source in trained_on
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


MOST_BAD = 0.05
"""Share of a surface's images that may be left out; a single one always may."""


def left_out(sample: Sample, what: str, error: DataError) -> dict[str, str]:
    """Record that an image, or its mask only, could not be used; without folders of this machine."""
    head, _, rest = str(error).partition(": ")
    reason = str(error)
    if rest and Path(head).name == Path(sample.name).name:
        reason = rest
    elif rest and "/" in head:
        reason = f"{Path(head).name}: {rest}"
    return {"name": sample.name, "what": what, "reason": " ".join(reason.split())}


def without_bad(
    surface: Surface, detectors: Sequence[Detector], on_bad: Callable[[], object]
) -> tuple[Surface, list[dict[str, str]], dict[str, str]]:
    """Read all images of a surface; leave out those that cannot be read or are too small for a network.

    Returns
    -------
    surface : Surface
        The others.
    bad : list of dict
        The images that were left out, see `left_out`. `on_bad` is called for each.
    prints : dict
        Names of the other images and their fingerprints.

    Raises
    ------
    DataError
        See `check_few`.
    """
    smallest = max((d.grid.smallest for d in detectors if isinstance(d, PartDetector)), default=1)
    bad: list[dict[str, str]] = []
    prints: dict[str, str] = {}

    def readable(sample: Sample) -> bool:
        try:
            image = sample.read()
            shape = image.shape
            if min(shape[:2]) < smallest:
                raise DataError(
                    f"expected an image of at least {smallest}×{smallest} pixels, received {shape}"
                )
        except DataError as error:
            bad.append(left_out(sample, "image", error))
            on_bad()
            return False
        prints[sample.name] = fingerprint(image)
        return True

    fit, test = (tuple(filter(readable, samples)) for samples in (surface.fit, surface.test))
    check_few(surface, bad)
    return replace(surface, fit=fit, test=test), bad, prints


def check_few(surface: Surface, bad: Sequence[dict[str, str]]) -> None:
    """Raise DataError if so many images of a surface are bad that the others may tell something else."""
    total = len(surface.fit) + len(surface.test)
    names = [one["name"] for one in bad if one["what"] == "image"]
    if len(names) > max(1, MOST_BAD * total):
        first = next(one for one in bad if one["what"] == "image")
        raise DataError(
            f"{surface.dataset}: {surface.name}: {len(names)} of {total} images cannot be used, more than "
            f"{MOST_BAD:.0%}; the first: {first['name']}: {first['reason']}"
        )
