"""Episodes to train on: crops of one surface, some of them with a synthetic defect.

An episode is the task of an inspector in little (episodic training: Vinyals et al., 2016): a few good crops
to make a prototype from, other good crops that must lie near it, and defective ones that must lie far.
"""

from collections.abc import Sequence

import numpy as np

from metricad import defects, textures
from metricad.errors import DataError

SIDE = 128
"""Height and width of a crop, in pixels."""

SUPPORT, GOOD, DEFECTIVE = 3, 2, 3
"""Crops of an episode, in their order: to make the prototype from, good ones to judge, defective ones."""

CROPS = SUPPORT + GOOD + DEFECTIVE

# Defects that drown in the texture teach nothing and would be most of all: the change is asked to reach a
# share, drawn anew each time, of the crop's own standard deviation.
_CLEAREST = 0.6
_ATTEMPTS = 4


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
    """Change the light on each crop: brighter or darker, stronger on one side, and the sensor's noise.

    Light multiplies; that a part is lit otherwise is no defect, and is the same in all three kinds of crops.

    Parameters
    ----------
    crops : float32 (n, h, w) in [-1, 1]
    rng : numpy.random.Generator
    amount : float
        0 changes nothing; 1 changes the light by a third or so, as a rule.

    Returns
    -------
    float32 (n, h, w) in [-1, 1]
    """
    count, height, width = crops.shape
    one_each = (count, 1, 1)
    direction = rng.uniform(0, 2 * np.pi, one_each)
    slope = rng.exponential(0.25, one_each)
    y = np.linspace(-1, 1, height)[None, :, None]
    x = np.linspace(-1, 1, width)[None, None, :]
    gain = rng.normal(0, 0.35, one_each) + slope * (np.cos(direction) * x + np.sin(direction) * y)
    light = (crops + 1) / 2 * np.exp(amount * gain)
    light /= np.maximum(1, np.quantile(light, 0.97, axis=(1, 2), keepdims=True))  # an exposure that fits
    noise = rng.standard_normal(crops.shape) * rng.exponential(0.01, one_each) * amount
    return np.clip(2 * light - 1 + noise, -1, 1).astype(np.float32)


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
    standard = (other - other.mean()) / max(other.std(), 0.02)
    for k in range(DEFECTIVE):
        crop = crops[SUPPORT + GOOD + k].copy()
        matter = standard * crop.std() + crop.mean() if rng.random() < 0.5 else other
        least = rng.uniform(0, _CLEAREST) * crop.std()
        for _ in range(_ATTEMPTS):
            spoiled, mask, _ = defects.add_any(crop, rng, other=matter.astype(np.float32))
            if mask.any() and np.abs(spoiled - crop)[mask].mean() >= least:
                break
        crops[SUPPORT + GOOD + k], masks[k] = spoiled, mask
    return crops, masks


def of_part(
    images: Sequence[np.ndarray], count: int, *, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw episodes from the good images of one part, to adapt a network to it.

    Parameters
    ----------
    images : sequence of float32 (H, W) in [-1, 1]
        Smaller ones are mirrored at their edges up to `SIDE`.
    count : int
    rng : numpy.random.Generator

    Returns
    -------
    crops : float32 (count, CROPS, SIDE, SIDE) in [-1, 1]
    masks : bool (count, DEFECTIVE, SIDE, SIDE)
    """
    padded = [
        np.pad(image, [(0, max(0, SIDE - side)) for side in image.shape], mode="symmetric")
        for image in images
    ]
    crops = np.empty((count, CROPS, SIDE, SIDE), np.float32)
    masks = np.empty((count, DEFECTIVE, SIDE, SIDE), bool)
    for k in range(count):
        chosen = rng.choice(len(padded), CROPS, replace=len(padded) < CROPS)
        cut_out = np.stack([_anywhere(padded[i], rng) for i in chosen])
        lit = relight(cut_out, rng, amount=float(rng.choice([0, 0.2])))
        crops[k], masks[k] = spoil(lit, rng, other=textures.random_texture(rng, SIDE))
    return crops, masks


def _anywhere(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    top, left = (rng.integers(side - SIDE + 1) for side in image.shape)
    return image[top : top + SIDE, left : left + SIDE]
