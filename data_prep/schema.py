"""Features of the data sets that metricad reads, and counts for their metadata.

metricad only knows these names and never imports the builders.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

NORMAL, DEFECT = CONDITIONS = ("normal", "defect")


def labelled_surfaces(names: Sequence[str]) -> tfds.features.FeaturesDict:
    """Return the features of labeled surfaces.

    Parameters
    ----------
    names : sequence of str
        All surfaces of the original, even if a copy lacks some: so a surface keeps its number.

    Returns
    -------
    FeaturesDict
        `image` uint8 (H, W, 1); `mask` uint8 (H, W, 1), 255 on a defect and 0 elsewhere; `label`, normal or
        defect; `surface`; `name`, unique in the data set and equal in all builds.
    """
    return tfds.features.FeaturesDict(
        {
            "image": gray_image(),
            "mask": gray_image(),
            "label": tfds.features.ClassLabel(names=CONDITIONS),
            "surface": tfds.features.ClassLabel(names=names),
            "name": tfds.features.Text(),
        }
    )


def gray_image(height: int | None = None, width: int | None = None) -> tfds.features.Image:
    """Return the feature of an 8-bit gray image, of any size by default."""
    return tfds.features.Image(shape=(height, width, 1), dtype=np.uint8, encoding_format="png")


def count(classes: Sequence[str], defects: Sequence[bool] | None = None) -> dict[str, int]:
    """Count a split: images, good and defective ones if known, and classes."""
    counts = {"images": len(classes)}
    if defects is not None:
        counts |= {"normals": len(defects) - sum(defects), "defects": sum(defects)}
    return counts | {"classes": len(set(classes))}
