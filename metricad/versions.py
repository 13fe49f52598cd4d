"""Versions of the software, to record with results."""

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("metricad", "tensorflow", "keras", "numpy", "scikit-image", "scikit-learn")


def versions() -> dict[str, str]:
    """Return the versions of Python, metricad and its numeric packages, and metricad's commit if known."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree without installation
            found[package] = "unknown"
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


@functools.cache
def _commit() -> str | None:
    """Return the commit of the running source tree, with a plus sign if it was changed; None if installed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():  # do not use a repository in a parent folder
        return None
    try:
        found = [
            subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for arguments in (
                ["rev-parse", "--short=12", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return found[0] + ("+" if found[1] else "")
