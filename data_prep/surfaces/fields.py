"""Random fields and defect shapes for synthetic surfaces.

All are float32 arrays of shape (size, size), lengths are in pixels, axes are row and column. Fields made with
the FFT repeat at the border: opposite edges match, and there is no seam inside the image.
"""

import numpy as np
from numpy.random import Generator
from scipy import fft


def coordinates(
    size: int, *, angle: float = 0.0, at: tuple[float, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute pixel coordinates along and across a direction.

    Parameters
    ----------
    size : int
        Side of the image in pixels.
    angle : float
        Direction of the first coordinate in radians; 0 is along the rows (to the right), π/2 is down.
    at : (float, float), optional
        Row and column of the origin; by default the center of the image.

    Returns
    -------
    along, across : float32 (size, size)
        Signed distances from the origin in pixels.
    """
    row, column = at if at is not None else ((size - 1) / 2, (size - 1) / 2)
    y = (np.arange(size, dtype=np.float32) - np.float32(row))[:, None]
    x = (np.arange(size, dtype=np.float32) - np.float32(column))[None, :]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def smooth(image: np.ndarray, *, along: float, across: float, angle: float = 0.0) -> np.ndarray:
    """Blur a square image with a Gaussian of two widths (standard deviations, px) and a direction (rad)."""
    size = image.shape[0]
    fy = fft.fftfreq(size).astype(np.float32)[:, None]
    fx = fft.rfftfreq(size).astype(np.float32)[None, :]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    square = (along * (fx * cos + fy * sin)) ** 2 + (across * (fy * cos - fx * sin)) ** 2
    transfer = np.exp(np.float32(-2 * np.pi**2) * square.astype(np.float32))
    return fft.irfft2(fft.rfft2(image) * transfer, s=image.shape)


def noise(
    rng: Generator, size: int, *, along: float, across: float | None = None, angle: float = 0.0
) -> np.ndarray:
    """Draw Gaussian noise with grains of the given widths (px), mean 0 and variance 1.

    `across` defaults to `along`. It must be much smaller than the image's side; `along` may be larger.
    """
    white = rng.standard_normal((size, size), dtype=np.float32)
    grains = smooth(white, along=along, across=along if across is None else across, angle=angle)
    # Subtract the mean first: grains longer than the image vary so little that dividing would amplify it.
    return (grains - grains.mean()) / grains.std()


def drift(rng: Generator, size: int, *, scale: float) -> np.ndarray:
    """Draw a slowly varying field of unit variance: cubic B-splines with random values every `scale` px."""
    position = np.arange(size) / scale
    cell, f = np.divmod(position, 1)
    cell = cell.astype(int)
    weights = np.stack(
        [(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=1
    )
    basis = np.zeros((size, cell[-1] + 4), dtype=np.float32)
    basis[np.arange(size)[:, None], cell[:, None] + np.arange(4)] = weights
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)  # rows of length 1 give every pixel unit variance
    values = rng.standard_normal((basis.shape[1], basis.shape[1]), dtype=np.float32)
    return basis @ values @ basis.T


def place(flaw: Generator, size: int, *, margin: float) -> tuple[float, float]:
    """Draw the row and column of a defect, at least `margin` px (at most 0.4 of the side) from the border."""
    margin = min(margin, 0.4 * size)
    row, column = flaw.uniform(margin, size - 1 - margin, 2)
    return float(row), float(column)


def blob(flaw: Generator, size: int, *, radius: tuple[float, float], softness: float = 0.3) -> np.ndarray:
    """Draw a lobed ellipse at a random position; return its weight in [0, 1].

    `radius` is the smallest and largest semi-axis in px, limited to a quarter of the image. `softness` is the
    width of the edge as a share of the radius.
    """
    longest = flaw.uniform(*radius)
    longest = min(longest, size / 4)
    shortest = longest * flaw.uniform(0.55, 1.0)
    at = place(flaw, size, margin=0.6 * longest)
    u, v = coordinates(size, angle=flaw.uniform(0, np.pi), at=at)
    theta = np.arctan2(v, u)
    outline = np.ones_like(theta)
    for lobes in (2, 3, 5):
        outline += np.float32(flaw.uniform(0, 0.12)) * np.cos(
            lobes * theta + np.float32(flaw.uniform(0, 2 * np.pi))
        )
    return step((outline - np.hypot(u / longest, v / shortest)) / softness + 0.5)


def stroke(
    flaw: Generator,
    size: int,
    *,
    length: tuple[float, float],
    width: tuple[float, float],
    angle: float | None = None,
    bend: float = 0.08,
) -> np.ndarray:
    """Draw a line with uneven pressure; return its weight in [0, 1].

    Parameters
    ----------
    flaw : Generator
        Generator of the defect.
    size : int
        Side of the image in pixels.
    length, width : (float, float)
        Smallest and largest length, and full width at half maximum, in px; the length is at most 0.7 sides.
    angle : float, optional
        Direction in radians; random by default.
    bend : float
        Largest sagitta as a share of the length; 0 gives a straight line.

    Returns
    -------
    float32 (size, size)
        1 on the line at full pressure, 0 far from it.
    """
    half = min(flaw.uniform(*length), 0.7 * size) / 2
    sigma = flaw.uniform(*width) / 2.355  # full width at half maximum of a Gaussian
    direction = flaw.uniform(0, np.pi) if angle is None else angle
    u, v = coordinates(size, angle=direction, at=place(flaw, size, margin=0.7 * half))
    v = v - np.float32(flaw.uniform(-bend, bend) * 2 / half) * (u * u)
    knots = np.linspace(-half, half, 9)
    pressure = np.interp(u, knots, flaw.uniform(0.65, 1.0, knots.size)).astype(np.float32)
    return np.exp(-0.5 * (v / sigma) ** 2) * pressure * step((half - np.abs(u)) / 4)


def spots(
    rng: Generator, size: int, *, at: np.ndarray, radius: tuple[float, float], edge: float = 1.0
) -> np.ndarray:
    """Draw small round spots; return their weight in [0, 1].

    `at` (n, 2) holds rows and columns, `radius` the smallest and largest radius, `edge` the width of the soft
    rim, all in px.
    """
    weight = np.zeros((size, size), dtype=np.float32)
    for (row, column), r in zip(at, rng.uniform(*radius, len(at)), strict=True):
        reach = int(np.ceil(r + edge)) + 1
        top, left = max(int(row) - reach, 0), max(int(column) - reach, 0)
        window = weight[top : int(row) + reach + 2, left : int(column) + reach + 2]
        y, x = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
        np.maximum(window, step((r - np.hypot(y - row, x - column)) / edge + 0.5), out=window)
    return weight


def step(x: np.ndarray) -> np.ndarray:
    """Compute the smooth step from 0 (x ≤ 0) to 1 (x ≥ 1)."""
    x = np.clip(x, 0, 1)
    return (x * x * (3 - 2 * x)).astype(np.float32, copy=False)
