"""Score good images by detectors that have not seen them, and draw where suspects differ from the rest."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import keras
import numpy as np

from metricad.check.findings import Findings, Shown
from metricad.data import images
from metricad.data.levels import Levels
from metricad.data.sequence import ImageSequence
from metricad.inspection import cross_validation
from metricad.inspection.detector import PartDetector
from metricad.preprocessing.regions import Region
from metricad.scoring import suspects

MOST = 200
"""Largest number of images that are cross-validated. Others are scored by a detector fitted to these."""

SHOWN = 24
"""Largest number of suspects with a heat map."""

UNUSUAL = 4
"""Number of images with a heat map if there are no suspects: those with the highest scores."""


def score(
    found: Findings,
    network: keras.Model,
    *,
    is_gray: bool = False,
    region: Region | None = None,
    seed: int = 0,
    page: int | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> tuple[Findings, list[Shown]]:
    """Score all usable good images by detectors that have not seen them, and find the suspects.

    Parameters
    ----------
    found : Findings
    network : keras.Model
    is_gray, region, seed : optional
        As of `PartDetector`. If some images are gray and some in color, all are taken as gray.
    page : int, optional
        As in `images.read`.
    on_image : function, optional
        Called whenever an image was read, several times for each.

    Returns
    -------
    Findings
        With suspects; without, if there are too few images.
    list of Shown
        The suspects, or the images with the highest scores if there are none, highest first.

    Raises
    ------
    DataError
        An image is too small, or does not fit the region.
    """
    usable = [found.good[number] for number in found.usable]
    if len(usable) < suspects.FEWEST:
        return found, []
    gray = is_gray or len({facts.color == "color" for facts in usable}) > 1
    made = partial(PartDetector, network, is_gray=gray, region=region, seed=seed)
    read = partial(
        images.read,
        minimum_size=made().grid.smallest,
        color=not gray,
        levels=Levels(usable[0].container, usable[0].bits),
        page=page,
    )

    def some(numbers: np.ndarray) -> ImageSequence:
        paths = [usable[number].path for number in numbers]
        return ImageSequence(((path, partial(read, path)) for path in paths), on_image=on_image)

    order = np.random.default_rng(seed).permutation(len(usable))
    groups = found.near[found.usable]

    def scored(numbers: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        is_fitted = np.isin(numbers, order[np.isin(order, numbers)][:MOST])
        fitted, detector = numbers[is_fitted], made()
        folds = cross_validation.folds(len(fitted), seed=seed, groups=groups[fitted])
        scores = np.empty(len(numbers))
        scores[is_fitted] = cross_validation.fit(detector, some(fitted), folds)
        scores[~is_fitted] = [detector.score(image) for image in some(numbers[~is_fitted])]

        def unseen(places: np.ndarray) -> np.ndarray:
            alone = made().fit(some(np.setdiff1d(fitted, numbers[places])))
            return np.array([alone.score(image) for image in some(numbers[places])])

        return scores, unseen

    result = suspects.find(len(usable), scored)
    unusual = np.argsort(-result.distances)[:UNUSUAL].tolist()
    shown = [*result.numbers, *result.doubtful][:SHOWN] or unusual
    rest = order[~np.isin(order, [*result.numbers, *shown])][:MOST]
    detector = made().fit(some(rest))
    sheet = [
        Shown(
            usable[number].path, float(result.distances[number]), number in result.numbers, image, found_map
        )
        for number, image in zip(shown, some(np.array(shown, int)), strict=True)
        for found_map in [detector.anomaly_map(image)]
    ]
    return replace(found, suspects=result), sheet
