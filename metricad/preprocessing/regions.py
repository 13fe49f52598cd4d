"""Where on an image the part is: only there is learned and judged, not on its edges or the background."""

import os
from collections.abc import Mapping
from typing import ClassVar, Protocol, Self

import numpy as np
import skimage

from metricad.data import images
from metricad.errors import DataError
from metricad.preprocessing import foreground


class Region(Protocol):
    """What a detector and a bundle need of a region."""

    kind: ClassVar[str]

    def region(self, image: np.ndarray) -> np.ndarray:
        """Which pixels of an image, float32 (H, W) in [-1, 1], are judged: bool (H, W), never all False."""

    def settings(self) -> dict[str, int]:
        """Keyword arguments that make a region like this one, but for its arrays."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What was drawn rather than set."""

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `arrays` gave."""


class MaskRegion:
    """A mask drawn once, for parts that are always seen in register.

    Parameters
    ----------
    mask : bool (H, W), optional
        True where images are judged. Only a region that is to be restored goes without.

    Raises
    ------
    ValueError
        The mask is not of this kind, or nothing is inside.
    """

    kind: ClassVar[str] = "mask"

    def __init__(self, mask: np.ndarray | None = None) -> None:
        self._mask = None if mask is None else _checked_mask(mask)

    @property
    def mask(self) -> np.ndarray:
        """What was drawn, bool (H, W); read-only."""
        assert self._mask is not None
        return self._mask

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a mask from an image file: what is brighter than mid-gray is inside.

        Raises
        ------
        DataError
            The file is no image, or nothing in it is brighter than mid-gray.
        """
        mask = images.read(path) > 0
        if not mask.any():
            raise DataError(
                f"{path}: an empty mask: expected white where the part is, received no pixel brighter than "
                "mid-gray"
            )
        return cls(mask)

    def region(self, image: np.ndarray) -> np.ndarray:
        """See `Region`; the mask itself, which is read-only.

        Raises
        ------
        DataError
            The image is not of the mask's size.
        """
        if image.shape != self.mask.shape:
            expected, received = ("×".join(map(str, shape)) for shape in (self.mask.shape, image.shape))
            raise DataError(
                f"a mask needs images of its own size, always seen in register: expected {expected} pixels, "
                f"received {received}; resize the image or draw another mask"
            )
        return self.mask

    def settings(self) -> dict[str, int]:
        """See `Region`: none."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Region`: mask, bool (H, W)."""
        return {"mask": self.mask}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Region`; raises ValueError as the class does."""
        self._mask = _checked_mask(arrays["mask"])
        return self


class ForegroundRegion:
    """The part before an even background, found anew in every image.

    `foreground.find` says what counts as one. Where an image has no such background, and where the margin
    leaves nothing of the part, the whole image is the region: it is never empty.

    Parameters
    ----------
    margin : int
        Pixels that the region stays away from the background. Features near the edge of the part see the edge
        too; a wide margin keeps it from them, and leaves more of the part unseen. Where the part runs beyond
        the image there is no margin.

    Notes
    -----
    Damage at the part's edge that is as dark (or bright) and even as the background, and wider than 6 pixels,
    cannot be told from it by its gray levels: it is not judged. A piece broken off shows only in the outline,
    which a region does not look at.
    """

    kind: ClassVar[str] = "foreground"

    def __init__(self, *, margin: int = 8) -> None:
        if margin < 0:
            raise ValueError(f"margin must be 0 pixels or more, received {margin}")
        self.margin = margin

    def region(self, image: np.ndarray) -> np.ndarray:
        """See `Region`."""
        part = foreground.find(image)
        if part is not None:
            inside = skimage.morphology.isotropic_erosion(part, self.margin)
            if inside.any():
                return inside
        return np.ones(image.shape, bool)

    def settings(self) -> dict[str, int]:
        """See `Region`."""
        return {"margin": self.margin}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Region`: none."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """See `Region`: there is nothing to take over."""
        return self


KINDS = {region.kind: region for region in (MaskRegion, ForegroundRegion)}


def _checked_mask(mask: np.ndarray) -> np.ndarray:
    if mask.ndim != 2 or mask.dtype != bool or not mask.any():
        received = f"{mask.dtype} {mask.shape}" + ("" if mask.any() else ", all False")
        raise ValueError(f"expected a mask bool (H, W) with something inside, received {received}")
    mask = mask.copy()
    mask.flags.writeable = False
    return mask
