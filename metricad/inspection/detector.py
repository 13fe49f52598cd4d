"""The model of one part: fit it to good images, then compute distances, anomaly maps and image scores."""

import copy
import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from metricad.data.channels import to_channels, to_luminance
from metricad.density import MEANS, Kind
from metricad.density.mean import MeanDistance
from metricad.density.mixture import GaussianMixture
from metricad.errors import DataError
from metricad.inspection import fit_detector, model, tiling
from metricad.inspection.interface import Judgement
from metricad.inspection.model import compiled
from metricad.inspection.timing import StageTimer
from metricad.networks import hypercolumn, joint, residual
from metricad.networks.feature_grid import FeatureGrid
from metricad.preprocessing.regions import Region
from metricad.scoring import anomaly_maps
from metricad.scoring.opening import Opening
from metricad.scoring.score import ImageScore
from metricad.scoring.score_names import DEFAULT, checked
from metricad.scoring.standardize import Fuse, Standardize


class PartDetector:
    """Detector: a network, densities of good features and an image score; follows `interface.Detector`.

    Parameters
    ----------
    network : keras.Model
        Network, as built by `factory.build`.
    kind : {"auto", "mixture", "gaussian", "positional", "mean", "positional-mean"}, optional
        Kind of density. ``auto`` uses the mixture, or the positional density if good images are more likely
        under it. The default is the paper's ``mean`` for the paper's network and ``auto`` for any other.
        ``positional-mean`` is the paper's mean, taken at each position.
    metric : {"euclidean", "manhattan"}
        Metric of the mean densities.
    is_gray : bool
        Use only the luminance, also of color images.
    region : Region, optional
        Region of interest; the default is the whole image. Features whose center lies outside the region are
        not scored. They are not used for fitting either, except by a positional density.
    score : str, optional
        One of `score_names.SCORES`. The default is the maximum for the mean density, as in the paper, and
        `score_names.DEFAULT` for any other density.
    seed : int
        Seed of all random numbers used while fitting.
    """

    takes_color = True

    def __init__(
        self,
        network: keras.Model,
        kind: str | None = None,
        *,
        metric: str = "euclidean",
        is_gray: bool = False,
        region: Region | None = None,
        score: str | None = None,
        seed: int = 0,
    ) -> None:
        kind = ("mean" if network.name == residual.NAME else "auto") if kind is None else kind
        if kind not in list(Kind):
            raise ValueError(f"kind must be one of {', '.join(Kind)}, received {kind!r}")
        self.network = network
        self.kind = kind
        self.metric = metric
        self.is_gray = is_gray or kind in MEANS
        self.region = region
        self.score_name = checked(score or ("max" if kind in MEANS else DEFAULT))
        self.seed = seed
        self.timer = StageTimer()
        self.settings: dict[str, Any] = {
            "channels": 1,
            "curve": "linear",
            "is_halved": False,
            "shrink": 1,
            "resizes_cells": False,
        }
        self.likelihood_gain: float | None = None
        """Mean log likelihood of held-out images: density chosen by ``auto`` minus the other one."""
        self._build_features()
        self.densities: list[keras.layers.Layer] = []
        self.opening: Opening | None = None
        """Lets small defects through; see `min_defect`."""

    @property
    def channels(self) -> int:
        """Number of channels that the detector uses: 1 or 3."""
        return int(self.settings["channels"])

    @property
    def grid(self) -> FeatureGrid:
        """Feature grid: where the features of the maps lie on the pixels of an image."""
        return self.features.grid

    @property
    def description(self) -> str:
        """Describe the fitted density in a few words."""
        first = self.densities[0]
        if not isinstance(first, GaussianMixture):
            return str(first.description)
        networks = [source.kind in model.LEARNED for source in self.features.sources]
        numbers = [density.components for density, own in zip(self.densities, networks, strict=True) if own]
        if max(numbers) == 1:
            return "Gaussian"
        by_scale = ", ".join(map(str, numbers))
        return f"mixture of Gaussians ({by_scale} {'by scale' if len(numbers) > 1 else 'components'})"

    @property
    def needs_positions(self) -> bool:
        """Whether all images must have the same size and show the part at the same position."""
        return any(density.needs_positions for density in self.densities)

    def fit(self, images: Sequence[np.ndarray]) -> Self:
        """Fit the detector to good images; see `Detector`.

        Some images are loaded together to choose the settings. After that all are read once, one at a time.
        For the mean density, they are read once for each feature map.

        Raises
        ------
        DataError
            Gray and color images are mixed, or an image does not fit the region of interest or the density.
        """
        if not len(images):
            raise ValueError("no images to fit to; expected at least one good image")
        if self.kind in MEANS:
            empty = self.empty_means(images)
            self.densities = [density.adapt(self._seen(images, k)) for k, density in enumerate(empty)]
            self.assemble()
        else:
            fit_detector.fit(self, images)
        return self

    def empty_means(self, images: Sequence[np.ndarray]) -> list[MeanDistance]:
        """Make the unfitted mean of each source; `positional-mean` takes its size from the first image."""
        shapes: list[tuple[int, int] | None] = [None] * len(self.features.sources)
        self.settings.pop("shape", None)
        if self.kind == Kind.positional_mean:
            image = images[0]
            self.settings["shape"] = image.shape[:2]
            shapes = [(len(one), len(one[0])) for one in self.feature_maps(image)]
        return [
            MeanDistance(source.dimensions, metric=self.metric, shape=shape)
            for source, shape in zip(self.features.sources, shapes, strict=True)
        ]

    def _seen(self, images: Sequence[np.ndarray], source: int) -> Iterator[np.ndarray]:
        """Yield the features of one source that a mean is taken of, image by image."""
        for number, image in fit_detector.ahead(images, range(len(images))):
            try:
                self._check_size(image)
                yield self.used(image, self.feature_maps(image), source)
            except DataError as error:
                raise DataError(f"{fit_detector.name_of(images, number)}: {error}") from error

    def used(self, image: np.ndarray, found: Sequence[np.ndarray], source: int) -> np.ndarray:
        """Return the features of a source that a mean is taken of: all, or those in the region of interest.

        At each position they are all used, because the region may differ from image to image.
        """
        if self.kind == Kind.positional_mean:
            return found[source]
        inside = self.inside(image, found[source].shape[:2], source)
        return found[source] if inside is None else found[source][inside]

    def prepare(self, **settings: object) -> None:
        """Change settings, and rebuild the layers that compute features."""
        self.settings |= settings
        self._build_features()

    def assemble(
        self,
        standardize: Standardize | None = None,
        fuse: Fuse | None = None,
        score: ImageScore | None = None,
    ) -> None:
        """Connect the layers into the two halves of the model and compile both."""
        self._distances = compiled(
            functools.partial(model.distances, self.features, list(self.densities)),
            tf.TensorSpec((1, None, None, self.channels)),
        )
        self._assemble_verdict(
            standardize, fuse, ImageScore(self.score_name, name="score") if score is None else score
        )

    def _assemble_verdict(
        self, standardize: Standardize | None, fuse: Fuse | None, score: ImageScore
    ) -> None:
        """Connect the layers of the second half and compile them."""
        self.standardize, self.fuse, self.score_layer = standardize, fuse, score
        number = len(self.densities)
        self._verdict = compiled(
            functools.partial(model.judged, **self._layers),
            tf.TensorSpec((1, None, None, number)),
            tf.TensorSpec((1, None, None)),
        )

    @property
    def _layers(self) -> dict[str, Any]:
        return {
            "score": self.score_layer,
            "standardize": self.standardize,
            "fuse": self.fuse,
            "opening": self.opening,
        }

    @property
    def to_maps(self) -> keras.Model:
        """The first half of the model, as exports use it: images to distances; see `model.maps`."""
        return model.maps(self.features, self.densities)

    @property
    def to_verdict(self) -> keras.Model:
        """The second half of the model, as exports use it: distances to verdict; see `model.verdict`."""
        return model.verdict(len(self.densities), **self._layers)

    def feature_maps(self, image: np.ndarray) -> list[np.ndarray]:
        """Compute all feature maps of an image, float32 (h, w, d), each on its own grid, in order of the
        sources.
        """
        self.grid.check(image.shape)
        found = self.features.run(to_channels(image, self.channels)[np.newaxis])
        return [one.numpy()[0] for one in keras.tree.flatten(found)]  # for a single map Keras returns no list

    def distances(self, image: np.ndarray) -> np.ndarray:
        """Compute the distance of each source at each feature: float32 (h', w', sources).

        Raises
        ------
        DataError
            The image does not fit the inspector: it is gray but color is needed, or its size differs from
            that of a positional density.
        """
        pixels = to_channels(image, self.channels)
        self._check_size(image)
        if (
            pixels.shape[0] * pixels.shape[1] > tiling.LARGE
            and not self.needs_positions
            and self.grid.is_cuttable
        ):
            return tiling.stitched(
                lambda tile: self._distances(tile[np.newaxis]).numpy()[0], pixels, self.grid
            )
        return self._distances(pixels[np.newaxis]).numpy()[0]

    def judge(self, image: np.ndarray) -> Judgement:
        """Judge an image; see `interface.ImageJudge`."""
        with self.timer("network and distance"):
            distances = self.distances(image)
        with self.timer("score"):
            found = self.verdict(distances, self.inside(image, distances.shape[:2]))
        # Features of a padded network may lie beyond the last pixel.
        row, column = (min(each, side - 1) for each, side in zip(found.peak, image.shape[:2], strict=True))
        return replace(found, peak=(row, column))

    def verdict(self, distances: np.ndarray, inside: np.ndarray | None = None) -> Judgement:
        """Run the second half of the model on distances (h', w', sources), in the mask `inside`, bool (h',
        w').
        """
        known = np.ones(distances.shape[:2], np.float32) if inside is None else inside.astype(np.float32)
        found = self._verdict(distances[np.newaxis], known[np.newaxis])
        row, column = (int(each) * self.grid.stride + self.grid.middle for each in found["place"].numpy()[0])
        source = self.features.sources[int(found["source"][0])].name
        return Judgement(float(found["score"][0]), (row, column), source, found["anomaly"].numpy()[0])

    def maps_by_kind(self, image: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Return the anomaly map of each kind of source, float32 (h', w'), and the mask of the region."""
        distances = self.distances(image)
        inside = self.inside(image, distances.shape[:2])
        if self.standardize is None or self.fuse is None:
            return {self.features.sources[0].kind: distances[..., 0]}, inside
        found = self.fuse.by_kind(self.standardize(distances[np.newaxis]))
        return {kind: one.numpy()[0] for kind, one in found.items()}, inside

    def with_score(
        self, score: str, kinds: Collection[str], *, center: float, spread: float
    ) -> "PartDetector":
        """Return a copy of this detector with another score, computed from some kinds of sources only.

        Parameters
        ----------
        score : str
            One of `score_names.SCORES`.
        kinds : sequence of str
            Kinds of feature maps, see `model.Source`.
        center, spread : float
            Mean and standard deviation of the largest map values of good images, as averaged by the score.

        Returns
        -------
        PartDetector
            Without an `opening`, which belongs to one score and threshold.
        """
        other = copy.copy(self)
        other.opening = None  # made for another score
        other.score_name = checked(score)
        layer = ImageScore(score, name="score")
        layer.center.assign(center if self.standardize is not None else 0.0)
        layer.spread.assign(spread if self.standardize is not None else 1.0)
        fuse = None if self.fuse is None else self.fuse.only(kinds)
        other._assemble_verdict(self.standardize, fuse, layer)
        return other

    def with_opening(self, opening: Opening | None) -> "PartDetector":
        """Return a copy of this detector with another opening of its map, or with none."""
        if opening is self.opening:
            return self
        other = copy.copy(self)
        other.opening = opening
        other.assemble(self.standardize, self.fuse, self.score_layer)
        return other

    def score(self, image: np.ndarray) -> float:
        """Compute the image score; see `Detector`."""
        return self.judge(image).score

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the anomaly map on pixels; see `Detector`."""
        return self.on_pixels(self.judge(image).anomaly, image)

    def on_pixels(self, anomaly: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Resample an anomaly map (h', w') to pixels (H, W); outside the region, use its smallest value."""
        return anomaly_maps.on_pixels(anomaly, image, self.grid, self.region)

    def map_value(self, score: float) -> float:
        """Return the anomaly map's value that corresponds to an image score; see `interface.ImageJudge`."""
        return self.score_layer.map_value(score)

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """Return the feature vector with the largest anomaly, from the network's finest map: float32 (d,)."""
        anomaly = self.judge(image).anomaly
        return self.feature_maps(image)[0][np.unravel_index(np.argmax(anomaly), anomaly.shape)]

    def inside(self, image: np.ndarray, shape: tuple[int, int], source: int = 0) -> np.ndarray | None:
        """Find the features of a source whose center lies in the region; `shape` is that of its map.

        Returns
        -------
        bool (h, w), or None if the whole image is inspected, or the features are means of cells

        Raises
        ------
        DataError
            No feature center lies in the region.
        """
        place = self.features.sources[source].place
        if self.region is None or place is None:
            return None
        where = self.region.region(to_luminance(image))
        inside = anomaly_maps.at_features(where, place, shape)
        if not inside.any():  # without this check the score would be 0 and every image good
            raise DataError(
                "the region of interest contains no feature; expected a part of it, a few pixels wide, at "
                f"least {self.grid.middle} pixels from the image's border; draw a larger mask"
            )
        return inside

    def _check_size(self, image: np.ndarray) -> None:
        self.grid.check(image.shape)
        expected = self.settings.get("shape")
        if expected is not None and image.shape[:2] != tuple(expected):
            raise DataError(
                "a positional density needs aligned images of one size: expected "
                f"{expected[0]}×{expected[1]} pixels, received {image.shape[0]}×{image.shape[1]}; resize the "
                "images or choose another kind"
            )

    def _build_features(self) -> None:
        name = self.network.name
        has_lines = name in (hypercolumn.THREE_SCALES, joint.JOINT) and self.kind not in MEANS
        known = ("channels", "curve", "is_halved", "shrink", "resizes_cells")
        chosen = {key: self.settings[key] for key in known}
        has_cells = name in (joint.IMAGENET, joint.JOINT) and self.kind not in MEANS
        self.features = model.features(self.network, has_lines=has_lines, has_cells=has_cells, **chosen)
