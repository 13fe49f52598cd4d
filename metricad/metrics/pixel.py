"""Metrics of anomaly maps for defective pixels and regions, in constant memory.

A data set of 512 × 512 maps has about 10⁸ pixels, too many to keep and sort. So values are counted in fixed
bins. The bins are so fine that the curves hardly change. All curves are computed from the counts.
"""

import numpy as np
from skimage.measure import label

from metricad.errors import DataError

# A bin is the sign, the exponent and the first 11 bits of the fraction of a float32.
BITS = 20


class PixelMetrics:
    """Pixel AUROC and AUPRO of maps that are added one at a time.

    Values are distinguished by their top 20 bits as float32, a relative resolution of 2⁻¹¹ (about 0.0005)
    over the whole range of numbers. So the range need not be known in advance. Values in one bin count as
    tied. If all values are close together and far from 0, subtract a common offset first. Memory is three
    arrays of 2²⁰ counts, 24 MiB, for any number of maps.

    >>> pixels = PixelMetrics()
    >>> pixels.update(np.float32([[1, 2, 9]]), np.array([[False, False, True]]))
    >>> pixels.auroc()
    1.0
    """

    def __init__(self) -> None:
        self._normal = np.zeros(2**BITS, np.int64)
        self._defect = np.zeros(2**BITS, np.int64)
        self._overlap = np.zeros(2**BITS)
        self._regions = 0

    def update(self, anomaly_map: np.ndarray, mask: np.ndarray) -> None:
        """Count one map.

        Parameters
        ----------
        anomaly_map : float32 (H, W)
            Larger is farther from good; any finite value, also negative.
        mask : bool (H, W)
            True on the defect. All False is a good image. Do not add defective images whose region is
            unknown.

        Raises
        ------
        DataError
            A value of the map is not finite. Nothing of this map is counted.
        ValueError
            The map is not (H, W), or the mask is not bool of the same shape.
        """
        anomaly_map, mask = np.asarray(anomaly_map), np.asarray(mask)
        if anomaly_map.ndim != 2 or mask.shape != anomaly_map.shape or mask.dtype != bool:
            raise ValueError(
                "one bool of the mask for each pixel of an (H, W) map: "
                f"received {mask.dtype} {mask.shape} for a map {anomaly_map.shape}"
            )
        if not np.isfinite(anomaly_map).all():
            count = np.sum(~np.isfinite(anomaly_map))
            raise DataError(f"{count} of {anomaly_map.size} values of the anomaly map are not finite")
        bins = _bins(anomaly_map)
        np.add.at(self._normal, bins[~mask], 1)
        if mask.any():
            self._add_regions(bins[mask], label(mask, connectivity=2)[mask])

    def _add_regions(self, bins: np.ndarray, regions: np.ndarray) -> None:
        """Count defective pixels with bins (n,) and region numbers (n,) from 1."""
        sizes = np.bincount(regions)
        np.add.at(self._defect, bins, 1)
        # Every region has a total weight of 1, independent of its size.
        np.add.at(self._overlap, bins, 1 / sizes[regions])
        self._regions += len(sizes) - 1

    def auroc(self) -> float | None:
        """Compute the chance that a defective pixel has a larger value than a good one (ties: 1/2).

        The value lies in [0, 1]; None until both a good and a defective pixel were added.
        """
        if not self._has_both():
            return None
        used = self._used()
        # In floats, because the number of pairs may exceed int64.
        normal, defect = self._normal[used].astype(float), self._defect[used].astype(float)
        ordered_twice = np.sum(defect * (2 * np.cumsum(normal) - normal))
        return float(ordered_twice / (2 * normal.sum() * defect.sum()))

    def aupro(self, limit: float = 0.3) -> float | None:
        """Compute the area under the per-region overlap curve up to a false-positive rate, relative to it.

        Per-region overlap is the share of a defective region at or above a threshold, averaged over all
        8-connected regions of all masks. So small defects count as much as large ones. The curve is drawn
        over the share of good pixels at or above the same threshold, interpolated linearly, from 0 to
        `limit`. The area is divided by `limit` (Bergmann et al., "The MVTec Anomaly Detection Dataset: A
        Comprehensive Real-World Dataset for Unsupervised Anomaly Detection", IJCV 129, 2021).

        A constant map gives limit / 2.

        Parameters
        ----------
        limit : float in (0, 1]
            Largest false-positive rate, as a share of the good pixels; 0.3 in the paper.

        Returns
        -------
        float in [0, 1], or None until both a good and a defective pixel were added

        Raises
        ------
        ValueError
            `limit` is out of its range.
        """
        if not 0 < limit <= 1:
            raise ValueError(f"limit must lie in (0, 1], received {limit}")
        if not self._has_both():
            return None
        false_positive, overlap = self._curve()
        within = false_positive <= limit
        rates = np.append(false_positive[within], limit)
        overlaps = np.append(overlap[within], np.interp(limit, false_positive, overlap))
        # The minimum corrects rounding.
        return min(1.0, float(np.trapezoid(overlaps, rates) / limit))

    def _has_both(self) -> bool:
        return self._regions > 0 and bool(self._normal.any())

    def _used(self) -> np.ndarray:
        """Return the indices of bins that are not empty, in ascending order; most of 2²⁰ are empty."""
        return np.flatnonzero(self._normal | self._defect)

    def _curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute false-positive rate and mean overlap of all thresholds, both from 0 to 1."""
        used = self._used()[::-1]
        normal = np.cumsum(self._normal[used])
        false_positive, overlap = normal / normal[-1], np.cumsum(self._overlap[used]) / self._regions
        # Add a threshold above all values, so that the curve starts at 0.
        return np.append(0, false_positive), np.append(0, overlap)


def _bins(values: np.ndarray) -> np.ndarray:
    """Compute the bin of each finite value, from 0 to 2²⁰ − 1; bins do not decrease with the value."""
    # Adding 0 turns −0 into 0.
    bits = np.add(values, 0, dtype=np.float32).view(np.int32)
    # The bits of a float are sign and magnitude. As integers they rise with positive values and fall with
    # negative ones. Flipping the magnitude bits of negative values makes them rise everywhere.
    bits ^= (bits >> 31) & 0x7FFFFFFF
    bits >>= 32 - BITS
    bits += 2 ** (BITS - 1)
    return bits
