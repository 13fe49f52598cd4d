"""Fitting a detector to one part: a head trained on the part's good images and synthetic defects on them.

So benign variation of the part, its light, streaks and edges, is learned as normal. No real defect is seen.
(Training on synthetic defects alone: CutPaste, Li et al., 2021; DRAEM, Zavrtanik et al., 2021; a classifier
on the features of a network that stays as it is: SimpleNet, Liu et al., 2023.)
"""

from collections.abc import Callable, Iterable

import numpy as np

from metricad import defects, head, textures
from metricad.inspection.detector import TripletDetector
from metricad.errors import DataError
from metricad.prototype import GaussianPrototype
from metricad.networks.grid import FeatureGrid

DEFECTS = 900
"""Synthetic defects of an adaptation when no other number is asked for."""

MOST_IMAGES = 200
"""Images that are kept in memory at once: those that come first."""

_CROP = (
    256  # pixels a side: the surroundings of a defect that are looked at, or the time would grow with images
)
_GOOD_FEATURES = 100_000
_FEATURES_OF_A_DEFECT = 40
_ROUNDS = 2  # in which the good features that look most like defects are learned from once more
_HARD_FEATURES = 30_000
_COVERED = 0.25  # share of a feature's stride² pixels from which on it counts as defective


def adapt(
    detector: TripletDetector,
    images: Iterable[np.ndarray],
    *,
    count: int = DEFECTS,
    seed: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> None:
    """Put a trained head onto a detector's prototype.

    Parameters
    ----------
    detector : TripletDetector
        With a Gaussian or positional prototype that is fitted; gets the head in its place.
    images : iterable of float32 (H, W) in [-1, 1]
        Those that the prototype was made from: never the ones that set the threshold. The first `MOST_IMAGES`
        are used, so give them in an order that means nothing.
    count : int
        Synthetic defects to draw.
    seed : int
    on_step : function, optional
        Called after each defect.

    Raises
    ------
    ValueError
        There is no defect to draw, or the prototype is not one that takes a head.
    DataError
        No synthetic defect can be seen on these images.
    """
    if count < 1:
        raise ValueError(f"the number of synthetic defects must be at least 1, received {count}")
    base = getattr(detector.prototype, "chosen", detector.prototype)
    made = head.of(base)
    rng = np.random.default_rng(seed)
    kept = [image for _, image in zip(range(MOST_IMAGES), images, strict=False)]
    share = _GOOD_FEATURES // len(kept)
    good = [_some(_rows(base, detector, image), share, rng) for image in kept]
    found = [[] for _ in kept]
    for number in range(count):
        found[number % len(kept)].append(_defective(detector, base, kept[number % len(kept)], rng))
        on_step()
    defective = [np.concatenate(rows) if rows else good[0][:0] for rows in found]
    if not any(map(len, defective)):
        raise DataError("no synthetic defect can be seen on these images; leave out the adaptation")
    made.train(good, defective, seed=seed)
    for _ in range(_ROUNDS):
        hard = [_hardest(made, _rows(base, detector, image), _HARD_FEATURES // len(kept)) for image in kept]
        good = [np.concatenate(rows) for rows in zip(good, hard, strict=True)]
        made.train(good, defective, seed=seed)
    parts = [made.held_out_parts(detector.features(image), number) for number, image in enumerate(kept)]
    pairs = zip(kept, parts, strict=True)
    made.standardise(np.array([_inside(detector, image, found).max(axis=1) for image, found in pairs]))
    detector.prototype = made
    detector.settle(kept, map(made.stretched, parts))


def _defective(
    detector: TripletDetector, base: GaussianPrototype, image: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Whitened features (n, d) of one synthetic defect on an image, none where it cannot be seen."""
    inside = None if detector.region is None else detector.region.region(image)
    if not base.needs_positions:
        corner = _corner(image.shape, rng)
        image = np.ascontiguousarray(image[corner])
        inside = None if inside is None else inside[corner]
    matter = textures.random_texture(rng, 128)
    if rng.random() < 0.5:
        matter = textures.matched(matter, image)
    spoiled, mask, _ = defects.add_any(image, rng, other=matter, inside=inside)
    white = base.whitened(detector.features(spoiled))
    covered = _covered(mask, detector.grid, white.shape[:2])
    return _some(white[covered > _COVERED], _FEATURES_OF_A_DEFECT, rng)


def _rows(base: GaussianPrototype, detector: TripletDetector, image: np.ndarray) -> np.ndarray:
    """Whitened features (n, d) of a good image."""
    white = base.whitened(detector.features(image))
    return _inside(detector, image, np.moveaxis(white, -1, 0)).T


def _hardest(made: head.HeadPrototype, white: np.ndarray, count: int) -> np.ndarray:
    """The rows (n, d) of a good image that a head takes for defects most: the score is their maximum."""
    return white[np.argsort(made.logits(white))[-count:]] if count else white[:0]


def _inside(detector: TripletDetector, image: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """What maps (k, h', w') of an image have inside the detector's region: (k, n)."""
    inside = detector.inside(image, maps.shape[1:])
    return maps.reshape(len(maps), -1) if inside is None else maps[:, inside]


def _corner(shape: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a random crop."""
    sides = [min(side, _CROP) for side in shape]
    first = [int(rng.integers(whole - side + 1)) for whole, side in zip(shape, sides, strict=True)]
    return tuple(slice(start, start + side) for start, side in zip(first, sides, strict=True))


def _covered(mask: np.ndarray, sampling: FeatureGrid, shape: tuple[int, int]) -> np.ndarray:
    """Share of the stride × stride pixels about each feature that a mask (H, W) covers: (h', w')."""
    stride = sampling.stride
    first = round(sampling.first - (stride - 1) / 2)
    inside = mask[first : first + shape[0] * stride, first : first + shape[1] * stride]
    return inside.reshape(shape[0], stride, shape[1], stride).mean(axis=(1, 3))


def _some(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most so many of the rows, drawn at random."""
    return rows if len(rows) <= count else rows[rng.choice(len(rows), count, replace=False)]
