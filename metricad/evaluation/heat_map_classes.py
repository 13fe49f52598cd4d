"""Measure how well heat maps tell defects from harmless anomalies, on labeled images."""

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from metricad import metrics
from metricad.inspection.inspector import Inspector, for_each
from metricad.inspection.interface import ImageJudge
from metricad.methods import heat_maps

HU = "hu"
"""Name of Hu's moments as the features of a map."""

_LIKELY = 0.5  # probability from which an image is called a defect


@dataclass(frozen=True)
class HeatMapClasses:
    """Scores, and cross-validated probabilities of a defect, of labeled images.

    Attributes
    ----------
    paths : list of str
    is_defect : bool (n,)
    scores : float64 (n,)
        Of the inspector.
    probabilities : float64 (n,)
        Each by a classifier that was trained without the image.
    """

    paths: list[str]
    is_defect: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray

    def describe(self) -> str:
        """Say in one sentence how well the classifier and the score alone tell the labels apart."""
        defects, others = self.is_defect.sum(), (~self.is_defect).sum()
        called = self.probabilities > _LIKELY
        return (
            f"{defects} defects and {others} others, cross-validated: AUROC "
            f"{metrics.auroc(self.is_defect, self.probabilities):.3f}, of the score alone "
            f"{metrics.auroc(self.is_defect, self.scores):.3f}; at a probability of {_LIKELY:g} "
            f"{(called & self.is_defect).sum()} of {defects} defects are found, and "
            f"{(called & ~self.is_defect).sum()} of {others} others called defects"
        )

    def to_csv(self) -> str:
        """Return a line for each image: path, label, score and probability."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["path", "label", "score", "probability"])
        for row in zip(self.paths, self.is_defect, self.scores, self.probabilities, strict=True):
            path, is_defect, score, probability = row
            label = "defect" if is_defect else "other"
            lines.writerow([path, label, f"{score:.6g}", f"{probability:.4f}"])
        return text.getvalue()


def classify(
    inspector: Inspector[ImageJudge],
    defects: Sequence[str | os.PathLike[str]],
    others: Sequence[str | os.PathLike[str]],
    *,
    features: str = HU,
    seed: int = 0,
    page: int | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> HeatMapClasses:
    """Classify the heat maps of labeled images, each without itself; see `heat_maps`.

    Parameters
    ----------
    inspector : Inspector
        Makes the heat maps.
    defects, others : sequence of path
        Images with defects; good ones, and ones with harmless anomalies.
    features : str
        ``hu``, or weights of a pre-trained network, see `heat_maps.pretrained`.
    seed : int
        Seed of the folds and of the classifier.
    page, on_image
        See `Inspector.read` and `for_each`.

    Raises
    ------
    DataError
        An image or the weights cannot be used, or there are fewer than two images of a label.
    """
    describe: Callable[[np.ndarray], np.ndarray] = heat_maps.hu_moments
    if features != HU:
        describe = heat_maps.pretrained(features, largest=inspector.map_scale()["high"])
    detector = inspector.detector

    def measured(image: np.ndarray) -> tuple[float, np.ndarray]:
        found = detector.judge(image)
        return found.score, describe(detector.on_pixels(found.anomaly, image))

    paths = [str(path) for path in (*defects, *others)]
    read = partial(inspector.read, page=page)
    found = list(for_each(paths, measured, read=read, on_image=on_image))
    scores, vectors = [score for score, _ in found], [vector for _, vector in found]
    is_defect = np.arange(len(paths)) < len(defects)
    probabilities = heat_maps.cross_validated(vectors, is_defect.tolist(), seed=seed)
    return HeatMapClasses(paths, is_defect, np.array(scores), probabilities)
