"""Save an inspector as a bundle and load it: what its manifest and its arrays hold; see `bundle_file`."""

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from metricad.data.levels import Levels
from metricad.density.cells import CellGaussian
from metricad.density.mean import MeanDistance
from metricad.density.mixture import GaussianMixture
from metricad.density.positional import PositionalGaussian
from metricad.errors import BundleError, DataError
from metricad.inspection import bundle_file
from metricad.inspection.bundle_file import checksum, read_manifest
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import ImageJudge
from metricad.inspection.method_detector import Fitted, MethodDetector
from metricad.methods.choice import Choice, defaults
from metricad.networks import factory, imagenet
from metricad.preprocessing.regions import KINDS as REGIONS
from metricad.preprocessing.regions import Region
from metricad.scoring.calibration import Calibration
from metricad.scoring.opening import Opening
from metricad.scoring.score import ImageScore
from metricad.scoring.standardize import Fuse, Standardize

__all__ = ["checksum", "load", "load_own", "read_manifest", "save"]

_MOST_SETTING = 2**16  # of a method; the arrays of a larger one would not fit into a bundle
_LAYERS = {
    one.__name__: one
    for one in (
        MeanDistance,
        GaussianMixture,
        PositionalGaussian,
        CellGaussian,
        Standardize,
        Fuse,
        Opening,
        ImageScore,
    )
}


def save(inspector: Inspector[ImageJudge], path: str | os.PathLike[str]) -> None:
    """Write an inspector to one file. If writing fails, no partial file is left.

    Raises
    ------
    BundleError
        The inspector is an exported one, which no longer holds all that a bundle needs; or the file would be
        too large.
    """
    detector = inspector.detector
    if isinstance(detector, PartDetector):
        description, arrays = _of_part(detector)
    elif isinstance(detector, MethodDetector):
        description, arrays = _of_method(detector)
    else:
        raise BundleError(
            "an exported inspector cannot be saved as a bundle; save the one that it was exported from"
        )
    if inspector.calibration is not None:
        arrays["calibration/scores"] = inspector.calibration.scores
    description |= {
        "calibration": None if inspector.calibration is None else inspector.calibration.record(),
        "levels": None if inspector.levels is None else inspector.levels.to_dict(),
        "fitted_on": inspector.fitted_on,
    }
    bundle_file.write(path, description, arrays)


def _of_part(detector: PartDetector) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Describe metricad's own model, and return its arrays."""
    region, layers = detector.region, _layers(detector)
    arrays = {
        **_numbered("network", factory.weights(detector.network)),
        **{
            name: array
            for key, layer in layers.items()
            for name, array in _numbered(key, layer.get_weights()).items()
        },
        **({} if region is None else {f"region/{name}": array for name, array in region.arrays().items()}),
    }
    description = {
        "network": {"architecture": detector.network.name, "units": factory.units(detector.network)},
        "kind": detector.kind,
        "settings": detector.settings,
        "layers": {key: _describe_layer(layer) for key, layer in layers.items()},
        "region": None if region is None else _describe(region),
    }
    return description, arrays


