"""The network shipped with metricad, in two forms. README.md in this folder is its model card."""

import importlib.resources
import io

import keras
import numpy as np

from metricad.networks import SHIPPED, factory, hypercolumn, joint

UNITS = dict.fromkeys(SHIPPED, 16)
"""Size of each network by its name. Both have the same weights."""

ARCHITECTURES = {"accurate": hypercolumn.THREE_SCALES, "fast": hypercolumn.NAME}
"""Architecture by name. The accurate one also processes the image at a half and a quarter of its size."""

_WEIGHTS = "weights.npz"

TRAINED_ON = (
    "free texture photographs",
    "synthetic surfaces 1, 2, 3, 5 and 6, seeds from 1000 on",
    "procedural textures",
)
"""Training data. They contain no image of a data set that metricad is tested on."""


def load(name: str = SHIPPED[0]) -> keras.Model:
    """Load a shipped network.

    Parameters
    ----------
    name : {"accurate", "fast"}

    Raises
    ------
    ValueError
        No shipped network has this name.
    """
    if name == joint.IMAGENET:
        return factory.build(joint.IMAGENET, 0)
    if name == joint.JOINT:
        both, own = factory.build(joint.JOINT, UNITS["accurate"]), load("accurate")
        both.get_layer(hypercolumn.THREE_SCALES).set_weights(own.get_weights())
        return both
    if name not in UNITS:
        raise ValueError(f"network must be one of {', '.join(UNITS)}, received {name!r}")
    model = factory.build(ARCHITECTURES[name], UNITS[name])
    content = (importlib.resources.files(__package__) / _WEIGHTS).read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        model.set_weights([arrays[f"{k:02d}"].astype(np.float32) for k in range(len(arrays))])
    return model


def save(model: keras.Model, path: str) -> None:
    """Write the weights of a network as they are shipped: 16-bit floats, half the size."""
    weights = model.get_weights()
    np.savez_compressed(path, **{f"{k:02d}": array.astype(np.float16) for k, array in enumerate(weights)})
