"""Large images in overlapping tiles: the same distances in memory that does not grow with the image."""

from collections.abc import Callable, Iterator

import numpy as np

from metricad.networks.feature_grid import FeatureGrid

LARGE = 2**23
"""Pixels, 8 million, above which an image is cut: a network's largest layer takes 64 bytes for each."""

_SIDE = 2048  # pixels of a tile without its overlap, at most


def stitched(
    distances: Callable[[np.ndarray], np.ndarray], image: np.ndarray, grid: FeatureGrid, *, side: int = _SIDE
) -> np.ndarray:
    """Put an image's distances together from those of tiles.

    A network without padding sees its surroundings and nothing else, and what it knows of the image's edge
    ends `grid.reach` away from it: tiles that overlap by that much, and begin where all of its strides
    do, have the features of the whole image but for the last bits, in which a sum depends on its order.

    Parameters
    ----------
    distances : function
        Of an image, float32 (H, W, channels); gives its distances, float32 (h', w', sources).
    image : float32 (H, W, channels)
    grid : FeatureGrid
        Of the network behind it.
    side : int
        Largest height and width of a tile, in pixels, without the overlap.

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
    """Along one axis: the pixels of each tile, and which of their features are the tile's own."""
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
