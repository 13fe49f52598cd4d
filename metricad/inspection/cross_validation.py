"""Score good images by detectors that were fitted without them, to say which false-alarm rate is expected.

Each fold of the images is left out once. Everything is repeated without it: the choice of intensity
transform, kind of density and number of components, the fit of the densities, and that of the standard scores
at each position. Then the images of the fold are scored.

Scores of all folds are on the scale of the final detector: its fusion and image score, which only shift and
scale maps and scores by a few numbers. So they can be compared with each other and with new scores.

Each fold fits to fewer images than the final detector. So the scores, above all the largest ones, are rather
too high than too low: with 10 and 20 images and the largest score as threshold, there were 0.3 to 0.6 times
the expected false alarms on castings and solar cells (scripts/false_alarm_rates.py, 16 draws each).

Folds take a fraction of the time of separate fits, because two results of the fit to all images are used:

- Vectors keep the component that they have in the mixture of all images. Means, covariances and weights of
  the components are computed anew without the fold.
- Choices and standard scores use the likelihoods and distances of the images outside the fold. These were
  computed by densities that had not seen the image itself, but may have seen images of the fold.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from metricad.density.cross_fit import Positional
from metricad.density.mean import MeanDistance
from metricad.inspection import fit_detector
from metricad.inspection.fit_detector import Learned
from metricad.inspection.model import OnOneGrid
from metricad.scoring.calibration import check_total
from metricad.scoring.standardize import Standardize

if TYPE_CHECKING:
    from metricad.inspection.detector import PartDetector

ONE_OUT = 30
"""Largest number of images of which each is a fold of its own."""

FOLDS = 10
"""Number of folds of more images."""


def folds(
    count: int,
    *,
    number: int | None = None,
    seed: int = 0,
    groups: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Assign images to folds: each its own fold up to `ONE_OUT`, above that `FOLDS` random ones.

    Parameters
    ----------
    count : int
        Number of images.
    number : int, optional
        Another number of folds, which are random.
    seed : int
        Seed of the random folds.
    groups : sequence of int, optional
        Group of each image. Images of one group, such as several of the same part, share a fold.

    Returns
    -------
    int (count,)
        Number of each image's fold, from 0.

    Raises
    ------
    DataError
        There are fewer than `calibration.FEWEST` groups.
    """
    _, group = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)
    total = int(group.max(initial=-1)) + 1
    check_total(total)
    if number is None and total <= ONE_OUT:
        return group
    return np.random.default_rng(seed).permutation(total)[group] % (number or FOLDS)


def fit(detector: "PartDetector", images: Sequence[np.ndarray], folds: np.ndarray) -> np.ndarray:
    """Fit a detector to all images, and score each by a detector that was fitted without its fold.

    Parameters
    ----------
    detector : PartDetector
        Fitted to all images, exactly as by its `fit`.
    images : sequence of float32 (H, W) or (H, W, 3) in [-1, 1]
        Good images; each is read two to four times.
    folds : int (n,)
        Fold of each image, see `folds`.

    Returns
    -------
    float64 (n,)
        Score of each image.
    """
    if detector.kind == "mean":
        detector.fit(images)
        return _of_means(detector, images, folds)
    look, learned = fit_detector.fit(detector, images)
    by_settings = {tuple(look.settings().items()): (detector, learned)}
    scores = np.empty(len(images))
    for fold in range(int(folds.max()) + 1):
        out = np.flatnonzero(folds == fold)
        chosen = look.settings(without=out)
        key = tuple(chosen.items())
        if key not in by_settings:  # needs other features
            other = copy.copy(detector)
            other.settings = {name: one for name, one in detector.settings.items() if name != "shape"}
            other.prepare(**chosen)
            by_settings[key] = other, fit_detector.use(other, fit_detector.learn(other, images))
        scores[out] = list(_of_fold(*by_settings[key], images, out))
    return scores


def _of_fold(
    detector: "PartDetector", learned: Learned, images: Sequence[np.ndarray], out: np.ndarray
) -> Iterator[float]:
    """Yield the scores of a fold's images by a detector without them."""
    name, _ = learned.choose(without=out)
    densities = []
    for k, fitted in enumerate(learned.candidates[name].fitted):
        if isinstance(fitted, Positional):
            maps = (
                (found[k], detector.inside(image, found[k].shape[:2], k))
                for image, found in _features(detector, images, out)
            )
            densities.append(fitted.without(maps))
        else:
            densities.append(fitted.without(out))
    kept = [number for number, image in enumerate(learned.numbers) if image not in out]
    found = learned.distances(name)
    distances, insides = [found[number] for number in kept], [learned.insides[number] for number in kept]
    standardize = fit_detector.empty_standardize(distances).adapt(distances, insides)
    for image, features in _features(detector, images, out):
        yield _score(detector, densities, image, features, standardize)


def _of_means(detector: "PartDetector", images: Sequence[np.ndarray], folds: np.ndarray) -> np.ndarray:
    """Score each image by its distance to the mean of all other folds."""
    sources = detector.features.sources
    count = int(folds.max()) + 1
    totals = [np.zeros((count, source.dimensions)) for source in sources]
    counts = np.zeros((count, len(sources)))
    everything = np.arange(len(images))
    for number, (_, found) in zip(everything, _features(detector, images, everything), strict=True):
        for k, features in enumerate(found):
            vectors = features.reshape(-1, features.shape[-1])
            totals[k][folds[number]] += vectors.sum(axis=0, dtype=np.float64)
            counts[folds[number], k] += len(vectors)
    scores = np.empty(len(images))
    for number, (image, found) in zip(everything, _features(detector, images, everything), strict=True):
        rest = np.arange(count) != folds[number]
        densities = [MeanDistance(source.dimensions, metric=detector.metric) for source in sources]
        for k, density in enumerate(densities):
            density.mean.assign(totals[k][rest].sum(axis=0) / counts[rest, k].sum())
        scores[number] = _score(detector, densities, image, found, None)
    return scores


def _features(
    detector: "PartDetector", images: Sequence[np.ndarray], numbers: np.ndarray
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    for _, image in fit_detector.ahead(images, numbers.tolist()):
        yield image, detector.feature_maps(image)


def _score(
    detector: "PartDetector",
    densities: Sequence[keras.layers.Layer],
    image: np.ndarray,
    features: Sequence[np.ndarray],
    standardize: Standardize | None,
) -> float:
    """Compute an image score with these layers and the detector's fusion and image score.

    The layers are not connected to a model, which takes longer.
    """
    given = [tf.convert_to_tensor(one[np.newaxis]) for one in features]
    distances = [density(one) for density, one in zip(densities, given, strict=True)]
    shares = OnOneGrid(detector.features.sources).call(distances)
    if standardize is not None and detector.fuse is not None:
        shares = detector.fuse(standardize(shares))
    inside = detector.inside(image, shares.shape[1:3])
    known = np.ones(shares.shape[1:3], np.float32) if inside is None else inside.astype(np.float32)
    found = detector.score_layer(
        tf.reduce_sum(shares, axis=-1), shares, tf.convert_to_tensor(known[np.newaxis])
    )
    return float(found["score"][0])
