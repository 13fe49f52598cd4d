"""Watch a folder on a production line: find new images, write a journal of verdicts, detect drift."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from metricad.monitoring.drift import DriftTest as DriftTest
    from metricad.monitoring.journal import Journal as Journal
    from metricad.monitoring.watch import Watch as Watch

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "drift": ["DriftTest"],
        "journal": ["Journal"],
        "watch": ["Watch"],
    },
)
