"""Load inspectors from disk: bundles and exports."""

import os

from metricad.deploy import exported, native_output
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import ImageJudge


def load(path: str | os.PathLike[str], *, workers: int = 1) -> Inspector[ImageJudge]:
    """Load a bundle (a .metricad file) or a file or folder written by 'metricad export'.

    TensorFlow is imported only for a bundle or a SavedModel.

    Parameters
    ----------
    path : path
    workers : int
        Number of images that will be inspected at once; a runtime divides the processor cores among them.

    Raises
    ------
    BundleError
        The file is missing, damaged or of an unknown version, or its runtime is not installed.
    """
    if exported.needs_tensorflow(path):
        native_output.load_tensorflow()
    if exported.is_exported(path):
        return exported.load(path, workers=workers)
    from metricad.inspection import bundle

    return bundle.load(path)
