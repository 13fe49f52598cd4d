"""How well image scores tell defects from good surface; for maps and regions see `metricad.metrics.pixel`."""

from collections.abc import Sequence

import numpy as np
from sklearn import metrics

from metricad.errors import DataError

# Resamples drawn at once: few enough that memory does not grow with their number, enough to vectorise.
BATCH = 250


def auroc(defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
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
    ValueError
        There is not one score for each label.
    """
    return float(metrics.roc_auc_score(*_checked(defect, scores)))


def roc_curve(
    defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates for every threshold, both rising from 0 to 1; raises as `auroc` does."""
    false_positive, true_positive, _ = metrics.roc_curve(*_checked(defect, scores))
    return false_positive, true_positive


def average_precision(defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Mean precision over the found defects: Σ (recallₙ − recallₙ₋₁) precisionₙ, without interpolation.

    In (0, 1]. By chance alone it is near the share of defects among the images, so that it compares
    methods on the same images, not one set of images with another. Raises as `auroc` does.
    """
    return float(metrics.average_precision_score(*_checked(defect, scores)))


def precision_recall_curve(
    defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Recall, rising from 0 to 1, and the precision at each; raises as `auroc` does.

    The first point is (0, 1), where nothing is marked and precision is 1 by convention; every other
    point is a threshold at one of the scores, from the highest down.
    """
    precision, recall, _ = metrics.precision_recall_curve(*_checked(defect, scores))
    return recall[::-1], precision[::-1]


def f1_max(defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Largest F1, the harmonic mean of precision and recall, over all thresholds, in (0, 1].

    The threshold is chosen with the labels at hand: an upper bound on what a real threshold reaches.
    Raises as `auroc` does.
    """
    recall, precision = precision_recall_curve(defect, scores)
    total = precision + recall
    # A threshold that marks no defect at all has neither precision nor recall: its F1 is 0, not 0/0.
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return float(f1.max())


def fpr_at_tpr(
    defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray, tpr: float = 0.95
) -> float:
    """Smallest false-positive rate at which at least this share of the defects is found.

    Parameters
    ----------
    defect : sequence of bool (n,)
        True for a defect.
    scores : sequence of float (n,)
        Larger is farther from good surface.
    tpr : float in (0, 1]
        True-positive rate to reach, by a threshold that exists: the curve is not interpolated.

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    DataError
        As for `auroc`.
    ValueError
        As for `auroc`, or `tpr` is out of its range.
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"true-positive rate must lie above 0 and at most at 1, received {tpr}")
    # By default scikit-learn drops points inside a straight stretch, and with them thresholds we need.
    rates = metrics.roc_curve(*_checked(defect, scores), drop_intermediate=False)
    false_positive, true_positive = rates[:2]
    return float(false_positive[np.argmax(true_positive >= tpr)])


def auroc_interval(
    defect: Sequence[bool] | np.ndarray,
    scores: Sequence[Sequence[float]] | np.ndarray,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Confidence interval of the AUROC, over the choice of test images, by the bootstrap.

    The percentile interval of Efron and Tibshirani, "An Introduction to the Bootstrap" (1993, chapter
    13), stratified: every resample draws, with replacement, as many normal images from the normal ones
    and as many defects from the defects as there are. Images are taken as independent draws.

    With scores of several seeds of one method, every resample draws the same images for all seeds and
    takes the median of their AUROCs: an interval of the median. It tells what other images would have
    changed, not what other seeds would have.

    Where all defects score above all normal images, every resample does too, and the interval is
    (1, 1), however few the images.

    Parameters
    ----------
    defect : sequence of bool (n,)
        True for a defect.
    scores : float (n,) or (seeds, n)
        Larger is farther from good surface.
    rng : np.random.Generator
        Draws the resamples; the same state gives the same interval.
    level : float in (0, 1)
        Share of the resampled AUROCs that the interval holds, as much left out below as above.
    resamples : int
        How many times to draw.

    Returns
    -------
    low, high : float in [0, 1]

    Raises
    ------
    DataError
        As for `auroc`.
    ValueError
        As for `auroc`, or an option is out of its range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, received {level}")
    medians = np.median(auroc_resamples(defect, scores, rng=rng, resamples=resamples), axis=0)
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def auroc_resamples(
    defect: Sequence[bool] | np.ndarray,
    scores: Sequence[Sequence[float]] | np.ndarray,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> np.ndarray:
    """AUROCs of resampled test images, drawn as `auroc_interval` says, whose arguments these are.

    Returns
    -------
    float64 (seeds, resamples)
        One row for scores (n,). A resample has the same images in every row, so that rows can be compared.

    Raises
    ------
    DataError
        As for `auroc`.
    ValueError
        As for `auroc`, or an option is out of its range.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more, received {resamples}")
    rows = np.asarray(scores, float)
    if rows.ndim == 1:
        rows = rows[None]
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"scores must be (n,) or (seeds, n), received {np.shape(scores)}")
    for row in rows:
        labels, _ = _checked(defect, row)

    areas = []
    for start in range(0, resamples, BATCH):
        size = min(BATCH, resamples - start)
        normals = _multiplicities(rng, np.sum(~labels), size)
        defects = _multiplicities(rng, np.sum(labels), size)
        areas.append([_weighted_auroc(row[~labels], row[labels], normals, defects) for row in rows])
    return np.concatenate(areas, axis=1)


def _multiplicities(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """How often each of `count` images is in each of `size` resamples of as many: int (size, count)."""
    return rng.multinomial(count, np.full(count, 1 / count), size)


def _weighted_auroc(
    normal: np.ndarray, defect: np.ndarray, normals: np.ndarray, defects: np.ndarray
) -> np.ndarray:
    """AUROC (r,) of scores (n,) and (d,) that appear as often as `normals` (r, n) and `defects` (r, d) say.

    Counted in whole numbers, so that a perfect separation gives 1 and nothing near it. Sorting the normal
    scores replaces the table of all pairs: memory is r (n + d), not n d.
    """
    order = np.argsort(normal)
    normal = normal[order]
    counts = np.cumsum(normals[:, order], axis=1)
    counts = np.concatenate([np.zeros_like(counts[:, :1]), counts], axis=1)
    below = counts[:, np.searchsorted(normal, defect, side="left")]
    below_or_tied = counts[:, np.searchsorted(normal, defect, side="right")]
    return np.sum(defects * (below + below_or_tied), axis=1) / (2 * len(normal) * len(defect))


def _checked(
    defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    labels, values = np.asarray(defect, bool), np.asarray(scores, float)
    if labels.shape != values.shape or labels.ndim != 1:
        raise ValueError(
            f"one score for each label: received {labels.shape} labels and {values.shape} scores"
        )
    if not np.isfinite(values).all():
        raise DataError(f"{np.sum(~np.isfinite(values))} of {len(values)} scores are not finite")
    if labels.all() or not labels.any():
        raise DataError(
            f"telling defects from good surface needs normal and defective images; "
            f"received {np.sum(~labels)} and {np.sum(labels)}"
        )
    return labels, values
