"""Fit a detector to good images: densities, standard scores, fusion and image score.

The first pass reads all images once. It adds features of each to a sample of bounded size and keeps all
features of a bounded number of images. The kept images are then judged by densities fitted to the other
folds. So standard scores come only from images that the density has not seen.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from metricad.data.channels import channels_of, to_luminance
from metricad.density.mixture import WEIGHT, GaussianMixture
from metricad.density.positional import PositionalGaussian, PositionalMoments
from metricad.density.sampling import VectorSample
from metricad.errors import DataError
from metricad.inspection.model import LINES, NETWORK, OnOneGrid, Source
from metricad.preprocessing import intensity
from metricad.scoring.score import ImageScore
from metricad.scoring.standardize import Fuse, Standardize

if TYPE_CHECKING:
    from metricad.inspection.detector import PartDetector

FOLDS = 2
"""Number of folds for cross-fitting. Two, because each fold needs its own fit of the densities."""

JUDGED = 64
"""Largest number of images for standard scores: their mean then has a standard error of 1/8 deviation."""

KEPT_BYTES = 2**28
"""Memory for the features of kept images, 256 MiB. Large images: fewer are kept, but at least `CHOOSING`."""

CHOOSING = 16
"""Number of kept images used to choose between the mixture and the positional density."""

LARGE = 700
"""Shorter side, in pixels, from which images are halved: defects grow with the image, features do not."""

FINE, COARSE, ALONE = (1, 16), (1, 8, 32), (1, 4)
"""Numbers of components to try: for the finest feature map, for coarser ones, and if there is only one scale.

