"""A head on the distance: which ways from good surface are defects, and which are harmless, on one part."""

import warnings
from collections.abc import Mapping
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


class HeadPrototype:
    """A prototype with a small classifier on its whitened features.

    A Mahalanobis distance counts every unusual direction alike: on a part whose light, streaks and edges
    vary, what is rare and harmless lies as far as a defect. The head has seen both, harmless variation on the
    part's good images and synthetic defects put onto them, and says for each feature how likely it is a
    defect's. The distance is the sum of the prototype's and the head's, each in standard deviations of what
    the farthest features of good images have: so a defect that no synthetic one resembles is still far.

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
        self.scales = np.array([[0.0, 1.0], [0.0, 1.0]])

    @property
    def needs_positions(self) -> bool:
        """Whether the prototype below does."""
        return self.base.needs_positions

    def train(self, good: np.ndarray, defective: np.ndarray, *, seed: int) -> None:
        """Train the head on whitened features (n, d) of good surface and of synthetic defects.

        scikit-learn's multilayer perceptron, one hidden layer.
        """
        samples = _inputs(np.concatenate([good, defective]))
        labels = np.repeat([0, 1], [len(good), len(defective)])
        classifier = MLPClassifier(
            (_HIDDEN,), max_iter=_EPOCHS, learning_rate_init=_LEARNING_RATE, random_state=seed, tol=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is meant
            classifier.fit(samples, labels)
        self.layers = [
            array.astype(np.float32)
            for pair in zip(classifier.coefs_, classifier.intercepts_, strict=True)
            for array in pair
        ]

    def standardise(self, farthest: np.ndarray) -> None:
        """Set the scales from the largest distance and the largest logit of each good image: (n, 2)."""
        self.scales = np.stack([farthest.mean(axis=0), np.maximum(farthest.std(axis=0), 1e-6)], axis=1)

    def parts(self, features: np.ndarray) -> np.ndarray:
        """The prototype's distance and the head's logit at each feature of (h', w', d): (2, h', w')."""
        white = self.base.whitened(features)
        return np.stack([np.sqrt(np.square(white).sum(axis=-1)), self.logits(white)])

    def logits(self, white: np.ndarray) -> np.ndarray:
        """How much whitened features (..., d) look like a defect to the head: float32 (...)."""
        first, first_bias, second, second_bias = self.layers
        hidden = np.maximum(_inputs(white) @ first + first_bias, 0)
        return (hidden @ second + second_bias)[..., 0]

    def distance(self, features: np.ndarray) -> np.ndarray:
        """See `Prototype`; through a softplus, so that it is never below 0."""
        standard = (self.parts(features) - self.scales[:, 0, None, None]) / self.scales[:, 1, None, None]
        return np.logaddexp(0, standard.sum(axis=0)).astype(np.float32)

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
        """See `Prototype`: those of the prototype below, the head's layers, and the scales (2, 2)."""
        layers = {f"layer{number}": array for number, array in enumerate(self.layers)}
        return {**self.base.arrays(), **layers, "scales": self.scales}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Prototype`."""
        self.base.restore(arrays)
        self.layers = [arrays[f"layer{number}"] for number in range(4)]
        self.scales = arrays["scales"]
        return self


def of(base: GaussianPrototype | PositionalPrototype) -> HeadPrototype:
    """A head, not trained yet, on a prototype that is fitted."""
    made = HeadPrototype(base=base.kind, **base.settings())
    made.base = base
    return made


def _inputs(white: np.ndarray) -> np.ndarray:
    """What the head sees of whitened features (..., d): compressed values, and how far they lie in all."""
    mean_square = np.square(white).mean(axis=-1, keepdims=True)
    compressed = np.sign(white) * np.log1p(np.abs(white))
    return np.concatenate([compressed, np.log(mean_square + FLOOR)], axis=-1).astype(np.float32)
