"""Surfaces made of a pattern: woven grid, starburst, plain weave and printed dots.

Each function draws one image, (size, size) floating-point gray levels, not yet clipped to 0..255. `rng` draws
the surface and its usual variation, `flaw` the defect. Without `flaw` there is no defect. With two
generators, the same `rng` state gives the same surface with and without the defect.
"""

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter1d
from scipy.ndimage import shift as shift_by

from data_prep.surfaces.fields import blob, coordinates, drift, noise, place, smooth, step, stroke

_TURN = 2 * np.pi


def woven_grid(rng: Generator, size: int, flaw: Generator | None) -> np.ndarray:
    """Draw two fine woven grids and their moiré; the defect is a smeared blob."""
    angle, twist = rng.normal(0, 0.07), rng.choice([-1, 1]) * rng.uniform(0.02, 0.06)
    period, ratio = rng.uniform(3.6, 4.4), rng.uniform(1.02, 1.07)
    layers = []
    for turn, pitch in ((angle, period), (angle + twist, period * ratio)):
        u, v = coordinates(size, angle=turn)
        u = u + 2.0 * drift(rng, size, scale=130)
        v = v + 2.0 * drift(rng, size, scale=130)
        k = np.float32(_TURN / pitch)
        layers.append(2 + np.cos(k * u + rng.uniform(0, _TURN)) + np.cos(k * v + rng.uniform(0, _TURN)))
    exposure = rng.uniform(0.92, 1.08)
    gray = exposure * (34 + 9.5 * layers[0] * layers[1])
    gray += 8 * noise(rng, size, along=0.6)
    if flaw is not None:
        weight = flaw.uniform(0.75, 1.0) * blob(flaw, size, radius=(16, 38), softness=0.6)
        along = flaw.uniform(5, 10)
        across = along * flaw.uniform(0.25, 1.0)
        smeared = smooth(gray, along=along, across=across, angle=flaw.uniform(0, np.pi))
        gray += weight * (smeared - gray)
    return gray + 3.5 * rng.standard_normal((size, size), dtype=np.float32)


def starburst(rng: Generator, size: int, flaw: Generator | None) -> np.ndarray:
    """Draw rays from the center, the same in every image; the defect is a faint straight scratch.

    The pattern scales with the image size, unlike all other surfaces here.
    """
    gray = _rays(size) * rng.normal(1, 0.015) + rng.normal(0, 1.5)
    gray += 5 * noise(rng, size, along=0.5) + 1.5 * drift(rng, size, scale=size / 2)
    if flaw is not None:
        contrast = flaw.choice([-1, 1]) * flaw.uniform(18, 34)
        gray += contrast * stroke(flaw, size, length=(60, 180), width=(1.5, 2.6), bend=0)
    return gray


def _rays(size: int) -> np.ndarray:
    """Draw the starburst, float32 (size, size) in gray levels; it does not depend on any seed."""
    fixed = np.random.default_rng(4)  # part of the pattern's definition, independent of the images' seed
    x, y = coordinates(size)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    bins = 4096
    gray = 96 + 40 * np.exp(-radius / np.float32(0.16 * size))
    for width, strength in ((0.12, 17), (0.035, 15), (0.012, 12)):  # radians, gray levels
        table = gaussian_filter1d(fixed.standard_normal(bins), width * bins / _TURN, mode="wrap")
        table = np.append(table, table[0]) * (strength / table.std())
        rays = np.interp((angle + np.pi) * (bins / _TURN), np.arange(bins + 1), table)
        # Near the center a ray is thinner than a pixel, so it fades out to avoid aliasing.
        gray += rays * (1 - np.exp(-((width * radius / 0.9) ** 2)))
    return gray.astype(np.float32)


def plain_weave(rng: Generator, size: int, flaw: Generator | None) -> np.ndarray:
    """Draw a weave of visible threads; the defect is one thread missing, worn thin or pulled aside."""
    pitch, angle = rng.uniform(8.6, 9.4), rng.normal(0, 0.04)
    u, v = coordinates(size, angle=angle)
    u = (u + 2.0 * drift(rng, size, scale=120)) / pitch + rng.uniform(0, 2)
    v = (v + 2.0 * drift(rng, size, scale=120)) / pitch + rng.uniform(0, 2)
    first = int(size / pitch) + 4  # index 0 of the thread tables lies outside the image at any rotation
    warp_tone, weft_tone = rng.normal(1, 0.06, (2, 2 * first))
    warp_fibre = noise(rng, size, along=4, across=0.6, angle=angle + np.pi / 2)
    weft_fibre = noise(rng, size, along=4, across=0.6, angle=angle)
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    s, t = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    over = np.where((i + j) % 2 == 0, 1, -1).astype(np.float32)
    warp_lift, weft_lift = over * np.cos(np.pi * t), -over * np.cos(np.pi * s)  # of the undisturbed threads
    if flaw is not None and flaw.random() < 0.5:
        i, s = _disturb_thread(flaw, u, along=v, pitch=pitch)
    elif flaw is not None:
        j, t = _disturb_thread(flaw, v, along=u, pitch=pitch)
    warp, weft = _height(s, lift=warp_lift), _height(t, lift=weft_lift)
    warp_tone, weft_tone = warp_tone[i + first] + 0.05 * warp_fibre, weft_tone[j + first] + 0.05 * weft_fibre
    tone = np.where(warp > weft, warp_tone, weft_tone)
    gray = 40 + 82 * np.clip(np.maximum(warp, weft), 0, None) * tone
    gray += rng.uniform(3, 8) * drift(rng, size, scale=200) + 4 * noise(rng, size, along=0.5)
    return gray.astype(np.float32)


