"""The paper's protocol for labeled surfaces (section 2.9).

For each surface, a method is fitted to some good images. The metrics are computed over all other good images
and all defects.
"""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metricad import metrics
from metricad.data.channels import to_luminance
from metricad.data.datasets import Sample, Surface
from metricad.data.levels import Levels
from metricad.data.sequence import ImageSequence
from metricad.errors import DataError
from metricad.evaluation import examples, surface_checks
from metricad.evaluation.results import Cost, Example, Result
from metricad.inspection.detector import PartDetector
from metricad.inspection.interface import Detector, as_taken
from metricad.inspection.method_detector import MethodDetector
from metricad.metrics.pixel import PixelMetrics
from metricad.scoring import calibration

_TIMED_IMAGES = 10


@dataclass(frozen=True)
class Method:
    """A method to evaluate, and its names in a report.

    Attributes
    ----------
    name : str
        Column of the report: the kind of density, or the name of the baseline.
    role : {"trained", "untrained", "baseline", "bundle", "compared"}
        ``untrained`` and ``baseline`` are the controls that every result is compared with; ``compared`` is
        another published method.
    make : function
        Returns a detector; a new one for each surface unless `is_fitted`. If `epochs` is not 0, it takes
        ``checkpoint``, a folder or None, and ``on_epoch``, a function called after each epoch.
    network, units, seed
        Name, size and seed of the network; None if there is none.
    seen : sequence of dict, optional
        Training data of the network, as recorded by `datasets.describe`.
    architecture : str, optional
        Name of the network in `factory`, if it is not the paper's.
    settings : dict
        Settings of a published method, for the record.
    epochs : int
        Number of epochs trained on each surface's images; 0 if nothing is trained.
    is_fitted : bool
        Whether the detector is already fitted, as one from a bundle.
    threshold, false_alarm_rate : float, optional
        Those of a bundle; other methods are calibrated with held-out images.
    rate_basis : {"promised", "expected", "estimated"}
        What the rate of a bundle is based on; see `calibration.Basis`.
    levels : Levels, optional
        Range of the levels of image files that a bundle was fitted to.
    """

    name: str
    role: str
    make: Callable[..., Detector]
    network: str | None = None
    units: int | None = None
    seed: int | None = None
    seen: Sequence[dict[str, Any]] | None = None
    is_fitted: bool = False
    threshold: float | None = None
    false_alarm_rate: float | None = None
    architecture: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    epochs: int = 0
    levels: Levels | None = None
    rate_basis: str = "promised"


