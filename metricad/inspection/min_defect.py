"""Let through defects that are smaller than the smallest one that matters.

A network sees a defect from some distance, so on the map it is larger than in the image: by how much depends
on the network, the surface and the defect. This is measured: defects of the area, as strong as an image can
show them, are drawn on good images, and the windows of `Opening` are made just large enough that none of
these is reported: a square, and thinner windows that are longer, for scratches. Then larger defects are
drawn, to say how many of these are reported.
"""

import bisect
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import tensorflow as tf

from metricad.data.channels import to_luminance
from metricad.data.sequence import ImageSequence
from metricad.errors import DataError
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector
from metricad.inspection.method_detector import Fitted
from metricad.scoring.calibration import Calibration
from metricad.scoring.opening import Opening, Window
from metricad.scoring.score import top_mean
from metricad.scoring.score_names import SCORES

AnyFitted = TypeVar("AnyFitted", bound=Fitted)

IMAGES = 3
"""Number of good images that get defects: of each look and elongation one."""

ELONGATIONS = (1, 8)
"""Length by width of the defects that are drawn."""

FACTORS = (4, 16, 64)
"""Areas, as multiples of the smallest one, of which it is said how many defects are reported."""

_MARGIN = 1e-3  # of a score or of 1: more than what sums are rounded by, also in exports
_STRIPE = 2  # width of stripes in pixels


def let_through(
    inspector: Inspector[PartDetector],
    images: Sequence[np.ndarray],
    area: float,
    *,
    seed: int = 0,
) -> Inspector[PartDetector]:
    """Let through defects below an area.

    Parameters
    ----------
    inspector : Inspector
        Not changed. Its scores, threshold and false-alarm rate stay, but for scores above the threshold of
        images whose defects are all too small: these become the threshold.
    images : sequence of float32 (H, W) or (H, W, 3) in [-1, 1]
        Good images; only some are read.
    area : float
        Area of the smallest defect that matters, in pixels of the image.
    seed : int
        Seed of the places and directions of the defects.

    Returns
    -------
    Inspector
        Its ``fitted_on["min_defect"]`` has the ``area``, the ``windows`` in features (see `Window`), and the
        share of drawn defects that are ``reported``, by area.

    Raises
    ------
    DataError
        The area is too large for the images, or no good image is below the threshold.
    ValueError
        The area is not above 0.
    """
    if not 0 < area < math.inf:
        raise ValueError(f"the smallest defect must have more than 0 pixels, received {area}")
    plain = inspector.detector.with_opening(None)
    good = _good(plain, inspector.threshold, images)
    most = good[0].shape[0] * good[0].shape[1] / 4
    if area > most:
        raise DataError(
            f"a smallest defect of {area:g} pixels is no small part of an image; give a smaller one"
        )
    rng = np.random.default_rng(seed)
    drawn = [_Drawn(plain, image, area, rng) for image in good]
    wanted = _windows(plain, inspector.threshold, drawn)
    if not wanted:
        raise DataError(
            f"defects of {area:g} pixels cannot be told from larger ones on images of this size; give a "
            "smaller area"
        )
    opening = _opening(plain, wanted, inspector.threshold)
    reported = {}
    for larger in (factor * area for factor in FACTORS if factor * area <= most):
        found = [_Drawn(plain, image, larger, rng).reported(plain, opening) for image in good]
        reported[f"{larger:g}"] = float(np.mean(found))
    record = {"area": area, "windows": opening.windows, "reported": reported}
    return inspector.changed(
        detector=plain.with_opening(opening),
        fitted_on={**inspector.fitted_on, "min_defect": record},
    )


def again(
    inspector: Inspector[AnyFitted],
    paths: Sequence[str | os.PathLike[str]],
    *,
    page: int | None = None,
    seed: int = 0,
) -> Inspector[AnyFitted]:
    """Let through the same defects as before, if any, after a new score or threshold; see `let_through`."""
    record = inspector.fitted_on.get("min_defect")
    if record is None:
        return inspector
    own = cast(Inspector[PartDetector], inspector)  # others let nothing through
    made = let_through(own, files(own, paths, page=page), record["area"], seed=seed)
    return cast(Inspector[AnyFitted], made)


def files(
    inspector: Inspector[PartDetector], paths: Sequence[str | os.PathLike[str]], *, page: int | None = None
) -> ImageSequence:
    """Return image files as a sequence of images, each read when it is needed."""
    return ImageSequence((str(path), partial(inspector.read, path, page=page)) for path in paths)


def with_calibration(inspector: Inspector[PartDetector], calibration: Calibration) -> Inspector[PartDetector]:
    """Return an inspector with another calibration, and the same windows at its threshold."""
    detector, given = inspector.detector, inspector.detector.opening
    if given is not None:
        opening = _opening(detector, given.windows, calibration.threshold)
        detector = detector.with_opening(opening)
    return inspector.changed(detector=detector, calibration=calibration)