def _height(offset: np.ndarray, *, lift: np.ndarray) -> np.ndarray:
    """Compute the height of threads from the offset to their axis: about 1 at a crest, -1 outside."""
    bulge = np.sqrt(np.clip(1 - (offset / 0.46) ** 2, 0, 1))
    return np.where(bulge == 0, -1, 0.8 * bulge + 0.45 * np.clip(1.4 * lift, -1, 1))


def _disturb_thread(
    flaw: Generator, across: np.ndarray, *, along: np.ndarray, pitch: float
) -> tuple[np.ndarray, np.ndarray]:
    """Remove, thin or pull aside one thread over some length.

    `across` and `along` are coordinates in pitches. Returns the number of the thread at each pixel and the
    offset from its axis. An offset of half a pitch or more is a gap.
    """
    size = across.shape[0]
    number = np.floor(across).astype(int)
    offset = across - np.floor(across) - 0.5
    row, column = (round(x) for x in place(flaw, size, margin=20))
    half = min(flaw.uniform(70, 200), 0.7 * size) / 2 / pitch
    chosen = number[row, column]
    near = step((half - np.abs(along - along[row, column])) / 3)  # the ends fade over three threads
    missing, thin, pulled = (0.0, 1e6), (0.0, flaw.uniform(1.8, 3)), (flaw.uniform(0.5, 0.85), 1.0)
    pull, thinning = (missing, thin, pulled)[flaw.integers(3)]
    moved = (across - chosen - 0.5 - flaw.choice([-1, 1]) * pull * near) * (1 + (thinning - 1) * near)
    covers = (np.abs(moved) < 0.46) & (near > 0)
    gap = (number == chosen) & (near > 0)
    return np.where(covers, chosen, number), np.where(covers, moved, np.where(gap, 0.5, offset))


def printed_dots(rng: Generator, size: int, flaw: Generator | None) -> np.ndarray:
    """Draw a printed grid of dark dots; the defect is one or a few dots missing or displaced."""
    pitch, angle = rng.uniform(10.5, 11.5), rng.normal(0, 0.03)
    u, v = coordinates(size, angle=angle)
    u, v = u / pitch + rng.uniform(0, 1), v / pitch + rng.uniform(0, 1)
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    first = int(size / pitch) + 4  # index 0 of the tables lies outside the image at any rotation
    cell = (i + first, j + first)
    tolerance = rng.normal(0, 0.025, (2, 2 * first, 2 * first))  # displacement of the dots, in pitches
    away = pitch * np.hypot(u - i - 0.5 - tolerance[0][cell], v - j - 0.5 - tolerance[1][cell])
    spread = rng.normal(0, 0.04, (2 * first, 2 * first))
    radius = rng.uniform(3.0, 3.5) * (1 + spread[cell] + 0.04 * drift(rng, size, scale=90))
    ink = step((radius - away) / 1.6 + 0.5)
    if flaw is not None:
        ink = _misprint(flaw, ink, i, j)
    fill = 1 + 0.09 * noise(rng, size, along=1.2)  # the amount of ink is uneven
    paper = 196 + rng.uniform(4, 9) * drift(rng, size, scale=200) + 4 * noise(rng, size, along=2, across=0.8)
    gray = paper - 112 * ink * fill
    return gray + 4 * noise(rng, size, along=0.6)


def _misprint(flaw: Generator, ink: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Remove one to four neighboring dots; in half of the cases print them at another position."""
    size = ink.shape[0]
    row, column = (round(x) for x in place(flaw, size, margin=14))
    shifted = flaw.random() < 0.5
    shift = flaw.uniform(0.28, 0.5) * 11 * np.exp(1j * flaw.uniform(0, _TURN))
    neighbors = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])[: flaw.integers(1, 5)]
    printed = np.zeros_like(ink)
    for di, dj in neighbors:
        own = np.where((i == i[row, column] + di) & (j == j[row, column] + dj), ink, 0)
        ink = ink - own
        if shifted:
            printed = np.maximum(printed, own)
    moved = shift_by(printed, (shift.imag, shift.real), order=1)
    return np.maximum(ink, moved)
