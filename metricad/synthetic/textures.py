"""Random textures: noise with a random spectrum.

They are surfaces for training that need no license, and foreign bodies for synthetic defects.
"""

import numpy as np
from scipy import fft

_LEAST_CONTRAST = 0.02  # smallest standard deviation to divide by, so that even textures stay nearly even


def random_texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Draw a random texture: bands of waves, slow variations and streaks, possibly clipped or folded.

    It is Gaussian noise with a power spectrum of one to four Gabor bands, usually on top of a power law,
    sometimes with grain along one direction. A random pointwise curve makes some textures non-Gaussian.

    Parameters
    ----------
    rng : numpy.random.Generator
    side : int
        Height and width in pixels.

    Returns
    -------
    float32 (side, side) in [-1, 1]
        Opposite edges match, so the texture can be tiled.
    """
    noise = fft.irfft2(
        fft.rfft2(rng.standard_normal((side, side))) * np.sqrt(_spectrum(rng, side)), s=(side, side)
    )
    noise = _curve(rng, noise / noise.std())
    noise = noise + rng.uniform(0, 0.3) * rng.standard_normal((side, side))
    gray = rng.uniform(-0.3, 0.3) + rng.uniform(0.1, 0.5) * noise
    return np.clip(gray, -1, 1).astype(np.float32)


def matched(texture: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Match the mean and contrast of a texture to those of an image, so that they differ only in texture.

    Both are float32 (H, W) in [-1, 1], of any sizes. The result is float32 and may leave this range.
    """
    standard = (texture - texture.mean()) / max(texture.std(), _LEAST_CONTRAST)
    return (standard * image.std() + image.mean()).astype(np.float32)


def _spectrum(rng: np.random.Generator, side: int) -> np.ndarray:
    """Compute the power at each frequency, in the order of `fft.rfft2`: (side, side // 2 + 1)."""
    rows, columns = fft.fftfreq(side)[:, None], fft.rfftfreq(side)[None, :]
    power = np.full(np.broadcast_shapes(rows.shape, columns.shape), 1e-9)
    if rng.random() < 0.7:
        slowest = 1 / rng.uniform(20, 200)
        power += rng.uniform(0, 1) / 60**1.5 / (np.hypot(rows, columns) + slowest) ** rng.uniform(0, 3)
    for _ in range(rng.integers(1, 5)):
        frequency = np.exp(rng.uniform(np.log(0.01), np.log(0.4)))
        along, across = _turned(rng, rows, columns)
        width, height = frequency * rng.uniform(0.02, 0.5, 2)
        strength = 1e-2 * rng.uniform(0.2, 1) / (width * height)
        for sign in (1, -1):
            square = ((along - sign * frequency) / width) ** 2 + (across / height) ** 2
            power += strength * np.exp(-0.5 * square)
    if rng.random() < 0.3:
        along, across = _turned(rng, rows, columns)
        square = (along * rng.uniform(30, 150)) ** 2 + (across * rng.uniform(0.5, 4)) ** 2
        power += 5 * np.exp(-0.5 * square)
    return power


def _turned(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    angle = rng.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return columns * cos + rows * sin, rows * cos - columns * sin


def _curve(rng: np.random.Generator, noise: np.ndarray) -> np.ndarray:
    """Clip, fold or stretch values of unit variance, or return them unchanged."""
    match rng.integers(5):
        case 0:
            return np.tanh(noise * rng.uniform(1, 6))
        case 1:
            return np.abs(noise) - 0.8
        case 2:
            return np.exp(0.5 * noise) - 1.2
    return noise
