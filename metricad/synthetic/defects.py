"""Add synthetic defects to good images, each with its exact mask.

They replace real defects where there are none: as negatives to train a network (CutPaste: Li et al., 2021;
blends with another texture: DRAEM, Zavrtanik et al., 2021), to choose a score on held-out images, and to
measure which sizes and contrasts are detected.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from metricad.data.channels import to_luminance
from metricad.synthetic import DefectKind
from metricad.synthetic.shapes import blob, place, stroke

VISIBLE = 0.03
"""Smallest change of a pixel that counts as part of the defect, in images from -1 to 1: 4 gray levels."""

_ATTEMPTS = 10
_ATTEMPTS_INSIDE = 100  # more, because a part may cover little of its image
_FEWEST_PIXELS = 4


def add(
    image: np.ndarray,
    *,
    kind: str,
    size: float,
    contrast: float,
    rng: np.random.Generator,
    other: np.ndarray | None = None,
    inside: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Add one synthetic defect of a kind to a good image.

    Parameters
    ----------
    image : float32 (H, W) in [-1, 1]
    kind : str
        One of `KINDS`.
    size : float
        Size in pixels: the width of a scratch, crack or gap, which is many times longer; the diameter of all
        other kinds.
    contrast : float in (0, 1]
        For scratches, cracks, spots and stains the change of gray as a share of the range from black to
        white. For all others how far the surface is replaced.
    rng : numpy.random.Generator
    other : float32 (H', W') in [-1, 1], optional
        Image of another surface for a foreign body; by default the image itself, flipped and inverted.
    inside : bool (H, W), optional
        Region of interest: at least half of the defect lies inside.

    Returns
    -------
    defective : float32 (H, W) in [-1, 1], a copy
        Outside the mask it equals the image, except for the faint rim of the defect.
    mask : bool (H, W)
        Pixels changed by `VISIBLE` or more. All False if the surface cannot show such a defect (for example,
        blur of an even surface), or if no position inside was found.

    Raises
    ------
    ValueError
        The kind is unknown, or size or contrast lie outside their range.

    Examples
    --------
    >>> good = np.zeros((96, 96), np.float32)
    >>> defective, mask = add(good, kind="spots", size=6, contrast=0.4, rng=np.random.default_rng(0))
    >>> bool(mask.any()), bool(np.abs(defective[~mask] - good[~mask]).max() < VISIBLE)
    (True, True)
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, received {kind!r}")
    if not size > 0 or not 0 < contrast <= 1:
        raise ValueError(f"size must be above 0 and contrast in (0, 1], received {size} and {contrast}")
    if image.ndim == 3:  # all channels change by the same amount
        light = to_luminance(image)
        changed, mask = add(
            light, kind=kind, size=size, contrast=contrast, rng=rng, other=other, inside=inside
        )
        return np.clip(image + (changed - light)[..., np.newaxis], -1, 1).astype(np.float32), mask
    for _ in range(_ATTEMPTS if inside is None else _ATTEMPTS_INSIDE):
        changed = np.clip(KINDS[kind](image, size, contrast, rng, other), -1, 1).astype(np.float32)
        mask = np.abs(changed - image) >= VISIBLE
        is_inside = inside is None or 2 * np.sum(mask & inside) >= np.sum(mask)
        if mask.sum() >= _FEWEST_PIXELS and is_inside:
            return changed, mask
    return image.copy(), np.zeros(image.shape, bool)


def add_any(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    other: np.ndarray | None = None,
    inside: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Add one defect of random kind, size and contrast; sizes and contrasts are drawn on a logarithmic scale.

    Parameters
    ----------
    image : float32 (H, W) in [-1, 1]
    rng : numpy.random.Generator
    other : float32 (H', W') in [-1, 1], optional
    inside : bool (H, W), optional
        See `add`.

    Returns
    -------
    defective : float32 (H, W) in [-1, 1], a copy
    mask : bool (H, W)
        Not empty, unless no kind is visible on this surface.
    kind : str
        One of `KINDS`.
    """
    side = min(image.shape[:2])
    for _ in range(_ATTEMPTS):
        kind = str(rng.choice(list(KINDS)))
        low, high = _SIZES[kind]
        size = np.exp(rng.uniform(np.log(low), np.log(max(low, min(high, 0.5 * side)))))
        low, high = _CONTRASTS[kind]
        contrast = np.exp(rng.uniform(np.log(low), np.log(high)))
        changed, mask = add(
            image, kind=kind, size=size, contrast=contrast, rng=rng, other=other, inside=inside
        )
        if mask.any():
            break
    return changed, mask, kind


def _scratch(
    image: np.ndarray, size: float, contrast: float, rng: np.random.Generator, other: np.ndarray | None
) -> np.ndarray:
    return image + _shade(contrast, rng) * stroke(image.shape, size, rng, jitter=0.0)


def _crack(
    image: np.ndarray, size: float, contrast: float, rng: np.random.Generator, other: np.ndarray | None
) -> np.ndarray:
    return image - 2 * contrast * stroke(image.shape, size, rng, jitter=0.25)


def _spots(
    image: np.ndarray, size: float, contrast: float, rng: np.random.Generator, other: np.ndarray | None
) -> np.ndarray:
    shade = _shade(contrast, rng)
    spots = np.zeros(image.shape, np.float32)
    at = place(image.shape, rng)
    for _ in range(rng.integers(1, 5)):
        spots = np.maximum(spots, blob(image.shape, size, rng, at=at, soft=0.3, lobes=0.1))
        at = at + rng.normal(0, 2.5 * size, 2)
    return image + shade * spots


