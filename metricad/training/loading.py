"""Load a network by its name, or from the folder of a training run."""

import os

import keras

from metricad.networks import pretrained
from metricad.training import runs


def is_shipped(name: str | os.PathLike[str]) -> bool:
    """Whether this names a network that ships, and no run's folder."""
    return str(name) in pretrained.UNITS


def load_network(name: str | os.PathLike[str]) -> keras.Model:
    """Load a network.

    Parameters
    ----------
    name : str or path
        ``accurate`` or ``fast``, which ship, or the folder of a run of `metricad train`.

    Raises
    ------
    RunError
        The run has no weights, or they are damaged.
    """
    return pretrained.load(str(name)) if is_shipped(name) else runs.load_network(name)
