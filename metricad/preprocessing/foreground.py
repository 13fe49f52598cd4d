"""Find a part in front of an even background by its gray levels, in a single image."""

from collections.abc import Iterator

import numpy as np
import scipy
import skimage

from metricad.data import images

# Lengths in pixels.
_OPENING = 3  # cracks and scratches up to 6 pixels wide that reach the part's edge belong to the part
_EDGE, _RIM = 2, 6  # width of the blur between background and part; width of the part's rim behind it

_EVENNESS = 0.15  # largest standard deviation of a background, divided by its contrast to the rim
_BORDER = 0.1  # smallest share of the image border that is background: nearly half a side
# A texture with spots or checks has many pieces. A part is one piece and leaves at most four corners.
_CORNERS, _PLAIN = 4, 0.9
_THRESHOLDS = 3  # number of thresholds: Otsu's of the image, then twice that of the levels below


def find(image: np.ndarray) -> np.ndarray | None:
    """Separate a part from an even background.

    Candidates for the background are the darker and the brighter side of Otsu's threshold (1979). A
    background must cover a good share of the image border, vary little compared to its contrast to the
    adjoining pixels, and leave the part in one piece. If there are several, the most even one is used. The
    part is all the rest. Holes that do not touch the image border belong to the part.

    Parameters
    ----------
    image : float32 (H, W) in [-1, 1]

    Returns
    -------
    bool (H, W), with both True and False; or None if there is no such background, because texture fills the
    image or the part is in two pieces.
    """
    levels = images.to_uint8(image)
    best, least = None, _EVENNESS
    # A bright background is a dark one in the negative image.
    for one, its_levels in ((image, levels), (-image, 255 - levels)):
        for threshold in _thresholds(its_levels):
            background = _surround(its_levels <= threshold)
            if background is not None and (unevenness := _unevenness(one, background)) < least:
                best, least = background, unevenness
    return None if best is None else _largest(~best)


def _thresholds(levels: np.ndarray) -> Iterator[int]:
    """Yield Otsu's threshold of 8-bit levels, then that of the levels up to it, and so on.

    More than one threshold is needed if a part is lit unevenly and the strip of background is small. Then the
    first threshold separates light from shadow on the part.
    """
    counts = np.bincount(levels.ravel())
    for _ in range(_THRESHOLDS):
        if np.count_nonzero(counts) < 2:
            return
        threshold = int(skimage.filters.threshold_otsu(hist=(counts, np.arange(len(counts)))))
        yield threshold
        counts = counts[: threshold + 1]


def _surround(side: np.ndarray) -> np.ndarray | None:
    """Return the pixels on one side of a threshold that can be background by position and shape, or None."""
    if _border(side).mean() < _BORDER:
        return None
    # The background continues outside the image, so that opening keeps a narrow strip at the border.
    wide = scipy.ndimage.binary_erosion(side, iterations=_OPENING, border_value=1)
    labels = skimage.measure.label(wide, connectivity=1)
    wide = np.isin(labels, np.setdiff1d(_border(labels), 0))
    found = scipy.ndimage.binary_dilation(wide, iterations=_OPENING, mask=side)
    if found.all() or _border(found).mean() < _BORDER:
        return None
    is_plain = _share_of_largest(found, _CORNERS) >= _PLAIN and _share_of_largest(~found, 1) >= _PLAIN
    return found if is_plain else None


def _unevenness(image: np.ndarray, background: np.ndarray) -> float:
    """Compute the standard deviation of a dark background, divided by its contrast to the rim of the part.

    Only the rim is used, not the whole part: a shadow on the part changes gradually into light, a background
    does not. Percentiles are used, so that dust on the background and highlights on the part have little
    effect.
    """
    distance = scipy.ndimage.distance_transform_cdt(~background, "taxicab")
    rim = image[(distance > _EDGE) & (distance <= _EDGE + _RIM)]
    if rim.size == 0:
        return np.inf
    low, middle, high = np.percentile(image[background], (5, 50, 95))
    deviation = (high - low) / 3.29  # equals the standard deviation of a normal distribution
    contrast = np.percentile(rim, 25) - middle
    return deviation / contrast if contrast > 0 else np.inf


def _largest(pixels: np.ndarray) -> np.ndarray:
    labels = skimage.measure.label(pixels, connectivity=1)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def _share_of_largest(pixels: np.ndarray, count: int) -> float:
    """Compute the share of all pixels that belongs to the `count` largest pieces."""
    sizes = np.sort(np.bincount(skimage.measure.label(pixels, connectivity=1).ravel())[1:])
    return sizes[-count:].sum() / sizes.sum()


def _border(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
