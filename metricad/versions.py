"""The versions that a result names."""

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("metricad", "tensorflow", "keras", "numpy", "scikit-image", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of Python, metricad and what its numbers depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that was not installed
            found[package] = "unknown"
    return found