def _stain(
    image: np.ndarray, size: float, contrast: float, rng: np.random.Generator, other: np.ndarray | None
) -> np.ndarray:
    return image + _shade(contrast, rng) * blob(image.shape, size, rng, soft=rng.uniform(0.1, 1.2))


def _paste(
    image: np.ndarray, size: float, contrast: float, rng: np.random.Generator, other: np.ndarray | None
) -> np.ndarray:
    weight = contrast * blob(image.shape, size, rng, soft=rng.choice([0.05, 0.5]))
    turned = np.rot90(image, int(rng.integers(4))) if image.shape[0] == image.shape[1] else image[::-1, ::-1]
    shift = [rng.integers(side // 4, 3 * side // 4 + 1) for side in image.shape]
    return image + weight * (np.roll(turned, shift, axis=(0, 1)) - image)


def _foreign(
    image: np.ndarray, size: float, contrast: float, rng: np.random.Generator, other: np.ndarray | None
) -> np.ndarray:
    weight = contrast * blob(image.shape, size, rng, soft=rng.choice([0.05, 0.5]))
    if other is None:
        body = -np.roll(image[::-1], rng.integers(image.shape[1]), axis=1)
    else:
        rows, columns = (np.resize(np.arange(s), t) for s, t in zip(other.shape, image.shape, strict=True))
        body = other[np.ix_(rows, columns)]
    return image + weight * (body - image)


def _blur(
    image: np.ndarray, size: float, contrast: float, rng: np.random.Generator, other: np.ndarray | None
) -> np.ndarray:
    weight = contrast * blob(image.shape, size, rng, soft=0.5)
    width = rng.uniform(1, 4)
    return image + weight * (gaussian_filter(image, [width, width * rng.uniform(0.2, 1)]) - image)


def _noise(
    image: np.ndarray, size: float, contrast: float, rng: np.random.Generator, other: np.ndarray | None
) -> np.ndarray:
    weight = contrast * blob(image.shape, size, rng, soft=0.5)
    grain = gaussian_filter(rng.standard_normal(image.shape, np.float32), width := rng.uniform(0.3, 2))
    return image + 0.5 * weight * grain * max(1.0, 3.5 * width) * rng.uniform(0.3, 1)


def _warp(
    image: np.ndarray, size: float, contrast: float, rng: np.random.Generator, other: np.ndarray | None
) -> np.ndarray:
    weight = contrast * blob(image.shape, size, rng, soft=0.8)
    rows, columns = np.indices(image.shape, np.float32)
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        far = rng.uniform(2, 6)
        moved = [rows + weight * far * np.sin(angle), columns + weight * far * np.cos(angle)]
    else:
        center = [(weight * axis).sum() / max(weight.sum(), 1e-6) for axis in (rows, columns)]
        turn = weight * rng.choice([-1, 1]) * rng.uniform(0.3, 1.5)
        y, x = rows - center[0], columns - center[1]
        moved = [
            center[0] + y * np.cos(turn) - x * np.sin(turn),
            center[1] + y * np.sin(turn) + x * np.cos(turn),
        ]
    return map_coordinates(image, moved, order=1, mode="reflect")


def _gap(
    image: np.ndarray, size: float, contrast: float, rng: np.random.Generator, other: np.ndarray | None
) -> np.ndarray:
    """Draw a gap: a strip along rows or columns, like a missing thread, becomes even."""
    turned = image.T if (is_turned := rng.random() < 0.5) else image
    height, width = turned.shape
    length = min(int(rng.uniform(4, 20) * size) + 4, width)
    row = rng.uniform(0, height)
    first = rng.integers(0, width - length + 1)
    across = np.clip((size / 2 - np.abs(np.arange(height) - row)) + 0.5, 0, 1)
    along = np.clip(np.minimum(np.arange(width) - first, first + length - np.arange(width)) / 2, 0, 1)
    weight = contrast * across[:, None] * along[None, :]
    even = (
        np.quantile(turned, rng.uniform()) if rng.random() < 0.7 else gaussian_filter(turned, (0, 2 * size))
    )
    changed = turned + weight * (even - turned)
    return changed.T if is_turned else changed


KINDS: dict[str, Callable[..., np.ndarray]] = {
    kind.value: draw
    for kind, draw in zip(
        DefectKind,
        (_scratch, _crack, _spots, _stain, _paste, _foreign, _blur, _noise, _warp, _gap),
        strict=True,
    )
}
"""Functions that draw the kinds of defects, by name."""

_SIZES: dict[str, tuple[float, float]] = {
    "scratch": (1, 5),
    "crack": (1, 5),
    "spots": (2, 8),
    "stain": (6, 64),
    "paste": (8, 64),
    "foreign": (6, 64),
    "blur": (10, 64),
    "noise": (6, 48),
    "warp": (10, 64),
    "gap": (2, 10),
}
_CONTRASTS = {
    "scratch": (0.06, 0.5),
    "crack": (0.06, 0.5),
    "spots": (0.1, 0.7),
    "stain": (0.05, 0.5),
    "paste": (0.5, 1),
    "foreign": (0.3, 1),
    "blur": (0.6, 1),
    "noise": (0.2, 1),
    "warp": (0.5, 1),
    "gap": (0.4, 1),
}


def _shade(contrast: float, rng: np.random.Generator) -> float:
    return float(2 * contrast * rng.choice([-1, 1]))  # the range from black to white is 2
