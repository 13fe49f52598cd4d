"""Fit and calibrate an inspector with a folder of good images."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from metricad.data import images
from metricad.data.sequence import ImageSequence
from metricad.errors import DataError
from metricad.inspection import cross_validation, min_defect
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector, for_each
from metricad.inspection.method_detector import Fitted, MethodDetector
from metricad.networks import pretrained
from metricad.preprocessing.regions import Region
from metricad.scoring import suspects
from metricad.scoring.calibration import FEWEST, Calibration, calibrate, needed, split

CROSS_FIT = 2
"""Number of folds in which suspects are looked for if cross-validated scores do not set the threshold."""

DEFAULT_RATE = 0.01
"""False-alarm rate if none is asked for."""


def fit_inspector(
    paths: Sequence[str | os.PathLike[str]],
    model: keras.Model | None = None,
    *,
    kind: str | None = None,
    metric: str = "euclidean",
    is_gray: bool = False,
    region: Region | None = None,
    false_alarm_rate: float = DEFAULT_RATE,
    holdout: float | None = None,
    groups: Sequence[int] | None = None,
    keeps_suspects: bool = False,
    smallest: float | None = None,
    seed: int = 0,
    bits: int | None = None,
    page: int | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> Inspector[PartDetector]:
    """Fit an inspector to images of good parts and calibrate its threshold.

    All of up to `calibration.SWITCH` images fit, and cross-validated scores set the threshold: its
    false-alarm rate is *expected*. Of more images, or with `holdout`, some are held out and set the
    threshold: its rate is *promised*. If there are too few images for the rate, see `calibration.calibrate`.
    Images are read one at a time.

    Parameters
    ----------
    paths : sequence of path
        Image files of good parts. Sizes may differ; each must be at least as large as the receptive field.
    model : keras.Model, optional
        A network, as returned by `load_shipped_network` or `train_network`. The default is the shipped
        network.
    kind, metric
        Kind of density and metric of the mean; see `PartDetector`.
    is_gray : bool
        Use only the luminance, also of color images.
    region : Region, optional
        Region of interest; the default is the whole image.
    false_alarm_rate : float
        Largest share of good images that the threshold shall call defects.
    holdout : float in [0, 1), optional
        Share of the images that is held out from fitting. They are used only to set the threshold. With 0 all
        images fit and there is no threshold: the inspector gives scores and no verdicts.
    groups : sequence of int, optional
        Group of each image, such as near duplicates: a group is not split between images that fit and those
        that set the threshold, and counts as one image.
    keeps_suspects : bool
        Also fit to images that stand clearly apart; see `scoring.suspects`. By default they are left out and
        count as alarms: they raise the false-alarm rate that is said. `fitted_on["suspects"]` names them,
        and `fitted_on["doubtful"]` those that are doubtful and fit.
    smallest : float, optional
        Area of the smallest defect that matters, in pixels of the image. Smaller ones are let through; see
        `min_defect.let_through`.
    seed : int
        Seed for the choice of held-out images and all other random numbers.
    bits : int, optional
        Number of bits of a level, where the files hold more. The default is found on the images fitted to:
        see `images.find_levels`. Every other image must have the same range.
    page : int, optional
        Page of each TIFF, from 1. The default is the only one.
    on_image : function, optional
        Called after each image read, for a progress bar.

    Raises
    ------
    DataError
        An image cannot be used, or there are too few images.
    """
    needed(false_alarm_rate)
    if holdout == 0 and smallest is not None:
        raise DataError("without a threshold no defect is let through; leave out --min-defect or --holdout 0")
    group = dict(zip(map(Path, paths), range(len(paths)) if groups is None else groups, strict=True))
    held_out, fitted = split_paths(list(map(Path, paths)), holdout, seed, group)
    own = np.array([group[path] for path in fitted])
    # Suspects are not looked for among so few that leaving some out would leave too few.
    rounds = 0 if keeps_suspects or len(set(own.tolist())) < 2 * FEWEST else suspects.ROUNDS
    validates = not held_out and holdout != 0
    if validates:
        cross_validation.folds(len(fitted), groups=own)  # refuses too few images before any is read
    model = pretrained.load() if model is None else model
    levels = images.find_levels(fitted, bits=bits, page=page)

    def made() -> PartDetector:
        return PartDetector(model, kind, metric=metric, is_gray=is_gray, region=region, seed=seed)

    detector, folds = made(), np.zeros(0, int)
    read = partial(images.read, minimum_size=detector.grid.smallest, levels=levels, page=page)

    def good(numbers: Sequence[int] | np.ndarray) -> ImageSequence:
        names = [str(fitted[number]) for number in numbers]
        color = not detector.is_gray
        return ImageSequence(((name, partial(read, name, color=color)) for name in names), on_image=on_image)

    def scored(numbers: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        nonlocal detector, folds
        detector = made()
        if not validates and not rounds:
            detector.fit(good(numbers))
            return np.zeros(len(numbers)), np.zeros_like  # nobody asks for these scores
        folds = cross_validation.folds(
            len(numbers), number=None if validates else CROSS_FIT, seed=seed, groups=own[numbers]
        )
        own_scores = cross_validation.fit(detector, good(numbers), folds)

        def unseen(places: np.ndarray) -> np.ndarray:
            alone = made().fit(good(np.delete(numbers, places)))
            return np.array([alone.score(image) for image in good(numbers[places])])

        return own_scores, unseen

    found = suspects.find(len(fitted), scored, rounds=rounds)
    names = [fitted[number].name for number in found.numbers]
    record: dict[str, Any] = {
        "fit_images": len(fitted) - len(names),
        "held_out_images": len(held_out),
        "seed": seed,
    }
    calibrated = None
    if held_out:
        colored = partial(read, color=detector.channels == 3)
        scores = np.array(list(for_each(held_out, detector.score, read=colored, on_image=on_image)))
        apart = suspects.stand_out(scores) & bool(rounds)
        names += [held_out[number].name for number in np.flatnonzero(apart)]
        own = np.array([group[path] for path in held_out])
        record["holdout"] = holdout
    elif not validates:
        rest = good(np.setdiff1d(np.arange(len(fitted)), found.numbers))
        record["largest_on_good"] = max(float(detector.judge(image).anomaly.max()) for image in rest)
    else:
        # Of the suspects by a model that has seen no other suspects either.
        scores, apart = found.scores, np.isin(np.arange(len(fitted)), found.numbers)
        scores[apart] = [detector.score(image) for image in good(np.flatnonzero(apart))]
        record["folds"] = int(folds.max()) + 1
    if held_out or validates:
        calibrated = _calibrated(scores, own, apart, false_alarm_rate, is_held_out=bool(held_out))
    if names:
        record["suspects"] = names
    if found.doubtful and rounds:
        record["doubtful"] = [fitted[number].name for number in found.doubtful]
    inspector = Inspector(detector, calibrated, record, levels)
    if smallest is None:
        return inspector
    kept = [path for path in held_out or fitted if path.name not in names]
    return min_defect.let_through(
        inspector, min_defect.files(inspector, kept, page=page), smallest, seed=seed
    )


def _calibrated(
    scores: np.ndarray, groups: np.ndarray, apart: np.ndarray, rate: float, *, is_held_out: bool
) -> Calibration:
    """Calibrate with the largest score of each group. Suspects, where `apart`, count as alarms."""
    _, own = np.unique(groups, return_inverse=True)
    largest = np.full(int(own.max()) + 1, -np.inf)
    np.maximum.at(largest, own, scores)
    left_out = len(set(own[apart].tolist()))
    least = suspects.rate(len(largest), left_out)
    if left_out and least > rate:
        return replace(calibrate(largest, least, is_held_out=is_held_out), asked_rate=rate)
    return calibrate(largest, rate, is_held_out=is_held_out)


def calibrate_inspector(
    inspector: Inspector[Fitted],
    paths: Sequence[str | os.PathLike[str]],
    *,
    false_alarm_rate: float | None = None,
    page: int | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> Inspector[Fitted]:
    """Set the threshold of an inspector with good images that it has not seen: its rate is *promised*.

    Parameters
    ----------
    inspector : Inspector
        Not changed.
    paths : sequence of path
        Images of good parts that took no part in fitting or tuning. The scores that set the threshold before
        are not used.
    false_alarm_rate : float, optional
        As of `fit_inspector`. The default is the rate that was asked for when the inspector was fitted, or
        `DEFAULT_RATE` if it has no threshold.
    page : int, optional
        Page of each TIFF, from 1. The default is the only one.
    on_image : function, optional
        Called after each image, for a progress bar.

    Returns
    -------
    Inspector
        With the new threshold.

    Raises
    ------
    DataError
        An image cannot be used, or there is none.
    """
    given, read = inspector.calibration, partial(inspector.read, page=page)
    rate = false_alarm_rate
    if rate is None:
        rate = DEFAULT_RATE if given is None else given.asked
    detector = inspector.detector
    plain = detector if isinstance(detector, MethodDetector) else detector.with_opening(None)
    scores = for_each(paths, plain.score, read=read, on_image=on_image)
    made = inspector.changed(detector=plain, calibration=calibrate(scores, rate))
    return min_defect.again(made, paths, page=page)


def split_paths(
    paths: list[Path], holdout: float | None, seed: int, group: Mapping[Path, int] | None = None
) -> tuple[list[Path], list[Path]]:
    """Split images into those held out and those to fit to.

    With `holdout` at random, else the ones to fit to are spread evenly over the sorted images. What is in a
    group with an image to fit to also fits.
    """
    fit, held_out = split(len(paths), holdout)
    if holdout is None:
        paths = sorted(paths, key=images.by_numbers)
        chosen = np.unique(np.linspace(0, len(paths) - 1, fit).round().astype(int))
        rest = np.setdiff1d(np.arange(len(paths)), chosen)
    else:
        order = np.random.default_rng(seed).permutation(len(paths))
        rest, chosen = np.sort(order[:held_out]), np.sort(order[held_out:])
    fitted = [paths[i] for i in chosen]
    if group is None:
        return [paths[i] for i in rest], fitted
    shared = {group[path] for path in fitted}
    fitted += [paths[i] for i in rest if group[paths[i]] in shared]
    return [paths[i] for i in rest if group[paths[i]] not in shared], fitted
