"""Densities fitted to all images and, for each fold, to the images outside it."""

import copy
from collections.abc import Collection, Iterable, Sequence

import keras
import numpy as np

from metricad.density.cells import CellGaussian
from metricad.density.mixture import WEIGHT, GaussianMixture, MixtureMoments, Whitened, whitened
from metricad.density.positional import PositionalGaussian, PositionalMoments
from metricad.density.sampling import VectorSample


class Mixtures:
    """Mixtures fitted to a sample and to its part outside each fold; chooses the number of components.

    Of all numbers tried, the best is the one under which held-out images are most likely. The smallest number
    within one standard error of it, over images, is chosen. A number is tried only if each component has at
    least `WEIGHT` vectors on average; with fewer it would have no covariance of its own.

    Attributes
    ----------
    full : GaussianMixture
        Fitted to all vectors.
    by_fold : list of GaussianMixture
        Fitted without each fold.
    """

    def __init__(self, sample: VectorSample, numbers: Sequence[int], folds: np.ndarray, seed: int) -> None:
        self._vectors, self._images, self._seed = sample.vectors, sample.images, seed
        self._own_fold = folds[self._images]
        self._count = int(folds.max()) + 1
        self._moments: dict[int, MixtureMoments] = {}  # by number of components
        self._likelihoods: dict[int, np.ndarray] = {}  # by number of components, of each image
        self._names = np.unique(self._images)
        self._whitened = whitened(self._vectors)
        if self._count == 1:
            self.number = 1
            self.full = self._fitted(1)
            self.by_fold = [self.full]
            return
        everything = np.ones(len(self._vectors), bool)
        without = [whitened(self._vectors[self._own_fold != fold]) for fold in range(self._count)]
        tried = {number: self._try(number, without) for number in self._possible(numbers, everything)}
        self.number = self._choose(everything)
        self.full, self.by_fold = self._fitted(self.number), tried[self.number]

    def without(self, images: Collection[int]) -> GaussianMixture:
        """Choose the number of components and fit a mixture without some images.

        Vectors keep the component that they have in the mixture of all images: clustering anew takes much
        longer.
        """
        left_out = np.isin(self._images, list(images))
        number = self._choose(~left_out)
        if number not in self._moments:
            full = self.full if number == self.number else self._fitted(number)
            self._moments[number] = MixtureMoments(full, self._vectors, self._whitened)
        return self._moments[number].without(left_out)

    def _fitted(self, number: int, vectors: Whitened | None = None) -> GaussianMixture:
        empty = GaussianMixture(self._vectors.shape[1], number)
        return empty.fit(self._whitened if vectors is None else vectors, seed=self._seed)

    def _possible(self, numbers: Sequence[int], chosen: np.ndarray) -> list[int]:
        least = min(np.sum(chosen & (self._own_fold != fold)) for fold in range(self._count))
        return [number for number in numbers if number == numbers[0] or number * WEIGHT <= least]

    def _try(self, number: int, without: Sequence[Whitened]) -> list[GaussianMixture]:
        tried = [self._fitted(number, vectors) for vectors in without]
        likelihood = np.zeros(len(self._vectors))
        for fold, density in enumerate(tried):
            own = self._own_fold == fold
            found = density.log_likelihood(self._vectors[None, None, own])
            likelihood[own] = keras.ops.convert_to_numpy(found)[0, 0]
        total = np.bincount(self._images, likelihood)[self._names]
        self._likelihoods[number] = total / np.unique(self._images, return_counts=True)[1]
        return tried

    def _choose(self, chosen: np.ndarray) -> int:
        """Choose the number of components with the images of the chosen vectors."""
        if not self._likelihoods:
            return self.number
        numbers = self._possible(list(self._likelihoods), chosen)
        used = np.isin(self._names, self._images[chosen])
        by_image = [self._likelihoods[number][used] for number in numbers]
        means = [each.mean() for each in by_image]
        errors = [each.std() / np.sqrt(len(each)) for each in by_image]
        best = int(np.argmax(means))
        return next(
            number for number, mean in zip(numbers, means, strict=True) if mean >= means[best] - errors[best]
        )


class Positional:
    """Positional density fitted to all images, and to all images outside each fold."""

    def __init__(self, parts: Sequence[PositionalMoments]) -> None:
        self._total = sum(parts[1:], parts[0])
        self.full = _positional(self._total)
        rests = [[one for one in parts if one is not part] for part in parts]
        self.by_fold = [_positional(sum(rest[1:], rest[0])) if rest else self.full for rest in rests]

    def without(self, maps: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> PositionalGaussian:
        """Fit the density without some of the feature maps, given with their masks."""
        left = copy.deepcopy(self._total)
        for features, inside in maps:
            left.update(features, inside, sign=-1)
        return _positional(left)


class Cells:
    """Gaussians of cells fitted to all images, and to all images outside each fold.

    Parameters
    ----------
    maps : float32 (n, g, g, d)
        Mean features of the cells of some images.
    images : int (n,)
        Numbers of these images.
    folds : int (images,)
        Fold of every image.
    """

    def __init__(self, maps: np.ndarray, images: np.ndarray, folds: np.ndarray) -> None:
        self._maps, self._images = maps, images
        self.full = self._empty().fit(maps)
        self.by_fold = [self.full]
        if len(maps) > 1:
            own = folds[images]
            self.by_fold = [self._empty().fit(maps[own != fold]) for fold in range(int(folds.max()) + 1)]
        self._left = self._empty()

    def without(self, images: Collection[int]) -> CellGaussian:
        """Fit without some images; return the same layer at each call."""
        return self._left.fit(self._maps[~np.isin(self._images, list(images))])

    def _empty(self) -> CellGaussian:
        return CellGaussian(self._maps.shape[-1], self._maps.shape[1])


def _positional(moments: PositionalMoments) -> PositionalGaussian:
    *size, dimensions = moments.mean.shape
    return PositionalGaussian(dimensions, (size[0], size[1])).fit(moments)
