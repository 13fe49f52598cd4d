"""Fit and calibrate an inspector with a folder of good images."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from metricad.data import images
from metricad.data.sequence import ImageSequence
from metricad.inspection import cross_validation
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector, for_each
from metricad.networks import pretrained
from metricad.preprocessing.regions import Region
from metricad.scoring.calibration import calibrate, needed, split


def fit_inspector(
    paths: Sequence[str | os.PathLike[str]],
    model: keras.Model | None = None,
    *,
    kind: str | None = None,
    metric: str = "euclidean",
    is_gray: bool = False,
    region: Region | None = None,
    false_alarm_rate: float = 0.01,
    holdout: float | None = None,
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
    holdout : float in (0, 1), optional
        Share of the images that is held out from fitting. They are used only to set the threshold.
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
    held_out, fitted = _split(list(map(Path, paths)), holdout, seed)
    folds = None if held_out else cross_validation.folds(len(fitted), seed=seed)
    model = pretrained.load() if model is None else model
    detector = PartDetector(model, kind, metric=metric, is_gray=is_gray, region=region, seed=seed)
    levels = images.find_levels(fitted, bits=bits, page=page)
    read = partial(images.read, minimum_size=detector.grid.smallest, levels=levels, page=page)
    fitted_images = ((str(path), partial(read, path, color=not detector.is_gray)) for path in fitted)
    good = ImageSequence(fitted_images, on_image=on_image)
    fitted_on = {"fit_images": len(fitted), "held_out_images": len(held_out), "seed": seed}
    if folds is not None:
        scores = cross_validation.fit(detector, good, folds)
        calibrated = calibrate(scores, false_alarm_rate, is_held_out=False)
        return Inspector(detector, calibrated, {**fitted_on, "folds": int(folds.max()) + 1}, levels)
    detector.fit(good)
    read = partial(read, color=detector.channels == 3)
    calibrated = calibrate(for_each(held_out, detector.score, read=read, on_image=on_image), false_alarm_rate)
    return Inspector(detector, calibrated, {**fitted_on, "holdout": holdout}, levels)


def calibrate_inspector(
    inspector: Inspector[PartDetector],
    paths: Sequence[str | os.PathLike[str]],
    *,
    false_alarm_rate: float | None = None,
    page: int | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> Inspector[PartDetector]:
    """Set the threshold of an inspector with good images that it has not seen: its rate is *promised*.

    Parameters
    ----------
    inspector : Inspector
        Not changed.
    paths : sequence of path
        Images of good parts that took no part in fitting or tuning. The scores that set the threshold before
        are not used.
    false_alarm_rate : float, optional
        As of `fit_inspector`. The default is the rate that was asked for when the inspector was fitted.
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
    rate = (given.asked_rate or given.false_alarm_rate) if false_alarm_rate is None else false_alarm_rate
    scores = for_each(paths, inspector.detector.score, read=read, on_image=on_image)
    return replace(inspector, calibration=calibrate(scores, rate))


def _split(paths: list[Path], holdout: float | None, seed: int) -> tuple[list[Path], list[Path]]:
    """Split images into those held out and those to fit to.

    With `holdout` at random, else the ones to fit to are spread evenly over the sorted images.
    """
    fit, held_out = split(len(paths), holdout)
    if holdout is None:
        paths = sorted(paths)
        chosen = np.unique(np.linspace(0, len(paths) - 1, fit).round().astype(int))
        rest = np.setdiff1d(np.arange(len(paths)), chosen)
    else:
        order = np.random.default_rng(seed).permutation(len(paths))
        rest, chosen = np.sort(order[:held_out]), np.sort(order[held_out:])
    return [paths[i] for i in rest], [paths[i] for i in chosen]
