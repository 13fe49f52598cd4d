"""Table 3 of the paper, for comparison.

Staar, Lütjen and Freitag, "Anomaly detection with convolutional neural networks for industrial surface
inspection", Procedia CIRP 79 (2019).
"""

from collections.abc import Sequence

METHOD = "mean euclidean"
"""Name in results of the paper's density and distance (section 2.9)."""

# A setting is the size of the network and whether it was also trained on objects (CIFAR-100).
SETTINGS = ((16, False), (16, True), (32, False), (32, True))

# AUROC: median and standard deviation over three networks, in the order of `SETTINGS`.
_ROWS = {
    1: ((0.99, 0.01), (0.98, 0.01), (0.99, 0.03), (0.93, 0.03)),
    2: ((0.48, 0.02), (0.47, 0.02), (0.47, 0.0), (0.45, 0.01)),
    3: ((0.72, 0.04), (1.0, 0.003), (0.84, 0.03), (1.0, 0.003)),
    4: ((0.66, 0.07), (0.49, 0.02), (0.56, 0.02), (0.51, 0.08)),
    5: ((1.0, 0.002), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)),
    6: ((0.97, 0.02), (0.98, 0.02), (0.98, 0.0), (1.0, 0.03)),
    7: ((0.76, 0.09), (0.95, 0.14), (0.79, 0.08), (0.61, 0.16)),
    8: ((0.93, 0.03), (1.0, 0.0), (0.99, 0.03), (1.0, 0.0)),
    9: ((0.51, 0.03), (0.98, 0.03), (0.61, 0.12), (0.86, 0.07)),
    10: ((0.56, 0.01), (0.57, 0.03), (0.54, 0.02), (0.63, 0.09)),
}

TABLE_3: dict[int, dict[tuple[int | None, bool | None], tuple[float, float]]] = {
    number: dict(zip(SETTINGS, row, strict=True)) for number, row in _ROWS.items()
}
"""Class of DAGM → (units, with objects) → (median, standard deviation) of the AUROC."""

MEANS: dict[tuple[int | None, bool], float] = dict(zip(SETTINGS, (0.76, 0.83, 0.78, 0.81), strict=True))
"""(units, with objects) → mean over the ten classes, as printed. The paper does not say what is averaged.

The means of the medians above are 0.758, 0.842, 0.777 and 0.799. With CIFAR-100 they differ from the printed
ones by more than rounding.
"""

_CLASSES = {f"class{number}": number for number in TABLE_3}


def reference(
    dataset: str, surface: str, units: int | None, with_objects: bool | None
) -> tuple[float, float] | None:
    """Return the paper's median and deviation of the AUROC for a surface and a setting, by `METHOD`.

    Parameters
    ----------
    dataset, surface : str
        Names as in results: ``dagm2007/all`` and ``class1``.
    units : int or None
        Size of the network, h.
    with_objects : bool or None
        See `saw_objects`; None if it is not known.

    Returns
    -------
    (float, float), or None if the paper has no such value
    """
    if dataset.split("/")[0] != "dagm2007" or surface not in _CLASSES:
        return None
    return TABLE_3[_CLASSES[surface]].get((units, with_objects))


def saw_objects(trained_on: Sequence[str]) -> bool:
    """Whether CIFAR-100 is among the data sets of `results.Network.trained_on`."""
    return any(entry.startswith("cifar100") for entry in trained_on)
