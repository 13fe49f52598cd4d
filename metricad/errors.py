"""Errors that metricad raises for bad data, files and runs; a wrong argument is a ValueError.

Every message is one line. It says what is wrong, what was expected and what to do.
"""

import errno


class MetricadError(Exception):
    """Base class: data, a file or a run cannot be used. The command line prints it and exits with 2."""


class DataError(MetricadError):
    """An image, a folder or a data set cannot be used."""


class InspectorError(DataError):
    """An inspector fails on an image: it computes numbers that are not finite, or its runtime fails."""


class RunError(MetricadError):
    """The folder of a training run is incomplete, damaged, or has other settings."""


class BundleError(MetricadError):
    """A ``.metricad`` file is damaged, of an unknown version, or no bundle."""


class ExportError(MetricadError):
    """The results of an exported inspector differ from those of the original."""


def explain_os_error(error: OSError) -> str:
    """Describe an error of the operating system, with advice for common cases."""
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}no space left on the device; nothing was half-written; free some space and run again"
    return f"{where}{reason}"
