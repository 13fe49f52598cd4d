"""Densities of good features. Each is a Keras layer that turns a feature map into a distance map."""

from enum import StrEnum


class Kind(StrEnum):
    """Names of the densities; ``gaussian`` is a mixture with one component."""

    mean = "mean"
    mixture = "mixture"
    gaussian = "gaussian"
    positional = "positional"
    auto = "auto"


class Metric(StrEnum):
    """Distance metrics of the mean density."""

    euclidean = "euclidean"
    manhattan = "manhattan"
