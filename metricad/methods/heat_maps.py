"""Tell defects from harmless anomalies by their heat maps, with a few labeled images.

The last step of Buzzega et al., "Automating Industrial Visual Inspection Systems with Deep
Reconstruction-based Anomaly Detection": a multilayer perceptron on Hu's moments of the map (Hu, 1962), or on
features of a pre-trained network. The source gives no numbers; those here are our choice.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from skimage import measure
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from metricad.errors import DataError
from metricad.networks import efficientnet, imagenet

FOLDS = 5
"""Largest number of folds of the cross-validation; fewer if there are fewer images of a label."""

_SMALLEST_MOMENT = 1e-30  # below it, the logarithm of a moment only shows a rounding error
_HIDDEN = (16,)
_MOST_ITERATIONS = 1000
_SIDE = 224  # pixels that maps are resized to for a pre-trained network


def hu_moments(anomaly_map: np.ndarray) -> np.ndarray:
    """Compute log10 of the magnitudes of Hu's seven moments of a map (H, W): float64 (7,).

    They do not change if the map is shifted, rotated or mirrored. They decrease if the map's values increase,
    because moments are normalized by the sum in place of the area. So a strong anomaly differs from a faint
    one of the same shape.
    """
    if not anomaly_map.sum() > 0:
        return np.full(7, np.log10(_SMALLEST_MOMENT))
    central = measure.moments_central(anomaly_map.astype(np.float64), order=3)
    moments = measure.moments_hu(measure.moments_normalized(central))
    return np.log10(np.maximum(np.abs(moments), _SMALLEST_MOMENT))


def pretrained(weights: str, *, largest: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from a map (H, W) to features of a pre-trained network: float32 (d,).

    Parameters
    ----------
    weights : str
        ``efficientnet-lite2``, else weights of ResNet50, see `imagenet.load`.
    largest : float
        Value of the maps that is shown to the network as white; larger values are as well.
    """
    is_lite = weights == efficientnet.NAME
    backbone = imagenet.load(
        imagenet.LITE2 if is_lite else "ResNet50", weights=imagenet.IMAGENET if is_lite else weights
    )

    def features(anomaly_map: np.ndarray) -> np.ndarray:
        shown = np.clip(anomaly_map / largest, 0, 1).astype(np.float32) * 2 - 1
        return backbone.features(shown, _SIDE)[0].max(axis=(0, 1))

    return features


def fit(vectors: Sequence[np.ndarray], labels: Sequence[bool], *, seed: int = 0) -> Pipeline:
    """Train the perceptron on features of maps, standardized.

    Parameters
    ----------
    vectors : sequence of float (d,)
    labels : sequence of bool
        True for a defect, False for a good image or a harmless anomaly.
    seed : int
        Seed of the initial weights.

    Raises
    ------
    ValueError
        Labels are missing or all equal.
    """
    is_defect = np.asarray(labels, bool)
    if len(is_defect) != len(vectors):
        raise ValueError(f"expected a label for each of {len(vectors)} images, received {len(is_defect)}")
    if len(np.unique(is_defect)) < 2:
        raise ValueError("labels must include defects and others; give some of each")
    # scikit-learn recommends L-BFGS for few samples.
    perceptron = MLPClassifier(
        _HIDDEN, solver="lbfgs", alpha=1e-2, max_iter=_MOST_ITERATIONS, random_state=seed
    )
    made = make_pipeline(StandardScaler(), perceptron)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few samples never converge
        made.fit(np.array(vectors), is_defect)
    return made


def cross_validated(vectors: Sequence[np.ndarray], labels: Sequence[bool], *, seed: int = 0) -> np.ndarray:
    """Compute the probability of a defect for each image, by a perceptron trained without its fold: (n,).

    Raises
    ------
    DataError
        There are fewer than two images of a label.
    """
    features, is_defect = np.array(vectors), np.asarray(labels, bool)
    fewest = int(min(is_defect.sum(), (~is_defect).sum()))
    if fewest < 2:
        raise DataError(
            f"{is_defect.sum()} defects and {(~is_defect).sum()} others are too few to cross-validate; give "
            "2 or more of each"
        )
    found = np.zeros(len(features))
    folds = StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    for train, test in folds.split(features, is_defect):
        made = fit(features[train], is_defect[train].tolist(), seed=seed)
        found[test] = made.predict_proba(features[test])[:, 1]
    return found
