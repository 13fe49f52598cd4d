"""Draw triplets from sources of textures and objects (the paper, sections 2.3 to 2.6)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metricad.data import datasets, images, patches
from metricad.data.datasets import Surface
from metricad.errors import DataError


@dataclass(frozen=True)
class Source:
    """Classes of textures or of objects, prepared for drawing triplets.

    Attributes
    ----------
    name : str
    classes : dict of str to list of uint8 (n, side, side)
        Images of each class at every level of the pyramid; for objects one level of 32×32.
    is_object : bool
        Objects are used whole and never get noise; textures are cropped and augmented.
    """

    name: str
    classes: dict[str, list[np.ndarray]]
    is_object: bool

    @property
    def image_count(self) -> int:
        """Number of images in all classes."""
        return sum(len(stacks[0]) for stacks in self.classes.values())


def prepare(
    name: str,
    classes: Mapping[str, Iterable[np.ndarray]],
    *,
    sides: Sequence[int] = patches.PYRAMID,
    enlarges: bool = True,
) -> Source:
    """Scale the images of a source once, so that drawing triplets only needs crops.

    If all images are 32×32, the source holds objects, which are kept unchanged. All other images are
    textures, which become pyramids of squares with the given `sides`.

    Parameters
    ----------
    name : str
    classes : mapping of str to iterable of float32 (H, W) in [-1, 1]
    sides : sequence of int
        Sides of the pyramid in pixels.
    enlarges : bool
        Also resize a class to sides above the shorter one of its smallest image, which blurs it. If not, such
        a class has fewer sides, but at least the smallest one.

    Raises
    ------
    DataError
        There is no class, a class has fewer than two images, a source has both objects and textures, or there
        is only one class of objects.
    """
    stacks: dict[str, list[np.ndarray]] = {}
    kinds = set()
    for label, members in classes.items():
        levels = []
        shortest = max(sides)
        for image in members:
            is_object = image.shape == (patches.PATCH_SIZE, patches.PATCH_SIZE)
            kinds.add(is_object)
            levels.append([images.to_uint8(image)] if is_object else patches.pyramid(image, sides))
            shortest = min(shortest, *image.shape)
        if len(levels) < 2:
            raise DataError(
                f"{name}: class {label} has {len(levels)} image(s); a triplet needs two of the same class: "
                "add images or leave the class out"
            )
        if len(kinds) > 1:
            raise DataError(f"{name}: 32×32 images (objects) beside larger ones (textures); make two sources")
        stacks[label] = [np.stack(level) for level in zip(*levels, strict=True)]
        if not enlarges:
            stacks[label] = [one for one in stacks[label] if one.shape[1] <= shortest] or stacks[label][-1:]
    if not stacks:
        raise DataError(f"{name}: no classes; expected one folder of images for each class")
    is_object = kinds.pop()
    if is_object and len(stacks) < 2:
        raise DataError(f"{name}: one class of objects; a negative needs another class")
    return Source(name, stacks, is_object)


def sample(
    sources: Sequence[Source],
    count: int,
    *,
    rng: np.random.Generator,
    mix: Sequence[float] | None = None,
    noise_share: float,
    noise_side: tuple[int, int],
    noise_strength: tuple[float, float],
    noise_is_relative: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw triplets: two patches of one class, and one that does not belong to it.

    For a texture, all three are cropped at the same position of the same pyramid level (of the nearest one
    that the negative's class has, if it is not enlarged). The negative is a patch of another texture class,
    or one of a third image of the anchor's class (if it has three) with a noise patch. Objects are used
    whole; their negative is an object of another class.

    Parameters
    ----------
    sources : sequence of Source
    count : int
        Number of triplets.
    rng : numpy.random.Generator
    mix : sequence of float, optional
        Relative share of triplets whose anchor comes from each source; equal by default.
    noise_share : float in [0, 1]
        Share of texture triplets whose negative gets a noise patch. With a single texture class this is true
        for all of them, because there is no other class.
    noise_side, noise_strength, noise_is_relative
        See `patches.add_noise_patches`.

    Returns
    -------
    anchor, positive, negative : float32 (count, 32, 32, 1) in [-1, 1]
    """
    chances = shares(mix, len(sources))
    pools = {
        kind: [stacks for source in sources if source.is_object == kind for stacks in source.classes.values()]
        for kind in (False, True)
    }
    # Index of each source's first class in the pool of its kind; a negative may come from any source.
    first, filled = [], {False: 0, True: 0}
    for source in sources:
        first.append(filled[source.is_object])
        filled[source.is_object] += len(source.classes)

    triplets = np.empty((3, count, patches.PATCH_SIZE, patches.PATCH_SIZE), np.uint8)
    corrupted = np.zeros(count, bool)
    for k, chosen in enumerate(rng.choice(len(sources), size=count, p=chances)):
        source = sources[chosen]
        pool = pools[source.is_object]
        own = first[chosen] + int(rng.integers(len(source.classes)))
        level = int(rng.integers(len(pool[own])))
        stack = pool[own][level]
        anchor, positive = rng.choice(len(stack), size=2, replace=False)
        row, column = rng.integers(stack.shape[1] - patches.PATCH_SIZE + 1, size=2)
        corrupted[k] = not source.is_object and (len(pool) == 1 or rng.random() < noise_share)
        other = stack
        if not corrupted[k]:
            other = _nearest(pool[(own + int(rng.integers(1, len(pool)))) % len(pool)], stack.shape[1])
        last = other.shape[1] - patches.PATCH_SIZE
        triplets[0, k] = patches.crop(stack, anchor, row, column)
        triplets[1, k] = patches.crop(stack, positive, row, column)
        taken = sorted((int(anchor), int(positive))) if corrupted[k] and len(other) > 2 else []
        third = int(rng.integers(len(other) - len(taken)))
        for used in taken:  # the negative is another image, if the class has a third one
            third += third >= used
        triplets[2, k] = patches.crop(other, third, min(row, last), min(column, last))
    anchor, positive, negative = images.from_uint8(triplets)
    negative[corrupted] = patches.add_noise_patches(
        negative[corrupted], side=noise_side, strength=noise_strength, is_relative=noise_is_relative, rng=rng
    )
    return anchor[..., np.newaxis], positive[..., np.newaxis], negative[..., np.newaxis]


def _nearest(levels: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Return the level whose side is nearest to this one."""
    return min(levels, key=lambda level: abs(level.shape[1] - side))


def shares(mix: Sequence[float] | None, count: int) -> np.ndarray:
    """Compute the share of each of `count` sources, with sum 1; equal if `mix` is None."""
    weights = np.ones(count) if mix is None else np.asarray(mix, float)
    if len(weights) != count or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(f"mix must hold {count} shares of 0 or more, one for each source, received {mix}")
    return weights / weights.sum()


def from_surfaces(
    surfaces: Sequence[Surface], *, sides: Sequence[int] = patches.PYRAMID, enlarges: bool = True
) -> Source:
    """Read the good images of a data set for training; see `prepare`."""
    classes = {surface.name: datasets.read_all(surface.fit) for surface in surfaces}
    return prepare(surfaces[0].dataset, classes, sides=sides, enlarges=enlarges)
