"""Ten synthetic textured surfaces, good and defective, each defect with its exact mask.

They are modelled on what makes the ten classes of DAGM 2007 (synthetic, 512 × 512, gray) different from
each other, not on their pixels: nothing is downloaded and no image is stored. An image follows from its
numbers alone:

    image, mask = render(3, 17, defect=True)  # surface 3, image 17
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from scipy.ndimage import distance_transform_edt, label

from data_prep.surfaces import grains, patterns

# Surface 1 to 10. A painter takes the surface's generator, the size and the defect's generator or None.
_PAINTERS: tuple[Callable[[Generator, int, Generator | None], np.ndarray], ...] = (
    patterns.woven_grid,
    grains.brushed_metal,
    grains.soft_fabric,
    patterns.starburst,
    grains.fine_noise,
    grains.binary_noise,
    patterns.plain_weave,
    grains.cast_metal,
    grains.wood,
    patterns.printed_dots,
)
NAMES: tuple[str, ...] = tuple(painter.__name__ for painter in _PAINTERS)
MIN_SIZE = 64

# A defect is what differs from the good twin by at least this many gray levels; what differs by less is
# taken back. Changed pixels this near to each other (px) are one region, with the pixels between them.
VISIBLE = 6
REACH = 4
_MIN_PIXELS = 24
_ATTEMPTS = 20


def render(
    surface: int, index: int, *, seed: int = 0, size: int = 512, defect: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Render one image of a surface and its defect mask.

    Parameters
    ----------
    surface : int
        Which surface, counted from 1; `NAMES[surface - 1]` is its name.
    index : int
        Which image of that surface, from 0. Normal and defective images with one index are unrelated.
    seed : int
        Seed of the whole data set, from 0.
    size : int
        Side in pixels, at least 64. A larger image shows more of the surface at the same scale; only
        the starburst (surface 4) grows with it.
    defect : bool
        Whether the surface has a defect.

    Returns
    -------
    image : uint8 (size, size)
        Gray levels.
    mask : bool (size, size)
        The defect: pixels that it changes by at least `VISIBLE` gray levels, with the narrow gaps
        and the holes between them. Outside of it the image equals its defect-free twin exactly. All False in
        a normal image, never so in a defective one.

    Raises
    ------
    ValueError
        For a surface, index, seed or size out of its range.
    """
    _check("surface", surface, least=1, most=len(NAMES))
    _check("index", index, least=0)
    _check("seed", seed, least=0)
    _check("size", size, least=MIN_SIZE)
    if not defect:
        return _good(surface, index, seed=seed, size=size, defect=False), np.zeros((size, size), dtype=bool)
    _, marred, mask = _twins(surface, index, seed=seed, size=size)
    return marred, mask


def _good(surface: int, index: int, *, seed: int, size: int, defect: bool) -> np.ndarray:
    """Return a normal image, or the defect-free twin of a defective one."""
    base, _ = SeedSequence([seed, surface, index, int(defect)]).spawn(2)
    return _to_uint8(_PAINTERS[surface - 1](default_rng(base), size, None))


def _twins(surface: int, index: int, *, seed: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the defect-free twin of a defective image, the defective image, and the mask between them."""
    base, flaw = SeedSequence([seed, surface, index, 1]).spawn(2)
    good = _good(surface, index, seed=seed, size=size, defect=True)
    for attempt in flaw.spawn(_ATTEMPTS):  # a defect may fall where it hardly shows; then draw another
        marred = _to_uint8(_PAINTERS[surface - 1](default_rng(base), size, default_rng(attempt)))
        mask = _region(np.abs(marred.astype(np.int16) - good) >= VISIBLE)
        if mask.sum() >= _MIN_PIXELS:
            return good, np.where(mask, marred, good), mask
    raise RuntimeError(
        f"No visible defect in {_ATTEMPTS} attempts: surface={surface}, index={index}, seed={seed}"
    )


def _region(changed: np.ndarray) -> np.ndarray:
    """Close gaps and holes between changed pixels: a textured defect leaves some as they were by chance."""
    region = changed.copy()
    if not changed.any():
        return region
    rows, columns = np.nonzero(changed)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    margin = REACH + 1  # padded by False, so that the border neither adds nor takes
    near = distance_transform_edt(np.pad(~changed[box], margin, constant_values=True)) <= REACH
    outside, _ = label(distance_transform_edt(near) <= REACH)
    region[box] = (outside != outside[0, 0])[margin:-margin, margin:-margin]
    return region


def _to_uint8(gray: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(gray), 0, 255).astype(np.uint8)


def _check(name: str, value: int, *, least: int, most: int | None = None) -> None:
    wanted = f"an integer from {least}" + ("" if most is None else f" to {most}")
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or value < least or (most is not None and value > most):
        raise ValueError(f"Invalid {name}: expected {wanted}. Received: {name}={value!r}")
