"""Two-dimensional plots of the embeddings of good and defective images."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from metricad.evaluation.results import Result
from metricad.reporting import figures
from metricad.reporting.document import Picture
from metricad.reporting.summary import Summary, plain

_PERPLEXITY = 30.0  # default of scikit-learn; a third of the number of images if there are few
_FEWEST = 4  # smallest number of images for a plot
_TITLE = 40  # characters in a line of a title


def pictures(summary: Summary, found: Sequence[tuple[Result, np.ndarray]]) -> list[Picture]:
    """Make t-SNE plots: one picture for each surface, one panel for each embedding.

    Methods that differ in their density alone have the same embedding, and so one panel.

    Parameters
    ----------
    summary : Summary
    found : sequence of (Result, float32 (images, components))
        Embeddings of the test images of each result, in the order of its scores.
    """
    drawn = []
    for number, (surface, title) in enumerate(summary.titles.items()):
        own = [
            pair
            for pair in found
            if (pair[0].dataset, pair[0].surface) == surface and len(pair[1]) >= _FEWEST
        ]
        if own:
            drawn.append(
                Picture(
                    f"embeddings-{number}.png",
                    figures.to_png(draw(summary, own)),
                    f"Embeddings of good and defective images of {title}",
                    f"Embeddings: {title}.",
                )
            )
    return drawn


def _name(summary: Summary, result: Result, *, is_shared: bool) -> str:
    """Return the name of the method, or of its network if several methods share the embedding."""
    _, setting, method = summary.key(result)
    whole = summary.labels[setting] + (f", {method}" if method and not is_shared else "")
    return textwrap.fill(plain(whole), _TITLE)


def draw(summary: Summary, found: Sequence[tuple[Result, np.ndarray]]) -> Figure:
    """Draw the plots of one surface; see `pictures`."""
    different: dict[bytes, list[tuple[Result, np.ndarray]]] = {}
    for result, vectors in found:
        different.setdefault(vectors.tobytes(), []).append((result, vectors))
    with rc_context(figures.LOOK):
        figure, panels = figures.lay_out(len(different), across=2, ratio=1.0, entries=2)
        handles: dict[str, Artist] = {}
        for shared, panel in zip(different.values(), panels, strict=True):
            result, vectors = shared[0]
            places = flattened(vectors)
            defect = np.array(result.defect)
            for chosen, label, color, marker in (
                (~defect, "good", figures.GOOD, "o"),
                (defect, "defect", figures.DEFECT, "x"),
            ):
                x, y = places[chosen].T
                handles[label] = panel.scatter(
                    x, y, s=12, c=color, marker=marker, linewidths=0.8, label=label
                )
            panel.set(title=_name(summary, result, is_shared=len(shared) > 1), xticks=[], yticks=[])
        figures.legend(figure, handles)
    return figure


def flattened(vectors: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Map embeddings (n, d) to two dimensions with t-SNE: float32 (n, 2)."""
    if not np.ptp(vectors, axis=0).any():  # all embeddings are equal
        return np.zeros((len(vectors), 2), np.float32)
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    # Starting from PCA's coordinates makes the plot reproducible.
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
