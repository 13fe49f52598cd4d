"""Shapes of synthetic defects: blobs and strokes, as weights of the image's pixels."""

import itertools

import numpy as np


def place(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a random position in an image of this height and width: row and column, float64 (2,)."""
    return rng.uniform(0, np.array(shape))


def blob(
    shape: tuple[int, int],
    size: float,
    rng: np.random.Generator,
    *,
    soft: float,
    at: np.ndarray | None = None,
    lobes: float = 0.25,
) -> np.ndarray:
    """Draw an ellipse with lobes at a random position and angle.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image, in pixels.
    size : float
        Mean diameter, in pixels.
    rng : numpy.random.Generator
    soft : float
        Width of the rim in which the weight falls to 0, as a share of the radius.
    at : float (2,), optional
        Row and column of its center; random by default.
    lobes : float
        Largest amplitude of each of the three waves of its outline, as a share of the radius.

    Returns
    -------
    float32 (H, W) in [0, 1]
        Weight of the shape at each pixel.
    """
    at = place(shape, rng) if at is None else at
    aspect = np.exp(rng.uniform(-0.6, 0.6))
    angle = rng.uniform(0, np.pi)
    y = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(at[0])
    x = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(at[1])
    u = (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) / np.float32(size / 2 * aspect)
    v = (y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))) / np.float32(size / 2 / aspect)
    outline = np.ones(np.broadcast_shapes(u.shape, v.shape), np.float32)
    if size > 4:
        theta = np.arctan2(v, u)
        for k in (2, 3, 5):
            outline += np.float32(rng.uniform(0, lobes)) * np.cos(
                k * theta + np.float32(rng.uniform(0, 2 * np.pi))
            )
    soft = max(soft, 1 / size)
    return np.clip((outline - np.hypot(u, v)) / np.float32(soft) + 0.5, 0, 1)


def stroke(shape: tuple[int, int], width: float, rng: np.random.Generator, *, jitter: float) -> np.ndarray:
    """Draw a bent line at a random position and angle.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image, in pixels.
    width : float
        Width in pixels. The line is 6 to 60 times as long, but at most 70 % of the image's longer side.
    rng : numpy.random.Generator
    jitter : float
        Amplitude of the zigzag, as a share of the line's steps; 0 gives a smooth bow.

    Returns
    -------
    float32 (H, W) in [0, 1]
        Weight of the line at each pixel.
    """
    length = min(max(shape) * 0.7, width * np.exp(rng.uniform(np.log(6), np.log(60))))
    count = 24 if jitter else 12
    along = np.linspace(-0.5, 0.5, count)
    bend = rng.uniform(-0.3, 0.3) if rng.random() < 0.7 else 0.0
    points = length * np.stack([bend * (4 * along**2 - 1), along], axis=1)
    if jitter:
        points += np.cumsum(rng.normal(0, jitter * length / count, points.shape), axis=0)
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    points = (points @ np.array([[cos, -sin], [sin, cos]]) + place(shape, rng)).astype(np.float32)
    pressure = np.interp(along, np.linspace(-0.5, 0.5, 5), rng.uniform(0.5, 1, 5))

    weight = np.zeros(shape, np.float32)
    margin = width + 2
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, shape).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + margin), 0, shape).astype(int)
    if (high <= low).any():
        return weight
    y = np.arange(low[0], high[0], dtype=np.float32)[:, None]
    x = np.arange(low[1], high[1], dtype=np.float32)[None, :]
    part = weight[low[0] : high[0], low[1] : high[1]]
    for k, (start, end) in enumerate(itertools.pairwise(points)):
        step = end - start
        t = np.clip(((y - start[0]) * step[0] + (x - start[1]) * step[1]) / max(step @ step, 1e-6), 0, 1)
        away = np.hypot(y - start[0] - t * step[0], x - start[1] - t * step[1])
        np.maximum(
            part, np.float32(pressure[k]) * np.clip((width - 2 * away) / 2 + 0.5, 0, min(1, width)), out=part
        )
    return weight
