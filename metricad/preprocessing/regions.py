"""Regions of interest: only inside is an image learned and judged, not on edges of the part or background."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np
import skimage

from metricad.data import masks
from metricad.errors import DataError
from metricad.preprocessing import foreground, polygons


class Region(Protocol):
    """Interface of a region of interest, as detectors and bundles use it."""

    kind: ClassVar[str]

    def region(self, image: np.ndarray) -> np.ndarray:
        """Compute the pixels to inspect of an image, float32 (H, W) in [-1, 1]: bool (H, W), some True."""

    def settings(self) -> dict[str, int]:
        """Return the keyword arguments to construct such a region, without its arrays."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the region, such as a drawn mask."""

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore the region from what `arrays` returned."""


class MaskRegion:
    """A fixed mask, for parts that are always aligned in the image.

    Parameters
    ----------
    mask : bool (H, W), optional
        True inside the region of interest. Leave it out only to call `restore` afterwards.

    Raises
    ------
    ValueError
        The mask has the wrong shape or type, or is all False.

    Examples
    --------
    >>> mask = np.zeros((480, 640), bool)
    >>> mask[40:440, 60:580] = True
    >>> int(MaskRegion(mask).region(np.zeros((480, 640), np.float32)).sum())
    208000
    """

    kind: ClassVar[str] = "mask"

    def __init__(self, mask: np.ndarray | None = None) -> None:
        self._mask = None if mask is None else _checked_mask(mask)

    @property
    def mask(self) -> np.ndarray:
        """The mask, bool (H, W); read-only."""
        assert self._mask is not None
        return self._mask

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a mask from an image file, or from polygons in a JSON file.

        In an image, pixels brighter than mid-gray are inside, see `masks.read`. Polygons are described in
        `polygons`.

        Raises
        ------
        DataError
            The file is no image, or no pixel is brighter than mid-gray; or the polygons are wrong.
        """
        if Path(path).suffix.lower() == ".json":
            return cls(polygons.read(path))
        mask = masks.read(path, gray="outside")
        if not mask.any():
            raise DataError(
                f"{path}: an empty mask: expected white where the part is, received no pixel brighter than "
                "mid-gray"
            )
        return cls(mask)

    def region(self, image: np.ndarray) -> np.ndarray:
        """Return the mask, read-only; see `Region`.

        Raises
        ------
        DataError
            The image and the mask differ in size.
        """
        if image.shape != self.mask.shape:
            expected, received = ("×".join(map(str, shape)) for shape in (self.mask.shape, image.shape))
            raise DataError(
                f"a mask needs aligned images of its own size: expected {expected} pixels, "
                f"received {received}; resize the image or draw another mask"
            )
        return self.mask

    def settings(self) -> dict[str, int]:
        """Return an empty dict; see `Region`."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the mask, bool (H, W); see `Region`."""
        return {"mask": self.mask}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore the mask; see `Region`. Raises ValueError as the class does."""
        self._mask = _checked_mask(arrays["mask"])
        return self


class ForegroundRegion:
    """The part in front of an even background, found in every image by `foreground.find`.

    If an image has no such background, or if nothing of the part remains inside the margin, the region is the
    whole image. So it is never empty.

    Parameters
    ----------
    margin : int
        Width, in pixels, of the rim of the part that is left out. Features near the part's edge also see the
        edge. A wide margin excludes them, but leaves more of the part uninspected. Where the part reaches the
        image border there is no margin.

    Notes
    -----
    Damage at the part's edge is not inspected if it is wider than 6 pixels and as dark (or bright) and as
    even as the background: gray levels cannot tell the two apart. A broken-off piece changes only the
    outline, which a region does not check.
    """

    kind: ClassVar[str] = "foreground"

    def __init__(self, *, margin: int = 8) -> None:
        if margin < 0:
            raise ValueError(f"margin must be 0 pixels or more, received {margin}")
        self.margin = margin

    def region(self, image: np.ndarray) -> np.ndarray:
        """Find the part and remove the margin; see `Region`."""
        part = foreground.find(image)
        if part is not None:
            inside = skimage.morphology.isotropic_erosion(part, self.margin)
            if inside.any():
                return inside
        return np.ones(image.shape, bool)

    def settings(self) -> dict[str, int]:
        """Return the margin; see `Region`."""
        return {"margin": self.margin}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return an empty dict; see `Region`."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the region itself; see `Region`. There are no arrays to restore."""
        return self


KINDS = {region.kind: region for region in (MaskRegion, ForegroundRegion)}


def _checked_mask(mask: np.ndarray) -> np.ndarray:
    if mask.ndim != 2 or mask.dtype != bool or not mask.any():
        received = f"{mask.dtype} {mask.shape}" + ("" if mask.any() else ", all False")
        raise ValueError(f"expected a mask bool (H, W) with something inside, received {received}")
    mask = mask.copy()
    mask.flags.writeable = False
    return mask
