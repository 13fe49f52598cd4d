"""The network that ships with metricad, in two forms; README.md beside this file is its model card."""

import importlib.resources
import io

import keras
import numpy as np

from metricad.networks import SHIPPED, factory, hypercolumn

UNITS = dict.fromkeys(SHIPPED, 16)
"""The networks by name, and their size: the same weights, trained once."""

ARCHITECTURES = {"accurate": hypercolumn.THREE_SCALES, "fast": hypercolumn.NAME}
"""The accurate one looks at the image at a half and a quarter of its size as well."""

_WEIGHTS = "weights.npz"

TRAINED_ON = (
    "free texture photographs",
    "synthetic surfaces 1, 2, 3, 5 and 6, seeds from 1000 on",
    "procedural textures",
)
"""What they were trained on; no image of a data set that metricad is tested on is among it."""


def load(name: str = SHIPPED[0]) -> keras.Model:
    """Load a network that ships.

    Parameters
    ----------
    name : {"accurate", "fast"}

    Raises
    ------
    ValueError
        No network of this name ships.
    """
    if name not in UNITS:
        raise ValueError(f"network must be one of {', '.join(UNITS)}, received {name!r}")
    model = factory.build(ARCHITECTURES[name], UNITS[name])
    content = (importlib.resources.files(__package__) / _WEIGHTS).read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        model.set_weights([arrays[f"{k:02d}"].astype(np.float32) for k in range(len(arrays))])
    return model


def save(model: keras.Model, path: str) -> None:
    """Write a network's weights as they ship: 16-bit numbers, half the size."""
    weights = model.get_weights()
    np.savez_compressed(path, **{f"{k:02d}": array.astype(np.float16) for k, array in enumerate(weights)})
