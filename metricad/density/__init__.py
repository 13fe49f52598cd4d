"""Densities of good features: each is a Keras layer that turns a feature map into a distance map."""

from enum import StrEnum


class Kind(StrEnum):
    """Densities by name; ``gaussian`` is a mixture of one component."""

    mean = "mean"
    mixture = "mixture"
    gaussian = "gaussian"
    positional = "positional"
    auto = "auto"


class Metric(StrEnum):
    """Distances to the mean."""

    euclidean = "euclidean"
    manhattan = "manhattan"
