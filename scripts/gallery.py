"""Draw the gallery of the documentation: the same strip for six rendered surfaces.

    PYTHONPATH=. python scripts/gallery.py --work WORK --out docs/gallery

For each surface an inspector is made from 60 good images, and its threshold from 40 others, for 5 % false
alarms. A strip has a good image, the defect with the middle one of all scores, its anomaly map, its outline,
and the scores of 100 good images and 60 defects that took no part. The pictures beside it are one of all
surfaces with their heat maps, and one of the steps from an image to its anomaly map. WORK holds images and
inspectors; what is there is not made again.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import matplotlib as mpl
import numpy as np
import PIL.Image

import metricad
from data_prep.surfaces import generator
from metricad.data import images
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspection, Inspector

mpl.use("Agg")

import matplotlib.pyplot as plt

SURFACES = {
    "plain_weave": ((28, 44, 74), (176, 196, 222)),
    "cast_metal": ((20, 22, 26), (225, 228, 232)),
    "wood": ((82, 48, 24), (232, 196, 148)),
    "brushed_metal": ((38, 42, 48), (214, 220, 228)),
    "printed_dots": ((120, 28, 40), (250, 240, 226)),
    "soft_fabric": ((40, 62, 52), (206, 222, 196)),
}
"""Surfaces and the colors of black and white: surfaces are rendered in gray."""

SIDE = 256
FIT, HELD_OUT, GOOD, DEFECTS = 60, 40, 100, 60
RATE = 0.05
_SMALL = 200  # side of a picture in the picture of all surfaces, in pixels
_COLORS = 128  # of a PNG


@dataclass(frozen=True)
class Found:
    """A surface, its inspector, and what the inspector says of test images."""

    inspector: Inspector[PartDetector]
    good: list[Inspection]
    defects: list[Inspection]

    @property
    def middle(self) -> Inspection:
        """The defect with the middle one of all scores."""
        return sorted(self.defects, key=lambda one: one.score or 0.0)[len(self.defects) // 2]


def main() -> None:
    """Make images and inspectors, inspect, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of images and inspectors")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--tutorial", type=Path, help="folder where the commands of the tutorial were run")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found = {name: surface(name, options.work / name) for name in SURFACES}
    for name, one in found.items():
        strip(one, options.out / f"{name}.png")
        scores = [each.score or 0.0 for each in (*one.good, *one.defects)]
        is_defect = [False] * len(one.good) + [True] * len(one.defects)
        alarms, hits = ([each.verdict for each in group].count("defect") for group in (one.good, one.defects))
        print(
            f"{name:14} AUROC {metricad.auroc(is_defect, scores):.3f}  {alarms} of {len(one.good)} "
            f"good images called defects, {hits} of {len(one.defects)} defects found"
        )
    parts(list(found.values()), options.out / "parts.png")
    steps(found["cast_metal"], options.out / "steps.png")
    if options.tutorial:
        tutorial(options.tutorial, options.out / "tutorial.png")


def surface(name: str, folder: Path) -> Found:
    """Render a surface, fit to it, and inspect its test images."""
    counts = {"fit": FIT + HELD_OUT, "good": GOOD, "defect": DEFECTS}
    first = {"fit": 0, "good": FIT + HELD_OUT, "defect": 0}
    paths = {
        kind: [
            _rendered(name, first[kind] + k, folder / kind / f"{k:03}.png", kind == "defect")
            for k in range(count)
        ]
        for kind, count in counts.items()
    }
    part = folder / f"{name}.metricad"
    if not part.exists():
        made = metricad.fit_inspector(
            paths["fit"], false_alarm_rate=RATE, holdout=HELD_OUT / (FIT + HELD_OUT), keeps_suspects=True
        )
        metricad.save_inspector(made, part)
    inspector = metricad.load_inspector(part)
    good, defects = (
        [one for one, _, _ in inspector.inspect_files(paths[kind], workers=2)] for kind in ("good", "defect")
    )
    return Found(inspector, good, defects)


def _rendered(name: str, index: int, path: Path, is_defect: bool) -> Path:
    if not path.exists():
        gray, _ = generator.render(1 + generator.NAMES.index(name), index, size=SIDE, defect=is_defect)
        dark, bright = (np.array(color, float) for color in SURFACES[name])
        images.write(path, np.rint(dark + (bright - dark) * gray[..., np.newaxis] / 255).astype(np.uint8))
    return path


