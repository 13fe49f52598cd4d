"""Connect to Ray: to a cluster, or to one of its own on this machine."""

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from types import ModuleType

from metricad.errors import MetricadError

LOCAL = "local"
"""Address that stands for a new cluster on this machine, which ends with this process."""


def load_ray() -> ModuleType:
    """Import Ray, which then reports to nobody that it is used.

    Raises
    ------
    MetricadError
        It is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise MetricadError("--engine ray needs Ray: pip install 'metricad[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    return ray


@contextlib.contextmanager
def connected(address: str | None, *, cores: int | None = None) -> Iterator[ModuleType]:
    """Connect to a cluster during the block; one that this process is connected to already stays so.

    Parameters
    ----------
    address : str, optional
        As of ``ray.init``; a new cluster on this machine by default.
    cores : int, optional
        Cores of a new cluster; all of this machine by default.

    Raises
    ------
    MetricadError
        Ray is not installed, or there is no cluster at this address.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield ray
        return
    settings = {"num_cpus": cores, "include_dashboard": False} if address in (None, LOCAL) else {}
    try:
        ray.init(address or LOCAL, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MetricadError(
            f"no Ray cluster at {address or LOCAL} ({reason}); start one with 'ray start --head'"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def check_fits(ray: ModuleType, *, cores: float = 0, gpus: float = 0, memory: float = 0) -> None:
    """Check that a machine of the cluster has what work asks for: Ray would wait for one that has.

    Parameters
    ----------
    ray : module
    cores, gpus : float
    memory : float
        In GiB.

    Raises
    ------
    MetricadError
        No machine has it.
    """
    asked = {"CPU": cores, "GPU": gpus, "memory": memory * 2**30}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(each.get(name, 0) >= number for name, number in asked.items()) for each in machines):
        most = {name: max((each.get(name, 0) for each in machines), default=0) for name in asked}
        raise MetricadError(
            f"no machine of the Ray cluster has {cores:g} cores, {gpus:g} GPUs and {memory:g} GiB of memory; "
            f"the most are {most['CPU']:g}, {most['GPU']:g} and {most['memory'] / 2**30:.3g}: ask for less"
        )