@dataclass(frozen=True)
class Protocol:
    """How the good images of a surface are split.

    Attributes
    ----------
    holdout : float in [0, 1)
        Share of the good images that is held out from fitting, for a threshold. 0 is the paper's protocol,
        which has no threshold.
    false_alarm_rate : float in (0, 1)
        Rate that the threshold guarantees. If the held-out images would be too few for it, none are held out.
    """

    holdout: float = 0.2
    false_alarm_rate: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.holdout < 1:
            raise ValueError(f"holdout must lie in [0, 1), received {self.holdout}")
        calibration.needed(self.false_alarm_rate)

    def split(self, good: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
        """Split good images into those to fit to and those for the threshold, always in the same way."""
        count = calibration.held_out_count(len(good), self.holdout)
        if count < calibration.needed(self.false_alarm_rate):
            count = 0
        order = np.random.default_rng(0).permutation(len(good))
        return [good[i] for i in np.sort(order[count:])], [good[i] for i in np.sort(order[:count])]


@dataclass(frozen=True)
class Evaluation:
    """One method on one surface: numbers, pictures, cost, and embeddings of the test images."""

    result: Result
    examples: list[Example]
    cost: Cost
    embedding: np.ndarray | None = None


def evaluate(
    methods: Sequence[Method],
    surface: Surface,
    *,
    protocol: Protocol | None = None,
    pictured: Collection[str] | None = None,
    checkpoints: Path | None = None,
    is_embedded: bool = False,
    on_image: Callable[[], object] = lambda: None,
) -> list[Evaluation]:
    """Fit methods to the good images of a surface and score its test images.

    An image that cannot be read, or that one of the methods refuses, is left out for all of them.

    Parameters
    ----------
    methods : sequence of Method
        Methods that take color get color images; all others get the luminance.
    surface : Surface
    protocol : Protocol, optional
    pictured : collection of str, optional
        Names of the methods whose pictures are kept: the best, the median and the worst defect, and the worst
        good image. The default is all methods except the controls.
    checkpoints : path, optional
        Folder for checkpoints of methods that are trained, one subfolder each. Training continues from them.
    is_embedded : bool
        Keep the embeddings of the test images, for methods that have embeddings and are no controls.
    on_image : function, optional
        Called after each image fitted to or scored, and after each epoch of a method that is trained.

    Raises
    ------
    DataError
        The surface does not have labeled test images of both classes, a network was trained on a test image,
        too many images cannot be used, or a score is not finite.
    """
    surface_checks.check_labels(surface)
    for method in methods:
        surface_checks.check_unseen(surface, method.seen or ())
    surface = surface_checks.with_range(surface, [method.levels for method in methods])
    protocol = protocol or Protocol()
    detectors = [_make(method, surface, checkpoints, on_image) for method in methods]
    whole = surface
    surface, bad, prints = surface_checks.without_bad(surface, detectors, on_image)
    surface_checks.check_labels(surface)
    for method in methods:
        surface_checks.check_new(surface, prints, method.seen or ())
    known = [
        None if one.seen is None else surface_checks.is_known(surface, prints, one.seen) for one in methods
    ]
    fit, held_out = protocol.split(surface.fit)
    fit_seconds = _fit(methods, detectors, fit, on_image)
    held_out, held_out_scores, _ = _judged(detectors, held_out, bad, on_image)
    surface_checks.check_few(whole, bad)
    thresholds = _thresholds(methods, held_out_scores, protocol.false_alarm_rate)
    pixels = [PixelMetrics() for _ in methods]
    test, scores, masks = _judged(detectors, surface.test, bad, on_image, pixels)
    surface = replace(surface, test=tuple(test))
    surface_checks.check_few(whole, bad)
    surface_checks.check_labels(surface)
    evaluations = []
    for k, method in enumerate(methods):
        result = Result(
            dataset=surface.dataset,
            surface=surface.name,
            method=method.name,
            role=method.role,
            network=method.network,
            units=method.units,
            seed=method.seed,
            is_known=known[k],
            fit_normals=0 if method.is_fitted else len(fit),
            held_out_normals=0 if method.is_fitted else len(held_out),
            test_normals=sum(not sample.is_defect for sample in surface.test),
            test_defects=sum(sample.is_defect for sample in surface.test),
            threshold=thresholds[k],
            false_alarm_rate=_rate(method, thresholds[k], protocol),
            **_image_metrics(surface, method, scores[k]),
            pixel_auroc=pixels[k].auroc(),
            aupro=pixels[k].aupro(),
            scores=[
                {"name": sample.name, "kind": sample.kind, "score": score}
                for sample, score in zip(surface.test, scores[k].tolist(), strict=True)
            ],
            architecture=method.architecture,
            settings=method.settings,
            masks=masks,
            rate_basis=method.rate_basis,
            left_out=bad,
        )
        is_judged = method.role in ("trained", "bundle", "compared")
        is_shown = is_judged and (pictured is None or method.name in pictured)
        is_shown = is_shown and examples.has_map(detectors[k])
        shown = examples.choose(detectors[k], surface.test, scores[k]) if is_shown else []
        cost = Cost(round(fit_seconds[k], 3), _milliseconds(detectors[k], surface.test[:_TIMED_IMAGES]))
        embedding = examples.embedding(detectors[k], surface.test) if is_embedded and is_judged else None
        evaluations.append(Evaluation(result, shown, cost, embedding))
    return evaluations


def step_count(methods: Sequence[Method], surface: Surface) -> int:
    """Return how often `evaluate` calls `on_image` for these methods, if no checkpoint is used."""
    return len(surface.fit) + len(surface.test) + sum(method.epochs for method in methods)


def _make(
    method: Method, surface: Surface, checkpoints: Path | None, on_epoch: Callable[[], object]
) -> Detector:
    if not method.epochs:
        return method.make()
    folder = None
    if checkpoints is not None:
        # A hash, because names may have characters that are not allowed in folder names.
        words = json.dumps([method.name, method.settings, surface.dataset, surface.name], sort_keys=True)
        folder = checkpoints / hashlib.sha256(words.encode()).hexdigest()[:16]
    return method.make(checkpoint=folder, on_epoch=on_epoch)


def images_of(
    samples: Iterable[Sample], *, color: bool = False, on_image: Callable[[], object] = lambda: None
) -> ImageSequence:
    """Make a sequence of the samples' images: unchanged if `color`, else their luminance."""

    def luminance(sample: Sample) -> np.ndarray:
        return to_luminance(sample.read())

    return ImageSequence(
        ((one.name, one.read if color else partial(luminance, one)) for one in samples), on_image=on_image
    )


def _fit(
    methods: Sequence[Method],
    detectors: Sequence[Detector],
    samples: Sequence[Sample],
    on_image: Callable[[], object],
) -> list[float]:
    """Fit the methods that are not fitted yet; return the seconds of each."""
    if not samples:
        raise DataError("no good images are left to fit to; lower --holdout or give more")
    seconds = [0.0] * len(methods)
    for k, method in enumerate(methods):
        if not method.is_fitted:
            began = time.perf_counter()
            detectors[k].fit(images_of(samples, color=getattr(detectors[k], "takes_color", False)))
            seconds[k] = time.perf_counter() - began
    for _ in samples:
        on_image()
    return seconds


def _thresholds(methods: Sequence[Method], scores: np.ndarray, false_alarm_rate: float) -> list[float | None]:
    """Compute thresholds from the scores (methods, images) of held-out images, if these are enough."""
    if scores.shape[1] < calibration.needed(false_alarm_rate):
        return [method.threshold for method in methods]
    return [
        method.threshold if method.is_fitted else calibration.calibrate(row, false_alarm_rate).threshold
        for method, row in zip(methods, scores, strict=True)
    ]


def _rate(method: Method, threshold: float | None, protocol: Protocol) -> float | None:
    if method.is_fitted:
        return method.false_alarm_rate
    return None if threshold is None else protocol.false_alarm_rate


def _judged(
    detectors: Sequence[Detector],
    samples: Sequence[Sample],
    bad: list[dict[str, str]],
    on_image: Callable[[], object],
    pixels: Sequence[PixelMetrics] = (),
) -> tuple[list[Sample], np.ndarray, int]:
    """Return the samples that no detector refuses, their scores (detectors, images), and a count of masks.

    Pixel metrics are updated where the mask is known. What cannot be used is added to `bad`.
    """
    kept, scores, masks = [], [], 0
    images = images_of(samples, color=True, on_image=on_image)
    for sample, image in zip(samples, images, strict=True):
        mask = None
        try:
            mask = examples.read_mask(sample, image.shape[:2]) if pixels else None
        except DataError as error:
            bad.append(surface_checks.left_out(sample, "mask", error))
        try:
            found = [
                _judge(one, as_taken(one, image), has_map=mask is not None and examples.has_map(one))
                for one in detectors
            ]
        except DataError as error:
            bad.append(surface_checks.left_out(sample, "image", error))
            continue
        kept.append(sample)
        scores.append([score for score, _ in found])
        masks += sample.is_defect and mask is not None
        if mask is not None:
            for metric, (_, anomaly) in zip(pixels, found, strict=True):
                if anomaly is not None:
                    metric.update(anomaly, mask)
    return kept, np.array(scores).reshape(-1, len(detectors)).T, masks


def _judge(detector: Detector, image: np.ndarray, *, has_map: bool) -> tuple[float, np.ndarray | None]:
    """Compute the score and, if wanted, the map of an image; in one pass if the detector can."""
    if isinstance(detector, PartDetector | MethodDetector):
        found = detector.judge(image)
        return found.score, detector.on_pixels(found.anomaly, image) if has_map else None
    return detector.score(image), detector.anomaly_map(image) if has_map else None


def _image_metrics(surface: Surface, method: Method, scores: np.ndarray) -> dict[str, float]:
    defect = [sample.is_defect for sample in surface.test]
    try:
        return {
            "auroc": metrics.auroc(defect, scores),
            "average_precision": metrics.average_precision(defect, scores),
            "f1_max": metrics.f1_max(defect, scores),
            "fpr_at_95_tpr": metrics.fpr_at_tpr(defect, scores, tpr=0.95),
        }
    except DataError as error:
        raise DataError(f"{surface.dataset}: {surface.name}, {method.name}: {error}") from error


def _milliseconds(detector: Detector, samples: Sequence[Sample]) -> float:
    # A separate pass, because methods that share a network also share its time above.
    seconds = []
    for sample in samples:
        image = as_taken(detector, sample.read())
        began = time.perf_counter()
        detector.score(image)
        seconds.append(time.perf_counter() - began)
    return round(1000 * float(np.median(seconds)), 3)
