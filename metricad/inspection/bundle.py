"""A trained inspector on disk: one ``.metricad`` file, checksummed, without pickle.

The file is a zip of ``manifest.json`` and arrays as ``.npy``. The manifest holds the format's version,
the versions of what made it, the settings, and the SHA-256 of every other member.
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

import numpy as np

from metricad import files
from metricad.networks import factory as architectures
from metricad.scoring.calibration import Calibration
from metricad.inspection.detector import TripletDetector
from metricad.errors import BundleError
from metricad.evidence import Evidence
from metricad.head import HeadPrototype
from metricad.inspection.inspector import Inspector
from metricad.kinds import KINDS
from metricad.prototype import Prototype
from metricad.preprocessing.regions import KINDS as REGIONS
from metricad.preprocessing.regions import Region
from metricad.preprocessing.intensity import Tone
from metricad.versions import versions

FORMAT = "metricad-bundle"
FORMAT_VERSION = 5
# The fourth and third with lines and borders that were judged in another way, the second without lines and
# gathering and with other heads, the first without regions, reductions and tones.
_OLDER = (1, 2, 3, 4)
_MANIFEST = "manifest.json"
_PROTOTYPES = {**KINDS, HeadPrototype.kind: HeadPrototype}


def save(inspector: Inspector, path: str | os.PathLike) -> None:
    """Write an inspector to one file, whole or not at all."""
    detector = inspector.detector
    region = detector.region
    arrays = {
        **{f"network/{i:02d}": weights for i, weights in enumerate(detector.model.get_weights())},
        **{f"prototype/{name}": array for name, array in detector.prototype.arrays().items()},
        **({} if region is None else {f"region/{name}": array for name, array in region.arrays().items()}),
        **(
            {}
            if detector.evidence is None
            else {f"evidence/{k}": array for k, array in detector.evidence.arrays().items()}
        ),
        "calibration/scores": inspector.calibration.scores,
    }
    members = {f"{name}.npy": _to_bytes(array) for name, array in arrays.items()}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "network": {"architecture": detector.model.name, "units": architectures.units(detector.model)},
        "prototype": _describe(detector.prototype),
        "region": None if region is None else _describe(region),
        "tone": None if detector.tone is None else detector.tone.curve,
        "gathers": detector.gathers,
        "reduction": detector.reduction,
        "calibration": {
            "false_alarm_rate": inspector.calibration.false_alarm_rate,
            "threshold": inspector.threshold,
        },
        "fitted_on": inspector.fitted_on,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }
    with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
        for name, content in members.items():
            archive.writestr(name, content)


def load(path: str | os.PathLike) -> Inspector:
    """Read an inspector.

    Raises
    ------
    BundleError
        The file is missing, no bundle, damaged, or of a version that this metricad does not know.
    """
    manifest, members = _read(Path(path))
    arrays = {name.removesuffix(".npy"): _from_bytes(content, path) for name, content in members.items()}
    try:
        model = architectures.build(manifest["network"]["architecture"], manifest["network"]["units"])
        model.set_weights([array for name, array in sorted(_below(arrays, "network").items())])
        prototype = _restore(_PROTOTYPES, manifest["prototype"], _below(arrays, "prototype"))
        region = manifest.get("region")  # bundles did not always say; the whole image then
        if region is not None:
            region = _restore(REGIONS, region, _below(arrays, "region"))
        calibration = Calibration(arrays["calibration/scores"], manifest["calibration"]["false_alarm_rate"])
        reduction = manifest.get("reduction", "max")  # all that there was, when bundles did not say
        curve = manifest.get("tone")
        tone = None if curve is None else Tone(curve)
        evidence = _below(arrays, "evidence")  # not always looked for
        if manifest["format_version"] in _OLDER and (evidence or _below(arrays, "lines")):
            raise BundleError(
                f"{path}: an older metricad's, which looks for lines in another way; make it again"
            )
        detector = TripletDetector(
            model,
            prototype,
            tone=tone,
            evidence=Evidence().restore(evidence) if evidence else None,
            gathers=manifest.get("gathers", False),
            reduction=reduction,
            region=region,
        )
        return Inspector(detector, calibration, manifest["fitted_on"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: incomplete or contradictory bundle ({error!r}); make it again") from error


def read_manifest(path: str | os.PathLike) -> dict:
    """Read what a bundle says of itself, its members checked; raises as `load` does."""
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[dict, dict[str, bytes]]:
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
        RuntimeError,  # a flipped bit can call a member encrypted, or packed in another way
        zlib.error,
    ) as error:
        raise BundleError(f"{path}: no metricad bundle, or a damaged one ({error}); make it again") from error
    for name, digest in manifest["sha256"].items():
        if hashlib.sha256(members[name]).hexdigest() != digest:
            raise BundleError(f"{path}: damaged: the checksum of {name} is wrong; make the bundle again")
    return manifest, members


def _check_version(version: object, path: Path) -> None:
    if version in (*_OLDER, FORMAT_VERSION):
        return
    advice = "make the bundle again"
    if isinstance(version, int) and version > FORMAT_VERSION:
        advice = "a newer metricad made it: upgrade this one"
    raise BundleError(f"{path}: bundle format {version}, expected {_OLDER[0]} to {FORMAT_VERSION}; {advice}")


def _describe(one: Prototype | Region) -> dict[str, object]:
    return {"kind": one.kind, **one.settings()}


def _restore(
    kinds: Mapping[str, type], description: Mapping[str, object], arrays: Mapping[str, np.ndarray]
) -> Prototype | Region:
    settings = dict(description)
    return kinds[settings.pop("kind")](**settings).restore(arrays)


def _below(arrays: Mapping[str, np.ndarray], folder: str) -> dict[str, np.ndarray]:
    return {name.split("/")[1]: array for name, array in arrays.items() if name.startswith(f"{folder}/")}


def _to_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _from_bytes(content: bytes, path: str | os.PathLike) -> np.ndarray:
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # NumPy's header parser raises many kinds
        raise BundleError(f"{path}: holds something that is no plain array; not read") from error
