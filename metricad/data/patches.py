"""Patches of surfaces: image pyramid, crops, and noise patches.

See the paper, sections 2.5 (patches of 32×32 at random positions) and 2.6 (augmentation).
"""

import itertools
from collections.abc import Sequence

import numpy as np

from metricad.data import images

PATCH_SIZE = 32
PYRAMID = (512, 256, 128, 64)


def pyramid(image: np.ndarray, sides: Sequence[int] = PYRAMID) -> list[np.ndarray]:
    """Resize an image to squares of the given sides (the paper, section 2.6).

    Parameters
    ----------
    image : float32 (H, W) in [-1, 1]
    sides : sequence of int
        Sides in pixels, in descending order; each level is made from the previous one.

    Returns
    -------
    list of uint8 (side, side)
        8-bit levels. They need a quarter of the memory of float32, because all images of a large data set are
        kept.
    """
    if any(small >= large for large, small in itertools.pairwise(sides)):
        raise ValueError(f"sides must be in descending order, received {tuple(sides)}")
    levels = []
    for side in sides:
        image = images.resize(image, (side, side))
        levels.append(images.to_uint8(image))
    return levels


def crop(stack: np.ndarray, index: int, row: int, column: int) -> np.ndarray:
    """Cut the 32×32 patch with this upper left pixel from one image of a stack (n, H, W)."""
    return stack[index, row : row + PATCH_SIZE, column : column + PATCH_SIZE]


def add_noise_patches(
    patches: np.ndarray,
    *,
    side: tuple[int, int],
    strength: tuple[float, float],
    is_relative: bool = False,
    rng: np.random.Generator,
) -> np.ndarray:
    """Replace a random rectangle of each patch by Gaussian noise (the paper, section 2.6).

    The mean of the noise is the mean of the rectangle, so that brightness alone does not reveal it.

    Parameters
    ----------
    patches : float32 (k, 32, 32) in [-1, 1]
    side : (int, int)
        Smallest and largest height and width of the rectangle, in pixels.
    strength : (float, float)
        Smallest and largest standard deviation of the noise, in units of the patches. It is drawn uniformly
        for each patch.
    is_relative : bool
        Multiply the strength by the standard deviation of the patch itself. Noise that is weaker than the
        texture cannot be told from it.
    rng : numpy.random.Generator

    Returns
    -------
    float32 (k, 32, 32) in [-1, 1], a copy
    """
    smallest, largest = side
    height, width = rng.integers(smallest, largest + 1, size=(2, len(patches)))
    top = rng.integers(0, patches.shape[1] - height + 1)
    left = rng.integers(0, patches.shape[2] - width + 1)
    rows = np.arange(patches.shape[1])
    columns = np.arange(patches.shape[2])
    inside_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    mean = (patches * inside).sum(axis=(1, 2)) / (height * width)
    deviation = rng.uniform(*strength, size=(len(patches), 1, 1)).astype(np.float32)
    if is_relative:
        deviation *= patches.std(axis=(1, 2), keepdims=True)
    noise = rng.standard_normal(patches.shape, dtype=np.float32) * deviation
    noisy = np.clip(mean[:, None, None].astype(np.float32) + noise, -1, 1)
    return np.where(inside, noisy, patches)
