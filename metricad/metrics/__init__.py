"""Metrics of scores and anomaly maps on good and defective images: AUROC and others, bootstrap intervals."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from metricad.metrics.image import auroc as auroc
    from metricad.metrics.image import auroc_interval as auroc_interval
    from metricad.metrics.image import auroc_resamples as auroc_resamples
    from metricad.metrics.image import average_precision as average_precision
    from metricad.metrics.image import f1_max as f1_max
    from metricad.metrics.image import fpr_at_tpr as fpr_at_tpr
    from metricad.metrics.image import pr_auc as pr_auc
    from metricad.metrics.image import precision_recall_curve as precision_recall_curve
    from metricad.metrics.image import roc_curve as roc_curve
    from metricad.metrics.pixel import PixelMetrics as PixelMetrics

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "image": [
            "auroc",
            "auroc_interval",
            "auroc_resamples",
            "average_precision",
            "f1_max",
            "fpr_at_tpr",
            "pr_auc",
            "precision_recall_curve",
            "roc_curve",
        ],
        "pixel": ["PixelMetrics"],
    },
)
