"""Conditional patch autoencoder, deep features of its anomaly maps, and their nearest neighbors."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import numpy as np

from metricad.methods.arrays import CLASSIFIERS, Arrays
from metricad.methods.conditional_patches import PUBLISHED_EPOCHS, PatchAutoencoder
from metricad.networks import imagenet


class CpcaeKnnDetector(PatchAutoencoder):
    """Score: mean squared distance of an anomaly map's deep features to those of the nearest good maps.

    Saeedi and Giusti, "Anomaly Detection for Industrial Inspection using Convolutional Autoencoder and Deep
    Feature-based One-class Classification" (2022). Follows `interface.Detector`.

    First, a conditional patch autoencoder (`conditional_patches`) learns the good images; the absolute
    difference to its reconstruction is the anomaly map, in [0, 1]. Second, the maps of the same good images,
    at their original size, go through Xception (Chollet, 2017), trained on ImageNet, up to its last layer
    before pooling, and through `three_way_pooling`. The results are standardized. The score of an image is
    the mean squared Euclidean distance to its k nearest good ones.

    The source gives the kinds of layers, the loss and k. It does not give the number of layers, filters and
    epochs, the sizes of images, patches and bottleneck, and the weight of the penalty. It shows the pooling
    only in a drawing. All of these are our choice. Differences: those of `PatchAutoencoder`; maps smaller
    than Xception's input are enlarged. If there are fewer good images than `neighbors`, all of them are used.

    Parameters
    ----------
    neighbors : int
        Number of nearest neighbors, k, at least 1.
    classifier : {"knn", "svm"}
        Nearest neighbors as in the source, or a one-class SVM, which the source names as another choice; its
        score is the distance from the boundary, larger outside.
    map_side : int, optional
        Height and width that maps are resized to before Xception, at least 71. By default their own size, as
        published. A map of 512×512 takes about a second on two cores.
    backbone : str
        Network that takes the place of Xception: one of `imagenet.APPLICATIONS`.
    weights
        Its weights, see `imagenet.load`.
    seed : int
        Also the seed of random weights of Xception.
    side, patch, stride, latent, sparsity, registration, minimum_confidence, largest_angle, epochs, batch_size
        See `PatchAutoencoder`, as are `learning_rate`, `checkpoint` and `on_epoch`.

    Raises
    ------
    ValueError
        A setting is outside its range.
    DataError
        The weights cannot be loaded.
    """

    def __init__(
        self,
        *,
        neighbors: int = 15,
        classifier: str = "knn",
        side: int = 256,
        patch: int = 64,
        stride: int = 32,
        latent: int = 128,
        sparsity: float = 1e-6,
        registration: bool = False,
        minimum_confidence: float = 0.5,
        largest_angle: float = 180,
        map_side: int | None = None,
        backbone: str = "Xception",
        weights: str | os.PathLike[str] = imagenet.IMAGENET,
        epochs: int = PUBLISHED_EPOCHS,
        batch_size: int = 64,
        learning_rate: float = 0.001,
        checkpoint: Path | None = None,
        on_epoch: Callable[[], object] = lambda: None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            side=side,
            patch=patch,
            stride=stride,
            latent=latent,
            sparsity=sparsity,
            registration=registration,
            minimum_confidence=minimum_confidence,
            largest_angle=largest_angle,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
            seed=seed,
        )
        if neighbors < 1:
            raise ValueError(f"neighbors must be at least 1, received {neighbors}")
        if classifier not in CLASSIFIERS:
            raise ValueError(f"classifier must be one of {', '.join(CLASSIFIERS)}, received {classifier!r}")
        if map_side is not None:
            imagenet.checked_side(map_side, backbone)
        self.neighbors = neighbors
        self.classifier = CLASSIFIERS[classifier]
        self.map_side = map_side
        self._backbone = imagenet.load(backbone, weights=weights, seed=seed)

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Fit to good images, float32 (H, W) in [-1, 1]; all are kept in memory, but maps one at a time.

        Raises the errors of `PatchAutoencoder`.
        """
        good = self._train(images)
        embeddings = [self._pooled(np.abs(image - self.reconstruction(image)) / 2) for image in good]
        self._good = self.classifier(embeddings, self.neighbors)
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `fit` learned."""
        return {**self._learned(), **self._good.arrays()}

    def restore(self, arrays: Arrays) -> Self:
        """Take what `arrays` returned, in place of `fit`."""
        self._relearn(arrays)
        self._good = self.classifier.restore(arrays, self.neighbors)
        return self

    def score(self, image: np.ndarray) -> float:
        """Compute the mean squared Euclidean distance to the nearest good images' standardized features."""
        return self._good.distance(self.embedding(image))

    def judge(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute score and map at once."""
        aligned, anomaly_map = self._maps(image)
        return self._good.distance(self._pooled(aligned)), anomaly_map

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """Compute pooled features of the image's anomaly map, not standardized: float32 (d,)."""
        return self._pooled(self._maps(image)[0])

    def _pooled(self, anomaly_map: np.ndarray) -> np.ndarray:
        return three_way_pooling(self._backbone.features(2 * anomaly_map - 1, self.map_side)[0])


def three_way_pooling(features: np.ndarray) -> np.ndarray:
    """Pool a feature map (h, w, d) in three ways and join the results: float32 (3·d,).

    The source says: parallel and cascaded poolings, which give three times the features of a global maximum.
    We use the global maximum and the global mean in parallel, and, in cascade, the global mean of the maxima
    of 2×2 features (fewer at the border).
    """
    height, width, _ = features.shape
    rows, columns = np.arange(0, height, 2), np.arange(0, width, 2)
    maxima = np.maximum.reduceat(np.maximum.reduceat(features, rows, axis=0), columns, axis=1)
    over = (0, 1)
    return np.concatenate([features.max(axis=over), features.mean(axis=over), maxima.mean(axis=over)])
