"""Resample maps to the pixels of an image, and sample an image at the features of a map."""

import numpy as np

from metricad.data.channels import to_luminance
from metricad.networks.feature_grid import FeatureGrid
from metricad.preprocessing.regions import Region


def place(anomaly: np.ndarray, shape: tuple[int, int], grid: FeatureGrid) -> np.ndarray:
    """Resample a map to the pixels of its image.

    The first feature lies at the center of its receptive field (pixel 15.5 in the paper's network), the next
    one stride further. Between centers the map is interpolated linearly. Outside the outermost centers it
    keeps their value.

    Parameters
    ----------
    anomaly : float32 (h', w')
    shape : (int, int)
        Height and width of the image, in pixels.
    grid : FeatureGrid
        Feature grid of the network that the map comes from.

    Returns
    -------
    float32 (H, W)
    """
    rows, columns = (_linear_weights(*sizes, grid) for sizes in zip(anomaly.shape, shape, strict=True))
    below, above, weight = rows
    stretched = anomaly[below] * (1 - weight)[:, None] + anomaly[above] * weight[:, None]
    below, above, weight = columns
    # Columns are indexed as rows of the transposed map: contiguous memory is twice as fast.
    turned = np.ascontiguousarray(stretched.T)
    return (turned[below] * (1 - weight)[:, None] + turned[above] * weight[:, None]).T


def on_pixels(
    anomaly: np.ndarray, image: np.ndarray, grid: FeatureGrid, region: Region | None = None
) -> np.ndarray:
    """Resample a map (h', w') to pixels (H, W) with `place`; outside the region, use its smallest value."""
    placed = place(anomaly, image.shape[:2], grid)
    if region is None:
        return placed
    # The outermost features would set the values up to the image border, where there may be background.
    return np.where(region.region(to_luminance(image)), placed, anomaly.min())


def at_features(image: np.ndarray, first_and_stride: tuple[float, int], shape: tuple[int, int]) -> np.ndarray:
    """Sample an image (H, W) at the centers of a map's features; `shape` is that of the map: (h', w')."""
    first, stride = first_and_stride
    rows, columns = (
        np.minimum(np.ceil(np.arange(count) * stride + first).astype(int), side - 1)
        for count, side in zip(shape, image.shape, strict=True)
    )
    return image[rows][:, columns]


def _linear_weights(size: int, pixels: int, grid: FeatureGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute for each pixel of one axis the features before and after it, and the weight of the latter."""
    position = np.clip((np.arange(pixels) - grid.first) / grid.stride, 0, size - 1)
    below = position.astype(int)
    above = np.minimum(below + 1, size - 1)
    return below, above, (position - below).astype(np.float32)
