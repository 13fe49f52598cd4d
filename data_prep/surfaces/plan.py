"""Plan the images of a synthetic data set before any is rendered."""

from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.surfaces.generator import MIN_SIZE, NAMES

DEFAULT_NAME = "default"


@dataclass(frozen=True)
class Rendered:
    """One image to render: name in the data set, and arguments of `generator.render`."""

    name: str
    surface: int
    index: int
    defect: bool


@dataclass(frozen=True)
class Plan:
    """Settings of a synthetic data set.

    Parameters
    ----------
    size : int
        Side of the images in pixels.
    normals, defects : int
        Numbers of good and defective images of each surface; at least 2 and 1. The first half of the good
        images, rounded up, is `train`; all others and all defects are `test`.
    seed : int
        Seed of the whole data set.
    surfaces : tuple of int
        Numbers of the surfaces, from 1.

    Raises
    ------
    ValueError
        A value is outside its range.
    """

    size: int = 512
    normals: int = 100
    defects: int = 50
    seed: int = 0
    surfaces: tuple[int, ...] = tuple(range(1, len(NAMES) + 1))

    def __post_init__(self) -> None:
        for name, least in (("size", MIN_SIZE), ("normals", 2), ("defects", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Invalid {name}: expected at least {least}. Received: {name}={getattr(self, name)}"
                )
        wanted = set(self.surfaces)
        if not wanted or len(wanted) < len(self.surfaces) or not wanted <= set(range(1, len(NAMES) + 1)):
            raise ValueError(
                f"Invalid surfaces: expected different numbers from 1 to {len(NAMES)}. "
                f"Received: surfaces={','.join(map(str, self.surfaces))}"
            )

    @property
    def name(self) -> str:
        """Name of the TFDS configuration. It contains all settings, so that it is unique."""
        if self == Plan():
            return DEFAULT_NAME
        which = "all" if self.surfaces == Plan().surfaces else "-".join(map(str, self.surfaces))
        return f"size{self.size}_normals{self.normals}_defects{self.defects}_surfaces{which}_seed{self.seed}"

    def split(self, split: str) -> Iterator[Rendered]:
        """Yield the images of `train` or `test`, surface by surface."""
        half = (self.normals + 1) // 2
        normals = range(half) if split == "train" else range(half, self.normals)
        defects = () if split == "train" else range(self.defects)
        for surface in self.surfaces:
            stem = f"{NAMES[surface - 1]}/{split}"
            yield from (Rendered(f"{stem}/normal_{i:04d}.png", surface, i, False) for i in normals)
            yield from (Rendered(f"{stem}/defect_{i:04d}.png", surface, i, True) for i in defects)
