"""Inspect many images: cut them into shards, do these in local processes or on a Ray cluster, resume."""

from enum import StrEnum


class Engine(StrEnum):
    """What runs the work: processes of this machine, or Ray."""

    local = "local"
    ray = "ray"
