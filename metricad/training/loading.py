"""Load a network by its name or from the folder of a training run."""

import difflib
import os
from pathlib import Path

import keras

from metricad.errors import RunError
from metricad.networks import SHIPPED, WITH_IMAGENET, pretrained
from metricad.training import runs


def is_shipped(name: str | os.PathLike[str]) -> bool:
    """Whether this is the name of a network; otherwise it must be the folder of a run.

    Raises
    ------
    RunError
        It is no folder, and the name is similar to that of a network.
    """
    names = (*SHIPPED, *WITH_IMAGENET)
    if str(name) in names:
        return True
    near = difflib.get_close_matches(str(name), names, n=1)
    if near and not Path(name).exists():
        raise RunError(f"unknown network {str(name)!r}; did you mean {near[0]!r}?")
    return False


def load_network(name: str | os.PathLike[str]) -> keras.Model:
    """Load a network.

    Parameters
    ----------
    name : str or path
        ``accurate`` or ``fast`` (shipped networks), ``imagenet`` or ``joint`` (see `networks.joint`), or the
        folder of a run of `metricad train`.

    Raises
    ------
    RunError
        There is no network or run of this name, the run has no weights, or they are damaged.
    DataError
        ImageNet weights are needed and not installed.
    """
    return pretrained.load(str(name)) if is_shipped(name) else runs.load_network(name)
