"""Plan the paper's experiment: which networks are trained and on which surfaces each is tested.

A grid consists of cells. Each cell is a unit of work with its own folder: training one network, or evaluating
one network, one untrained network or the baseline on one surface.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath, PurePosixPath
from typing import Any

from metricad.data.datasets import Surface
from metricad.errors import DataError
from metricad.evaluation.protocol import Protocol
from metricad.training.settings import Settings

NETWORKS, EVALUATIONS = "networks", "evaluations"
BASELINE = "baseline"

_SURFACES = (
    "woven_grid", "brushed_metal", "soft_fabric", "starburst", "fine_noise", "binary_noise",
    "plain_weave", "cast_metal", "wood", "printed_dots",
)  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """All settings that determine the results of a grid.

    Attributes
    ----------
    textures : tuple of str
        Sources of texture classes to train on; for this and the next three see `datasets.load`.
    objects : str or None
        Source of objects. Each network is trained once without and once with it.
    known : tuple of str
        Labeled surfaces; their good images for fitting are also used for training.
    novel : tuple of str
        Labeled surfaces that are only used for tests.
    units, seeds : tuple of int
        Sizes of the network, and a seed for each network of a setting.
    settings : Settings
        Settings of the training; units and seed are replaced for each network.
    kinds, metrics : tuple of str
        Densities to compare, and metrics of the means. The paper can be read as ``mean`` or as
        ``positional-mean``; the latter is left out on surfaces whose images differ in size.
    in_register : tuple of str
        Names of surfaces with a global pattern that is always aligned. For these a positional density is also
        tested.
    protocol : Protocol
    normals : int or None
        Good images of each labeled surface to fit to; see `datasets.load`.
    """

    textures: tuple[str, ...]
    objects: str | None
    known: tuple[str, ...]
    novel: tuple[str, ...]
    units: tuple[int, ...] = (16, 32)
    seeds: tuple[int, ...] = (0, 1, 2)
    settings: Settings = field(default_factory=Settings)
    kinds: tuple[str, ...] = ("mean", "positional-mean", "gaussian")
    metrics: tuple[str, ...] = ("euclidean", "manhattan")
    in_register: tuple[str, ...] = ("class4", "starburst")
    protocol: Protocol = field(default_factory=Protocol)
    normals: int | None = None

    def __post_init__(self) -> None:
        for name in ("units", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different numbers, one at least, received {values}")
        if not self.textures and not self.known:
            raise ValueError("nothing to train on; give textures or known surfaces")
        if not self.known and not self.novel:
            raise ValueError("nothing to test on; give known or novel surfaces")

    def networks(self) -> list["Trained"]:
        """List all networks: each size without and with objects, each seed."""
        return [
            Trained(units, objects, seed)
            for units in self.units
            for objects in ((None, self.objects) if self.objects else (None,))
            for seed in self.seeds
        ]

    def sources(self, network: "Trained") -> list[str]:
        """List the sources that a network is trained on."""
        return [*self.textures, *self.known, *([network.objects] if network.objects else [])]


PRESETS = {
    # Sections 2.3 and 2.9: densities are fitted to 500 good images of each class, all of them, so there is no
    # threshold. The others are test images: 500 of classes 1 to 6, 1,500 of classes 7 to 10.
    "paper": Grid(
        textures=("kylberg",),
        objects="cifar100_gray",
        known=("dagm2007/all:class1,class2,class3,class4,class5,class6",),
        novel=("dagm2007/all:class7,class8,class9,class10",),
        protocol=Protocol(holdout=0),
        normals=500,
    ),
    "surfaces": Grid(
        textures=("textures",),
        objects="cifar100_gray",
        known=(f"surfaces:{','.join(_SURFACES[:6])}",),
        novel=(f"surfaces:{','.join(_SURFACES[6:])}",),
    ),
    "quick": Grid(
        textures=(),
        objects=None,
        known=("surfaces:woven_grid,starburst,fine_noise",),
        novel=("surfaces:plain_weave,cast_metal",),
        units=(16,),
        seeds=(0, 1),
        settings=Settings(rounds=2, epochs=8, triplets_per_round=2_560, learning_rate=5e-4),
    ),
}


def change(
    grid: Grid,
    *,
    textures: Sequence[str] | None = None,
    objects: str | None = None,
    known: Sequence[str] | None = None,
    novel: Sequence[str] | None = None,
    units: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    holdout: float | None = None,
    normals: int | None = None,
    **training: int | None,
) -> Grid:
    """Change a grid: `known` and `novel` are added to those of the grid; all others replace its values.

    `training` are fields of `settings.Settings`.
    """
    changed: dict[str, Any] = {name: value for name, value in training.items() if value is not None}
    return replace(
        grid,
        textures=tuple(textures or grid.textures),
        objects=objects or grid.objects,
        known=(*grid.known, *(known or ())),
        novel=(*grid.novel, *(novel or ())),
        units=tuple(units or grid.units),
        seeds=tuple(seeds or grid.seeds),
        settings=replace(grid.settings, **changed),
        protocol=grid.protocol if holdout is None else replace(grid.protocol, holdout=holdout),
        normals=normals or grid.normals,
    )


@dataclass(frozen=True)
class Trained:
    """One network of a grid: size, source of objects or None, and seed."""

    units: int
    objects: str | None
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder and in results; within a setting only the last number, the seed, differs."""
        # From "cifar100_gray" and "folder/things:cat,dog" take the distinctive words.
        objects = PurePath((self.objects or "").partition(":")[0]).name.removesuffix("_gray")
        return "-".join(filter(None, (f"h{self.units}", objects, str(self.seed))))

    @property
    def control(self) -> str:
        """Name of the same network before training."""
        return f"untrained-h{self.units}-{self.seed}"


