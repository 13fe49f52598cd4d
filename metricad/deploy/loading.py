"""Inspectors from disk, whatever they were written as: a bundle, or an export of one."""

import os

from metricad.deploy import exported, native_output
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import ImageJudge


def load(path: str | os.PathLike[str], *, workers: int = 1) -> Inspector[ImageJudge]:
    """Read a bundle, a .metricad file, or what 'metricad export' wrote.

    TensorFlow is imported only for a bundle and for a SavedModel.

    Parameters
    ----------
    path : path
    workers : int
        Images that will be inspected at once, so that a runtime can divide the processor.

    Raises
    ------
    BundleError
        The file is missing, damaged, of an unknown version, or its runtime is not installed.
    """
    if exported.needs_tensorflow(path):
        native_output.load_tensorflow()
    if exported.is_exported(path):
        return exported.load(path, workers=workers)
    from metricad.inspection import bundle

    return bundle.load(path)
