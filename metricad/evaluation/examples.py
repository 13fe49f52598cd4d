"""Keep a few pictures and the embeddings of a surface's test images."""

import contextlib
from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA

from metricad.data import images
from metricad.data.datasets import Sample, known_mask
from metricad.errors import DataError
from metricad.evaluation.results import Example
from metricad.inspection.interface import Detector, as_taken

# Pictures are only for viewing; metrics are computed at full size.
_EXAMPLE_SIDE = 200
_COMPONENTS = 50  # usual before t-SNE (van der Maaten and Hinton, 2008); more would make the files large


def has_map(detector: Detector) -> bool:
    """Whether a method's map shows positions; some methods only repeat their score for every pixel."""
    return getattr(detector, "has_map", True)


def read_mask(sample: Sample, shape: tuple[int, int]) -> np.ndarray | None:
    """Read the mask of a defect: empty for a good image; None if the defect's pixels are not known.

    Raises the errors of `datasets.known_mask`.
    """
    return known_mask(sample, shape) if sample.is_defect else np.zeros(shape, bool)


def choose(detector: Detector, samples: Sequence[Sample], scores: np.ndarray) -> list[Example]:
    """Make pictures of the defects with highest, median and lowest score, and of the highest good image."""
    order = np.argsort(scores, kind="stable")
    defects = [k for k in order if samples[k].is_defect]
    good = [k for k in order if not samples[k].is_defect]
    roles = {
        "best": defects[-1],
        "median": defects[len(defects) // 2],
        "worst": defects[0],
        "false alarm": good[-1],
    }
    return [_example(detector, samples[k], role, float(scores[k])) for role, k in roles.items()]


def _example(detector: Detector, sample: Sample, role: str, score: float) -> Example:
    image = sample.read()
    mask = None
    with contextlib.suppress(DataError):  # it is left out of the metrics, too
        mask = read_mask(sample, image.shape[:2])
    shrink = min(1, _EXAMPLE_SIDE / max(image.shape[:2]))
    shape = tuple(max(1, round(side * shrink)) for side in image.shape[:2])
    return Example(
        name=sample.name,
        kind=sample.kind,
        role=role,
        score=score,
        image=images.to_uint8(images.resize(image, shape)),
        anomaly_map=images.resize(detector.anomaly_map(as_taken(detector, image)), shape),
        mask=None if mask is None else images.resize(mask.astype(np.float32), shape) >= 0.5,
    )


def embedding(detector: Detector, samples: Sequence[Sample]) -> np.ndarray | None:
    """Compute principal components of the images' embeddings, float32 (images, components), if it has any."""
    if not hasattr(detector, "embedding"):
        return None
    vectors = np.stack([detector.embedding(as_taken(detector, sample.read())) for sample in samples])
    count = min(_COMPONENTS, *vectors.shape)
    return PCA(count, svd_solver="full").fit_transform(vectors).astype(np.float32)
