"""The versions that a result names."""

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("metricad", "tensorflow", "keras", "numpy", "scikit-image", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of Python, metricad and what its numbers depend on, and metricad's commit where it has one."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that was not installed
            found[package] = "unknown"
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


@functools.cache
def _commit() -> str | None:
    """Commit of the source tree that runs, with a plus sign where it was changed; None when installed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():  # a repository further up is not ours
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
