"""Episodes for training: crops of one surface, some of them with a synthetic defect.

An episode is a small version of the task of an inspector (episodic training: Vinyals et al., 2016): a few
good crops to fit a density to, other good crops that must be near it, and defective crops that must be far
from it.
"""

from collections.abc import Sequence

import numpy as np

from metricad.errors import DataError
from metricad.synthetic import defects, textures

SIDE = 128
"""Height and width of a crop, in pixels."""

SUPPORT, GOOD, DEFECTIVE = 3, 2, 3
"""Numbers of crops in an episode, in order: for fitting the density, good ones to judge, defective ones."""

CROPS = SUPPORT + GOOD + DEFECTIVE


def cut(images: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Cut the crops of an episode from images of one surface; they do not overlap if there is enough space.

    Parameters
    ----------
    images : sequence of float32 (H, W) in [-1, 1]
        Height and width of at least `SIDE`.
    rng : numpy.random.Generator

    Returns
    -------
    float32 (CROPS, SIDE, SIDE)
    """
    rooms = [
        (image, row, column)
        for image in images
        for row in range(image.shape[0] // SIDE)
        for column in range(image.shape[1] // SIDE)
    ]
    if not rooms:
        raise DataError(f"images smaller than {SIDE}×{SIDE} pixels; expected at least one of that size")
    chosen = rng.choice(len(rooms), CROPS, replace=len(rooms) < CROPS)
    crops = []
    for image, row, column in (rooms[k] for k in chosen):
        slack = [side % SIDE for side in image.shape]
        top, left = (
            int(n) * SIDE + int(rng.integers(s + 1)) for n, s in zip((row, column), slack, strict=True)
        )
        crops.append(image[top : top + SIDE, left : left + SIDE])
    return np.stack(crops)


def relight(crops: np.ndarray, rng: np.random.Generator, *, amount: float) -> np.ndarray:
    """Change the light on each crop slightly: contrast, brightness, gradient and sensor noise.

    Slightly different light is no defect, and it occurs in all kinds of crops. More than slight changes do
    harm: a network that tolerates any light loses the darkness of pores (results/experiments.md).

    Parameters
    ----------
    crops : float32 (n, h, w) in [-1, 1]
    rng : numpy.random.Generator
    amount : float
        0 changes nothing. At 1 the contrast typically changes by 15 % and the brightness by 6 % of its range.

    Returns
    -------
    float32 (n, h, w) in [-1, 1]
    """
    count, height, width = crops.shape
    one_each = (count, 1, 1)
    contrast = np.exp(amount * rng.normal(0, 0.15, one_each))
    brightness = amount * rng.normal(0, 0.12, one_each)
    direction = rng.uniform(0, 2 * np.pi, one_each)
    slope = amount * rng.exponential(0.08, one_each)
    y = np.linspace(-1, 1, height)[None, :, None]
    x = np.linspace(-1, 1, width)[None, None, :]
    lit = crops * contrast + brightness + slope * (np.cos(direction) * x + np.sin(direction) * y)
    noise = rng.standard_normal(crops.shape) * rng.exponential(0.01, one_each) * amount
    return np.clip(lit + noise, -1, 1).astype(np.float32)


def spoil(crops: np.ndarray, rng: np.random.Generator, *, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add a synthetic defect to each of the last crops.

    Parameters
    ----------
    crops : float32 (CROPS, SIDE, SIDE) in [-1, 1]
    rng : numpy.random.Generator
    other : float32 (H, W) in [-1, 1]
        Image of another surface for foreign bodies. In half of all cases it is matched to the crop's mean and
        contrast, so that only texture differs.

    Returns
    -------
    crops : float32 (CROPS, SIDE, SIDE), a copy
    masks : bool (DEFECTIVE, SIDE, SIDE)
    """
    crops = crops.copy()
    masks = np.zeros((DEFECTIVE, *crops.shape[1:]), bool)
    for k in range(DEFECTIVE):
        crop = crops[SUPPORT + GOOD + k]
        matter = textures.matched(other, crop) if rng.random() < 0.5 else other
        crops[SUPPORT + GOOD + k], masks[k], _ = defects.add_any(crop, rng, other=matter)
    return crops, masks
