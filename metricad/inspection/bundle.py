"""Save an inspector as a bundle and load it: one ``.metricad`` file with checksums and without pickle.

The file is a zip of ``manifest.json`` and ``.npy`` arrays. The manifest holds the version of the format, the
versions of the software that wrote it, the settings, and the SHA-256 of every other member.
"""

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from metricad import files
from metricad.data.levels import Levels
from metricad.density.mean import MeanDistance
from metricad.density.mixture import GaussianMixture
from metricad.density.positional import PositionalGaussian
from metricad.errors import BundleError
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import ImageJudge
from metricad.networks import factory
from metricad.preprocessing.regions import KINDS as REGIONS
from metricad.preprocessing.regions import Region
from metricad.scoring.calibration import Calibration
from metricad.scoring.score import ImageScore
from metricad.scoring.standardize import Fuse, Standardize
from metricad.versions import versions

FORMAT = "metricad-bundle"
FORMAT_VERSION = 1
_MANIFEST = "manifest.json"
_LAYERS = {
    one.__name__: one
    for one in (MeanDistance, GaussianMixture, PositionalGaussian, Standardize, Fuse, ImageScore)
}


def save(inspector: Inspector[ImageJudge], path: str | os.PathLike[str]) -> None:
    """Write an inspector to one file. If writing fails, no partial file is left.

    Raises
    ------
    BundleError
        The inspector is an exported one. It no longer holds all that a bundle needs.
    """
    detector = inspector.detector
    if not isinstance(detector, PartDetector):
        raise BundleError(
            "an exported inspector cannot be saved as a bundle; save the one that it was exported from"
        )
    region = detector.region
    layers = _layers(detector)
    arrays = {
        **_numbered("network", detector.network.get_weights()),
        **{
            name: array
            for key, layer in layers.items()
            for name, array in _numbered(key, layer.get_weights()).items()
        },
        **({} if region is None else {f"region/{name}": array for name, array in region.arrays().items()}),
        "calibration/scores": inspector.calibration.scores,
    }
    members = {f"{name}.npy": _to_bytes(array) for name, array in arrays.items()}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "network": {"architecture": detector.network.name, "units": factory.units(detector.network)},
        "kind": detector.kind,
        "settings": detector.settings,
        "layers": {key: _describe_layer(layer) for key, layer in layers.items()},
        "region": None if region is None else _describe(region),
        "calibration": {
            "false_alarm_rate": inspector.calibration.false_alarm_rate,
            "threshold": inspector.threshold,
        },
        "levels": None if inspector.levels is None else inspector.levels.to_dict(),
        "fitted_on": inspector.fitted_on,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }
    with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
        for name, content in members.items():
            archive.writestr(name, content)


def load(path: str | os.PathLike[str]) -> Inspector[PartDetector]:
    """Load an inspector from a bundle.

    Raises
    ------
    BundleError
        The file is missing, is no bundle, is damaged, or has a version that this metricad does not know.
    """
    manifest, members = _read(Path(path))
    arrays = {name.removesuffix(".npy"): _from_bytes(content, path) for name, content in members.items()}
    try:
        network = factory.build(manifest["network"]["architecture"], manifest["network"]["units"])
        network.set_weights(_below(arrays, "network"))
        layers = {key: _restore_layer(one, _below(arrays, key)) for key, one in manifest["layers"].items()}
        region = manifest["region"]
        if region is not None:
            region = _restore_region(region, {k: arrays[f"region/{k}"] for k in region.pop("arrays")})
        detector = PartDetector(
            network,
            manifest["kind"],
            metric=manifest["layers"]["density0"].get("metric", "euclidean"),
            region=region,
            score=layers["score"].score,
        )
        detector.prepare(**manifest["settings"])
        detector.densities = [layers[f"density{k}"] for k in range(len(detector.features.sources))]
        detector.assemble(layers.get("standardize"), layers.get("fuse"), layers["score"])
        calibration = Calibration(arrays["calibration/scores"], manifest["calibration"]["false_alarm_rate"])
        levels = Levels.from_dict(manifest["levels"])
        return Inspector(detector, calibration, manifest["fitted_on"], levels)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: incomplete or contradictory bundle ({error!r}); make it again") from error


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the manifest of a bundle and check all members; raises the errors of `load`."""
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    if not path.is_file():
        raise BundleError(f"{path}: no such file; make a bundle with 'metricad prototype'")
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(_MANIFEST))
            if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
                raise BundleError(f"{path}: a zip file, but no metricad bundle")
            _check_version(manifest.get("format_version"), path)
            members = {name: archive.read(name) for name in manifest["sha256"]}
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        EOFError,
        OSError,
        RuntimeError,  # a flipped bit can mark a member as encrypted or change its compression method
        zlib.error,
    ) as error:
        raise BundleError(f"{path}: no metricad bundle, or a damaged one ({error}); make it again") from error
    for name, digest in manifest["sha256"].items():
        if hashlib.sha256(members[name]).hexdigest() != digest:
            raise BundleError(f"{path}: damaged: the checksum of {name} is wrong; make the bundle again")
    return manifest, members


def _check_version(version: object, path: Path) -> None:
    if version == FORMAT_VERSION:
        return
    advice = "make the bundle again"
    if isinstance(version, int) and version > FORMAT_VERSION:
        advice = "another metricad made it: use that one, or make the bundle again"
    raise BundleError(f"{path}: bundle format {version}, expected {FORMAT_VERSION}; {advice}")


def _layers(detector: PartDetector) -> dict[str, keras.layers.Layer]:
    """Return all layers that learned from good images, by their name in the bundle."""
    densities = {f"density{k}": density for k, density in enumerate(detector.densities)}
    others = {"standardize": detector.standardize, "fuse": detector.fuse, "score": detector.score_layer}
    return densities | {key: layer for key, layer in others.items() if layer is not None}


def _describe_layer(layer: keras.layers.Layer) -> dict[str, object]:
    config = {
        key: value for key, value in layer.get_config().items() if key not in ("name", "trainable", "dtype")
    }
    return {"layer": type(layer).__name__, **config}


def _restore_layer(description: Mapping[str, Any], weights: list[np.ndarray]) -> keras.layers.Layer:
    settings = dict(description)
    layer = _LAYERS[settings.pop("layer")](**settings)
    layer.set_weights(weights)
    return layer


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


def _to_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _from_bytes(content: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # NumPy's header parser raises many types of error
        raise BundleError(f"{path}: holds something that is no plain array; not read") from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BundleError(f"{path}: holds numbers that are not finite; make the bundle again")
    return array
