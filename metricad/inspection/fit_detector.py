"""Fit a detector to good images: densities, standard scores, fusion and image score.

The first pass reads all images once. It adds features of each to a sample of bounded size and keeps all
features of a bounded number of images. The kept images are then judged by densities fitted to the other
folds. So standard scores come only from images that the density has not seen.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf
from threadpoolctl import threadpool_limits

from metricad.data.channels import channels_of, to_luminance
from metricad.density.cross_fit import Cells, Mixtures, Positional
from metricad.density.positional import PositionalMoments
from metricad.density.sampling import VectorSample
from metricad.errors import DataError
from metricad.inspection.model import CELLS, IMAGENET, LEARNED, LINES, NETWORK, OnOneGrid, Source, compiled
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

CELL_IMAGES = 1000
"""Largest number of images for the Gaussians of cells: five for each feature, 50 MiB."""

CHOOSING = 16
"""Number of kept images used to choose between the mixture and the positional density."""

LARGE = 700
"""Shorter side, in pixels, from which images are halved: defects grow with the image, features do not."""

SHRUNK = 512
"""Shorter side, in pixels, from which images are halved again and again for ImageNet features."""

FINE, COARSE, ALONE = (1, 16), (1, 8, 32), (1, 4)
"""Numbers of components to try: for the finest feature map, for coarser ones, and if there is only one scale.

