"""The feature grid: positions of features on the pixels of an image."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class FeatureGrid:
    """Positions of a network's features on the pixels of an image.

    Attributes
    ----------
    first : float
        Row and column of the first feature's center, in pixels; the center of the first pixel is 0.
    stride : int
        Distance between neighboring features, in pixels.
    smallest : int
        Smallest height and width, in pixels, of an image that gives at least one feature.
    tile_step : int
        If a multiple of this number of pixels is cut off at the top or left, the remaining features do not
        change. It is a multiple of every stride in the network.
    reach : int
        Distance from the image border, in pixels, up to which features depend on the position of the border.
    is_cuttable : bool
        Whether a large image may be cut into tiles. ImageNet features depend on where the border is.
    """

    first: float
    stride: int
    smallest: int
    tile_step: int = 1
    reach: int = 0
    is_cuttable: bool = True

    @property
    def middle(self) -> int:
        """Row and column of the pixel at the first feature's center."""
        return math.ceil(self.first)  # rounded up to whole pixels: 15.5, the center of an even side, gives 16

    def halved(self) -> "FeatureGrid":
        """Return the grid on the pixels of the full image, if the network gets an image of half the size."""
        return replace(
            self,
            first=2 * self.first + 0.5,
            stride=2 * self.stride,
            smallest=2 * self.smallest,
            tile_step=2 * self.tile_step,
            reach=2 * self.reach,
        )

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise an error if an image is too small to give features.

        Raises
        ------
        ValueError
            The image is too small.
        """
        if min(shape[:2]) < self.smallest:
            raise ValueError(
                f"expected an image of at least {self.smallest}×{self.smallest} pixels, received {shape}"
            )
