"""How well scores tell defects from good surface."""

from collections.abc import Sequence

import numpy as np
from sklearn import metrics

from metricad.errors import DataError


def auroc(defect: Sequence[bool], scores: Sequence[float]) -> float:
    """Area under the ROC curve: the chance that a defect scores above a normal image, ties counting half.

    Parameters
    ----------
    defect : sequence of bool (n,)
        True for a defect.
    scores : sequence of float (n,)
        Larger is farther from good surface.

    Raises
    ------
    DataError
        There is only one class, or a score is not finite.
    """
    return float(metrics.roc_auc_score(*_checked(defect, scores)))


def roc_curve(defect: Sequence[bool], scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates for every threshold, both rising from 0 to 1; raises as `auroc` does."""
    false_positive, true_positive, _ = metrics.roc_curve(*_checked(defect, scores))
    return false_positive, true_positive


def _checked(defect: Sequence[bool], scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    defect, scores = np.asarray(defect, bool), np.asarray(scores, float)
    if defect.shape != scores.shape:
        raise ValueError(
            f"one score for each label: received {defect.shape} labels and {scores.shape} scores"
        )
    if not np.isfinite(scores).all():
        raise DataError(f"{np.sum(~np.isfinite(scores))} of {len(scores)} scores are not finite")
    if defect.all() or not defect.any():
        raise DataError(
            f"an AUROC needs normal and defective images; received {np.sum(~defect)} and {np.sum(defect)}"
        )
    return defect, scores
