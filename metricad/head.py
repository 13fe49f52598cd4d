"""A head on the distance: which ways from good surface are defects, and which are harmless, on one part."""

import warnings
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from metricad.positional import PositionalPrototype
from metricad.prototype import GaussianPrototype

_BASES = {prototype.kind: prototype for prototype in (GaussianPrototype, PositionalPrototype)}
_HIDDEN, _EPOCHS, _LEARNING_RATE = 64, 12, 2e-3

FLOOR = 1e-2
"""Of the mean square of whitened features, below which its logarithm says nothing."""

MOST = 20.0
"""That the head can add to a distance's logarithm, so that it stays finite."""

_NEAREST, _LEAST_SPREAD = 1e-6, 1e-3  # of good images, where they never vary


class HeadPrototype:
    """A prototype with a small classifier on its whitened features.

    A Mahalanobis distance counts every unusual direction alike: on a part whose light, streaks and edges
    vary, what is rare and harmless lies as far as a defect. The head has seen both, harmless variation on the
    part's good images and synthetic defects put onto them, and says for each feature how likely it is a
    defect's. It stretches the prototype's distance: a standard deviation of what it says of good images'
    farthest features counts as much as one of the logarithm of their distance. So a defect that no synthetic
    one resembles is still far, and a head that is unsure of new good images counts for less.

    Follows `metricad.prototype.Prototype`, but learns from images and so is made by `adaptation.adapt`.

    Parameters
    ----------
    base : {"gaussian", "positional"}
        Kind of the prototype below.
    **settings
        Of that prototype.
    """

    kind: ClassVar[str] = "head"

    def __init__(self, *, base: str, **settings: str | float) -> None:
        if base not in _BASES:
            raise ValueError(f"base must be one of {', '.join(_BASES)}, received {base!r}")
        self.base = _BASES[base](**settings)
        self.layers: list[np.ndarray] = []
        self._members: list[list[np.ndarray]] = []  # what the layers were joined from
        self._learns = np.empty((0, 0), bool)
        self.exchange = np.array([0.0, 1.0])

    @property
    def needs_positions(self) -> bool:
        """Whether the prototype below does."""
        return self.base.needs_positions

    def train(self, good: Sequence[np.ndarray], defective: Sequence[np.ndarray], *, seed: int) -> None:
        """Train the head on whitened features (n, d) of good images and of synthetic defects on them.

        Two of scikit-learn's multilayer perceptrons with one hidden layer, whose mean is one with a hidden
        layer as wide as theirs together. Each learns from half of the images, so that every image is new to
        one of them, which can tell how the head takes to good images that are new (bagging: Breiman, 1996).

        Parameters
        ----------
        good, defective : sequence of float32 (n, d)
            As many as there are images: what is taken of each. Some may be empty, not all.
        seed : int
        """
        self._learns = _halves(len(good), np.random.default_rng(seed))
        self._members = []
        for number, learns in enumerate(self._learns):
            halves = (_chosen(rows, learns) for rows in (good, defective))
            self._members.append(_member(*halves, seed=seed + number))
        self.layers = _joined(self._members)

    def standardise(self, farthest: np.ndarray) -> None:
        """Set what a logit is worth, by each good image's largest distance and logit: (n, 2).

        Of `held_out_parts`: a head is surer of images that it learned from, and would count for too much.
        """
        spread = np.log(np.maximum(farthest[:, 0], _NEAREST)).std()
        self.exchange = np.array([farthest[:, 1].mean(), spread / max(farthest[:, 1].std(), _LEAST_SPREAD)])

    def parts(self, features: np.ndarray) -> np.ndarray:
        """The prototype's distance and the head's logit at each feature of (h', w', d): (2, h', w')."""
        return _parts(self.base.whitened(features), self.layers)

    def held_out_parts(self, features: np.ndarray, image: int) -> np.ndarray:
        """The same of an image that the head was trained with, from the member that has not learned from it.

        Only while what `train` made is at hand; with one image both have learned from it.
        """
        others = [one for one, learns in zip(self._members, self._learns, strict=True) if not learns[image]]
        return _parts(self.base.whitened(features), _joined(others or self._members))

    def logits(self, white: np.ndarray) -> np.ndarray:
        """How much whitened features (..., d) look like a defect to the head: float32 (...)."""
        return _logits(white, self.layers)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """See `Prototype`."""
        return self.stretched(self.parts(features))

    def stretched(self, parts: np.ndarray) -> np.ndarray:
        """Distances (h', w') of `parts` or `held_out_parts`, (2, h', w')."""
        distances, logits = parts
        typical, rate = self.exchange.astype(np.float32)
        return distances * np.exp(np.minimum(rate * (logits - typical), MOST))

    def update(self, features: np.ndarray, inside: np.ndarray | None = None) -> None:
        """Not to be had: raises ValueError."""
        raise ValueError("a head learns from images, not from features; see adaptation.adapt")

    def clear(self) -> None:
        """Not to be had: raises ValueError, as `update`."""
        self.update(np.empty(0))

    fit = update

    def settings(self) -> dict[str, str | float]:
        """See `Prototype`."""
        return {"base": self.base.kind, **self.base.settings()}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Prototype`: those of the prototype below, the head's layers, and what a logit is worth.

        The latter is the typical one of a good image's farthest feature, and by how much the logarithm of the
        distance grows for each unit above.
        """
        layers = {f"layer{number}": array for number, array in enumerate(self.layers)}
        return {**self.base.arrays(), **layers, "exchange": self.exchange}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Prototype`."""
        self.base.restore(arrays)
        self.layers = [arrays[f"layer{number}"] for number in range(4)]
        self.exchange = arrays["exchange"]
        return self


def of(base: GaussianPrototype | PositionalPrototype) -> HeadPrototype:
    """A head, not trained yet, on a prototype that is fitted."""
    made = HeadPrototype(base=base.kind, **base.settings())
    made.base = base
    return made


def _halves(count: int, rng: np.random.Generator) -> np.ndarray:
    """Which of so many images each of the two members learns from: bool (2, count)."""
    learns = np.ones((2, count), bool)
    if count > 1:
        learns[0, rng.permutation(count)[: count // 2]] = False
        learns[1] = ~learns[0]
    return learns


def _chosen(rows: Sequence[np.ndarray], learns: np.ndarray) -> np.ndarray:
    """What a member learns from; all there is where its images have none, as a few defects may."""
    chosen = [found for found, is_its in zip(rows, learns, strict=True) if is_its and len(found)]
    return np.concatenate(chosen or list(rows))


def _member(good: np.ndarray, defective: np.ndarray, *, seed: int) -> list[np.ndarray]:
    """Train one perceptron on whitened features (n, d): weights and biases of its two layers."""
    samples = _inputs(np.concatenate([good, defective]))
    labels = np.repeat([0, 1], [len(good), len(defective)])
    classifier = MLPClassifier(
        (_HIDDEN,), max_iter=_EPOCHS, learning_rate_init=_LEARNING_RATE, random_state=seed, tol=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is meant
        classifier.fit(samples, labels)
    pairs = zip(classifier.coefs_, classifier.intercepts_, strict=True)
    return [array.astype(np.float32) for pair in pairs for array in pair]


def _joined(members: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
    """Layers whose logit is the mean of the members'."""
    first, first_bias, second, second_bias = zip(*members, strict=True)
    return [
        np.concatenate(first, axis=1),
        np.concatenate(first_bias),
        np.concatenate(second) / np.float32(len(members)),
        np.mean(second_bias, axis=0),
    ]


def _parts(white: np.ndarray, layers: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([np.sqrt(np.square(white).sum(axis=-1)), _logits(white, layers)])


def _logits(white: np.ndarray, layers: Sequence[np.ndarray]) -> np.ndarray:
    first, first_bias, second, second_bias = layers
    hidden = np.maximum(_inputs(white) @ first + first_bias, 0)
    return (hidden @ second + second_bias)[..., 0]


def _inputs(white: np.ndarray) -> np.ndarray:
    """What the head sees of whitened features (..., d): compressed values, and how far they lie in all."""
    mean_square = np.square(white).mean(axis=-1, keepdims=True)
    compressed = np.sign(white) * np.log1p(np.abs(white))
    return np.concatenate([compressed, np.log(mean_square + FLOOR)], axis=-1).astype(np.float32)