def _of_method(detector: MethodDetector) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Describe a published method, and return its arrays. Weights of others are named, not kept."""
    choice = detector.choice
    settings, own = choice.settings, {}
    if (weights := settings.get("weights")) not in (None, imagenet.IMAGENET, imagenet.NONE):
        settings["weights"] = Path(weights).name
        own = {"weights_sha256": hashlib.sha256(Path(weights).read_bytes()).hexdigest()}
    described = {
        "method": choice.name,
        "title": choice.title,
        "settings": settings,
        "channels": detector.channels,
        "shape": detector.shape,
        **own,
    }
    return described, detector.arrays()


def load(path: str | os.PathLike[str], *, check: Callable[[str], None] | None = None) -> Inspector[Fitted]:
    """Load an inspector from a bundle.

    Parameters
    ----------
    path : path
    check : function, optional
        Called with the SHA-256 of the file before anything is made of it; raises BundleError to refuse it.

    Raises
    ------
    BundleError
        The file is missing, is no bundle, is damaged, or has a version that this metricad does not know.
    """
    manifest, members = bundle_file.read(Path(path), check)
    try:
        arrays = {
            name.removesuffix(".npy"): bundle_file.to_array(content) for name, content in members.items()
        }
        return _restore(manifest, arrays, Path(path).parent)
    except (BundleError, DataError) as error:  # weights of others are needed and not there
        raise BundleError(f"{path}: {error}") from error
    except Exception as error:  # wrong types and numbers raise errors of many types
        reason = " ".join(repr(error).split())[:200]
        raise BundleError(f"{path}: incomplete or contradictory bundle ({reason}); make it again") from error


def load_own(path: str | os.PathLike[str], *, verb: str) -> Inspector[PartDetector]:
    """Load a bundle of metricad's own model; parameters and errors of `load`.

    Raises
    ------
    DataError
        It holds a published method, which `verb` cannot be applied to.
    """
    inspector = load(path)
    if not isinstance(inspector.detector, PartDetector):
        raise DataError(
            f"{path}: {verb} is for inspectors on metricad's own networks, this is the method "
            f"{inspector.detector.choice.name}"
        )
    return cast(Inspector[PartDetector], inspector)


def _restore(
    manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray], folder: Path
) -> Inspector[Fitted]:
    if not isinstance(manifest["fitted_on"], dict):
        raise TypeError("fitted_on is no object")
    detector: Fitted
    if "method" in manifest:
        detector = _restore_method(manifest, arrays, folder)
    else:
        detector = _restore_part(manifest, arrays)
    calibration = None
    if manifest["calibration"] is not None:
        calibration = Calibration.restore(arrays["calibration/scores"], manifest["calibration"])
    elif not math.isfinite(manifest["fitted_on"]["largest_on_good"]):
        raise ValueError("a largest map value that is not finite")
    opening = getattr(detector, "opening", None)
    if opening is not None and (calibration is None or opening.threshold != calibration.threshold):
        raise ValueError("defects are let through at another threshold than that of the scores")
    return Inspector(detector, calibration, manifest["fitted_on"], Levels.from_dict(manifest["levels"]))


def _restore_method(
    manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray], folder: Path
) -> MethodDetector:
    name, title, settings, channels, shape = (
        manifest[key] for key in ("method", "title", "settings", "channels", "shape")
    )
    if not settings.keys() <= defaults(name).keys() or channels not in (1, 3) or not isinstance(title, str):
        raise ValueError("settings that this method does not have")
    if any(type(value) is int and key != "seed" and value > _MOST_SETTING for key, value in settings.items()):
        raise ValueError("settings out of their range")
    if (digest := manifest.get("weights_sha256")) is not None:
        settings = settings | {"weights": _weights(settings["weights"], digest, folder)}
    return MethodDetector.restore(
        Choice(name, title, settings),
        arrays,
        channels=channels,
        shape=None if shape is None else tuple(shape),
    )


def _weights(name: str, digest: str, folder: Path) -> Path:
    """Find the file of pre-trained weights that a method was fitted with: beside the bundle, or Keras's."""
    places = (folder, Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models")
    for file in (place / Path(name).name for place in places):
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest:
            return file
    raise BundleError(
        f"needs the pre-trained weights {name} that it was made with, which a bundle does not hold; copy the "
        f"file to {folder} or {places[1]}"
    )


def _restore_part(manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> PartDetector:
    settings, region = manifest["settings"], manifest["region"]
    network = _restore_network(manifest["network"], _below(arrays, "network"))
    layers = {key: _restore_layer(one, _below(arrays, key)) for key, one in manifest["layers"].items()}
    if region is not None:
        region = _restore_region(region, {k: arrays[f"region/{k}"] for k in region.pop("arrays")})
    detector = PartDetector(
        network,
        manifest["kind"],
        metric=manifest["layers"]["density0"].get("metric", "euclidean"),
        region=region,
        score=layers["score"].score,
    )
    detector.prepare(**_checked(settings))
    detector.densities = [layers[f"density{k}"] for k in range(len(detector.features.sources))]
    if "fuse" in layers and layers["fuse"].kinds != tuple(one.kind for one in detector.features.sources):
        raise ValueError("kinds of feature maps that this network does not have")
    detector.opening = layers.get("opening")
    detector.assemble(layers.get("standardize"), layers.get("fuse"), layers["score"])
    return detector


def _layers(detector: PartDetector) -> dict[str, keras.layers.Layer]:
    """Return all layers that learned from good images, by their name in the bundle."""
    densities = {f"density{k}": density for k, density in enumerate(detector.densities)}
    others = {
        "standardize": detector.standardize,
        "fuse": detector.fuse,
        "opening": detector.opening,
        "score": detector.score_layer,
    }
    return densities | {key: layer for key, layer in others.items() if layer is not None}


def _describe_layer(layer: keras.layers.Layer) -> dict[str, object]:
    config = {
        key: value for key, value in layer.get_config().items() if key not in ("name", "trainable", "dtype")
    }
    return {"layer": type(layer).__name__, **config}


def _restore_network(description: Mapping[str, Any], weights: list[np.ndarray]) -> keras.Model:
    architecture, units = description["architecture"], description["units"]
    # Every network has more weights than that. So nothing is built that is much larger than the arrays.
    if type(units) is not int or 10 * units**2 > sum(array.size for array in weights):
        raise ValueError(f"a network of {units!r} units with too few weights")
    network = factory.build(architecture, units)
    factory.set_weights(network, weights)
    return network


def _restore_layer(description: Mapping[str, Any], weights: list[np.ndarray]) -> keras.layers.Layer:
    settings = dict(description)
    kind = _LAYERS[settings.pop("layer")]
    expected = _shapes(kind, settings)
    if expected != [array.shape for array in weights]:
        raise ValueError(f"arrays of other shapes than {expected} for {kind.__name__}")
    layer = kind(**settings)
    layer.set_weights(weights)
    return layer


def _shapes(kind: type[keras.layers.Layer], settings: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Return the shapes of a layer's weights without making them, as they could be huge."""
    shapes: list[tuple[int, ...]] = []

    def add_weight(_: object, shape: tuple[int, ...], **__: object) -> None:
        shapes.append(tuple(shape))

    type(kind.__name__, (kind,), {"add_weight": add_weight})(**settings)
    return shapes


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check the types of a detector's settings."""
    shape = settings.get("shape", [1, 1])
    sides = [settings["channels"], *shape]
    if not (len(shape) == 2 and all(type(side) is int and side > 0 for side in sides)):
        raise ValueError(f"channels or a shape that are no numbers: {sides}")
    is_known = settings["channels"] in (1, 3) and all(
        type(settings[name]) is bool for name in ("is_halved", "resizes_cells")
    )
    if not is_known or settings["shrink"] not in _SHRINKS:
        raise ValueError("settings out of their range")
    return dict(settings)


_SHRINKS = tuple(2**power for power in range(8))


def _describe(region: Region) -> dict[str, object]:
    return {"kind": region.kind, "arrays": sorted(region.arrays()), **region.settings()}


def _restore_region(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Region:
    settings = dict(description)
    return REGIONS[settings.pop("kind")](**settings).restore(arrays)


def _numbered(folder: str, weights: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{folder}/{number:02d}": array for number, array in enumerate(weights)}


def _below(arrays: Mapping[str, np.ndarray], folder: str) -> list[np.ndarray]:
    """Return the arrays of a folder, sorted by name."""
    return [array for name, array in sorted(arrays.items()) if name.startswith(f"{folder}/")]
