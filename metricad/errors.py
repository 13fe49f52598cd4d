"""The few kinds of error that metricad raises about the world; a wrong argument is a ValueError.

Every message is one line that says what is wrong, what was expected and what to do.
"""

import errno


class MetricadError(Exception):
    """Something outside the program is not as it must be. The command line prints it and exits with 2."""


class DataError(MetricadError):
    """An image, a folder or a data set cannot be used as it is."""


class RunError(MetricadError):
    """A training run's folder is missing something, damaged, or of other settings."""


class BundleError(MetricadError):
    """A ``.metricad`` file is damaged, of an unknown version, or no bundle at all."""


class ExportError(MetricadError):
    """An exported inspector does not say what the one says that it was made from."""


def explain_os_error(error: OSError) -> str:
    """Say what the operating system refused, and for the common cases what to do."""
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}no space left on the device; nothing was half-written; free some space and run again"
    return f"{where}{reason}"
