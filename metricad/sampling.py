"""Where features lie on an image's pixels."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """Where a network's features lie on the image's pixels, and what they are made of.

    Attributes
    ----------
    first : float
        Row, and column, of the first feature's centre, in pixels; the first pixel's centre is 0.
    stride : int
        Pixels between neighbouring features.
    smallest : int
        Least height and width, in pixels, of an image that has features.
    scales : tuple of float
        How much each image scale counts whose features are joined, in equal parts, to one; a single scale
        in most networks.
    border : int
        Features from the image's edge inwards of which parts are held, since they reach beyond the image.
    lattice : int
        Pixels by which an image may be cut off at its top or left with the other features unchanged: a
        multiple of every stride in the network.
    reach : int
        Pixels from an edge of the image within which features depend on where it is.
    """

    first: float
    stride: int
    smallest: int
    scales: tuple[float, ...] = (1.0,)
    border: int = 0
    lattice: int = 1
    reach: int = 0

    def check(self, shape: tuple[int, int]) -> None:
        """Refuse an image without features.

        Raises
        ------
        ValueError
            The image is too small.
        """
        if min(shape) < self.smallest:
            raise ValueError(
                f"expected an image of at least {self.smallest}×{self.smallest} pixels, received {shape}"
            )
