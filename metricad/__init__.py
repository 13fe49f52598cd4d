"""metricad inspects textured surfaces and parts. It learns from images of good parts only.

The names below are the public interface. All other names are private and may change. Modules are imported at
first use, so that the command line can answer without TensorFlow.

    inspector = metricad.fit_inspector(metricad.find_images(["good"]), false_alarm_rate=0.01)
    metricad.save_inspector(inspector, "part.metricad")
    inspection, anomaly_map = inspector.inspect(inspector.read("line/0001.png"))
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metricad.check.findings import check as check_images
    from metricad.data.datasets import Sample as Sample
    from metricad.data.datasets import Surface as Surface
    from metricad.data.datasets import load as load_surfaces
    from metricad.data.images import find as find_images
    from metricad.data.images import read as read_image
    from metricad.deploy.export import Comparison as ExportComparison
    from metricad.deploy.export import export as export_inspector
    from metricad.deploy.loading import load as load_inspector
    from metricad.errors import BundleError as BundleError
    from metricad.errors import DataError as DataError
    from metricad.errors import ExportError as ExportError
    from metricad.errors import InspectorError as InspectorError
    from metricad.errors import MetricadError as MetricadError
    from metricad.errors import RunError as RunError
    from metricad.evaluation.candidates import of_name as published_method
    from metricad.evaluation.candidates import of_network as network_methods
    from metricad.evaluation.comparison import study as combine_evaluations
    from metricad.evaluation.detectability import measure as measure_detectability
    from metricad.evaluation.protocol import Evaluation as Evaluation
    from metricad.evaluation.protocol import Method as Method
    from metricad.evaluation.protocol import Protocol as Protocol
    from metricad.evaluation.protocol import evaluate as evaluate
    from metricad.inspection.bundle import save as save_inspector
    from metricad.inspection.detector import PartDetector as PartDetector
    from metricad.inspection.fit import calibrate_inspector as calibrate_inspector
    from metricad.inspection.fit import fit_inspector as fit_inspector
    from metricad.inspection.fit_method import fit_method as fit_method
    from metricad.inspection.inspector import Inspection as Inspection
    from metricad.inspection.inspector import Inspector as Inspector
    from metricad.inspection.interface import Detector as Detector
    from metricad.inspection.tuning import Tuning as Tuning
    from metricad.inspection.tuning import tune_inspector as tune_inspector
    from metricad.methods.choice import choose as choose_method
    from metricad.metrics.image import auroc as auroc
    from metricad.metrics.image import auroc_interval as auroc_interval
    from metricad.metrics.pixel import PixelMetrics as PixelMetrics
    from metricad.networks.pretrained import load as load_shipped_network
    from metricad.preprocessing.regions import ForegroundRegion as ForegroundRegion
    from metricad.preprocessing.regions import MaskRegion as MaskRegion
    from metricad.preprocessing.regions import Region as Region
    from metricad.reporting.datasheet import write as write_datasheet
    from metricad.reporting.report import write as write_report
    from metricad.training.runs import load_network as load_network
    from metricad.training.settings import Settings as Settings
    from metricad.training.triplet_training import train_network as train_network

    __version__: str

# OpenVINO and ONNX Runtime tell servers of their makers that they are used, with an identifier that they
# keep on the disk. Without this module, and with these variables, they do neither. `runtimes` has more for
# Windows.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
for _name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):  # one in each version
    os.environ[_name] = "1"

_EXPORTS = {
    "BundleError": "errors",
    "DataError": "errors",
    "Detector": "inspection.interface",
    "Evaluation": "evaluation.protocol",
    "ExportComparison": ("deploy.export", "Comparison"),
    "ExportError": "errors",
    "ForegroundRegion": "preprocessing.regions",
    "Inspection": "inspection.inspector",
    "Inspector": "inspection.inspector",
    "InspectorError": "errors",
    "MaskRegion": "preprocessing.regions",
    "Method": "evaluation.protocol",
    "MetricadError": "errors",
    "PartDetector": "inspection.detector",
    "PixelMetrics": "metrics.pixel",
    "Protocol": "evaluation.protocol",
    "Region": "preprocessing.regions",
    "RunError": "errors",
    "Sample": "data.datasets",
    "Settings": "training.settings",
    "Surface": "data.datasets",
    "Tuning": "inspection.tuning",
    "auroc": "metrics.image",
    "auroc_interval": "metrics.image",
    "calibrate_inspector": "inspection.fit",
    "choose_method": ("methods.choice", "choose"),
    "combine_evaluations": ("evaluation.comparison", "study"),
    "evaluate": "evaluation.protocol",
    "export_inspector": ("deploy.export", "export"),
    "find_images": ("data.images", "find"),
    "check_images": ("check.findings", "check"),
    "fit_inspector": "inspection.fit",
    "fit_method": "inspection.fit_method",
    "load_inspector": ("deploy.loading", "load"),
    "load_network": "training.runs",
    "load_shipped_network": ("networks.pretrained", "load"),
    "load_surfaces": ("data.datasets", "load"),
    "measure_detectability": ("evaluation.detectability", "measure"),
    "network_methods": ("evaluation.candidates", "of_network"),
    "published_method": ("evaluation.candidates", "of_name"),
    "read_image": ("data.images", "read"),
    "save_inspector": ("inspection.bundle", "save"),
    "train_network": "training.triplet_training",
    "tune_inspector": "inspection.tuning",
    "write_datasheet": ("reporting.datasheet", "write"),
    "write_report": ("reporting.report", "write"),
}

# A list of strings, because type checkers read it.
__all__ = [
    "BundleError",
    "DataError",
    "Detector",
    "Evaluation",
    "ExportComparison",
    "ExportError",
    "ForegroundRegion",
    "Inspection",
    "Inspector",
    "InspectorError",
    "MaskRegion",
    "Method",
    "MetricadError",
    "PartDetector",
    "PixelMetrics",
    "Protocol",
    "Region",
    "RunError",
    "Sample",
    "Settings",
    "Surface",
    "Tuning",
    "__version__",
    "auroc",
    "auroc_interval",
    "calibrate_inspector",
    "check_images",
    "choose_method",
    "combine_evaluations",
    "evaluate",
    "export_inspector",
    "find_images",
    "fit_inspector",
    "fit_method",
    "load_inspector",
    "load_network",
    "load_shipped_network",
    "load_surfaces",
    "measure_detectability",
    "network_methods",
    "published_method",
    "read_image",
    "save_inspector",
    "train_network",
    "tune_inspector",
    "write_datasheet",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from metricad.versions import versions

        return versions()["metricad"]
    if name not in _EXPORTS:
        raise AttributeError(f"module 'metricad' has no attribute {name!r}")
    where = _EXPORTS[name]
    module, attribute = where if isinstance(where, tuple) else (where, name)
    return getattr(importlib.import_module(f"metricad.{module}"), attribute)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
