"""Settings of a training run: all constants of the paper, and those that it does not give."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metricad.data import patches
from metricad.training import triplets

METRICS = ("euclidean", "manhattan")
"""Metrics of the distances in the loss; see `loss`."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training run. Defaults are the paper's; if the paper gives no value, this is stated.

    Attributes
    ----------
    units : int
        Size of the network, h: 16 or 32 in the paper.
    rounds, epochs : int
        Number of rounds, each with a new set of triplets, and epochs in each round: 6 × 15.
    batch_size, learning_rate
        256 triplets; Adam with a constant rate of 0.0001.
    pyramid : tuple of int
        Sides, in pixels, that textures are resized to: 512, 256, 128 and 64.
    triplets_per_round : int
        Triplets in each round. Not given in the paper; 3,840 are 15 batches (results/paper-settings.md).
    mix : tuple of float, optional
        Share of each source. Not given in the paper; equal shares by default.
    noise_share : float
        Share of texture triplets whose negative gets a noise patch. Not given in the paper.
    noise_side : (int, int)
        Smallest and largest side, in pixels, of a noise patch. Not given in the paper.
    noise_strength : (float, float)
        Smallest and largest standard deviation of the noise, for images in [-1, 1]. Not given in the paper;
        for experiments see results/paper-settings.md.
    noise_is_relative : bool
        Whether this is in units of each patch's own standard deviation. Not given in the paper.
    enlarges : bool
        Whether images are also resized to sides of the pyramid that are larger than they are. The paper's
        textures have 576 pixels, so that none is.
    metric : {"euclidean", "manhattan"}
        Metric of the distances in the loss: Euclidean in the paper.
    seed : int
        Seed of the weights, the triplets and the order of the batches.
    """

    units: int = 16
    rounds: int = 6
    epochs: int = 15
    batch_size: int = 256
    learning_rate: float = 1e-4
    pyramid: tuple[int, ...] = patches.PYRAMID
    triplets_per_round: int = 3_840
    mix: tuple[float, ...] | None = None
    noise_share: float = 0.5
    noise_side: tuple[int, int] = (4, 16)
    noise_strength: tuple[float, float] = (0.05, 0.6)
    noise_is_relative: bool = False
    enlarges: bool = True
    metric: str = "euclidean"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("units", "rounds", "epochs", "batch_size", "triplets_per_round", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, received {getattr(self, name)}")
        if not 0 <= self.noise_share <= 1:
            raise ValueError(f"noise_share must lie in [0, 1], received {self.noise_share}")
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, received {self.metric!r}")
        smallest, largest = self.noise_side
        if not 1 <= smallest <= largest <= patches.PATCH_SIZE:
            raise ValueError(
                f"noise_side must be ascending, 1 to {patches.PATCH_SIZE}, received {smallest} and {largest}"
            )
        weakest, strongest = self.noise_strength
        if not 0 <= weakest <= strongest:
            raise ValueError(
                f"noise_strength must be ascending, 0 or more, received {weakest} and {strongest}"
            )
        if not self.pyramid or min(self.pyramid) < patches.PATCH_SIZE:
            raise ValueError(f"pyramid sides must be at least {patches.PATCH_SIZE}, received {self.pyramid}")

    def sample(
        self, sources: Sequence[triplets.Source], round_number: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the triplets of one round; repeated calls return the same triplets."""
        return triplets.sample(
            sources,
            self.triplets_per_round,
            rng=np.random.default_rng([self.seed, round_number]),
            mix=self.mix,
            noise_share=self.noise_share,
            noise_side=self.noise_side,
            noise_strength=self.noise_strength,
            noise_is_relative=self.noise_is_relative,
        )
