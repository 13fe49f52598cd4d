"""The inspector: fit it to good parts, inspect images, tune the image score, save and load bundles."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from metricad.inspection.bundle import load as load
    from metricad.inspection.bundle import save as save
    from metricad.inspection.detector import PartDetector as PartDetector
    from metricad.inspection.fit import fit_inspector as fit_inspector
    from metricad.inspection.inspector import Inspection as Inspection
    from metricad.inspection.inspector import Inspector as Inspector
    from metricad.inspection.inspector import for_each as for_each

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bundle": ["load", "save"],
        "detector": ["PartDetector"],
        "fit": ["fit_inspector"],
        "inspector": ["Inspection", "Inspector", "for_each"],
    },
)
