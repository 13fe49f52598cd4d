"""Shared by scripts that compare methods: options, the command line to record, the size of a model."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from metricad.data.datasets import Sample, Surface
from metricad.inspection.detector import PartDetector
from metricad.methods import Method


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of published methods: their epochs, pre-trained weights, and size of images."""
    parser.add_argument("--epochs", action="append", default=[], metavar="METHOD=N", help="shorter training")
    parser.add_argument("--weights", help="as of 'metricad evaluate'")
    parser.add_argument("--resize", type=int, action="append", default=[], help="as of 'metricad evaluate'")


def epochs(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, int]:
    """Return the epochs of each method; end the program if a name is unknown."""
    found = {name: int(count) for name, _, count in (each.partition("=") for each in options.epochs)}
    if unknown := found.keys() - set(Method):
        parser.error(f"--epochs names no method: {', '.join(sorted(unknown))}")
    return found


def words(options: argparse.Namespace) -> list[str]:
    """Return the arguments about published methods, without folders of this machine."""
    found = [word for name in options.method or [] for word in ("--method", name)]
    found += [word for each in options.epochs for word in ("--epochs", each)]
    found += ["--weights", Path(options.weights).name] if options.weights else []
    return found + [word for side in options.resize for word in ("--resize", str(side))]


def sources(options: argparse.Namespace) -> list[str]:
    """Return the arguments about data, without folders of this machine."""
    prepared = Path(options.data_dir).resolve() if options.data_dir else None
    found = [word for source in options.data for word in ("--data", _named(source, prepared))]
    return found + (["--data-dir", "PREPARED"] if prepared else [])


def _named(source: str, prepared: Path | None) -> str:
    """Return the name of a data set, or of a folder without its parent folders."""
    folder, colon, names = Path(source), "", ""
    if not folder.is_dir():
        whole, colon, names = source.rpartition(":")
        folder = Path(whole)
        if not whole or not folder.is_dir():
            return source
    folder = folder.resolve()
    place = "PREPARED/" if prepared and folder.is_relative_to(prepared) else ""
    return f"{place}{folder.name}{colon}{names}"


def fewer(surface: Surface, most: int | None) -> Surface:
    """Return a surface with at most so many images to fit to, and good and defective ones to test.

    They are spread evenly over the sorted images.
    """
    if most is None:
        return surface

    def spread(samples: Sequence[Sample]) -> tuple[Sample, ...]:
        chosen = np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples))).round().astype(int))
        return tuple(samples[number] for number in chosen)

    good = [sample for sample in surface.test if not sample.is_defect]
    defects = [sample for sample in surface.test if sample.is_defect]
    return replace(surface, fit=spread(surface.fit), test=(*spread(good), *spread(defects)))


def size_of(value: object, seen: dict[int, object] | None = None) -> int:
    """Count the bytes of all arrays and network weights of an object, each once."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return 0
    seen[id(value)] = value  # which keeps it, so that no other gets its id
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, PartDetector):  # its halves hold the same layers again
        learned = (value.standardize, value.fuse, value.score_layer) if value.densities else ()
        return sum(size_of(each, seen) for each in (value.network, *value.densities, *learned))
    if isinstance(value, keras.layers.Layer):  # a network, too
        return sum(weights.nbytes for weights in value.get_weights())
    if isinstance(value, Mapping):
        return sum(size_of(each, seen) for each in value.values())
    if isinstance(value, (list, tuple)):
        return sum(size_of(each, seen) for each in value)
    if type(value).__module__.partition(".")[0] in ("metricad", "sklearn"):
        return size_of(vars(value), seen) if hasattr(value, "__dict__") else 0
    return 0