As many as the time for fitting allows. The finest map has three quarters of all features. The network with
one scale must stay fast.
"""


def fit(detector: "PartDetector", images: Sequence[np.ndarray]) -> None:
    """Fit a detector of any kind except the mean; see `PartDetector.fit`."""
    if detector.kind == "positional" and len(images) < FOLDS:
        raise DataError("a positional density needs two good images or more, received one; give more images")
    detector.likelihood_gain = None
    _prepare(detector, [images[i] for i in _some(len(images), intensity.IMAGES, detector.seed)])
    folds = np.random.default_rng(detector.seed).permutation(len(images)) % min(FOLDS, len(images))
    learned = _learn(detector, images, folds)
    candidates = _candidates(detector, learned, folds)
    judged: dict[str, list[np.ndarray]] = {name: [] for name in candidates}
    likelihoods: dict[str, list[float]] = {name: [] for name in candidates}
    for number, (fold, features) in enumerate(learned.kept):
        if number == CHOOSING and len(judged) > 1:
            name, detector.likelihood_gain = _choose(likelihoods)
            judged = {name: judged[name]}
        for name, distances in judged.items():
            found, likelihood = candidates[name].judged(features, fold)
            distances.append(found)
            likelihoods[name].append(likelihood)
    if len(judged) > 1:
        name, detector.likelihood_gain = _choose(likelihoods)
    else:
        (name,) = judged
    detector.densities = candidates[name].densities
    if name == "positional":
        detector.settings["shape"] = learned.image_shape
    _standardize(detector, judged[name], learned.insides)


def _standardize(
    detector: "PartDetector", distances: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]
) -> None:
    """Fit standard scores, fusion and image score to distances in images that the densities have not seen."""
    shapes = {one.shape for one in distances}
    *size, number = next(iter(shapes))
    standardize = Standardize(number, tuple(size) if len(shapes) == 1 else None, name="standardize")
    scores = standardize.adapt_and_score(distances, insides)
    kinds = [source.kind for source in detector.features.sources]
    fuse = Fuse(kinds, name="fuse").adapt(scores, insides)
    anomalies = [keras.ops.convert_to_numpy(fuse(one[np.newaxis]))[0].sum(axis=-1) for one in scores]
    score = ImageScore(detector.score_name, name="score").adapt(anomalies, insides)
    detector.assemble(standardize, fuse, score)


@dataclass
class _Learned:
    """Result of the first pass: a sample for each source and, if images have one size, positional moments."""

    samples: list[VectorSample]
    moments: list[list[PositionalMoments]] | None  # of each source and fold
    image_shape: tuple[int, ...] | None
    kept: list[tuple[int, list[np.ndarray]]]  # fold and float16 features of images, in a random order
    insides: list[np.ndarray | None]  # mask of the region of interest of each kept image


class _Candidate:
    """A density for each source, and for each fold the densities fitted without it."""

    def __init__(
        self, sources: Sequence[Source], pairs: Sequence[tuple[keras.layers.Layer, list[keras.layers.Layer]]]
    ) -> None:
        self.densities = [full for full, _ in pairs]
        self._sources = sources
        self._by_fold = list(zip(*(by for _, by in pairs), strict=True))
        self._on_one_grid = OnOneGrid(sources)

    def judged(self, features: Sequence[np.ndarray], fold: int) -> tuple[np.ndarray, float]:
        """Compute distances of an image with the densities that were fitted without its fold.

        Returns
        -------
        float32 (h', w', sources)
            Distances.
        float
            Log likelihood, averaged over the finest map, which has the most features.
        """
        given = [tf.convert_to_tensor(one[np.newaxis].astype(np.float32)) for one in features]
        # Not compiled: compiling takes longer than judging these few images.
        first, *others = self._by_fold[fold]
        distance, likelihood = first.judged(given[0])
        distances = [distance, *(density(one) for density, one in zip(others, given[1:], strict=True))]
        return self._on_one_grid.call(distances).numpy()[0], float(tf.reduce_mean(likelihood))


def _prepare(detector: "PartDetector", look: Sequence[np.ndarray]) -> None:
    """Choose channels, intensity transform and halving from some good images."""
    channels = 1 if detector.is_gray else channels_of(look)
    if channels == 3 and any(image.ndim == 2 for image in look):
        gray = sum(image.ndim == 2 for image in look)
        raise DataError(
            f"gray and color images are mixed: {gray} of {len(look)} good images are gray; give images of "
            "one kind, or --gray to inspect the luminance alone"
        )
    light = [to_luminance(image) for image in look]
    where = [None if detector.region is None else detector.region.region(one) for one in light]
    curve = intensity.IntensityTransform().adapt(zip(light, where, strict=True)).curve
    is_halved = float(np.median([min(image.shape[:2]) for image in look])) >= LARGE
    detector.prepare(channels=channels, curve=curve, is_halved=is_halved)


def _learn(detector: "PartDetector", images: Sequence[np.ndarray], folds: np.ndarray) -> _Learned:
    """First pass over all images: sample features, sum up positional moments, keep some images."""
    sources = detector.features.sources
    rngs = np.random.default_rng(detector.seed).spawn(len(sources))
    count = int(folds.max()) + 1
    samples = [VectorSample(rng) for rng in rngs]
    moments = None
    if detector.kind in ("auto", "positional"):
        moments = [[PositionalMoments() for _ in range(count)] for _ in sources]
    shape, order = None, np.random.default_rng(detector.seed).permutation(len(images))
    wanted = {int(number): rank for rank, number in enumerate(order[:JUDGED])}
    kept: dict[int, tuple[int, list[np.ndarray]]] = {}
    insides: dict[int, np.ndarray | None] = {}
    for number, image in ahead(images, range(len(images))):
        shape = image.shape[:2] if shape is None else shape
        if image.shape[:2] != shape:
            moments = None
        try:
            if moments is None and detector.kind == "positional":
                raise DataError(
                    "a positional density needs aligned images of one size: expected "
                    f"{shape[0]}×{shape[1]} pixels as in the first, received "
                    f"{image.shape[0]}×{image.shape[1]}; resize the images or choose another kind"
                )
            found = detector.feature_maps(image)
            for k, features in enumerate(found):
                inside = detector.inside(image, features.shape[:2], k)
                samples[k].update(features, number, inside)
                if moments is not None and sources[k].kind == NETWORK:
                    moments[k][folds[number]].update(features, inside)
            rank = wanted.get(number, JUDGED)
            size = sum(features.nbytes // 2 for features in found)
            if rank < max(CHOOSING, min(JUDGED, KEPT_BYTES // size)):
                kept[rank] = int(folds[number]), [features.astype(np.float16) for features in found]
                insides[rank] = detector.inside(image, found[0].shape[:2])
        except DataError as error:
            raise DataError(f"{name_of(images, number)}: {error}") from error
    if moments is not None and len(images) < 2 * FOLDS and detector.kind == "auto":
        moments = None  # too few images to estimate a mean at each position
    ranks = sorted(kept)
    return _Learned(samples, moments, shape, [kept[k] for k in ranks], [insides[k] for k in ranks])


def _candidates(detector: "PartDetector", learned: _Learned, folds: np.ndarray) -> dict[str, _Candidate]:
    """Fit all candidate densities: to all images, and to all images outside each fold."""
    sources = detector.features.sources
    found = {}
    mixed = {
        k: _mixture(sample, _tried(detector, source, k), folds, detector.seed)
        for k, (source, sample) in enumerate(zip(sources, learned.samples, strict=True))
        if not (detector.kind == "positional" and source.kind == NETWORK)
    }
    if detector.kind != "positional":
        found["mixture"] = _Candidate(sources, list(mixed.values()))
    if learned.moments is not None:
        found["positional"] = _Candidate(
            sources,
            [
                _positional(learned.moments[k]) if source.kind == NETWORK else mixed[k]
                for k, source in enumerate(sources)
            ],
        )
    return found


def _tried(detector: "PartDetector", source: Source, number: int) -> tuple[int, ...]:
    """Return the numbers of components to try."""
    if detector.kind == "gaussian" or source.kind == LINES:
        return (1,)
    if sum(one.kind == NETWORK for one in detector.features.sources) == 1 and source.kind == NETWORK:
        return ALONE
    return FINE if number == 0 else COARSE


def _mixture(
    sample: VectorSample, numbers: Sequence[int], folds: np.ndarray, seed: int
) -> tuple[GaussianMixture, list[GaussianMixture]]:
    """Fit mixtures to a sample and to its part outside each fold; choose the number of components.

    Of all numbers tried, the best is the one under which held-out images are most likely. The smallest number
    within one standard error of it, over images, is chosen. A number is tried only if each component has at
    least `WEIGHT` vectors on average; with fewer it would have no covariance of its own.
    """
    vectors, images = sample.vectors, sample.images
    own_fold = folds[images]
    size = vectors.shape[1]

    def fitted(number: int, chosen: np.ndarray) -> GaussianMixture:
        return GaussianMixture(size, number).fit(vectors[chosen], seed=seed)

    everything = np.ones(len(vectors), bool)
    count = int(folds.max()) + 1
    if count == 1:
        full = fitted(1, everything)
        return full, [full]
    least = min(np.sum(own_fold != fold) for fold in range(count))
    numbers = [number for number in numbers if number == numbers[0] or number * WEIGHT <= least]
    tried, means, errors = {}, [], []
    for number in numbers:
        tried[number] = [fitted(number, own_fold != fold) for fold in range(count)]
        likelihood = np.zeros(len(vectors))
        for fold, density in enumerate(tried[number]):
            found = density.log_likelihood(vectors[None, None, own_fold == fold])
            likelihood[own_fold == fold] = keras.ops.convert_to_numpy(found)[0, 0]
        by_image = (
            np.bincount(images, likelihood)[np.unique(images)] / np.unique(images, return_counts=True)[1]
        )
        means.append(by_image.mean())
        errors.append(by_image.std() / np.sqrt(len(by_image)))
    best = int(np.argmax(means))
    enough = next(k for k, mean in enumerate(means) if mean >= means[best] - errors[best])
    chosen = numbers[enough]
    return fitted(chosen, everything), tried[chosen]


def _positional(parts: Sequence[PositionalMoments]) -> tuple[PositionalGaussian, list[PositionalGaussian]]:
    """Fit the positional density to all images, and to all images outside each fold."""
    total = sum(parts[1:], parts[0])
    size = total.mean.shape

    def fitted(moments: PositionalMoments) -> PositionalGaussian:
        return PositionalGaussian(size[2], size[:2]).fit(moments)

    if len(parts) == 1:
        full = fitted(total)
        return full, [full]
    rests = [[one for one in parts if one is not part] for part in parts]
    return fitted(total), [fitted(sum(rest[1:], rest[0])) for rest in rests]


def _choose(likelihoods: dict[str, list[float]]) -> tuple[str, float]:
    """Choose the positional density if held-out images are more likely under it by one standard error.

    Returns
    -------
    str
        Name of the density.
    float
        Mean log likelihood under the chosen density minus that under the other.
    """
    gains = np.subtract(likelihoods["positional"], likelihoods["mixture"])
    mean = float(gains.mean())
    if mean > gains.std() / np.sqrt(len(gains)):
        return "positional", mean
    return "mixture", -mean


def name_of(images: Sequence[np.ndarray], number: int) -> str:
    """Return the name of an image, or its number if the sequence has no names."""
    name = getattr(images, "name", None)
    return f"image {number + 1}" if name is None else name(number)


def _some(total: int, count: int, seed: int) -> np.ndarray:
    """Draw indices of at most `count` images at random, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def ahead(images: Sequence[np.ndarray], numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield indices and images; read the next image in a thread meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting = None
        for number in numbers:
            following = number, reader.submit(images.__getitem__, int(number))
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting is not None:
            yield waiting[0], waiting[1].result()
