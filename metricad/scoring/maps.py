"""Distance maps: to one number, to the pixel that is farthest, and back onto the image."""

import math

import numpy as np

from metricad.preprocessing.regions import Region
from metricad.networks.grid import FeatureGrid

REDUCTIONS = {"max": None, "top-0.1%": 1000, "top-1%": 100, "top-10%": 10}
"""How a map becomes a number, by name: the mean of the farthest of so many features, one at least."""


def image_score(distance_map: np.ndarray, reduction: str = "max") -> float:
    """Reduce a distance map to one number: its maximum (the paper, section 2.9), unless another way is named.

    The mean of the farthest features, instead of the one farthest, is steadier against a single pixel's
    noise and fainter where a defect is small: which is better depends on the surface.

    Parameters
    ----------
    distance_map : float32 (h', w')
    reduction : str
        One of `REDUCTIONS`.

    Raises
    ------
    ValueError
        The reduction is unknown.
    """
    count = farthest_count(distance_map.size, reduction)
    if count == 1:
        return float(distance_map.max())
    return float(np.partition(distance_map, -count, axis=None)[-count:].mean(dtype=np.float64))


def farthest_count(size: int, reduction: str) -> int:
    """How many of a map's features its score is the mean of, as one of `REDUCTIONS` has it.

    A half is rounded to the even number. In whole numbers, so that every runtime comes to the same.
    """
    among = REDUCTIONS[checked_reduction(reduction)]
    if among is None:
        return 1
    count, rest = divmod(size, among)
    return max(1, count + (2 * rest + count % 2 > among))


def peak(distance_map: np.ndarray, sampling: FeatureGrid) -> tuple[int, int]:
    """Row and column, in pixels of the image, at the centre of the map's farthest feature."""
    row, column = np.unravel_index(np.argmax(distance_map), distance_map.shape)
    center = middle(sampling)
    return int(row * sampling.stride + center), int(column * sampling.stride + center)


def place(distance_map: np.ndarray, shape: tuple[int, int], sampling: FeatureGrid) -> np.ndarray:
    """Put a distance map back on its image's pixels.

    The first feature sits at the centre of its receptive field (pixel 15.5 in the paper's network), the
    next a stride further. Between centres the map is interpolated linearly; outside the outermost ones their
    value is kept.

    Parameters
    ----------
    distance_map : float32 (h', w')
    shape : (int, int)
        Height and width of the image, in pixels.
    sampling : FeatureGrid
        Of the network that the map comes from.

    Returns
    -------
    float32 (H, W)
    """
    rows, columns = (
        _linear_weights(*sizes, sampling) for sizes in zip(distance_map.shape, shape, strict=True)
    )
    below, above, weight = rows
    stretched = distance_map[below] * (1 - weight)[:, None] + distance_map[above] * weight[:, None]
    below, above, weight = columns
    # Whole columns are gathered as rows of the transposed map: contiguous memory, twice as fast.
    turned = np.ascontiguousarray(stretched.T)
    return (turned[below] * (1 - weight)[:, None] + turned[above] * weight[:, None]).T


def on_pixels(
    distance_map: np.ndarray, image: np.ndarray, sampling: FeatureGrid, region: Region | None = None
) -> np.ndarray:
    """Put an image's distance map (h', w') on its pixels (H, W) as `place` does; 0 outside a region."""
    placed = place(distance_map, image.shape, sampling)
    if region is None:
        return placed
    # The outermost features stand for all up to the image's border, where background may lie.
    return np.where(region.region(image), placed, np.float32(0))


def middle(sampling: FeatureGrid) -> int:
    """Row, and column, of the pixel at the first feature's centre."""
    return math.ceil(sampling.first)  # 15.5, the middle of an even side, to whole pixels


def at_features(image: np.ndarray, sampling: FeatureGrid, shape: tuple[int, int]) -> np.ndarray:
    """What an image (H, W) has at the centres of a map's features, as many as `shape` says: (h', w')."""
    first, stride = middle(sampling), sampling.stride
    return image[first::stride, first::stride][: shape[0], : shape[1]]


def checked_reduction(reduction: str) -> str:
    """Give a reduction's name back; ValueError when it is unknown."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, received {reduction!r}")
    return reduction


def _linear_weights(size: int, pixels: int, sampling: FeatureGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel of one axis: the features before and after it and the weight of the latter."""
    position = np.clip((np.arange(pixels) - sampling.first) / sampling.stride, 0, size - 1)
    below = position.astype(int)
    above = np.minimum(below + 1, size - 1)
    return below, above, (position - below).astype(np.float32)
