"""Episodes to train on: crops of one surface, some of them with a synthetic defect.

An episode is the task of an inspector in little (episodic training: Vinyals et al., 2016): a few good crops
to fit a density to, other good crops that must lie near it, and defective ones that must lie far.
"""

from collections.abc import Sequence

import numpy as np

from metricad.errors import DataError
from metricad.synthetic import defects, textures

SIDE = 128
"""Height and width of a crop, in pixels."""

SUPPORT, GOOD, DEFECTIVE = 3, 2, 3
"""Crops of an episode, in their order: to fit the density to, good ones to judge, defective ones."""

CROPS = SUPPORT + GOOD + DEFECTIVE


def cut(images: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Cut the crops of an episode from images of one surface, apart from each other where there is room.

    Parameters
    ----------
    images : sequence of float32 (H, W) in [-1, 1]
        Sides of at least `SIDE`.
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
    """Change the light on each crop a little: contrast, brightness, a slope, and the sensor's noise.

    That a part is lit a little otherwise is no defect, and is so in all kinds of crops. More than a little
    does harm: a network that is to bear any light forgets how dark a pore is (results/experiments.md).

    Parameters
    ----------
    crops : float32 (n, h, w) in [-1, 1]
    rng : numpy.random.Generator
    amount : float
        0 changes nothing; with 1 the contrast changes by 15 %, the brightness by 6 % of its range, as a rule.

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
    """Put a synthetic defect onto each of the last crops.

    Parameters
    ----------
    crops : float32 (CROPS, SIDE, SIDE) in [-1, 1]
    rng : numpy.random.Generator
    other : float32 (H, W) in [-1, 1]
        Another surface, for foreign matter: half of the time brought to the crop's mean and contrast, so that
        texture alone tells.

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
