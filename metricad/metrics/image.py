"""Metrics of image scores; for anomaly maps see `metricad.metrics.pixel`.

scikit-learn takes a second to import, so each function imports it.
"""

from collections.abc import Sequence

import numpy as np

from metricad.errors import DataError

# Number of resamples drawn at once: large enough to vectorize, small enough to limit memory.
BATCH = 250


def auroc(defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Compute the area under the ROC curve: the chance that a defect scores above a good image (ties: 1/2).

    Parameters
    ----------
    defect : sequence of bool (n,)
        True for a defect.
    scores : sequence of float (n,)
        Scores; larger is farther from good.

    Raises
    ------
    DataError
        There is only one class, or a score is not finite.
    ValueError
        The numbers of labels and scores differ.

    Examples
    --------
    >>> auroc([False, False, True, True], [0.1, 0.4, 0.3, 0.9])
    0.75
    """
    from sklearn import metrics

    return float(metrics.roc_auc_score(*_checked(defect, scores)))


def roc_curve(
    defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute false- and true-positive rates of all thresholds, both from 0 to 1; raises as `auroc` does."""
    from sklearn import metrics

    false_positive, true_positive, _ = metrics.roc_curve(*_checked(defect, scores))
    return false_positive, true_positive


def average_precision(defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Compute the average precision: Σ (recallₙ − recallₙ₋₁) precisionₙ, without interpolation.

    The value lies in (0, 1]. Chance is near the share of defects among the images. So it can compare methods
    on the same images, but not different sets of images. Raises as `auroc` does.
    """
    from sklearn import metrics

    return float(metrics.average_precision_score(*_checked(defect, scores)))


def pr_auc(defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Compute the area under the precision-recall curve by the trapezoidal rule, in (0, 1].

    Some publications give this in place of the average precision. It interpolates linearly between points,
    which no threshold can reach, and so is often a little higher. Raises as `auroc` does.
    """
    from sklearn import metrics

    return float(metrics.auc(*precision_recall_curve(defect, scores)))


def precision_recall_curve(
    defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute recall, from 0 to 1, and the precision at each recall; raises as `auroc` does.

    The first point is (0, 1): nothing is marked, and precision is 1 by convention. Every other point is a
    threshold at one of the scores, from the highest to the lowest.
    """
    from sklearn import metrics

    precision, recall, _ = metrics.precision_recall_curve(*_checked(defect, scores))
    return recall[::-1], precision[::-1]


def f1_max(defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Compute the largest F1, the harmonic mean of precision and recall, over all thresholds, in (0, 1].

    The threshold is chosen with the labels, so this is an upper bound for a real threshold.
    Raises as `auroc` does.
    """
    recall, precision = precision_recall_curve(defect, scores)
    total = precision + recall
    # A threshold that marks no defect has precision and recall 0: its F1 is set to 0, not 0/0.
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return float(f1.max())


def fpr_at_tpr(
    defect: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray, tpr: float = 0.95
) -> float:
    """Compute the smallest false-positive rate at which at least this share of the defects is found.

    Parameters
    ----------
    defect, scores
        See `auroc`.
    tpr : float in (0, 1]
        True-positive rate to reach. Only existing thresholds are used; the curve is not interpolated.

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
        raise ValueError(f"true-positive rate must lie in (0, 1], received {tpr}")
    from sklearn import metrics

    # By default scikit-learn drops points on straight segments, but their thresholds are needed.
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
    """Compute a bootstrap confidence interval of the AUROC over the choice of test images.

    This is the percentile interval of Efron and Tibshirani, "An Introduction to the Bootstrap" (1993, chapter
    13), stratified: every resample draws, with replacement, as many good images and as many defects as there
    are. Images are assumed to be independent.

    With scores of several seeds of one method, every resample draws the same images for all seeds and takes
    the median of their AUROCs. The result is an interval of the median. It covers the choice of images, not
    the choice of seeds.

    If all defects score above all good images, the interval is (1, 1), even with few images.

    Parameters
    ----------
    defect : sequence of bool (n,)
        True for a defect.
    scores : float (n,) or (seeds, n)
        Scores; larger is farther from good.
    rng : np.random.Generator
        Draws the resamples; the same state gives the same interval.
    level : float in (0, 1)
        Share of the resampled AUROCs inside the interval; equal shares lie below and above.
    resamples : int
        Number of resamples.

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
    """Compute the AUROCs of resampled test images; arguments and method are those of `auroc_interval`.

    Returns
    -------
    float64 (seeds, resamples)
        One row for scores (n,). A resample has the same images in all rows, so that rows can be compared.

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
    """Draw how often each of `count` images is in each of `size` resamples: int (size, count)."""
    return rng.multinomial(count, np.full(count, 1 / count), size)


def _weighted_auroc(
    normal: np.ndarray, defect: np.ndarray, normals: np.ndarray, defects: np.ndarray
) -> np.ndarray:
    """Compute AUROCs (r,) of scores (n,) and (d,) weighted with counts `normals` (r, n) and `defects` (r, d).

    Counts are integers, so that a perfect separation gives exactly 1. The scores of good images are sorted
    instead of comparing all pairs, so memory is r (n + d), not n d.
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
            f"expected good and defective images, received {np.sum(~labels)} good, {np.sum(labels)} defective"
        )
    return labels, values
