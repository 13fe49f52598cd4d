"""Where the features of a network lie on an image's pixels."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureGrid:
    """Where a network's features lie on the image's pixels.

    Attributes
    ----------
    first : float
        Row, and column, of the first feature's center, in pixels; the first pixel's center is 0.
    stride : int
        Pixels between neighbouring features.
    smallest : int
        Least height and width, in pixels, of an image that has features.
    tile_step : int
        Pixels by which an image may be cut off at its top or left with the other features unchanged: a
        multiple of every stride in the network.
    reach : int
        Pixels from an edge of the image within which features depend on where the edge is.
    """

    first: float
    stride: int
    smallest: int
    tile_step: int = 1
    reach: int = 0

    @property
    def middle(self) -> int:
        """Row, and column, of the pixel at the first feature's center."""
        return math.ceil(self.first)  # 15.5, the middle of an even side, to whole pixels

    def halved(self) -> "FeatureGrid":
        """The same grid on the pixels of an image that is halved before the network sees it."""
        return FeatureGrid(
            2 * self.first + 0.5, 2 * self.stride, 2 * self.smallest, 2 * self.tile_step, 2 * self.reach
        )

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse an image without features.

        Raises
        ------
        ValueError
            The image is too small.
        """
        if min(shape[:2]) < self.smallest:
            raise ValueError(
                f"expected an image of at least {self.smallest}×{self.smallest} pixels, received {shape}"
            )
