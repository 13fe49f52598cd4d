"""A part's model: fitted to good images, asked for distances, anomaly maps and scores."""

import copy
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from metricad.data.channels import to_channels, to_luminance
from metricad.density import Kind
from metricad.density.mean import MeanDistance
from metricad.errors import DataError
from metricad.inspection import fit_detector, model, tiling
from metricad.inspection.interface import Judgement
from metricad.inspection.model import compiled
from metricad.inspection.timing import StageTimer
from metricad.networks import hypercolumn, residual
from metricad.networks.feature_grid import FeatureGrid
from metricad.preprocessing.regions import Region
from metricad.scoring import anomaly_maps
from metricad.scoring.score import ImageScore
from metricad.scoring.score_names import DEFAULT, checked
from metricad.scoring.standardize import Fuse, Standardize


class PartDetector:
    """Features of a network, a density of good ones, and a score: follows `interface.Detector`.

    Parameters
    ----------
    network : keras.Model
        As `factory.build` makes it.
    kind : {"auto", "mixture", "gaussian", "positional", "mean"}, optional
        Of the density. ``auto`` takes the mixture or, where good images are likelier under it, the positional
        one. When not given, the paper's ``mean`` on the paper's network and ``auto`` on any other.
    metric : {"euclidean", "manhattan"}
        Of the mean.
    is_gray : bool
        Inspect the luminance alone, also of color images.
    region : Region, optional
        Where images are judged; everywhere when not given. A feature whose center lies outside is not scored,
        nor learned from, unless each place has a mean of its own.
    score : str, optional
        One of `score_names.SCORES`. When not given, the maximum with the mean, as in the paper, and
        `score_names.DEFAULT` with any other density.
    seed : int
        Of all that is drawn at random while fitting.
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
        self.is_gray = is_gray or kind == "mean"
        self.region = region
        self.score_name = checked(score or ("max" if kind == "mean" else DEFAULT))
        self.seed = seed
        self.timer = StageTimer()
        self.settings: dict[str, Any] = {"channels": 1, "curve": "linear", "is_halved": False}
        self.likelihood_gain: float | None = None
        """By how much held-out images are likelier under what ``auto`` chose than under the other density."""
        self._build_features()
        self.densities: list[keras.layers.Layer] = []

    @property
    def channels(self) -> int:
        """Channels of an image that count: 1 or 3."""
        return int(self.settings["channels"])

    @property
    def grid(self) -> FeatureGrid:
        """Where the places of the maps lie on an image's pixels."""
        return self.features.grid

    @property
    def description(self) -> str:
        """The density that was fitted, in a few words."""
        first = self.densities[0]
        if isinstance(first, MeanDistance):
            return f"{self.metric} distance to the mean"
        if first.needs_positions:
            return "Gaussian at each position"
        networks = [source.kind == model.NETWORK for source in self.features.sources]
        numbers = [density.components for density, own in zip(self.densities, networks, strict=True) if own]
        if max(numbers) == 1:
            return "Gaussian"
        by_scale = ", ".join(map(str, numbers))
        return f"mixture of Gaussians ({by_scale} {'by scale' if len(numbers) > 1 else 'components'})"

    @property
    def needs_positions(self) -> bool:
        """Whether all images must have one size, always seen in register."""
        return any(density.needs_positions for density in self.densities)

    def fit(self, images: Sequence[np.ndarray]) -> Self:
        """See `Detector`; images are read twice at most, one at a time, apart from the first look at some.

        Raises
        ------
        DataError
            Gray and color images are mixed, or an image does not suit the region or the density.
        """
        if not len(images):
            raise ValueError("no images to fit to; expected at least one good image")
        self.settings.pop("shape", None)
        if self.kind == "mean":
            empty = [MeanDistance(source.dimensions, metric=self.metric) for source in self.features.sources]
            self.densities = [density.adapt(self._seen(images, k)) for k, density in enumerate(empty)]
            self.assemble()
        else:
            fit_detector.fit(self, images)
        return self

    def _seen(self, images: Sequence[np.ndarray], source: int) -> Iterator[np.ndarray]:
        """Features of one source in each image that lie inside the region."""
        for number, image in fit_detector.ahead(images, range(len(images))):
            try:
                found = self.feature_maps(image)[source]
                inside = self.inside(image, found.shape[:2], source)
            except DataError as error:
                raise DataError(f"{fit_detector.name_of(images, number)}: {error}") from error
            yield found if inside is None else found[inside]

    def prepare(self, **settings: object) -> None:
        """Take channels, intensity curve and halving, and build the features anew."""
        self.settings |= settings
        self._build_features()

    def assemble(
        self,
        standardize: Standardize | None = None,
        fuse: Fuse | None = None,
        score: ImageScore | None = None,
    ) -> None:
        """Put the layers together to the two halves of the model."""
        self.standardize, self.fuse = standardize, fuse
        self.score_layer = ImageScore(self.score_name, name="score") if score is None else score
        self.to_maps = model.maps(self.features, self.densities)
        self.to_verdict = model.verdict(
            len(self.densities), self.score_layer, standardize=standardize, fuse=fuse
        )
        self._distances = compiled(self.to_maps, tf.TensorSpec((1, None, None, self.channels)))
        number = len(self.densities)
        maps_and_places = tf.TensorSpec((1, None, None, number)), tf.TensorSpec((1, None, None))
        self._verdict = compiled(lambda *given: self.to_verdict(list(given)), *maps_and_places)

    def feature_maps(self, image: np.ndarray) -> list[np.ndarray]:
        """Feature maps of an image, float32 (h, w, d), each on its own grid, in the order of the sources."""
        self.grid.check(image.shape)
        found = self.features.run(to_channels(image, self.channels)[np.newaxis])
        return [
            one.numpy()[0] for one in keras.tree.flatten(found)
        ]  # Keras gives a single map without its list

    def distances(self, image: np.ndarray) -> np.ndarray:
        """Distance of each source at each place: float32 (h', w', sources).

        Raises
        ------
        DataError
            The image does not suit the inspector: gray for color, or of another size than a positional one.
        """
        pixels = to_channels(image, self.channels)
        self._check_size(image)
        if pixels.shape[0] * pixels.shape[1] > tiling.LARGE and not self.needs_positions:
            return tiling.stitched(
                lambda tile: self._distances(tile[np.newaxis]).numpy()[0], pixels, self.grid
            )
        return self._distances(pixels[np.newaxis]).numpy()[0]

    def judge(self, image: np.ndarray) -> Judgement:
        """See `interface.ImageJudge`."""
        with self.timer("network and distance"):
            distances = self.distances(image)
        with self.timer("score"):
            return self.verdict(distances, self.inside(image, distances.shape[:2]))

    def verdict(self, distances: np.ndarray, inside: np.ndarray | None = None) -> Judgement:
        """Second half alone: of distances (h', w', sources), where `inside`, bool (h', w'), says so."""
        known = np.ones(distances.shape[:2], np.float32) if inside is None else inside.astype(np.float32)
        found = self._verdict(distances[np.newaxis], known[np.newaxis])
        row, column = (int(each) * self.grid.stride + self.grid.middle for each in found["place"].numpy()[0])
        source = self.features.sources[int(found["source"][0])].name
        return Judgement(float(found["score"][0]), (row, column), source, found["anomaly"].numpy()[0])

    def maps_by_kind(self, image: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Map of each kind of sources alone, float32 (h', w'), and where these are judged."""
        distances = self.distances(image)
        inside = self.inside(image, distances.shape[:2])
        if self.standardize is None or self.fuse is None:
            return {self.features.sources[0].kind: distances[..., 0]}, inside
        found = self.fuse.by_kind(self.standardize(distances[np.newaxis]))
        return {kind: one.numpy()[0] for kind, one in found.items()}, inside

    def with_score(
        self, score: str, kinds: Collection[str], *, center: float, spread: float
    ) -> "PartDetector":
        """The same detector with another score, of sources of some kinds alone.

        Parameters
        ----------
        score : str
            One of `score_names.SCORES`.
        kinds : sequence of str
            Kinds of feature maps, see `model.Source`.
        center, spread : float
            Mean and standard deviation of good images' largest values, as the score takes them.
        """
        other = copy.copy(self)
        other.score_name = checked(score)
        layer = ImageScore(score, name="score")
        layer.center.assign(center if self.standardize is not None else 0.0)
        layer.spread.assign(spread if self.standardize is not None else 1.0)
        fuse = None if self.fuse is None else self.fuse.only(kinds)
        other.assemble(self.standardize, fuse, layer)
        return other

    def score(self, image: np.ndarray) -> float:
        """See `Detector`."""
        return self.judge(image).score

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """See `Detector`."""
        return self.on_pixels(self.judge(image).anomaly, image)

    def on_pixels(self, anomaly: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Put an image's anomaly map (h', w') on its pixels (H, W); its least value outside the region."""
        return anomaly_maps.on_pixels(anomaly, image, self.grid, self.region)

    def map_value(self, score: float) -> float:
        """See `interface.ImageJudge`."""
        return self.score_layer.map_value(score)

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """What the network makes of the place that is farthest from good surface: float32 (d,)."""
        anomaly = self.judge(image).anomaly
        return self.feature_maps(image)[0][np.unravel_index(np.argmax(anomaly), anomaly.shape)]

    def inside(self, image: np.ndarray, shape: tuple[int, int], source: int = 0) -> np.ndarray | None:
        """Which features of a source's map, of this shape, have their center in the region.

        Returns
        -------
        bool (h, w), or None where the whole image is judged

        Raises
        ------
        DataError
            There are none.
        """
        if self.region is None:
            return None
        where = self.region.region(to_luminance(image))
        inside = anomaly_maps.at_features(where, self.features.sources[source].place, shape)
        if not inside.any():  # a score of 0 would call anything good
            raise DataError(
                "there is nothing to judge: the region holds no feature's center; expected some of it, a few "
                f"pixels wide, {self.grid.middle} pixels or more from the image's border; draw a larger mask"
            )
        return inside

    def _check_size(self, image: np.ndarray) -> None:
        self.grid.check(image.shape)
        expected = self.settings.get("shape")
        if expected is not None and image.shape[:2] != tuple(expected):
            raise DataError(
                "a positional density needs images of one size, always seen in register: expected "
                f"{expected[0]}×{expected[1]} pixels, received {image.shape[0]}×{image.shape[1]}; resize the "
                "images or choose another kind"
            )

    def _build_features(self) -> None:
        name = self.network.name
        has_lines = name == hypercolumn.THREE_SCALES and self.kind != "mean"
        known = ("channels", "curve", "is_halved")
        chosen = {key: self.settings[key] for key in known}
        self.features = model.features(self.network, has_lines=has_lines, **chosen)
