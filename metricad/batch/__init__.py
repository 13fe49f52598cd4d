"""Do what is too much for one process: many images, cut into shards, and the cells of experiments.

Both run in processes of this machine or on a Ray cluster, and go on after an interruption.
"""

from enum import StrEnum


class Engine(StrEnum):
    """What runs the work: processes of this machine, or Ray."""

    local = "local"
    ray = "ray"
