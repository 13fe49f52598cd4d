"""Inspectors that any process can make at once, and stores that fail: for tests of batches."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metricad.batch.store import Store
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import Judgement
from metricad.inspection.timing import StageTimer
from metricad.networks.feature_grid import FeatureGrid
from metricad.scoring.calibration import calibrate


class Brightness:
    """Model whose score is the largest level of an image, in [-1, 1]."""

    channels, score_name = 1, "max"

    def __init__(self):
        self.timer = StageTimer()
        self.grid = FeatureGrid(first=0, stride=1, smallest=4)

    def judge(self, image):
        return Judgement(float(image.max()), (1, 2), "network", image[:2, :2])

    def on_pixels(self, anomaly, image):
        return image

    def map_value(self, score):
        return score


@dataclass(frozen=True)
class FakePart:
    """Stands for a `parts.Part`."""

    path: str = "/parts/bright.metricad"
    sha256: str = "b" * 64

    @property
    def name(self):
        return Path(self.path).stem

    def carried(self):
        return self

    def load(self):
        calibration = calibrate(np.linspace(-1, 0, 20), 0.1)  # levels above the middle are defects
        return Inspector(Brightness(), calibration, part=self.name, part_sha256=self.sha256)


@dataclass(frozen=True)
class DeadlyStore(Store):
    """Kills the first process that writes a shard, before it does."""

    def put(self, name, content):
        mark = Path(self.place, "_killed")
        if name.startswith("part-") and not mark.exists():
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().put(name, content)


@dataclass(frozen=True)
class StuckStore(Store):
    """Never writes a shard on one node of a cluster, and says when it was to."""

    node: str

    def put(self, name, content):
        import ray

        if ray.get_runtime_context().get_node_id() == self.node:
            Path(self.place).with_name("stuck").touch()
            time.sleep(600)
        super().put(name, content)
