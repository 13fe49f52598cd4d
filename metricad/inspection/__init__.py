"""The inspector: fitting it to good parts, asking it for verdicts, tuning it, saving and loading it."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metricad.inspection.bundle import load, save
    from metricad.inspection.fit import fit_inspector
    from metricad.inspection.inspector import Inspection, Inspector, for_each

_EXPORTS = {
    "Inspection": "inspector",
    "Inspector": "inspector",
    "fit_inspector": "fit",
    "for_each": "inspector",
    "load": "bundle",
    "save": "bundle",
}

__all__ = ["Inspection", "Inspector", "fit_inspector", "for_each", "load", "save"]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
