"""Densities of good features. Each is a Keras layer that turns a feature map into a distance map."""

from enum import StrEnum


class Kind(StrEnum):
    """Names of the densities; ``gaussian`` is a mixture with one component."""

    mean = "mean"
    positional_mean = "positional-mean"
    mixture = "mixture"
    gaussian = "gaussian"
    positional = "positional"
    auto = "auto"


MEANS = (Kind.mean, Kind.positional_mean)
"""Both readings of the paper's prototype: one mean feature, or one at each position."""


class Metric(StrEnum):
    """Distance metrics of the mean densities."""

    euclidean = "euclidean"
    manhattan = "manhattan"
