"""Ten synthetic textured surfaces, good and defective, each defect with its exact mask.

They imitate the features that distinguish the ten classes of DAGM 2007 (synthetic, 512 × 512, gray), not
their pixels. Nothing is downloaded, and no image is stored. An image is determined by its numbers:

    image, mask = render(3, 17, defect=True)  # surface 3, image 17
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from scipy.ndimage import distance_transform_edt, label

from data_prep.surfaces import grains, patterns

# Surfaces 1 to 10. A painter takes the generator of the surface, the size, and the generator of the defect or
# None.
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

# A defect is where the image differs from the good one by at least this many gray levels; smaller differences
# are removed. Changed pixels within this distance (px) form one region with the pixels between them.
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
        Number of the surface from 1; `NAMES[surface - 1]` is its name.
    index : int
        Number of the image from 0. Good and defective images with the same number are unrelated.
    seed : int
        Seed of the whole data set, from 0.
    size : int
        Side in pixels, at least 64. A larger image shows more of the surface at the same scale; only the
        starburst (surface 4) is scaled.
    defect : bool
        Whether the surface has a defect.

    Returns
    -------
    image : uint8 (size, size)
        Gray levels.
    mask : bool (size, size)
        Pixels that the defect changes by at least `VISIBLE` gray levels, with narrow gaps and holes between
        them. Outside the mask the image equals the good one exactly. All False for a good image, never for a
        defective one.

    Raises
    ------
    ValueError
        A surface, index, seed or size is outside its range.
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
    """Render a good image, or the good version of a defective image."""
    base, _ = SeedSequence([seed, surface, index, int(defect)]).spawn(2)
    return _to_uint8(_PAINTERS[surface - 1](default_rng(base), size, None))


def _twins(surface: int, index: int, *, seed: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render the good version of a defective image, the defective image, and the mask."""
    base, flaw = SeedSequence([seed, surface, index, 1]).spawn(2)
    good = _good(surface, index, seed=seed, size=size, defect=True)
    for attempt in flaw.spawn(_ATTEMPTS):  # a defect may be hardly visible at its position; then draw another
        marred = _to_uint8(_PAINTERS[surface - 1](default_rng(base), size, default_rng(attempt)))
        mask = _region(np.abs(marred.astype(np.int16) - good) >= VISIBLE)
        if mask.sum() >= _MIN_PIXELS:
            return good, np.where(mask, marred, good), mask
    raise RuntimeError(
        f"No visible defect in {_ATTEMPTS} attempts: surface={surface}, index={index}, seed={seed}"
    )


def _region(changed: np.ndarray) -> np.ndarray:
    """Close gaps and holes between changed pixels, which occur by chance in textured defects."""
    region = changed.copy()
    if not changed.any():
        return region
    rows, columns = np.nonzero(changed)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    margin = REACH + 1  # padding with False, so that the border has no effect
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