def describe(record: dict[str, Any]) -> str:
    """Say in one sentence what is let through and what is reported."""
    shares = [f"{100 * share:.0f} % of {area} pixels" for area, share in record["reported"].items()]
    listed = ", ".join([f"none of {record['area']:g} pixels is reported", *shares])
    return (
        f"defects below {record['area']:g} pixels are let through: of full-strength ones drawn on good "
        f"images {listed}"
    )


class _Drawn:
    """The maps of one good image with defects of one area: black, white and striped, of each elongation."""

    def __init__(self, plain: PartDetector, image: np.ndarray, area: float, rng: np.random.Generator) -> None:
        inside = None if plain.region is None else plain.region.region(to_luminance(image))
        marked = [
            _painted(image, _mask(image.shape[:2], area, ratio, inside, rng), look)
            for ratio in ELONGATIONS
            for look in (_white, _black, _stripes)
        ]
        self.anomaly = np.stack([plain.judge(one).anomaly for one in marked])
        self.inside = plain.inside(image, self.anomaly.shape[1:])

    def reported(self, plain: PartDetector, opening: Opening) -> np.ndarray:
        """Tell which of the defects are reported: bool (6,)."""
        known = np.ones_like(self.anomaly[0]) if self.inside is None else self.inside.astype(np.float32)
        lowered = opening(tf.constant(self.anomaly), tf.constant(np.broadcast_to(known, self.anomaly.shape)))
        tops = [top_mean(one, SCORES[plain.score_name], self.inside) for one in lowered.numpy()]
        return np.array(tops) > plain.map_value(opening.threshold)


def _windows(plain: PartDetector, threshold: float, drawn: "Sequence[_Drawn]") -> list[Window]:
    """Find the smallest square, and the shortest of each thinner window, that report nothing drawn."""

    def silent(*wanted: Window) -> bool:
        opening = _opening(plain, wanted, threshold)
        return not any(one.reported(plain, opening).any() for one in drawn)

    def silent_alone(window: Window) -> bool:
        return silent(window)

    most = min(min(one.anomaly.shape[1:]) for one in drawn)  # larger windows do not lie in the map
    squares = [(side, 0) for side in range(1, most + 1)]
    smallest = bisect.bisect_left(squares, True, key=silent_alone)
    if smallest == len(squares):
        return []
    side = squares[smallest][0]
    found = [(side, 0)]
    while side > 1:
        side //= 2
        options = [(side, steps) for steps in range(most - side + 1)]
        shortest = bisect.bisect_left(options, True, key=silent_alone)
        found += options[shortest : shortest + 1]
    while not silent(*found):  # where some report nothing alone, but together
        found = [(side + 1, steps) for side, steps in found]
        if found[0][0] > most:
            return []
    return found


def _good(plain: PartDetector, threshold: float, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Take good images below the threshold, spread over all."""
    found: list[np.ndarray] = []
    for number in np.argsort(np.arange(len(images)) * 0.618034 % 1):  # spread evenly, however many it takes
        image = images[int(number)]
        if plain.score(image) <= threshold:
            found.append(image)
        if len(found) == IMAGES:
            break
    if not found:
        raise DataError("no good image is below the threshold, so small defects cannot be drawn on one")
    return found


def _opening(detector: PartDetector, wanted: Sequence[Sequence[int]], threshold: float) -> Opening:
    margin = _MARGIN * (abs(threshold) if detector.standardize is None else max(1.0, abs(threshold)))
    return Opening(wanted, threshold, detector.map_value(threshold - margin), name="opening")


def _mask(
    shape: tuple[int, int],
    area: float,
    ratio: float,
    inside: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a rectangle of an area and a ratio of length to width anywhere: bool (H, W)."""
    if inside is None:
        row, column = (rng.uniform(0.1 * side, 0.9 * side) for side in shape)
    else:
        row, column = rng.choice(np.argwhere(inside))
    angle = rng.uniform(0, np.pi)
    rows, columns = np.indices(shape)
    along = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
    across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
    away = np.maximum(np.abs(along) / ratio, np.abs(across))
    # Of the nearest pixels as many as the area has, so that thin ones are not larger or smaller by chance.
    count = max(1, round(area))
    found = np.zeros(shape, bool)
    found.flat[np.argpartition(away, count, axis=None)[:count]] = True
    return found


def _painted(image: np.ndarray, mask: np.ndarray, look: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    painted = image.copy()
    painted[mask] = look(np.argwhere(mask)).reshape(-1, *[1] * (image.ndim - 2))
    return painted


def _white(places: np.ndarray) -> np.ndarray:
    return np.ones(len(places), np.float32)


def _black(places: np.ndarray) -> np.ndarray:
    return -_white(places)


def _stripes(places: np.ndarray) -> np.ndarray:
    return np.where(places.sum(axis=1) // _STRIPE % 2, 1, -1).astype(np.float32)
