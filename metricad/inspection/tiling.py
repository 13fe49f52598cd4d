"""Compute the distances of large images in overlapping tiles, so that memory does not grow with the image."""

from collections.abc import Callable, Iterator

import numpy as np

from metricad.networks.feature_grid import FeatureGrid

LARGE = 2**23
"""Number of pixels, 8 million, above which an image is cut: the largest layer takes 64 bytes per pixel."""

_SIDE = 2048  # largest side of a tile without its overlap, in pixels


def stitched(
    distances: Callable[[np.ndarray], np.ndarray], image: np.ndarray, grid: FeatureGrid, *, side: int = _SIDE
) -> np.ndarray:
    """Compute the distances of a large image tile by tile and join them.

    A network without padding uses only pixels of its receptive field. Effects of the image border end
    `grid.reach` pixels away from it. So the tiles overlap by that much and start at multiples of all strides
    of the network. Then their features equal those of the whole image up to floating-point rounding.

    Parameters
    ----------
    distances : function
        Takes an image, float32 (H, W, channels); returns its distances, float32 (h', w', sources).
    image : float32 (H, W, channels)
    grid : FeatureGrid
        Feature grid of the network.
    side : int
        Largest height and width of a tile without its overlap, in pixels.

    Returns
    -------
    float32 (h', w', sources)
    """
    return np.concatenate(
        [
            np.concatenate(
                [
                    distances(image[rows, columns])[below, right]
                    for columns, right in _cut(image.shape[1], grid, side)
                ],
                axis=1,
            )
            for rows, below in _cut(image.shape[0], grid, side)
        ]
    )


def _cut(pixels: int, grid: FeatureGrid, side: int) -> Iterator[tuple[slice, slice]]:
    """Yield for one axis the pixels of each tile and the slice of its features that belongs to it."""
    count = -(-pixels // side)
    bounds = [round(number * pixels / count / grid.stride) for number in range(count)]
    for first, after in zip(bounds, [*bounds[1:], None], strict=True):
        begin = max(0, (first * grid.stride - grid.reach) // grid.tile_step * grid.tile_step)
        skipped = begin // grid.stride
        if after is None:
            yield slice(begin, pixels), slice(first - skipped, None)
        else:
            end = after * grid.stride + grid.smallest + grid.reach + grid.tile_step
            yield slice(begin, min(pixels, end)), slice(first - skipped, after - skipped)
