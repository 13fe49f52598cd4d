"""Conditional patch autoencoder alone: the squared error of its reconstruction."""

from collections.abc import Iterable
from typing import Self

import keras
import numpy as np

from metricad.data import images as image_files
from metricad.methods.arrays import Arrays
from metricad.methods.conditional_patches import PatchAutoencoder


class CpcaeDetector(PatchAutoencoder):
    """Score: mean squared difference of an image and its reconstruction, with values from 0 to 1.

    The row "AE" of Saeedi and Giusti, "Anomaly Detection for Industrial Inspection using Convolutional
    Autoencoder and Deep Feature-based One-class Classification" (2022): the autoencoder of `cpcae_knn`
    without its second step. Follows `interface.Detector`. The source has the L2 error; here it is the mean
    over pixels. The embedding is the autoencoder's code, which the source compares with its own in figure 6.

    Parameters and errors are those of `PatchAutoencoder`.
    """

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Fit to good images, float32 (H, W) in [-1, 1]; raises the errors of `PatchAutoencoder`."""
        self._train(images)
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `fit` learned."""
        return self._learned()

    def restore(self, arrays: Arrays) -> Self:
        """Take what `arrays` returned, in place of `fit`."""
        self._relearn(arrays)
        return self

    def score(self, image: np.ndarray) -> float:
        """Compute the mean squared difference, over the pixels of the registered image."""
        return self.judge(image)[0]

    def judge(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute score and map at once."""
        aligned, anomaly_map = self._maps(image)
        return float(np.square(aligned).mean(dtype=np.float64)), anomaly_map

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """Compute the codes of all patches, one after the other: float32 (patches · latent,)."""
        pose = self.registration.find(image)
        small = image_files.resize(image if pose is None else pose.align(image), (self.side, self.side))
        encoder = keras.Model(self.autoencoder.input, self.autoencoder.get_layer("code").output)
        return encoder(self._examples(small), training=False).numpy().ravel()
