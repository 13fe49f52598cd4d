"""The paper's protocol over labelled surfaces (section 2.9).

For each surface the prototype is made from the good images to learn from; the AUROC is taken over all
other good images and all defects, with the maximum of the distance map as score.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from metricad import datasets, images, metrics
from metricad.datasets import Sample, Surface
from metricad.detector import Detector
from metricad.errors import DataError
from metricad.results import Example, Result


@dataclass(frozen=True)
class Method:
    """A way to judge images, and the names it goes by in a report.

    Attributes
    ----------
    name : str
        Column of the report: the kind of prototype, or the baseline.
    role : {"trained", "untrained", "baseline", "bundle"}
        ``untrained`` and ``baseline`` are the controls that every result stands beside.
    make : function
        Gives a detector; a fresh one for each surface unless `is_fitted`.
    network, units, seed
        Which network, its size and its seed; None where there is none.
    is_fitted : bool
        The detector has been fitted already, as one from a bundle.
    threshold : float, optional
        Of a bundle.
    """

    name: str
    role: str
    make: Callable[[], Detector]
    network: str | None = None
    units: int | None = None
    seed: int | None = None
    is_fitted: bool = False
    threshold: float | None = None


def evaluate(
    method: Method, surface: Surface, *, on_image: Callable[[], object] = lambda: None
) -> tuple[Result, Example]:
    """Fit a method to a surface's good images and score its test images.

    Raises
    ------
    DataError
        The surface has no labelled test images of both kinds, or an image cannot be used.
    """
    defects = sum(sample.is_defect for sample in surface.test)
    if not 0 < defects < len(surface.test):
        raise DataError(
            f"{surface.dataset}: surface {surface.name} has {len(surface.test) - defects} good and {defects} "
            "defective images to test on; an AUROC needs both"
        )
    began = time.perf_counter()
    detector = method.make()
    if not method.is_fitted:
        detector.fit(_announced(surface.fit, on_image))
    fitted = time.perf_counter()
    scores = [detector.score(image) for image in _announced(surface.test, on_image)]
    ended = time.perf_counter()
    rows = [
        {"name": sample.name, "kind": sample.kind, "score": score}
        for sample, score in zip(surface.test, scores, strict=True)
    ]
    result = Result(
        dataset=surface.dataset,
        surface=surface.name,
        method=method.name,
        role=method.role,
        network=method.network,
        units=method.units,
        seed=method.seed,
        threshold=method.threshold,
        fit_normals=0 if method.is_fitted else len(surface.fit),
        test_normals=len(surface.test) - defects,
        test_defects=defects,
        auroc=metrics.auroc([sample.is_defect for sample in surface.test], scores),
        seconds_to_fit=round(fitted - began, 3),
        milliseconds_per_image=round(1000 * (ended - fitted) / len(surface.test), 3),
        scores=rows,
    )
    return result, _example(detector, surface)


def check_unseen(surface: Surface, trained_on: Sequence[dict]) -> None:
    """Refuse to test a network on images that it was trained on.

    Parameters
    ----------
    surface : Surface
    trained_on : sequence of dict
        The run's record of its sources, as `datasets.describe` makes them.

    Raises
    ------
    DataError
        Test images were trained on: the two splits differ.
    """
    for source in trained_on:
        if source["dataset"] == surface.dataset:
            seen = set(source["labelled"].get(surface.name, ())) & {sample.name for sample in surface.test}
            if seen:
                raise DataError(
                    f"{surface.dataset}: {len(seen)} test images of {surface.name} were trained on "
                    f"({min(seen)}, …); evaluate with the --normals of the training"
                )


def _announced(samples: Iterable[Sample], on_image: Callable[[], object]) -> Iterable[np.ndarray]:
    for image in datasets.read_all(samples):
        yield image
        on_image()


def _example(detector: Detector, surface: Surface) -> Example:
    # The same image for every method, and not chosen by its score.
    defects = [sample for sample in surface.test if sample.is_defect]
    sample = defects[len(defects) // 2]
    image = sample.read()
    mask = sample.read_mask() if sample.read_mask else None
    return Example(sample.name, images.to_uint8(image), detector.anomaly_map(image), mask)
