"""The protocol that every method follows, and the paper's method: distance of features to a prototype."""

from collections.abc import Iterable, Sequence
from itertools import chain, islice, repeat
from typing import Protocol, Self

import keras
import numpy as np

from metricad import mahalanobis
from metricad.inspection import tiles
from metricad.networks import factory as architectures
from metricad.scoring import maps
from metricad.clock import Clock
from metricad.errors import DataError
from metricad.evidence import Evidence, contrast
from metricad.neighbourhood import gathered
from metricad.prototype import NOTHING, GaussianPrototype, Prototype
from metricad.preprocessing.regions import Region
from metricad.preprocessing.intensity import LOOK, Tone, stabilising


class Detector(Protocol):
    """A method of anomaly detection; evaluation knows nothing else about it.

    Images are float32 (H, W) in [-1, 1].
    """

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Learn from good images only."""

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """How far each pixel lies from good surface: float32 (H, W), larger is farther."""

    def score(self, image: np.ndarray) -> float:
        """How far the image lies from good surface; larger is farther."""


class TripletDetector:
    """Distance of a network's features to a prototype (the paper, sections 2.2 and 2.9).

    Parameters
    ----------
    model : keras.Model
        As `network.build` or `hypercolumn.build` makes it.
    prototype : Prototype
        Fitted here by `fit` or `update`, or before.
    features : Features, optional
        The model's, made when none are given; `SharedFeatures` where several detectors stand on one network.
    tone : Tone, optional
        What the network is shown of an image's light: all, as it is, when not given, as in the paper. One yet
        to be chosen is chosen by `prepare`.
    evidence : Evidence, optional
        Raises the distance where long lines and borders between textures are; fitted as the prototype is;
        none in the paper.
    gathers : bool
        Whether a feature's neighbours have a say in its distance, see `neighbourhood`; not in the paper.
    reduction : str
        How an image's distance map becomes its score, one of `maps.REDUCTIONS`: the maximum in the paper.
    region : Region, optional
        Where images are judged; everywhere when not given. A feature whose centre lies outside is not scored,
        nor learned from, unless each place has a prototype of its own.
    """

    def __init__(
        self,
        model: keras.Model,
        prototype: Prototype,
        *,
        features: "Features | None" = None,
        tone: Tone | None = None,
        evidence: Evidence | None = None,
        gathers: bool = False,
        reduction: str = "max",
        region: Region | None = None,
    ) -> None:
        self.reduction = maps.checked_reduction(reduction)
        self.model = model
        self.prototype = prototype
        self.extractor = Features(model) if features is None else features
        self.tone = tone
        self.evidence = evidence
        self.gathers = gathers
        self.grid = architectures.grid(model)
        self.region = region
        self.clock = Clock()

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """See `Detector`; streams, so that any number of images can be given.

        Where a tone is to be chosen, the first `tone.LOOK` choose it; the same `settle` what is learned.
        """
        images = iter(images)
        first = list(islice(images, LOOK))
        self.prepare(first)
        self.prototype.clear()
        if self.evidence is not None:
            self.evidence.clear()
        for image in chain(first, images):
            self.update(image)
        if not first:
            raise ValueError(NOTHING)
        self.settle(first)
        return self

    @property
    def is_prepared(self) -> bool:
        """Whether no tone is left to choose."""
        return self.tone is None or self.tone.curve is not None

    def prepare(self, images: Sequence[np.ndarray]) -> None:
        """Choose the tone by some good images before anything is learned; nothing where it is given.

        Parameters
        ----------
        images : sequence of float32 (H, W) in [-1, 1]
            Without any, nothing is chosen.
        """
        if images and not self.is_prepared:
            regions = (None if self.region is None else self.region.region(image) for image in images)
            self.tone = stabilising(zip(images, regions, strict=True))

    def update(self, image: np.ndarray) -> None:
        """Learn from one more good image, float32 (H, W) in [-1, 1].

        So that several detectors can learn from one stream of images, each in turn. Without `prepare`
        before, a tone to be chosen is chosen by the first image alone. `settle` comes after the last.
        """
        self.prepare([image])
        features = self.features(image)
        inside = self.inside(image, features.shape[:2])
        self.prototype.update(features, inside)
        if self.evidence is not None:
            everywhere = np.ones(features.shape[:2], bool)
            self.evidence.update(_shown(image, self.tone), everywhere if inside is None else inside)

    def settle(self, images: Iterable[np.ndarray], distances: Iterable[np.ndarray] | None = None) -> None:
        """Learn what evidence beside the distance is worth, where there is any, by some good images.

        Parameters
        ----------
        images : iterable of float32 (H, W) in [-1, 1]
            At least one, when all has been learned from.
        distances : iterable of float32 (h', w'), optional
            Of these images, instead of this prototype's.
        """
        if self.evidence is None:
            return
        given = repeat(None) if distances is None else distances
        self.evidence.settle(self._looks(image, one) for image, one in zip(images, given, strict=False))

    def features(self, image: np.ndarray) -> np.ndarray:
        """Features float32 (h', w', d) of an image float32 (H, W) in [-1, 1], in this detector's tone."""
        return self.extractor(image, self.tone)

    def distance_map(self, image: np.ndarray) -> np.ndarray:
        """Distance to the prototype at each feature: float32 (h', w'), 0 outside the region.

        Raises
        ------
        DataError
            The image does not suit the region or the prototype.
        """
        distances, measures, light, inside = self._looks(image)
        if self.evidence is None:
            return distances
        joined = self.evidence.joined(distances, measures, light)
        return joined if inside is None else np.where(inside, joined, np.float32(0))

    def _looks(
        self, image: np.ndarray, given: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, float | None, np.ndarray | None]:
        """Distances (h', w'), 0 outside the region, evidence there (h', w', n), contrast, what is inside."""
        if given is None and image.size > tiles.LARGE and not self.prototype.needs_positions:
            looks = tiles.distance_map(self._stacked, image, self.grid)
        else:
            looks = self._stacked(image, given)
        distances = looks[..., 0]
        inside = self.inside(image, distances.shape)
        if inside is not None:
            distances = np.where(inside, distances, np.float32(0))
        if self.gathers:
            distances = gathered(distances, inside)
        if self.evidence is None:
            return distances, looks[..., 1:], None, inside
        seen = _shown(maps.at_features(image, self.grid, distances.shape), self.tone)
        return distances, looks[..., 1:], contrast(seen.ravel() if inside is None else seen[inside]), inside

    def _stacked(self, image: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
        """Distance at each feature, wherever it is, and the evidence there: float32 (h', w', 1 + n)."""
        with self.clock("network and distance"):
            distances = given
            if given is None:
                distances = self.extractor.distance(image, self.prototype, self.tone)
            if self.evidence is None:
                return distances[..., np.newaxis]
            measures = self.evidence.measures(_shown(image, self.tone), distances)
            return np.concatenate([distances[..., np.newaxis], measures], axis=-1)

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """See `Detector`."""
        return self.on_pixels(self.distance_map(image), image)

    def on_pixels(self, distance_map: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Put an image's distance map (h', w') on its pixels: see `maps.on_pixels`."""
        return maps.on_pixels(distance_map, image, self.grid, self.region)

    def score(self, image: np.ndarray) -> float:
        """See `Detector`."""
        return maps.image_score(self.distance_map(image), self.reduction)

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """What the network makes of the place that is farthest from good surface: float32 (d,)."""
        distances = self.distance_map(image)
        return self.features(image)[np.unravel_index(np.argmax(distances), distances.shape)]

    def inside(self, image: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
        """Which features of a map of this shape have their centre in the region: bool (h', w'), None for all.

        Raises
        ------
        DataError
            There are none.
        """
        if self.region is None:
            return None
        inside = maps.at_features(self.region.region(image), self.grid, shape)
        if not inside.any():  # a score of 0 would call anything good
            raise DataError(
                "there is nothing to judge: the region holds no feature's centre; expected some of it, a few "
                f"pixels wide, {maps.middle(self.grid)} pixels or more from the image's border; draw a "
                "larger mask"
            )
        return inside


class Features:
    """A network's features of images.

    Parameters
    ----------
    model : keras.Model
        As `network.build` or `hypercolumn.build` makes it.
    """

    def __init__(self, model: keras.Model) -> None:
        self.extract = architectures.extractor(model)
        self._mahalanobis = mahalanobis.compiled(model)
        self._scales = len(architectures.grid(model).scales)

    def __call__(self, image: np.ndarray, tone: Tone | None = None) -> np.ndarray:
        """Features float32 (h', w', d) of an image float32 (H, W) in [-1, 1], shown in this tone."""
        return self.extract(_shown(image, tone))

    def distance(self, image: np.ndarray, prototype: Prototype, tone: Tone | None = None) -> np.ndarray:
        """Distance of each feature from a prototype: float32 (h', w'), a Gaussian's within TensorFlow."""
        chosen = getattr(prototype, "chosen", prototype)
        if not isinstance(chosen, GaussianPrototype) or len(chosen.scales) != self._scales:
            return prototype.distance(self(image, tone))
        return chosen.levelled(self._mahalanobis(_shown(image, tone), *chosen.affine))


class SharedFeatures(Features):
    """The same, with those of the last image asked for kept for the next to ask.

    Detectors that share one and are asked about the same image one after the other run the network once.
    The image is known again by identity: it must not be changed in between, as that would go unseen.

    Parameters
    ----------
    model : keras.Model
        As `network.build` or `hypercolumn.build` makes it.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(model)
        self._image: np.ndarray | None = None  # held, so that no other image can come to its address
        self._tone: Tone | None = None
        self._features: np.ndarray | None = None

    def distance(self, image: np.ndarray, prototype: Prototype, tone: Tone | None = None) -> np.ndarray:
        """See `Features`; of the features that are shared."""
        return prototype.distance(self(image, tone))

    def __call__(self, image: np.ndarray, tone: Tone | None = None) -> np.ndarray:
        """See `Features`. They are shared: the array is read-only and must not be written to."""
        if image is not self._image or tone != self._tone:
            features = super().__call__(image, tone)
            features.flags.writeable = False
            self._image, self._tone, self._features = image, tone, features
        return self._features


def _shown(image: np.ndarray, tone: Tone | None) -> np.ndarray:
    """What a network is shown of an image in this tone."""
    return image if tone is None else tone(image)
