"""metricad inspects textured surfaces with a learned distance.

The names below are the library's front door; they are imported when first used, so that the command
line can answer without TensorFlow.
"""

import importlib

_EXPORTS = {
    "Inspection": "metricad.inspection.inspector",
    "Inspector": "metricad.inspection.inspector",
    "MetricadError": "metricad.errors",
    "PartDetector": "metricad.inspection.detector",
    "Settings": "metricad.training.settings",
    "Surface": "metricad.data.datasets",
    "find_images": ("metricad.data.images", "find"),
    "fit_inspector": "metricad.inspection.fit",
    "load_inspector": ("metricad.deploy.loading", "load"),
    "load_network": "metricad.training.runs",
    "load_shipped_network": ("metricad.networks.pretrained", "load"),
    "load_surfaces": ("metricad.data.datasets", "load"),
    "read_image": ("metricad.data.images", "read"),
    "save_inspector": ("metricad.inspection.bundle", "save"),
    "train_network": "metricad.training.triplet_training",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'metricad' has no attribute {name!r}")
    where = _EXPORTS[name]
    module, attribute = where if isinstance(where, tuple) else (where, name)
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*globals(), *_EXPORTS]
