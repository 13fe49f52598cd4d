"""The description stored in an exported inspector: a JSON text inside the file, in every format."""

import base64
import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from metricad import files
from metricad.data.levels import Levels
from metricad.deploy import InputType, Precision
from metricad.deploy.sealed import UNSEALED
from metricad.errors import BundleError
from metricad.networks.feature_grid import FeatureGrid
from metricad.preprocessing.regions import MaskRegion
from metricad.scoring.calibration import Calibration
from metricad.scoring.score_names import OWN, checked

KEY = "metricad"
"""Key of the text in formats that have their own metadata."""

FORMAT_VERSION = 1
"""Version of the description's format."""

_LARGEST = 2**16  # side of an image in pixels


@dataclass(frozen=True)
class Description:
    """Description of an inspector: everything except the weights of its network and density.

    Attributes
    ----------
    calibration : Calibration
    grid : FeatureGrid
    score : str
        One of `score_names.SCORES`.
    center, spread : float
        Value of the anomaly map at a score of 0, and difference of map values for one unit of the score.
    sources : tuple of str
        Names of the feature maps; the output `source` is an index into them.
    channels : {1, 3}
        1 for gray, 3 for color images.
    input_type : {"float32", "uint8"}
        Data type of the pixels.
    precision : {"float32", "bfloat16", "int8"}
        Precision of the network.
    sizes : ((int, int), (int, int)) or None
        Smallest and largest height, smallest and largest width of an image, in pixels. None allows any size
        from `grid.smallest`.
    mask : MaskRegion or None
        Region of interest; None for the whole image.
    levels : Levels or None
        Range of the levels of the image files; see `Inspector`. The graph takes levels stretched to 0 to 255.
    facts : mapping
        Record: the images it was fitted on, versions, name and SHA-256 of the bundle.
    """

    calibration: Calibration
    grid: FeatureGrid
    score: str = "max"
    center: float = 0.0
    spread: float = 1.0
    sources: tuple[str, ...] = ()
    channels: int = 1
    input_type: str = "float32"
    precision: str = "float32"
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    mask: MaskRegion | None = None
    levels: Levels | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_standardized(self) -> bool:
        """Whether scores are in standard deviations, and may be negative; the paper's scores are
        distances.
        """
        return self.score != OWN and (self.spread != 1.0 or self.center != 0.0)

    @property
    def smallest(self) -> tuple[int, int]:
        """Height and width of the smallest allowed image, in pixels."""
        if self.sizes is None:
            return self.grid.smallest, self.grid.smallest
        (height, _), (width, _) = self.sizes
        return height, width

    def to_text(self) -> str:
        """Write the description as JSON."""
        return json.dumps(
            {
                "format": "metricad-export",
                "format_version": FORMAT_VERSION,
                "checksum": UNSEALED,
                **self.calibration.record(),
                "calibration_scores": self.calibration.scores.tolist(),
                "grid": asdict(self.grid),
                "score": self.score,
                "center": self.center,
                "spread": self.spread,
                "sources": self.sources,
                "channels": self.channels,
                "input_type": self.input_type,
                "precision": self.precision,
                "sizes": self.sizes,
                "mask": None if self.mask is None else _pack(self.mask.mask),
                "levels": None if self.levels is None else self.levels.to_dict(),
                **self.facts,
            }
        )


def read(text: str | None, path: str | os.PathLike[str]) -> Description:
    """Read a text written by `Description.to_text`.

    Raises
    ------
    BundleError
        The file has no such text, or its version is unknown to this metricad.
    """
    if not text:
        raise BundleError(f"{path}: not written by 'metricad export'; expected a file that was")
    try:
        found = files.parse_json(text)
        version = found.pop("format_version")
        if version != FORMAT_VERSION:
            newer = isinstance(version, int) and version > FORMAT_VERSION
            advice = "a newer metricad wrote it: upgrade this one" if newer else "export it again"
            raise BundleError(f"{path}: export format {version}, expected {FORMAT_VERSION}; {advice}")
        del found["checksum"]
        sizes, mask = found.pop("sizes"), found.pop("mask")
        scores = np.array(found.pop("calibration_scores"), np.float64)
        calibration = Calibration.restore(scores, found)
        known = {"format", *calibration.record()}
        made = Description(
            calibration=calibration,
            grid=FeatureGrid(**found.pop("grid")),
            score=score if (score := found.pop("score")) == OWN else checked(score),
            center=float(found.pop("center")),
            spread=float(found.pop("spread")),
            sources=tuple(found.pop("sources")),
            channels=found.pop("channels"),
            input_type=InputType(found.pop("input_type")).value,
            precision=Precision(found.pop("precision")).value,
            sizes=None if sizes is None else (tuple(sizes[0]), tuple(sizes[1])),
            mask=None if mask is None else MaskRegion(_unpack(**mask)),
            levels=Levels.from_dict(found.pop("levels")),
            facts={name: fact for name, fact in found.items() if name not in known},
        )
        _check(made)
        return made
    except BundleError:
        raise
    except Exception as error:  # wrong types raise errors of many types
        raise BundleError(f"{path}: a damaged description ({_short(error)}); export it again") from error


def _short(error: Exception) -> str:
    return " ".join(repr(error).split())[:200]


def _check(found: Description) -> None:
    """Raise ValueError for values that the annotations of a description do not allow."""
    grid = found.grid
    sides = (
        grid.stride,
        grid.smallest,
        grid.tile_step,
        *(side for pair in found.sizes or () for side in pair),
    )
    is_possible = (
        all(type(side) is int and 0 < side <= _LARGEST for side in sides)
        and all(least <= most for least, most in found.sizes or ())
        and len(found.sizes or (1, 1)) == 2
        and math.isfinite(grid.first)
        and type(grid.reach) is int
        and type(grid.is_cuttable) is bool
        and found.channels in (1, 3)
        and found.spread > 0
        and all(isinstance(source, str) for source in found.sources)
    )
    if not is_possible:
        raise ValueError("a number that is out of its range")


def precision(text: str | None) -> str | None:
    """Read only the precision from a text, or None; the OpenVINO runtime needs it before loading."""
    try:
        return json.loads(text or "")["precision"]
    except (ValueError, KeyError, TypeError):
        return None


def _pack(mask: np.ndarray) -> dict[str, object]:
    bits = zlib.compress(np.packbits(mask).tobytes(), level=9)
    return {"shape": mask.shape, "bits": base64.b64encode(bits).decode("ascii")}


def _unpack(shape: list[int], bits: str) -> np.ndarray:
    height, width = shape
    if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
        raise ValueError(f"a mask of {height}×{width} pixels")
    count = (height * width + 7) // 8
    flat = np.frombuffer(zlib.decompressobj().decompress(base64.b64decode(bits), count), np.uint8)
    return np.unpackbits(flat)[: height * width].reshape(height, width).astype(bool)
