"""Fit and calibrate an inspector with a folder of good images."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np

from metricad.data import images
from metricad.data.sequence import ImageSequence
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector, for_each
from metricad.networks import pretrained
from metricad.preprocessing.regions import Region
from metricad.scoring.calibration import calibrate, check_split, held_out_count


def fit_inspector(
    paths: Sequence[str | os.PathLike[str]],
    model: keras.Model | None = None,
    *,
    kind: str | None = None,
    metric: str = "euclidean",
    is_gray: bool = False,
    region: Region | None = None,
    false_alarm_rate: float = 0.01,
    holdout: float = 0.2,
    seed: int = 0,
    bits: int | None = None,
    page: int | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> Inspector[PartDetector]:
    """Fit an inspector to images of good parts and calibrate its threshold.

    Images are read one at a time; memory does not grow with their number.

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
        Largest share of good images that the threshold may call defects.
    holdout : float in (0, 1)
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
        An image cannot be used, or there are too few images for the false-alarm rate.
    """
    check_split(len(paths), holdout=holdout, false_alarm_rate=false_alarm_rate)
    held_out, fitted = _split(list(map(Path, paths)), holdout, seed)
    model = pretrained.load() if model is None else model
    detector = PartDetector(model, kind, metric=metric, is_gray=is_gray, region=region, seed=seed)
    levels = images.find_levels(fitted, bits=bits, page=page)
    read = partial(images.read, minimum_size=detector.grid.smallest, levels=levels, page=page)
    fitted_images = ((str(path), partial(read, path, color=not detector.is_gray)) for path in fitted)
    detector.fit(ImageSequence(fitted_images, on_image=on_image))
    read = partial(read, color=detector.channels == 3)
    calibrated = calibrate(for_each(held_out, detector.score, read=read, on_image=on_image), false_alarm_rate)
    fitted_on = {
        "fit_images": len(fitted),
        "held_out_images": len(held_out),
        "holdout": holdout,
        "seed": seed,
    }
    return Inspector(detector, calibrated, fitted_on, levels)


def _split(paths: list[Path], holdout: float, seed: int) -> tuple[list[Path], list[Path]]:
    order = np.random.default_rng(seed).permutation(len(paths))
    count = held_out_count(len(paths), holdout)
    return [paths[i] for i in np.sort(order[:count])], [paths[i] for i in np.sort(order[count:])]