@dataclass(frozen=True)
class Cell:
    """One unit of work in a grid.

    Attributes
    ----------
    name : str
        Readable name.
    folder : str
        Folder, relative to the grid's folder.
    network : Trained or None
        None for the baseline.
    is_trained : bool
        Whether the network is trained, or tested without training.
    surface : (str, str) or None
        Source and name of the surface to test on; None for training.
    needs : str or None
        Name of the cell that must be finished first.
    cost : float
        Estimated seconds on the reference machine; see the rates below.
    """

    name: str
    folder: str
    network: Trained | None
    is_trained: bool
    surface: tuple[str, str] | None
    needs: str | None
    cost: float

    @property
    def marker(self) -> str:
        """Path of the file, relative to the grid's folder, that exists when the cell is done."""
        return f"{self.folder}/{'results.json' if self.surface else 'network.npz'}"


def cells(grid: Grid, surfaces: Mapping[str, Sequence[Surface]], shapes: Mapping[str, int]) -> list[Cell]:
    """List all cells of a grid in the order of its results; training first.

    Parameters
    ----------
    grid : Grid
    surfaces : mapping of source to its surfaces
        Surfaces of all `known` and `novel` sources.
    shapes : mapping of source to pixels
        Number of pixels of an image, to estimate times.

    Raises
    ------
    DataError
        A surface is not labeled, or is listed twice.
    """
    tested = [(source, surface) for source in (*grid.known, *grid.novel) for surface in surfaces[source]]
    _check(tested)
    trainings = [_training(grid, network) for network in grid.networks()]
    controls = {network.control: network for network in grid.networks()}
    judges = [
        *((network.name, network, True) for network in grid.networks()),
        *((name, network, False) for name, network in controls.items()),
        (BASELINE, None, False),
    ]
    return trainings + [
        Cell(
            name=f"evaluate {name} on {surface.name}",
            folder=f"{EVALUATIONS}/{name}/{_folder_name(surface)}",
            network=network,
            is_trained=is_trained,
            surface=(source, surface.name),
            needs=f"train {name}" if is_trained else None,
            cost=_evaluation_seconds(network, len(surface.fit) + len(surface.test), shapes[source]),
        )
        for name, network, is_trained in judges
        for source, surface in tested
    ]


def _check(tested: Sequence[tuple[str, Surface]]) -> None:
    names = set()
    for source, surface in tested:
        if not surface.test:
            raise DataError(
                f"{source}: {surface.name} has no labeled test images; known and novel surfaces need them"
            )
        if (surface.dataset, surface.name) in names:
            raise DataError(f"{source}: {surface.name} is given twice; give each surface once")
        names.add((surface.dataset, surface.name))


def _training(grid: Grid, network: Trained) -> Cell:
    settings = grid.settings
    batches = -(-settings.triplets_per_round // settings.batch_size)
    return Cell(
        name=f"train {network.name}",
        folder=f"{NETWORKS}/{network.name}",
        network=network,
        is_trained=True,
        surface=None,
        needs=None,
        cost=settings.rounds * settings.epochs * batches * _rate(network.units, _BATCH_RATE),
    )


def _folder_name(surface: Surface) -> str:
    return "-".join((*PurePosixPath(surface.dataset).parts, surface.name))


# Seconds on two cores, as a h + b h²: for a batch of 256 triplets (90 ms at h = 16, 215 ms at 32), and for a
# million pixels of an image (88 ms and 250 ms). Other work takes about as long again at h = 16.
_BATCH_RATE = (4.5e-3, 7e-5)
_PIXEL_RATE = (3.2e-3, 1.45e-4)
_OTHER_SECONDS_PER_MEGAPIXEL = 0.1


def _rate(units: int, rate: tuple[float, float]) -> float:
    return rate[0] * units + rate[1] * units**2


def _evaluation_seconds(network: Trained | None, images: int, pixels: int) -> float:
    work = _rate(network.units, _PIXEL_RATE) if network else 0
    return images * pixels / 1e6 * (work + _OTHER_SECONDS_PER_MEGAPIXEL)
