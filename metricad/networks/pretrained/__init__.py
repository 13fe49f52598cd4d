"""The network shipped with metricad, in two forms. README.md in this folder is its model card."""

import importlib.resources
import io

import keras
import numpy as np

from metricad.networks import SHIPPED, factory, hypercolumn, joint

UNITS = {**dict.fromkeys(SHIPPED, 16), joint.IMAGENET: 0, joint.JOINT: 16}
"""Size of each network by its name. All have the same weights, beside those of ImageNet features."""

ARCHITECTURES = {
    "accurate": hypercolumn.THREE_SCALES,
    "fast": hypercolumn.NAME,
    joint.IMAGENET: joint.IMAGENET,
    joint.JOINT: joint.JOINT,
}
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
    name : {"accurate", "fast", "imagenet", "joint"}
        The last two have ImageNet features, alone or beside those of ``accurate``.

    Raises
    ------
    ValueError
        No network has this name.
    DataError
        The package with the ImageNet weights is not installed.
    """
    if name not in UNITS:
        raise ValueError(f"network must be one of {', '.join(UNITS)}, received {name!r}")
    if name == joint.IMAGENET:
        return factory.build(name, UNITS[name])
    model = factory.build(ARCHITECTURES[name], UNITS[name])
    content = (importlib.resources.files(__package__) / _WEIGHTS).read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        factory.set_weights(model, [arrays[f"{k:02d}"].astype(np.float32) for k in range(len(arrays))])
    return model


def save(model: keras.Model, path: str) -> None:
    """Write the weights of a network as they are shipped: 16-bit floats, half the size."""
    weights = model.get_weights()
    np.savez_compressed(path, **{f"{k:02d}": array.astype(np.float16) for k, array in enumerate(weights)})
