"""Score good images by detectors that were fitted without them, to say which false-alarm rate is expected.

Each fold of the images is left out once. Everything is repeated without it: the choice of intensity
transform, kind of density and number of components, the fit of the densities, and that of the standard scores
at each position. Then the images of the fold are scored.

Scores of all folds are on the scale of the final detector: its fusion and image score, which only shift and
scale maps and scores by a few numbers. So they can be compared with each other and with new scores.

Each fold fits to fewer images than the final detector. So the scores, above all the largest ones, are rather
too high than too low: results/false-alarm-rates.md has expected and observed rates. With the largest score of
ten to a hundred images as threshold, there were 0.3 to 1.2 times the expected false alarms.

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

from metricad.density import MEANS
from metricad.density.cross_fit import Positional
from metricad.inspection import fit_detector
from metricad.inspection.fit_detector import Learned
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
    if detector.kind in MEANS:
        detector.fit(images)
        return _of_means(detector, images, folds)
    look, learned = fit_detector.fit(detector, images)
    scores = np.empty(len(images))
    layers = _layers(detector)
    weights = [layer.get_weights() for layer in layers]
    by_settings = {tuple(look.settings().items()): _Refit(detector, learned)}
    for fold in range(int(folds.max()) + 1):
        out = np.flatnonzero(folds == fold)
        chosen = look.settings(without=out)
        key = tuple(chosen.items())
        if key not in by_settings:  # needs other features
            other = copy.copy(detector)
            other.settings = {name: one for name, one in detector.settings.items() if name != "shape"}
            other.prepare(**chosen)
            by_settings[key] = _Refit(other, fit_detector.use(other, fit_detector.learn(other, images)))
        without = by_settings[key].without(images, out)
        scores[out] = [without.score(image) for _, image in fit_detector.ahead(images, out.tolist())]
    for layer, own in zip(layers, weights, strict=True):
        layer.set_weights(own)
    return scores


def _layers(detector: "PartDetector") -> list[keras.layers.Layer]:
    """Return the layers that each fold fits again."""
    return [*detector.densities, detector.standardize]


def _shapes(layers: Sequence[keras.layers.Layer]) -> tuple[object, ...]:
    return tuple(tuple(weight.shape) for layer in layers for weight in layer.weights)


class _Refit:
    """Fits a detector again without some images.

    Building and compiling a model takes longer than fitting it. So the detector's own model and others are
    kept, and the one with layers of the same shapes gets new weights.
    """

    def __init__(self, detector: "PartDetector", learned: Learned) -> None:
        self._detector, self._learned = detector, learned
        self._built = {_shapes(_layers(detector)): copy.copy(detector)}

    def without(self, images: Sequence[np.ndarray], out: np.ndarray) -> "PartDetector":
        """Return a detector fitted without the images with these numbers, valid until the next call."""
        learned = self._learned
        name, _ = learned.choose(without=out)
        densities = []
        for k, fitted in enumerate(learned.candidates[name].fitted):
            if isinstance(fitted, Positional):
                maps = (
                    (found[k], self._detector.inside(image, found[k].shape[:2], k))
                    for image, found in _features(self._detector, images, out)
                )
                densities.append(fitted.without(maps))
            else:
                densities.append(fitted.without(out))
        kept = [number for number, image in enumerate(learned.numbers) if image not in out]
        found = learned.distances(name)
        distances, insides = [found[number] for number in kept], [learned.insides[number] for number in kept]
        kinds = [source.kind for source in self._detector.features.sources]
        standardize = fit_detector.empty_standardize(distances, kinds).adapt(distances, insides)
        return self._with(densities, standardize)

    def _with(self, densities: list[keras.layers.Layer], standardize: Standardize) -> "PartDetector":
        layers = [*densities, standardize]
        shapes = _shapes(layers)
        if shapes not in self._built:
            other = self._built[shapes] = copy.copy(self._detector)
            other.densities = densities
            other.assemble(standardize, self._detector.fuse, self._detector.score_layer)
        other = self._built[shapes]
        for own, new in zip(_layers(other), layers, strict=True):
            own.set_weights(new.get_weights())
        return other


def _of_means(detector: "PartDetector", images: Sequence[np.ndarray], folds: np.ndarray) -> np.ndarray:
    """Score each image by its distance to the mean of all other folds."""
    without = copy.copy(detector)
    without.densities = means = detector.empty_means(images)
    count = int(folds.max()) + 1
    totals = [np.zeros((count, *density.mean.shape)) for density in means]
    counts = np.zeros((count, len(means)))
    everything = np.arange(len(images))
    for number, (image, found) in zip(everything, _features(detector, images, everything), strict=True):
        for k, density in enumerate(means):
            total, used = density.sums(detector.used(image, found, k))
            totals[k][folds[number]] += total
            counts[folds[number], k] += used
    without.assemble()
    scores = np.empty(len(images))
    for chosen, image in fit_detector.ahead(images, everything.tolist()):
        rest = np.arange(count) != folds[chosen]
        for k, density in enumerate(means):
            density.mean.assign(totals[k][rest].sum(axis=0) / counts[rest, k].sum())
        scores[chosen] = without.score(image)
    return scores


def _features(
    detector: "PartDetector", images: Sequence[np.ndarray], numbers: np.ndarray
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    for _, image in fit_detector.ahead(images, numbers.tolist()):
        yield image, detector.feature_maps(image)
