"""Surfaces made of grain: brushed metal, fabric, two kinds of noise, cast metal and wood.

Each function draws one image, (size, size) floating-point gray levels, not yet clipped to 0..255. `rng` draws
the surface and its usual variation, `flaw` the defect. Without `flaw` there is no defect. With two
generators, the same `rng` state gives the same surface with and without the defect.
"""

import numpy as np
from numpy.random import Generator

from data_prep.surfaces.fields import blob, coordinates, drift, noise, place, spots, step, stroke

_DOWN = np.pi / 2


def brushed_metal(rng: Generator, size: int, flaw: Generator | None) -> np.ndarray:
    """Draw vertical brush streaks; the defect is a thin dark scratch that crosses them."""
    angle = _DOWN + rng.normal(0, 0.02)
    long = noise(rng, size, along=90, across=0.8, angle=angle)
    short = noise(rng, size, along=rng.uniform(10, 18), across=0.55, angle=angle)
    sheen = noise(rng, size, along=400, across=14, angle=angle)
    gray = rng.normal(128, 4) + rng.uniform(11, 14) * long + rng.uniform(9, 12) * short
    gray += rng.uniform(4, 9) * sheen + 4 * rng.standard_normal((size, size), dtype=np.float32)
    if flaw is not None:
        tilt = flaw.choice([-1, 1]) * flaw.uniform(np.radians(6), _DOWN)
        depth = flaw.uniform(32, 62)
        gray -= depth * stroke(flaw, size, length=(60, 200), width=(1.4, 2.6), angle=_DOWN + tilt)
    return gray


def soft_fabric(rng: Generator, size: int, flaw: Generator | None) -> np.ndarray:
    """Draw fluffy twill under uneven light; the defect is a few small bright specks close together."""
    angle = np.pi / 4 + rng.normal(0, 0.04)
    _, across = coordinates(size, angle=angle)
    across = across + 1.2 * drift(rng, size, scale=40)
    twill = np.cos(across * np.float32(2 * np.pi / rng.uniform(6.2, 6.8)) + rng.uniform(0, 2 * np.pi))
    twill *= 1 + 0.35 * drift(rng, size, scale=18)
    fibres = noise(rng, size, along=3.0, across=0.8, angle=angle + rng.normal(0, 0.05))
    fluff = noise(rng, size, along=rng.uniform(1.8, 2.4))
    gray = 138 + 8 * twill + 9 * fibres + 8 * fluff + rng.uniform(10, 22) * drift(rng, size, scale=200)
    if flaw is not None:
        spread = min(flaw.uniform(4, 20), size / 8)
        center = place(flaw, size, margin=1.5 * spread + 6)
        at = np.clip(flaw.normal(center, spread, (flaw.integers(2, 8), 2)), 3, size - 4)
        gray += flaw.uniform(45, 85) * spots(flaw, size, at=at, radius=(1.2, 3.4), edge=3.0)
    return gray


def fine_noise(rng: Generator, size: int, flaw: Generator | None) -> np.ndarray:
    """Draw even fine noise; the defect is a patch of another grain with the same mean and contrast."""
    grain = noise(rng, size, along=rng.uniform(0.75, 0.85))
    if flaw is not None:
        along = flaw.uniform(1.6, 2.7)
        across = along * flaw.uniform(0.45, 1.0)
        other = noise(flaw, size, along=along, across=across, angle=flaw.uniform(0, np.pi))
        weight = blob(flaw, size, radius=(16, 40))
        # Square roots keep the variance at 1 where the two grains mix.
        grain = np.sqrt(1 - weight) * grain + np.sqrt(weight) * other
    return rng.normal(118, 4) + rng.uniform(20, 25) * grain + rng.uniform(0, 5) * drift(rng, size, scale=160)


def binary_noise(rng: Generator, size: int, flaw: Generator | None) -> np.ndarray:
    """Draw black and white flecks; the defect is a long band with more dark and fewer light flecks."""
    level = noise(rng, size, along=rng.uniform(1.5, 1.8)) + rng.normal(0, 0.06)
    level += 0.12 * drift(rng, size, scale=150)
    if flaw is not None:
        band = stroke(flaw, size, length=(140, 340), width=(8, 16), bend=0.04)
        level -= flaw.uniform(1.3, 2.6) * step((band - 0.3) / 0.4)  # a flat band with short edges
    light = step(level / 0.5 + 0.5)
    return 32 + 186 * light + 9 * rng.standard_normal((size, size), dtype=np.float32)


