"""The part before an even background, found in one image by its gray levels."""

from collections.abc import Iterator

import numpy as np
import scipy
import skimage

from metricad.data import images

# In pixels.
_OPENING = 3  # cracks and scratches up to twice as wide that run to the edge are the part's, not background
_EDGE, _RIM = 2, 6  # the blur between background and part, and the rim of the part behind it

_EVENNESS = 0.15  # largest standard deviation of a background, as a share of its contrast with the rim
_BORDER = 0.1  # least share of the image's border that a background takes up: nearly half a side
# Between the blotches and checks of a texture there are many pieces; a part is one, and leaves four corners.
_CORNERS, _PLAIN = 4, 0.9
_THRESHOLDS = 3  # Otsu's of the image, that of what lies beyond it, and once more


def find(image: np.ndarray) -> np.ndarray | None:
    """Tell a part from an even background.

    An even background is the darker or the brighter side of a threshold of Otsu's (1979). It takes up a good
    part of the image's border, varies little against its contrast with what adjoins it, and leaves the part
    in one piece. Of several the most even one counts. The part is what it leaves: its holes, which do not
    touch the border, are the part's.

    Parameters
    ----------
    image : float32 (H, W) in [-1, 1]

    Returns
    -------
    bool (H, W), some True and some False; or None where there is no such background, because texture fills
    the image or the part is broken in two.
    """
    levels = images.to_uint8(image)
    best, least = None, _EVENNESS
    # A brighter background is a darker one in the negative.
    for one, its_levels in ((image, levels), (-image, 255 - levels)):
        for threshold in _thresholds(its_levels):
            background = _surround(its_levels <= threshold)
            if background is not None and (unevenness := _unevenness(one, background)) < least:
                best, least = background, unevenness
    return None if best is None else _largest(~best)


def _thresholds(levels: np.ndarray) -> Iterator[int]:
    """Otsu's threshold of 8-bit levels, then that of the levels up to it, and so on.

    A strip of background beside a part that is lit unevenly is a small class among many levels: the first
    threshold then parts the light from the shadow on the part.
    """
    counts = np.bincount(levels.ravel())
    for _ in range(_THRESHOLDS):
        if np.count_nonzero(counts) < 2:
            return
        threshold = int(skimage.filters.threshold_otsu(hist=(counts, np.arange(len(counts)))))
        yield threshold
        counts = counts[: threshold + 1]


def _surround(side: np.ndarray) -> np.ndarray | None:
    """What of one side of a threshold can be background by its place and shape; None where nothing can."""
    if _border(side).mean() < _BORDER:
        return None
    # Beyond the image the background goes on: a narrow strip along the border is not opened away.
    wide = scipy.ndimage.binary_erosion(side, iterations=_OPENING, border_value=1)
    labels = skimage.measure.label(wide, connectivity=1)
    wide = np.isin(labels, np.setdiff1d(_border(labels), 0))
    found = scipy.ndimage.binary_dilation(wide, iterations=_OPENING, mask=side)
    if found.all() or _border(found).mean() < _BORDER:
        return None
    is_plain = _share_of_largest(found, _CORNERS) >= _PLAIN and _share_of_largest(~found, 1) >= _PLAIN
    return found if is_plain else None


def _unevenness(image: np.ndarray, background: np.ndarray) -> float:
    """Standard deviation of a darker background as a share of its contrast with the rim of the part.

    The rim and not the whole part: a shadow on the part shades off into the light, a background does not. All
    by percentiles, so that dust on the background and a glint on the part change little.
    """
    distance = scipy.ndimage.distance_transform_cdt(~background, "taxicab")
    rim = image[(distance > _EDGE) & (distance <= _EDGE + _RIM)]
    if rim.size == 0:
        return np.inf
    low, middle, high = np.percentile(image[background], (5, 50, 95))
    deviation = (high - low) / 3.29  # the same for a normal distribution
    contrast = np.percentile(rim, 25) - middle
    return deviation / contrast if contrast > 0 else np.inf


def _largest(pixels: np.ndarray) -> np.ndarray:
    labels = skimage.measure.label(pixels, connectivity=1)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def _share_of_largest(pixels: np.ndarray, count: int) -> float:
    """How much of some pixels is in their `count` largest pieces."""
    sizes = np.sort(np.bincount(skimage.measure.label(pixels, connectivity=1).ravel())[1:])
    return sizes[-count:].sum() / sizes.sum()


def _border(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
