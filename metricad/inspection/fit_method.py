"""Fit a published method to a folder of good images, and set its threshold with others."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metricad.data import images
from metricad.data.sequence import ImageSequence
from metricad.errors import DataError
from metricad.inspection.fit import split_paths
from metricad.inspection.inspector import Inspector, for_each
from metricad.inspection.method_detector import MethodDetector
from metricad.methods.choice import Choice
from metricad.scoring.calibration import FEWEST, calibrate, needed

HOLDOUT = 0.2
"""Share of the good images that is held out, but at least `calibration.FEWEST`."""


def steps(images: int, choice: Choice) -> int:
    """Return about how often `fit_method` calls `on_image` and `on_epoch`, if no checkpoint is used."""
    return images + choice.epochs


def fit_method(
    paths: Sequence[str | os.PathLike[str]],
    choice: Choice,
    *,
    is_gray: bool = False,
    false_alarm_rate: float = 0.01,
    holdout: float | None = None,
    groups: Sequence[int] | None = None,
    seed: int = 0,
    bits: int | None = None,
    page: int | None = None,
    checkpoint: Path | None = None,
    on_image: Callable[[], object] = lambda: None,
    on_epoch: Callable[[], object] = lambda: None,
) -> Inspector[MethodDetector]:
    """Fit a published method to images of good parts; held-out ones set its threshold and its outline.

    A training of hours is not repeated for folds, so some images are always held out, and the false-alarm
    rate is *promised*; if there are too few images for it, see `calibration.calibrate`.

    Parameters
    ----------
    paths : sequence of path
        Image files of good parts.
    choice : Choice
        The method and its settings, as `choice.choose` returns them.
    holdout : float in (0, 1), optional
        Share of the images that is held out. The default is a fifth, at least `calibration.FEWEST` images.
    checkpoint, on_epoch
        See `MethodDetector`.
    is_gray, false_alarm_rate, groups, seed, bits, page, on_image
        See `fit.fit_inspector`; the seed is that of the choice of held-out images.

    Raises
    ------
    DataError
        An image cannot be used, or there are too few images.
    RunError
        The checkpoint does not fit this training, or a loss is not finite.
    """
    needed(false_alarm_rate)
    group = dict(zip(map(Path, paths), range(len(paths)) if groups is None else groups, strict=True))
    held_out, fitted = split_paths(list(map(Path, paths)), _share(len(paths), holdout), seed, group)
    levels = images.find_levels(fitted, bits=bits, page=page)
    detector = MethodDetector(choice, is_gray=is_gray, checkpoint=checkpoint, on_epoch=on_epoch)
    read = partial(images.read, minimum_size=detector.grid.smallest, levels=levels, page=page)
    color = not detector.is_gray
    detector.fit(
        ImageSequence(((str(one), partial(read, one, color=color)) for one in fitted), on_image=on_image)
    )

    scored = list(for_each(held_out, detector.measured, read=partial(read, color=color), on_image=on_image))
    detector.calibrate(scored)
    record: dict[str, Any] = {
        "method": choice.title,
        "fit_images": len(fitted),
        "held_out_images": len(held_out),
        "seed": seed,
        "holdout": holdout,
    }
    # Near duplicates count as one image, that of the largest score.
    largest: dict[int, float] = {}
    for path, (score, _) in zip(held_out, scored, strict=True):
        largest[group[path]] = max(score, largest.get(group[path], -np.inf))
    return Inspector(detector, calibrate(largest.values(), false_alarm_rate), record, levels)


def _share(total: int, holdout: float | None) -> float:
    if holdout == 0:
        raise DataError("a published method needs held-out images for its outline; give --holdout above 0")
    if holdout is not None:
        return holdout
    if total < 2 * FEWEST:
        raise DataError(
            f"{total} good images are too few for a published method: {FEWEST} are held out for the "
            f"threshold, and as many fit; give {2 * FEWEST} or more"
        )
    return max(HOLDOUT, FEWEST / total)