def cast_metal(rng: Generator, size: int, flaw: Generator | None) -> np.ndarray:
    """Draw rough casting with single pores, lit from one side; the defect is a cluster of pores."""
    light = rng.normal(np.pi / 4, 0.12)
    height = noise(rng, size, along=1.4) + 2.2 * noise(rng, size, along=4) + 3.5 * noise(rng, size, along=11)
    stray = rng.uniform(0, size, (rng.poisson(size**2 / 9000), 2))
    pores = spots(rng, size, at=stray, radius=(0.8, 3.2), edge=2.6)
    if flaw is not None:
        spread = min(flaw.uniform(6, 15), size / 8)
        center = place(flaw, size, margin=1.6 * spread)
        at = np.clip(flaw.normal(center, spread, (flaw.integers(9, 28), 2)), 2, size - 3)
        depth = flaw.uniform(0.75, 1.0)
        pores = np.maximum(pores, depth * spots(flaw, size, at=at, radius=(1.0, 3.4), edge=2.6))
    height -= 2.4 * pores  # the far wall of a pore is bright
    # The height repeats at the border, so differences across it are valid.
    down, right = (np.roll(height, 1, axis) - np.roll(height, -1, axis) for axis in (0, 1))
    slope = (down * np.sin(light) + right * np.cos(light)) / 2
    gray = 122 + rng.uniform(20, 25) * slope - 55 * pores
    gray += rng.uniform(6, 14) * drift(rng, size, scale=220) + 4 * drift(rng, size, scale=30)
    return gray + 4 * rng.standard_normal((size, size), dtype=np.float32)


def wood(rng: Generator, size: int, flaw: Generator | None) -> np.ndarray:
    """Draw planed wood with vertical growth rings; the defect is a knot, and the rings bend around it."""
    angle = _DOWN + rng.normal(0, 0.03)
    _, across = coordinates(size, angle=angle)
    wander = 5 * noise(rng, size, along=150, across=12, angle=angle) + 12 * drift(rng, size, scale=260)
    rings = (across + wander) / np.float32(rng.uniform(13, 18)) + rng.uniform(0, 1)
    fibres = noise(rng, size, along=14, across=0.7, angle=angle)
    vessels = noise(rng, size, along=6, across=0.75, angle=angle)
    late = _late_wood(rings)
    knot: np.ndarray | float = 0.0
    if flaw is not None:
        late, knot = _grow_knot(flaw, rings, angle=angle)
    gray = 158 - 38 * late + 8 * fibres - 26 * step((vessels - 1.6) / 0.8) * (1 - 0.8 * late)
    gray += rng.uniform(5, 10) * drift(rng, size, scale=180) - 30 * knot
    return gray + 2.5 * rng.standard_normal((size, size), dtype=np.float32)


def _late_wood(rings: np.ndarray) -> np.ndarray:
    """Compute the share of dark late wood: a ring darkens slowly and ends sharply."""
    phase = rings - np.floor(rings)
    return phase**2.5 * step((1 - phase) / 0.18)


def _grow_knot(flaw: Generator, rings: np.ndarray, *, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Bend the rings around a knot; return the late wood and the knot's darkening, both in [0, 1]."""
    size = rings.shape[0]
    radius = min(flaw.uniform(6, 17), size / 9)
    u, v = coordinates(size, angle=angle, at=place(flaw, size, margin=1.5 * radius))
    stretch = flaw.uniform(1.1, 1.7)  # knots are cut obliquely, so they are longer along the grain
    rho = np.hypot(u / stretch, v) / np.float32(radius)
    # Rings next to the knot are displaced; the displacement falls to 0 at 2.2 radii.
    push = 0.75 * np.sign(v) * step((2.2 - rho) / 1.4) * step(np.abs(v) / (0.4 * radius))
    own_rings = rho * radius / flaw.uniform(3.0, 4.5)
    inside = step((1.15 - rho) / 0.3)
    late = (1 - inside) * _late_wood(rings - push.astype(np.float32)) + inside * _late_wood(own_rings)
    return late, flaw.uniform(0.4, 1.0) * step((1.1 - rho) / 0.4)
