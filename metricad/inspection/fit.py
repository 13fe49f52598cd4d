"""Making an inspector from a folder of good parts."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from metricad import adaptation, kinds
from metricad.networks import pretrained
from metricad.scoring.calibration import calibrate, check_split, held_out_count
from metricad.inspection.detector import TripletDetector
from metricad.inspection.inspector import Inspector, for_each
from metricad.prototype import Prototype
from metricad.preprocessing.regions import Region
from metricad.preprocessing.intensity import LOOK


def fit_inspector(
    paths: Sequence[str | os.PathLike],
    model: keras.Model | None = None,
    *,
    prototype: Prototype | None = None,
    region: Region | None = None,
    false_alarm_rate: float = 0.01,
    holdout: float = 0.2,
    seed: int = 0,
    defects: int = 0,
    on_image: Callable[[], object] = lambda: None,
    on_step: Callable[[], object] = lambda: None,
) -> Inspector:
    """Make an inspector from images of good parts.

    Images are read one at a time; memory does not grow with their number. To adapt the prototype, some,
    `adaptation.MOST_IMAGES` at most, are held at once.

    Parameters
    ----------
    paths : sequence of path
        Image files of good parts, of any sizes from the receptive field up.
    model : keras.Model, optional
        As `network.build` or `hypercolumn.build` makes it; the network that ships when not given.
    prototype : Prototype, optional
        An empty one of the kind wanted. When not given, what suits the network: `kinds.AutoPrototype`, or the
        paper's mean with Euclidean distance on the paper's network.
    region : Region, optional
        Where images are judged; everywhere when not given.
    false_alarm_rate : float
        Largest share of good images that the threshold may call defects.
    holdout : float in (0, 1)
        Share of the images kept from the prototype for setting the threshold.
    seed : int
        Chooses which images are held out, and draws the synthetic defects.
    defects : int
        Synthetic ones to adapt the prototype with, see `adaptation.adapt`; 0 leaves it as it is.
    on_image : function, optional
        Called after each image, for a progress bar.
    on_step : function, optional
        Called after each synthetic defect.

    Raises
    ------
    DataError
        An image cannot be used, or there are too few for the rate.
    ValueError
        The prototype cannot be adapted.
    """
    check_split(len(paths), holdout=holdout, false_alarm_rate=false_alarm_rate)
    held_out, fitted = _split(list(map(Path, paths)), holdout, seed)
    model = pretrained.load() if model is None else model
    empty = kinds.suited_to(model) if prototype is None else prototype
    triplet = TripletDetector(
        model,
        empty,
        tone=kinds.tone_for(model),
        evidence=kinds.evidence_for(model),
        gathers=kinds.gathers(model),
        region=region,
    )

    def stream(chosen: Sequence[Path], use: Callable[[np.ndarray], object]) -> Iterator[object]:
        return for_each(chosen, use, smallest=triplet.grid.smallest, on_image=on_image)

    def some(count: int) -> Iterator[np.ndarray]:
        """So many of the images to learn from, at random."""
        order = np.random.default_rng(seed).permutation(len(fitted))[:count]
        chosen = [fitted[i] for i in np.sort(order)]
        return for_each(chosen, lambda image: image, smallest=triplet.grid.smallest)

    looked_at = [] if triplet.is_prepared and triplet.evidence is None else list(some(LOOK))
    triplet.prepare(looked_at)
    for _ in stream(fitted, triplet.update):
        pass
    triplet.settle(looked_at)
    if defects:
        adaptation.adapt(triplet, some(adaptation.MOST_IMAGES), count=defects, seed=seed, on_step=on_step)
    calibrated = calibrate(stream(held_out, triplet.score), false_alarm_rate)
    fitted_on = {
        "fit_images": len(fitted),
        "held_out_images": len(held_out),
        "holdout": holdout,
        "seed": seed,
        **({"synthetic_defects": defects} if defects else {}),
    }
    return Inspector(triplet, calibrated, fitted_on)


def _split(paths: list[Path], holdout: float, seed: int) -> tuple[list[Path], list[Path]]:
    order = np.random.default_rng(seed).permutation(len(paths))
    count = held_out_count(len(paths), holdout)
    return [paths[i] for i in np.sort(order[:count])], [paths[i] for i in np.sort(order[count:])]