As many as the time for fitting allows. The finest map has three quarters of all features. The network with
one scale must stay fast.
"""


def fit(detector: "PartDetector", images: Sequence[np.ndarray]) -> tuple["Look", "Learned"]:
    """Fit a detector of any kind except the mean; see `PartDetector.fit`.

    Returns
    -------
    Look, Learned
        What was learned on the way, for `cross_validation`.
    """
    if detector.kind == "positional" and len(images) < FOLDS:
        raise DataError("a positional density needs two good images or more, received one; give more images")
    detector.settings.pop("shape", None)
    look = Look.at(detector, images)
    detector.prepare(channels=look.channels, **look.settings())
    return look, use(detector, learn(detector, images))


def use(detector: "PartDetector", learned: "Learned") -> "Learned":
    """Choose a density, fit standard scores, fusion and image score, and put all into the detector."""
    name, detector.likelihood_gain = learned.choose()
    detector.densities = learned.candidates[name].densities
    if name == "positional":
        detector.settings["shape"] = learned.image_shape
    detector.assemble(*standardized(detector, learned.distances(name), learned.insides))
    return learned


def standardized(
    detector: "PartDetector", distances: Sequence[np.ndarray], insides: Sequence[np.ndarray | None]
) -> tuple[Standardize, Fuse, ImageScore]:
    """Fit standard scores, fusion and image score to distances in images that the densities have not seen."""
    kinds = [source.kind for source in detector.features.sources]
    standardize = empty_standardize(distances, kinds)
    scores = standardize.adapt_and_score(distances, insides)
    fuse = Fuse(kinds, name="fuse").adapt(scores, insides)
    anomalies = [keras.ops.convert_to_numpy(fuse(one[np.newaxis]))[0].sum(axis=-1) for one in scores]
    return standardize, fuse, ImageScore(detector.score_name, name="score").adapt(anomalies, insides)


def empty_standardize(distances: Sequence[np.ndarray], kinds: Sequence[str]) -> Standardize:
    """Make the layer of standard scores for distances of these shapes, from sources of these kinds."""
    shapes = {one.shape for one in distances}
    *size, number = next(iter(shapes))
    cells = [k for k, kind in enumerate(kinds) if kind == CELLS]
    return Standardize(number, tuple(size) if len(shapes) == 1 else None, cells, name="standardize")


@dataclass(frozen=True)
class Look:
    """What a detector's settings are chosen from: some good images.

    Attributes
    ----------
    numbers : int (n,)
        Numbers of these images.
    shapes : int (n, 2)
        Their heights and widths in pixels.
    squares : list of (float64, float64)
        What `intensity.squares` returns for each.
    channels : {1, 3}
    has_imagenet : bool
        Whether the network has ImageNet features, for which images are shrunk.
    """

    numbers: np.ndarray
    shapes: np.ndarray
    squares: list[tuple[np.ndarray, np.ndarray]]
    channels: int
    has_imagenet: bool

    @classmethod
    def at(cls, detector: "PartDetector", images: Sequence[np.ndarray]) -> "Look":
        """Look at some good images; raise DataError if gray and color images are mixed."""
        numbers = _some(len(images), intensity.IMAGES, detector.seed)
        found = [images[i] for i in numbers]
        channels = 1 if detector.is_gray else channels_of(found)
        if channels == 3 and any(image.ndim == 2 for image in found):
            gray = sum(image.ndim == 2 for image in found)
            raise DataError(
                f"gray and color images are mixed: {gray} of {len(found)} good images are gray; give images "
                "of one kind, or --gray to inspect the luminance alone"
            )
        light = [to_luminance(image) for image in found]
        where = [None if detector.region is None else detector.region.region(one) for one in light]
        squares = [intensity.squares(one, inside) for one, inside in zip(light, where, strict=True)]
        has_imagenet = any(source.kind == IMAGENET for source in detector.features.sources)
        shapes = np.array([one.shape[:2] for one in found])
        return cls(numbers, shapes, squares, channels, has_imagenet)

    def settings(self, without: Collection[int] = ()) -> dict[str, object]:
        """Choose all settings but `channels`, from all images or without some."""
        used = np.flatnonzero(~np.isin(self.numbers, list(without)))
        curve = intensity.IntensityTransform().fit([self.squares[i] for i in used]).curve
        side = float(np.median(self.shapes[used].min(axis=1)))
        is_halved = side >= LARGE
        shrink = 1
        while self.has_imagenet and side / (2 if is_halved else 1) / shrink >= SHRUNK:
            shrink *= 2
        resizes_cells = self.has_imagenet and len(np.unique(self.shapes[used], axis=0)) > 1
        return {"curve": curve, "is_halved": is_halved, "shrink": shrink, "resizes_cells": resizes_cells}


class Learned:
    """Densities fitted to good images, and good images judged by densities that have not seen them.

    Attributes
    ----------
    candidates : dict of str to Candidate
    numbers : int (n,)
        Numbers of the kept images, in the order in which they are judged.
    insides : list of bool (h, w) or None
        Region of interest of each.
    image_shape : (int, int)
        Height and width of the images, if all have one size.
    """

    def __init__(self, passed: "_Pass", candidates: "dict[str, Candidate]") -> None:
        self.candidates = candidates
        self.numbers = np.array(passed.numbers)
        self.insides = passed.insides
        self.image_shape = passed.image_shape
        self._kept = passed.kept
        self._distances: dict[str, list[np.ndarray]] = {}
        self._likelihoods: dict[str, np.ndarray] = {}

    def distances(self, name: str) -> list[np.ndarray]:
        """Judge all kept images with one candidate: float32 (h', w', sources) each."""
        if name not in self._distances:
            self._distances[name] = self.candidates[name].distances(self._kept)
        return self._distances[name]

    def choose(self, without: Collection[int] = ()) -> tuple[str, float | None]:
        """Choose a candidate, with all images or without some.

        The positional density is chosen if good images that it has not seen are more likely under it by one
        standard error.

        Returns
        -------
        str
            Name of the candidate.
        float or None
            Mean log likelihood under it minus that under the other; None if there is no other.
        """
        if len(self.candidates) == 1:
            return next(iter(self.candidates)), None
        if not self._likelihoods:
            self._likelihoods = {
                name: one.likelihoods(self._kept[:CHOOSING]) for name, one in self.candidates.items()
            }
        used = ~np.isin(self.numbers[:CHOOSING], list(without))
        gains = (self._likelihoods["positional"] - self._likelihoods["mixture"])[used]
        mean = float(gains.mean())
        if mean > gains.std() / np.sqrt(len(gains)):
            return "positional", mean
        return "mixture", -mean


Kept = tuple[int, list[np.ndarray]]
"""Fold of an image, and its features as float16."""


@dataclass
class _Pass:
    """Result of the first pass: a sample for each source and, if images have one size, positional moments."""

    samples: list[VectorSample]
    moments: list[list[PositionalMoments]] | None  # of each source and fold
    cells: dict[int, np.ndarray]  # mean features of the cells of some images, by their number
    image_shape: tuple[int, ...] | None
    kept: list[Kept]  # of images, in a random order
    numbers: list[int]  # of the kept images
    insides: list[np.ndarray | None]  # mask of the region of interest of each kept image


class Candidate:
    """A density for each source, and for each fold the densities fitted without it."""

    def __init__(self, sources: Sequence[Source], fitted: Sequence[Mixtures | Positional | Cells]) -> None:
        self.densities = [one.full for one in fitted]
        self.fitted = fitted
        self._by_fold = list(zip(*(one.by_fold for one in fitted), strict=True))
        # One compiled graph judges for all folds: its layers get the weights of each in turn.
        self._layers = [type(layer).from_config(layer.get_config()) for layer in self._by_fold[0]]
        on_one_grid = OnOneGrid(sources)
        self._judge = compiled(
            lambda *features: on_one_grid(
                [layer(one) for layer, one in zip(self._layers, features, strict=True)]
            ),
            *(tf.TensorSpec((1, None, None, source.dimensions)) for source in sources),
        )

    def distances(self, kept: Sequence[Kept]) -> list[np.ndarray]:
        """Judge images with the densities that were fitted without their fold: float32 (h', w', sources)."""
        found: dict[int, np.ndarray] = {}
        for fold in sorted({own for own, _ in kept}):
            for layer, fitted in zip(self._layers, self._by_fold[fold], strict=True):
                layer.set_weights(fitted.get_weights())
            for number, (own, features) in enumerate(kept):
                if own == fold:
                    found[number] = self._judge(*map(_as_batch, features)).numpy()[0]
        return [found[number] for number in range(len(kept))]

    def likelihoods(self, kept: Sequence[Kept]) -> np.ndarray:
        """Compute the log likelihood of images with the densities fitted without their fold: float64 (n,).

        It is averaged over the finest map, which has the most features.
        """
        # Not compiled: compiling takes longer than judging these few images.
        found = (self._by_fold[fold][0].log_likelihood(_as_batch(features[0])) for fold, features in kept)
        return np.array([float(tf.reduce_mean(one)) for one in found])


def _as_batch(features: np.ndarray) -> np.ndarray:
    return features[np.newaxis].astype(np.float32)


def learn(detector: "PartDetector", images: Sequence[np.ndarray]) -> Learned:
    """Fit all candidate densities to images, with the settings of the detector."""
    folds = np.random.default_rng(detector.seed).permutation(len(images)) % min(FOLDS, len(images))
    passed = _pass(detector, images, folds)
    return Learned(passed, _candidates(detector, passed, folds))


# Threads of NumPy's library for matrix products wait busily after each, and slow the network down.
@threadpool_limits.wrap(limits=1, user_api="blas")
def _pass(detector: "PartDetector", images: Sequence[np.ndarray], folds: np.ndarray) -> _Pass:
    """First pass over all images: sample features, sum up positional moments, keep some images."""
    sources = detector.features.sources
    rngs = np.random.default_rng(detector.seed).spawn(len(sources))
    count = int(folds.max()) + 1
    samples = [VectorSample(rng) for rng in rngs]
    moments = None
    if detector.kind in ("auto", "positional"):
        moments = [[PositionalMoments() for _ in range(count)] for _ in sources]
    shape, order = None, np.random.default_rng(detector.seed).permutation(len(images))
    wanted = {int(number): rank for rank, number in enumerate(order[:CELL_IMAGES])}
    kept: dict[int, Kept] = {}
    insides: dict[int, np.ndarray | None] = {}
    cells: dict[int, np.ndarray] = {}
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
            rank = wanted.get(number, len(images))
            for k, features in enumerate(found):
                if sources[k].kind == CELLS:
                    if rank < CELL_IMAGES:
                        cells[number] = features
                    continue
                inside = detector.inside(image, features.shape[:2], k)
                samples[k].update(features, number, inside)
                if moments is not None and sources[k].kind in LEARNED:
                    moments[k][folds[number]].update(features, inside)
            size = sum(features.nbytes // 2 for features in found)
            if rank < max(CHOOSING, min(JUDGED, KEPT_BYTES // size)):
                kept[rank] = int(folds[number]), [features.astype(np.float16) for features in found]
                insides[rank] = detector.inside(image, found[0].shape[:2])
        except DataError as error:
            raise DataError(f"{name_of(images, number)}: {error}") from error
    if moments is not None and len(images) < 2 * FOLDS and detector.kind == "auto":
        moments = None  # too few images to estimate a mean at each position
    ranks = sorted(kept)
    return _Pass(
        samples,
        moments,
        cells,
        shape,
        [kept[k] for k in ranks],
        [int(order[k]) for k in ranks],
        [insides[k] for k in ranks],
    )


def _candidates(detector: "PartDetector", passed: _Pass, folds: np.ndarray) -> dict[str, Candidate]:
    """Fit all candidate densities: to all images, and to all images outside each fold."""
    sources = detector.features.sources
    found = {}
    fitted: dict[int, Mixtures | Cells] = {
        k: Mixtures(sample, _tried(detector, source, k), folds, detector.seed)
        for k, (source, sample) in enumerate(zip(sources, passed.samples, strict=True))
        if source.kind != CELLS and not (detector.kind == "positional" and source.kind in LEARNED)
    }
    if passed.cells:
        cells = Cells(np.stack(list(passed.cells.values())), np.array(list(passed.cells)), folds)
        fitted |= {k: cells for k, source in enumerate(sources) if source.kind == CELLS}
    if detector.kind != "positional":
        found["mixture"] = Candidate(sources, [fitted[k] for k in sorted(fitted)])
    if passed.moments is not None:
        found["positional"] = Candidate(
            sources,
            [
                Positional(passed.moments[k]) if source.kind in LEARNED else fitted[k]
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
