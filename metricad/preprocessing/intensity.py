"""What a network is shown of an image's light: all as it is, or its logarithm, as suits the part.

Light multiplies: where twice as much falls on a surface, its texture varies twice as much. The logarithm
undoes this and stabilises the variance (Bartlett, 1947; Box and Cox, 1964). Texture that is woven or printed
in two shades, and a camera's noise, vary no more where it is bright: they keep their light. Which of the two
a part is, its good images tell: the standard deviation goes with the b-th power of the mean (Taylor's power
law), and b is the slope of the logarithm of the local deviation over that of the local mean.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

LINEAR, LOGARITHMIC = "linear", "logarithmic"

LOOK = 32
"""Good images that a tone is chosen by."""

_SIDE = 8  # pixels of the squares that means and deviations are taken over
DARK = 0.05
"""Added to the light, which spans 1, before its logarithm: below it a camera sees mostly its own noise."""

_FLAT = 1e-3  # a deviation, a quarter of a gray level, that says nothing
_FEWEST = 32  # squares that a slope is taken over


@dataclass(frozen=True)
class Tone:
    """A tone curve from [-1, 1] to [-1, 1].

    Attributes
    ----------
    curve : {"linear", "logarithmic"}, optional
        None stands for one yet to be chosen.
    """

    curve: str | None = None

    def __post_init__(self) -> None:
        if self.curve not in (None, LINEAR, LOGARITHMIC):
            raise ValueError(f"curve must be {LINEAR} or {LOGARITHMIC}, received {self.curve!r}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Apply the curve to an image, float32 (H, W) in [-1, 1]; ValueError when there is none yet."""
        if self.curve is None:
            raise ValueError("the tone is yet to be chosen; let the detector prepare itself with good images")
        if self.curve == LINEAR:
            return image
        low, high = np.log([DARK, 1 + DARK]).astype(np.float32)
        light = (image + 1) * np.float32(0.5) + np.float32(DARK)
        return (np.log(light) - low) * (2 / (high - low)) - np.float32(1)


def stabilising(images: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> Tone:
    """Choose the tone under which good images vary as much where they are dark as where they are bright.

    Parameters
    ----------
    images : iterable of (float32 (H, W) in [-1, 1], bool (H, W) or None)
        Good images, and which of their pixels to look at; None for all.

    Returns
    -------
    Tone
        The logarithm where b is nearer to 1 than to 0; linear otherwise, also where nothing can be seen.
    """
    squares = [_squares(image, inside) for image, inside in images]
    means, deviations = (np.concatenate(each) for each in zip(*squares, strict=True))
    seen = (deviations > _FLAT) & (means > DARK)
    if seen.sum() < _FEWEST:
        return Tone(LINEAR)
    means, deviations = np.log(means[seen]), np.log(deviations[seen])
    common = np.mean((means - means.mean()) * deviations)
    return Tone(LOGARITHMIC if common > 0.5 * means.var() else LINEAR)


def _squares(image: np.ndarray, inside: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the light in each square of an image that lies inside: float64 (n,)."""
    light = _cut((image.astype(np.float64) + 1) / 2)
    if inside is not None:
        light = light[_cut(inside).all(axis=1)]
    return light.mean(axis=1), light.std(axis=1)


def _cut(image: np.ndarray) -> np.ndarray:
    """Pixels of each whole square: (n, side²)."""
    rows, columns = (side // _SIDE for side in image.shape)
    squares = image[: rows * _SIDE, : columns * _SIDE].reshape(rows, _SIDE, columns, _SIDE)
    return squares.swapaxes(1, 2).reshape(rows * columns, _SIDE**2)
