"""Measure what an inspector can detect: synthetic defects of different sizes and contrasts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy  # which imports its parts at first use

from metricad.data.channels import to_luminance
from metricad.errors import DataError
from metricad.inspection.inspector import DEFECT, Inspector
from metricad.synthetic import defects

if TYPE_CHECKING:
    from metricad.inspection.method_detector import Fitted

MARGIN = 16
"""Largest distance of a map's peak from the defect, in rows and in columns of pixels, to count as localized.
It is half the paper's receptive field: a feature tells that its square has a defect, but not where in it.
"""

_LINES = (1.0, 2.0, 3.0, 5.0)
_AREAS = (8.0, 16.0, 32.0, 64.0)
SIZES: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(defects.KINDS, _AREAS),
    "scratch": _LINES,
    "crack": _LINES,
    "spots": (2.0, 4.0, 6.0, 8.0),
    "gap": (2.0, 4.0, 6.0, 10.0),
}
"""Sizes, in pixels, tested for each kind of defect."""

GRAY = ("scratch", "crack", "spots", "stain")
"""Kinds of defects whose contrast is a change of gray. Other contrasts tell how far they replace the
surface.
"""

CONTRASTS: dict[str, tuple[float, ...]] = {
    kind: (0.06, 0.12, 0.25, 0.5) if kind in GRAY else (0.25, 0.5, 0.75, 1.0) for kind in defects.KINDS
}
"""Contrasts tested for each kind of defect."""


@dataclass(frozen=True)
class Setting:
    """A kind of defect of one size, in pixels, and one contrast, in (0, 1]."""

    kind: str
    size: float
    contrast: float


@dataclass(frozen=True)
class Count:
    """Number of defects, of those called a defect, and of those also localized."""

    defects: int = 0
    found: int = 0
    localised: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.defects + other.defects, self.found + other.found, self.localised + other.localised)

    @property
    def share(self) -> float:
        """Share of defects found; NaN without defects."""
        return self.found / self.defects if self.defects else math.nan

    @property
    def localised_share(self) -> float:
        """Share of defects found and localized; NaN without defects."""
        return self.localised / self.defects if self.defects else math.nan

    def interval(self) -> tuple[float, float]:
        """Compute the 95 % interval of the share found (Wilson, 1927), as if all defects were on different
        images.
        """
        if not self.defects:
            return 0.0, 1.0
        interval = scipy.stats.binomtest(self.found, self.defects).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Example:
    """An image with a defect: float32 (H, W) in [-1, 1], its mask bool (H, W), and the outcome.

    The outcome is ``found``, ``found elsewhere`` or ``missed``.
    """

    setting: Setting
    image: np.ndarray
    mask: np.ndarray
    verdict: str


@dataclass
class Chart:
    """Number of defects found for each setting.

    Attributes
    ----------
    counts : dict of Setting to Count
    good_images : int
    false_alarms : int
        Number of good images called a defect without any synthetic defect. Found defects count only beyond
        this share.
    examples : dict of str to Example
        One example of each kind of defect, of medium size and contrast.
    """

    counts: dict[Setting, Count]
    good_images: int = 0
    false_alarms: int = 0
    examples: dict[str, Example] = field(default_factory=dict)

    @property
    def defect_kinds(self) -> list[str]:
        """Kinds of defects, in the order of testing."""
        return list(dict.fromkeys(setting.kind for setting in self.counts))

    def sizes(self, kind: str) -> list[float]:
        """Return the sizes of a kind, in ascending order."""
        return sorted({setting.size for setting in self.counts if setting.kind == kind})

    def contrasts(self, kind: str) -> list[float]:
        """Return the contrasts of a kind, in ascending order."""
        return sorted({setting.contrast for setting in self.counts if setting.kind == kind})

    def from_on(self, start: Setting) -> dict[Setting, Count]:
        """Return the counts of all settings of the same kind that are at least as large and as strong."""
        return {
            setting: count
            for setting, count in self.counts.items()
            if setting.kind == start.kind
            and setting.size >= start.size
            and setting.contrast >= start.contrast
        }


def settings(
    kinds: Sequence[str] = tuple(defects.KINDS),
    *,
    sizes: Mapping[str, Sequence[float]] = SIZES,
    contrasts: Mapping[str, Sequence[float]] = CONTRASTS,
) -> list[Setting]:
    """Combine every size with every contrast for these kinds.

    Raises
    ------
    ValueError
        A kind is unknown, or no kind is given.
    """
    if not kinds or not set(kinds) <= defects.KINDS.keys():
        raise ValueError(f"kinds must be among {', '.join(defects.KINDS)}, received {', '.join(kinds)}")
    return [
        Setting(kind, size, contrast)
        for kind in dict.fromkeys(kinds)
        for size in sizes[kind]
        for contrast in contrasts[kind]
    ]


class Measurement:
    """Adds defects to good images, one image after the other, and counts what an inspector finds.

    Each setting has the same number of defects. They are distributed evenly over the images.

    Parameters
    ----------
    inspector : Inspector
    images : int
        Number of good images.
    tried : sequence of Setting
    each : int
        Number of defects of each setting.
    rng : numpy.random.Generator
        Draws the defects.
    on_defect : function, optional
        Called after each defect, for a progress bar.

    Raises
    ------
    DataError
        The number of images is 0.
    ValueError
        `each` is below 1.
    """

    def __init__(
        self,
        inspector: "Inspector[Fitted]",
        images: int,
        *,
        tried: Sequence[Setting],
        each: int,
        rng: np.random.Generator,
        on_defect: Callable[[], object] = lambda: None,
    ) -> None:
        if each < 1:
            raise ValueError(f"each must be 1 or more, received {each}")
        inspector.check_threshold()
        if not images:
            raise DataError("no good images to add defects to; expected at least one")
        self.chart = Chart(dict.fromkeys(tried, Count()))
        self._inspector, self._rng, self._on_defect = inspector, rng, on_defect
        # Defects are distributed over the images in turn, so that all images get about the same number.
        self._hands: list[list[Setting]] = [[] for _ in range(images)]
        for number, setting in enumerate(setting for setting in tried for _ in range(each)):
            self._hands[number % images].append(setting)

    def add(self, image: np.ndarray) -> None:
        """Inspect a good image, float32 (H, W) or (H, W, 3) in [-1, 1], and its defective versions."""
        hand = self._hands[self.chart.good_images]
        self.chart.good_images += 1
        self.chart.false_alarms += self._inspector.inspect(image)[0].verdict == DEFECT
        region = self._inspector.detector.region
        inside = None if region is None else region.region(to_luminance(image))
        for setting in hand:
            changed, mask = defects.add(image, **asdict(setting), rng=self._rng, inside=inside)
            if mask.any():
                self._count(setting, changed, mask)
            self._on_defect()

    def _count(self, setting: Setting, changed: np.ndarray, mask: np.ndarray) -> None:
        found = self._inspector.detector.judge(changed)
        is_found = found.score > self._inspector.threshold
        is_localised = is_found and _is_near(mask, found.peak)
        self.chart.counts[setting] += Count(1, int(is_found), int(is_localised))
        kind = setting.kind
        middle = Setting(kind, _middle(self.chart.sizes(kind)), _middle(self.chart.contrasts(kind)))
        if setting == middle and kind not in self.chart.examples:
            verdict = "found" if is_localised else "found elsewhere" if is_found else "missed"
            self.chart.examples[kind] = Example(setting, changed, mask, verdict)


def measure(
    inspector: "Inspector[Fitted]",
    images: Sequence[np.ndarray],
    *,
    rng: np.random.Generator,
    tried: Sequence[Setting] | None = None,
    each: int = 20,
) -> Chart:
    """Count which defects an inspector finds on good images that were not used for fitting.

    Parameters
    ----------
    inspector : Inspector
    images : sequence of float32 (H, W) in [-1, 1]
    rng : numpy.random.Generator
    tried : sequence of Setting, optional
        Kinds, sizes and contrasts to test; by default all `settings`.
    each : int
        Number of defects of each setting.

    Raises
    ------
    DataError
        As for `Measurement`.
    """
    measurement = Measurement(
        inspector, len(images), tried=settings() if tried is None else tried, each=each, rng=rng
    )
    for image in images:
        measurement.add(image)
    return measurement.chart


def _middle(values: Sequence[float]) -> float:
    return values[len(values) // 2]


def _is_near(mask: np.ndarray, at: tuple[int, int]) -> bool:
    """Whether a pixel lies inside a mask or at most `MARGIN` rows and columns away from it."""
    row, column = (max(0, coordinate - MARGIN) for coordinate in at)
    return bool(mask[row : at[0] + MARGIN + 1, column : at[1] + MARGIN + 1].any())
