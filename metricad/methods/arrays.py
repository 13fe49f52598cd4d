"""What a fitted method learned, as arrays that a bundle can hold."""

from collections.abc import Mapping
from typing import Self

import keras
import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

Arrays = Mapping[str, np.ndarray]


def of_model(name: str, model: keras.Model) -> dict[str, np.ndarray]:
    """Return the weights of a model as arrays below a name."""
    return {f"{name}/{number:03}": array for number, array in enumerate(model.get_weights())}


def to_model(model: keras.Model, name: str, arrays: Arrays) -> keras.Model:
    """Set the weights that `of_model` returned; raise ValueError if they are of another model."""
    model.set_weights([array for key, array in sorted(arrays.items()) if key.startswith(f"{name}/")])
    return model


class NearestGood:
    """Standardized embeddings of good images, and the distance of another one to the nearest of them.

    Parameters
    ----------
    embeddings : sequence of float32 (d,)
    neighbors : int
        Number of nearest neighbors; all embeddings if there are fewer.
    """

    def __init__(self, embeddings: list[np.ndarray], neighbors: int) -> None:
        self._scaler = StandardScaler().fit(embeddings)
        self._keep(self._scaler.transform(embeddings), neighbors)

    def _keep(self, bank: np.ndarray, neighbors: int) -> None:
        self._bank = bank
        self._nearest = NearestNeighbors(n_neighbors=min(neighbors, len(bank))).fit(bank)

    def distance(self, embedding: np.ndarray) -> float:
        """Compute the mean squared Euclidean distance to the nearest good embeddings."""
        distances, _ = self._nearest.kneighbors(self._scaler.transform([embedding]))
        return float(np.square(distances).mean())

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that was learned."""
        return {"mean": self._scaler.mean_, "scale": self._scaler.scale_, "bank": self._bank}

    @classmethod
    def restore(cls, arrays: Arrays, neighbors: int) -> Self:
        """Restore what `arrays` returned."""
        made = cls.__new__(cls)
        made._scaler = StandardScaler()
        made._scaler.mean_, made._scaler.scale_ = arrays["mean"], arrays["scale"]
        made._keep(arrays["bank"], neighbors)
        return made


class GoodBoundary(NearestGood):
    """Boundary of a one-class SVM around good embeddings (Schölkopf et al., 2001), as scikit-learn's default.

    `neighbors` has no effect.
    """

    def _keep(self, bank: np.ndarray, neighbors: int) -> None:
        self._bank = bank
        self._boundary = OneClassSVM().fit(bank)

    def distance(self, embedding: np.ndarray) -> float:
        """Compute the distance from the boundary; positive outside, negative inside."""
        return -float(self._boundary.decision_function(self._scaler.transform([embedding]))[0])


CLASSIFIERS = {"knn": NearestGood, "svm": GoodBoundary}
"""One-class classifiers of embeddings, by name."""
