"""The kinds of prototype by name, and the one that chooses between them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import keras
import numpy as np

from metricad.networks import factory as architectures, hypercolumn, residual as network
from metricad.evidence import Evidence
from metricad.positional import PositionalPrototype
from metricad.prototype import NOTHING, GaussianPrototype, MeanPrototype, Prototype
from metricad.networks.grid import FeatureGrid
from metricad.preprocessing.intensity import Tone

_LOOK = 8  # images between two comparisons: they cost as much as several images
_PATIENCE = 3 * _LOOK  # images: until then a positional prototype knows its places too badly to be given up


class AutoPrototype:
    """The Gaussian or the positional prototype, whichever foresees good images better.

    Both learn from every image. Before they learn from the ninth, the seventeenth and so on, each is asked
    how likely that image is, which it has not seen (the prequential principle: Dawid, 1984); the larger sum
    of log likelihoods wins. So surfaces seen in register are known by their good images alone: no defect, no
    label and no image of the calibration is needed. With fewer than nine images, or with images of several
    sizes, it is the Gaussian.

    Parameters
    ----------
    scales, border
        As in `GaussianPrototype`.
    """

    def __init__(self, *, scales: Sequence[float] = (1.0,), border: int = 0) -> None:
        self._gaussian = GaussianPrototype(scales=scales, border=border)
        self._positional: PositionalPrototype | None = PositionalPrototype(scales=scales)
        self._shape: tuple[int, ...] | None = None
        self._count = 0
        self._advantage = 0.0

    @property
    def chosen(self) -> Prototype:
        """The prototype that foresees better so far."""
        return self._positional if self._positional is not None and self._advantage > 0 else self._gaussian

    @property
    def kind(self) -> str:
        """Kind of the chosen one, as a bundle keeps it."""
        return self.chosen.kind

    @property
    def needs_positions(self) -> bool:
        """Of the chosen one."""
        return self.chosen.needs_positions

    def clear(self) -> None:
        """See `Prototype`."""
        self.__init__(scales=self._gaussian.scales, border=self._gaussian.border)

    def update(self, features: np.ndarray, inside: np.ndarray | None = None) -> None:
        """See `Prototype`."""
        self._shape = features.shape if self._shape is None else self._shape
        if features.shape != self._shape:
            self._positional = None
        if self._positional is not None and self._count and self._count % _LOOK == 0:
            gained = self._positional.log_likelihood(features) - self._gaussian.log_likelihood(features)
            gain = float(np.mean(gained if inside is None else gained[inside]))
            self._advantage += gain
            # What falls farther behind is given up: it takes many times the Gaussian's time and memory.
            if self._advantage < 0 and gain < 0 and self._count >= _PATIENCE:
                self._positional = None
        if self._positional is not None:
            self._positional.update(features, inside)
        self._gaussian.update(features, inside)
        self._count += 1

    def fit(self, features: Iterable[np.ndarray]) -> Self:
        """See `Prototype`; raises ValueError when there are no feature maps."""
        self.clear()
        for feature_map in features:
            self.update(feature_map)
        if not self._count:
            raise ValueError(NOTHING)
        return self

    def distance(self, features: np.ndarray) -> np.ndarray:
        """See `Prototype`; of the chosen one."""
        return self.chosen.distance(features)

    def settings(self) -> dict[str, object]:
        """See `Prototype`; of the chosen one."""
        return self.chosen.settings()

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Prototype`; of the chosen one."""
        return self.chosen.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Not to be had: a bundle keeps the chosen kind, which is restored as such."""
        raise ValueError("an auto prototype is kept as the kind that it chose; restore that one")


KINDS = {
    "mean": MeanPrototype,
    "gaussian": GaussianPrototype,
    "positional": PositionalPrototype,
    "auto": AutoPrototype,
}
"""What makes an empty prototype of each kind."""


def prototype_of(kind: str, sampling: FeatureGrid = network.GRID) -> Prototype:
    """Make a prototype of this kind that is not fitted yet, for features of this sampling.

    Raises
    ------
    ValueError
        There is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, received {kind!r}")
    if kind == MeanPrototype.kind:
        return MeanPrototype()
    if kind == PositionalPrototype.kind:
        return PositionalPrototype(scales=sampling.scales)
    return KINDS[kind](scales=sampling.scales, border=sampling.border)


def suited_to(model: keras.Model) -> Prototype:
    """Make an empty prototype of a network's default kind: the mean on the paper's, auto on any other."""
    kind = MeanPrototype.kind if model.name == network.NAME else "auto"
    return prototype_of(kind, architectures.grid(model))


def evidence_for(model: keras.Model) -> Evidence | None:
    """What looks for lines and borders beside a network: the one of three scales has time for it alone."""
    return Evidence() if model.name == hypercolumn.THREE_SCALES else None


def gathers(model: keras.Model) -> bool:
    """Whether a feature's neighbours have a say in its distance: on any network but the paper's."""
    return model.name != network.NAME


def tone_for(model: keras.Model) -> Tone | None:
    """The tone of a network's images: as they are on the paper's, chosen by good images on any other."""
    return None if model.name == network.NAME else Tone()
