"""Read image files, labeled data sets and patches."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from metricad.data.datasets import Sample as Sample
    from metricad.data.datasets import Surface as Surface

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "datasets": ["Sample", "Surface"],
    },
)
