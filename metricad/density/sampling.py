"""Random sample of feature vectors with bounded size, drawn from a stream of feature maps."""

import numpy as np

SIZE = 16_000
"""Number of feature vectors to fit to: 500 for each of 32 components, more than twice `mixture.WEIGHT`."""


class VectorSample:
    """Uniform sample of at most `SIZE` vectors from a stream, each with the number of its image.

    Each vector draws a random number; the vectors with the smallest numbers are kept. This takes one pass and
    bounded memory. The same seed gives the same sample.

    Parameters
    ----------
    rng : numpy.random.Generator
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._count = 0
        self._cutoff = np.inf

    def update(self, features: np.ndarray, image: int, inside: np.ndarray | None = None) -> None:
        """Add the vectors of one more feature map.

        Parameters
        ----------
        features : float32 (h, w, d)
        image : int
            Number of the image.
        inside : bool (h, w), optional
            Features that may be drawn; all by default.
        """
        vectors = features.reshape(-1, features.shape[-1]) if inside is None else features[inside]
        keys = self._rng.random(len(vectors))
        chosen = keys < self._cutoff
        self._kept.append((keys[chosen], vectors[chosen], np.full(chosen.sum(), image)))
        self._count += int(chosen.sum())
        if self._count > 2 * SIZE:
            self._trim()

    @property
    def vectors(self) -> np.ndarray:
        """The sampled vectors: float32 (n, d)."""
        self._trim()
        return self._kept[0][1]

    @property
    def images(self) -> np.ndarray:
        """Image number of each sampled vector: int (n,)."""
        self._trim()
        return self._kept[0][2]

    def _trim(self) -> None:
        keys, vectors, images = (np.concatenate(each) for each in zip(*self._kept, strict=True))
        order = np.argsort(keys, kind="stable")[:SIZE]
        if len(order) == SIZE:
            self._cutoff = keys[order[-1]]
        self._kept = [(keys[order], vectors[order], images[order])]
        self._count = len(order)