def strip(found: Found, out: Path) -> None:
    """Draw the strip of a surface."""
    inspector, defect = found.inspector, found.middle
    image = inspector.read(defect.path or "")
    _, anomaly = inspector.inspect(image)
    anomaly_map, scale = inspector.detector.on_pixels(anomaly, image), inspector.map_scale()
    most = float(anomaly_map.max())  # above it no color
    outlined = images.overlay(image, anomaly_map, low=most, high=most + 1, threshold=scale["threshold"])
    figure, panels = plt.subplots(
        1, 5, figsize=(11, 2.3), width_ratios=(1, 1, 1, 1, 1.35), layout="constrained"
    )
    good = inspector.read(found.good[0].path or "")
    for panel, title, pixels in zip(
        panels,
        ("a good image", "a defect", "its anomaly map", "its outline"),
        (images.to_uint8(good), images.to_uint8(image), anomaly_map, outlined),
        strict=False,
    ):
        panel.imshow(pixels, vmin=scale["low"], vmax=scale["high"])
        panel.set_title(title, fontsize=10)
        panel.axis("off")
    _histogram(panels[-1], found)
    _save(figure, out)


def _histogram(panel: plt.Axes, found: Found) -> None:
    groups = [[one.score or 0.0 for one in group] for group in (found.good, found.defects)]
    threshold = found.inspector.threshold
    most = max(np.quantile(groups[1], 0.9), 2 * threshold)
    bins = np.linspace(min(groups[0]), most, 30)
    clipped = [np.minimum(group, most) for group in groups]
    panel.hist(
        clipped,
        bins,
        color=("#4c8dbf", "#d9713c"),
        label=("good", "defect"),
        histtype="stepfilled",
        alpha=0.8,
    )
    panel.axvline(threshold, color="black", linewidth=1)
    panel.set_title("scores, and the threshold", fontsize=10)
    panel.set_yticks([])
    panel.tick_params(labelsize=8)
    panel.spines[["top", "left", "right"]].set_visible(False)
    panel.legend(fontsize=8, frameon=False, loc="upper right")


def parts(found: Sequence[Found], out: Path) -> None:
    """Draw a defect of each surface, and its heat map below."""
    columns = []
    for one in found:
        image = one.inspector.read(one.middle.path or "")
        inspection, anomaly = one.inspector.inspect(image)
        both = images.to_uint8(image), one.inspector.picture(inspection, image, anomaly)
        small = [
            np.array(PIL.Image.fromarray(each).resize((_SMALL, _SMALL), PIL.Image.Resampling.LANCZOS))
            for each in both
        ]
        columns.append(
            np.concatenate([np.pad(each, ((2, 2), (2, 2), (0, 0)), constant_values=255) for each in small])
        )
    _compress(PIL.Image.fromarray(np.concatenate(columns, axis=1)), out)


def tutorial(folder: Path, out: Path) -> None:
    """Draw three defects of the tutorial, each beside its heat map."""
    names = ("0000.png", "0002.png", "0006.png")
    both = [
        (folder / "data/surfaces/wood/test/defect" / name, folder / "maps" / f"{name}.png") for name in names
    ]
    pictures = [np.array(PIL.Image.open(path).convert("RGB")) for pair in both for path in pair]
    padded = [np.pad(one, ((0, 0), (2, 2), (0, 0)), constant_values=255) for one in pictures]
    _compress(PIL.Image.fromarray(np.concatenate(padded, axis=1)), out)


def steps(found: Found, out: Path) -> None:
    """Draw an image, distances at two scales, their standard scores, and the anomaly map."""
    detector = found.inspector.detector
    image = found.inspector.read(found.middle.path or "")
    distances = detector.distances(image)
    assert detector.standardize is not None
    scores = detector.standardize(distances[np.newaxis]).numpy()[0]
    names = [source.name for source in detector.features.sources]
    shown = [("image", images.to_uint8(image))]
    for k in (0, 2):
        shown.append((f"distance\n{names[k]}", distances[..., k]))
    for k in (0, 2):
        shown.append((f"standard score\n{names[k]}", scores[..., k]))
    shown.append(("anomaly map", detector.judge(image).anomaly))
    figure, panels = plt.subplots(1, len(shown), figsize=(11, 2.3), layout="constrained")
    for panel, (title, pixels) in zip(panels, shown, strict=True):
        panel.imshow(pixels)
        panel.set_title(title, fontsize=9)
        panel.axis("off")
    _save(figure, out)


def _save(figure: plt.Figure, out: Path) -> None:
    figure.canvas.draw()
    _compress(PIL.Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]), out)
    plt.close(figure)


def _compress(picture: PIL.Image.Image, out: Path) -> None:
    picture.quantize(_COLORS, dither=PIL.Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main()
