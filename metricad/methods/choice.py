"""Choose a published method and its settings as a user names them; say what is not as published."""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metricad.methods import detector_class
from metricad.networks import efficientnet, imagenet

_PLAIN = (bool, int, float, str, list, tuple, type(None))

_LARGE = 256  # pixels: from here on the published settings would take too much memory and time, hence these
_BOUNDS = {"dimensions": 100, "most": 10_000}


@dataclass(frozen=True)
class Choice:
    """A published method with its settings.

    Attributes
    ----------
    name : str
        One of `methods.Method`.
    title : str
        The name, and in brackets what is not as published.
    chosen : dict
        Settings that differ from the defaults.
    settings : dict
        All settings that JSON can hold. Those that tell where and how a training runs are left out.
    """

    name: str
    title: str
    chosen: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the method but functions and folders, defaults included."""
        found = defaults(self.name) | self.chosen
        return {
            key: os.fspath(value) if isinstance(value, os.PathLike) else value
            for key, value in found.items()
            if key not in _CALLS and isinstance(value, (*_PLAIN, os.PathLike))
        }

    @property
    def epochs(self) -> int:
        """Number of epochs; 0 if nothing is trained."""
        return int(self.settings.get("epochs", 0))

    def make(self, *, checkpoint: Path | None = None, on_epoch: Callable[[], object] = lambda: None) -> Any:
        """Make a detector; both arguments are for methods that are trained."""
        calls = {"checkpoint": checkpoint, "on_epoch": on_epoch} if self.epochs else {}
        return detector_class(self.name)(**self.chosen, **calls)


_CALLS = ("checkpoint", "on_epoch", "features")
_OPTIONS = ("epochs", "weights", "seed")  # which the command line has options for


def defaults(name: str) -> dict[str, Any]:
    """Return the settings of a method and their defaults."""
    return {one.name: one.default for one in inspect.signature(detector_class(name)).parameters.values()}


def is_resized(name: str) -> bool:
    """Whether a published method resizes images for a pre-trained network: `choose` takes a side."""
    return "backbone" in defaults(name)


def choose(
    name: str,
    *,
    epochs: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    side: int | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Choice:
    """Choose a published method; what it has no use for is ignored.

    Parameters
    ----------
    name : str
        One of `methods.Method`.
    epochs : int, optional
        Number of epochs, instead of the published one, if it is trained. Another number is added to the name.
    weights : str or path, optional
        Weights of the network that it takes its features from: ``imagenet`` (default), a file,
        ``efficientnet-lite2`` for that network and its weights, or ``none`` for random ones. The last two are
        added to the name.
    side : int, optional
        Height and width, in pixels, that images are resized to for this network. Another one than published
        is added to the name. Above 256 pixels, settings that decide memory and time are bounded.
    seed : int, optional
        Seed of all random numbers, if it has any.
    settings : mapping, optional
        Other settings by the names of the class's parameters. Those that differ are added to the name.

    Raises
    ------
    ValueError
        No published method has this name, it does not have a setting, or its network needs a larger side.
    """
    known = defaults(name)
    chosen: dict[str, Any] = {}
    remarks = []
    if seed is not None and "seed" in known:
        chosen["seed"] = seed
    if "epochs" in known and epochs not in (None, known["epochs"]):
        chosen["epochs"] = epochs
        remarks.append(f"{epochs} of {known['epochs']} epochs")
    if "weights" in known and str(weights) == efficientnet.NAME:
        chosen["backbone"] = imagenet.LITE2
        remarks.append("EfficientNet-Lite2")
    elif "weights" in known and weights is not None:
        chosen["weights"] = weights
        if str(weights) == imagenet.NONE:
            remarks.append("random weights")
    if side is not None and is_resized(name):
        imagenet.checked_side(side, str(chosen.get("backbone", known["backbone"])))
        own = "map_side" if "map_side" in known else "side"
        if side != known[own]:
            chosen[own] = side
            remarks.append(f"{side} pixels")
        if side > _LARGE:
            chosen |= {key: bound for key, bound in _BOUNDS.items() if key in known}
    for key, value in (settings or {}).items():
        _check(name, key, value, known)
        if value != known[key]:
            chosen[key] = value
            remarks.append(f"{key} {value}")
    return Choice(name, f"{name} ({', '.join(remarks)})" if remarks else name, chosen)


def _check(name: str, key: str, value: object, known: Mapping[str, Any]) -> None:
    """Raise ValueError unless a method has this setting and the value is of its type."""
    names = [one for one in known if one not in (*_CALLS, *_OPTIONS)]
    if key not in names:
        raise ValueError(f"{name} has no setting {key!r}; expected one of {', '.join(names) or 'none'}")
    if known[key] is None:
        fits = value is None or (isinstance(value, int | list) and not isinstance(value, bool))
    elif isinstance(known[key], tuple):
        fits = isinstance(value, list | tuple)
    elif isinstance(known[key], float):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = type(value) is type(known[key]) or (value is None and key in _OPTIONAL)
    if not fits:
        expected = "a whole number" if known[key] is None else f"a value like {known[key]!r}"
        raise ValueError(f"{key} of {name} must be {expected}, received {value!r}")


_OPTIONAL = ("components",)  # may be none although it has a default
