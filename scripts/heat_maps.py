"""Draw heat maps of the default, and measure pixel AUROC and AUPRO where there are masks.

    python scripts/heat_maps.py --data surfaces --data PARTS/wood --data-dir PREPARED --out maps/

For each surface the default is fitted as `metricad evaluate` fits it. Writes one picture for each surface
into the folder: six test images (two good ones, and the defects with the highest, middle and lowest scores)
and their heat maps below, all with one color range; masks have a black outline. Prints one line for each.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import scipy
import skimage

from metricad import metrics
from metricad.data import datasets, images
from metricad.evaluation.examples import read_mask
from metricad.evaluation.protocol import Protocol, images_of
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector
from metricad.networks import SHIPPED, pretrained
from metricad.scoring.calibration import calibrate

WIDTH = 256
"""Of each image in a picture, in pixels."""


def main() -> None:
    """Fit, judge, draw and print, surface by surface."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, action="append", help="as of 'metricad evaluate'")
    parser.add_argument("--data-dir", help="as of 'metricad evaluate'")
    parser.add_argument("--network", choices=SHIPPED, default=SHIPPED[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    options = parser.parse_args()
    print("surface                  AUROC  pixel AUROC  AUPRO")
    for source in options.data:
        for surface in datasets.load(source, data_dir=options.data_dir):
            show(surface, options.network, options.out)


def show(surface: datasets.Surface, network: str, out: Path) -> None:
    """Fit to a surface, judge its test images, write its picture and print its line."""
    fitted, held_out = Protocol().split(surface.fit)
    detector = PartDetector(pretrained.load(network)).fit(images_of(fitted, color=True))
    held = [detector.score(image) for image in images_of(held_out, color=True)]
    pixels = metrics.PixelMetrics()
    scores, has_masks = [], False
    for sample, image in zip(surface.test, images_of(surface.test, color=True), strict=True):
        found = detector.judge(image)
        scores.append(found.score)
        mask = read_mask(sample, image.shape[:2])
        if mask is not None:
            has_masks |= bool(mask.any())
            pixels.update(detector.on_pixels(found.anomaly, image), mask)
    is_defect = np.array([sample.is_defect for sample in surface.test])
    numbers = [metrics.auroc(is_defect, scores)]
    numbers += [pixels.auroc(), pixels.aupro()] if has_masks else []
    print(f"{surface.name:24} " + "  ".join(f"{number:.3f}" for number in numbers), flush=True)
    ranked = np.argsort(scores)
    good, defects = ranked[~is_defect[ranked]], ranked[is_defect[ranked]]
    chosen = [good[-1], good[len(good) // 2], *defects[-2:][::-1], defects[len(defects) // 2], defects[0]]
    # With too few held-out images any score will do as a limit of the colors.
    threshold = calibrate(held, max(0.05, 1.001 / (len(held) + 1))) if held else calibrate(scores, 0.5)
    scale = Inspector(detector, threshold).map_scale()
    columns = []
    for number in chosen:
        (image,) = images_of([surface.test[number]], color=True)
        drawn = images.overlay(image, detector.anomaly_map(image), **scale)
        mask = read_mask(surface.test[number], image.shape[:2])
        plain = images.to_uint8(image)
        plain = plain if plain.ndim == 3 else np.repeat(plain[..., np.newaxis], 3, axis=2)
        if mask is not None and mask.any():
            edge = mask ^ scipy.ndimage.binary_erosion(mask, iterations=max(1, image.shape[1] // WIDTH))
            plain[edge] = 0
        shape = (round(WIDTH * image.shape[0] / image.shape[1]), WIDTH)
        parts = [skimage.transform.resize(one, shape, preserve_range=True) for one in (plain, drawn)]
        columns.append(np.concatenate(parts).astype(np.uint8))
    height = max(len(one) for one in columns)
    padded = [np.pad(one, ((0, height - len(one)), (0, 4), (0, 0)), constant_values=255) for one in columns]
    images.write(out / f"{surface.name}.png", np.concatenate(padded, axis=1))


if __name__ == "__main__":
    main()
