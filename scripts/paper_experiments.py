"""Train the paper's network in several ways, to see why DAGM class 1 has a lower AUROC than in the paper.

    python scripts/paper_experiments.py --textures DATA/textures --data-dir PREPARED --work WORK \
      --job base:0,1,2,3,4 --job noise:0,1,2

Each job is a variant and its seeds. What is done is kept in WORK: after an interruption, repeat the command.
Several processes may share WORK. Prints a table in Markdown.

A variant is chosen by the synthetic surfaces; class 1 only confirms it (results/paper-experiments.md).
"""

import argparse
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import portalocker
import rivals

from metricad import files
from metricad.data import datasets
from metricad.data.datasets import Surface
from metricad.metrics import image as metrics
from metricad.networks import factory, residual
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Table
from metricad.reproduction.grid import PRESETS
from metricad.training import runs, triplet_training
from metricad.training.settings import Settings

FIRST = "round-1.npz"
CLASS_1 = "dagm2007/class1"
SYNTHETIC = PRESETS["surfaces"].known[0]
OBJECTS = "cifar100_gray"
MOST = 40
"""Images of a synthetic surface to fit to, good ones and defects to test."""
BORDER = 60
"""Width of the border, in pixels, that is left out of the AUROC of the interior."""
FEWER = (16, 32)
"""Numbers of good images of class 1 that the prototype is made from, besides all 64."""


@dataclass(frozen=True)
class Variant:
    """One way of training: what differs from the grid of the paper at h = 16 with CIFAR-100."""

    what: str
    changes: dict[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ("textures", SYNTHETIC, CLASS_1, OBJECTS)


VARIANTS = {
    "base": Variant("the grid's defaults"),
    "noise": Variant(
        "noise 1 to 3 times as strong as the patch varies",
        {"noise_is_relative": True, "noise_strength": (1.0, 3.0)},
    ),
    "share": Variant(
        "class 1 has a third of the triplets: no synthetic surfaces", {}, ("textures", CLASS_1, OBJECTS)
    ),
    "size": Variant("textures are never enlarged", {"enlarges": False}),
    "noise-share": Variant("noise in three quarters of the texture triplets", {"noise_share": 0.75}),
    "triplets": Variant("12,800 triplets in a round", {"triplets_per_round": 12_800}),
    "textures": Variant("without CIFAR-100", {}, ("textures", SYNTHETIC, CLASS_1)),
    "objects": Variant("CIFAR-100 alone", {}, (OBJECTS,)),
    "manhattan": Variant("Manhattan distance in the loss", {"metric": "manhattan"}),
}


def main() -> None:
    """Train and test what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--job", required=True, action="append", metavar="VARIANT:SEEDS", help="such as base:0,1"
    )
    parser.add_argument("--textures", required=True, help="folder of texture classes")
    parser.add_argument("--data-dir", required=True, help="as of 'metricad train'")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is done")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    jobs = [
        (name, int(seed))
        for job in options.job
        for name, _, seeds in [job.partition(":")]
        for seed in seeds.split(",")
    ]
    for name, seed in jobs:
        path = options.work / f"{name}-{seed}.json"
        with path.with_suffix(".lock").open("a") as lock:
            try:
                portalocker.lock(lock, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
            except portalocker.LockException:
                continue  # another process is at it
            if not path.exists():
                run = options.work / f"{name}-{seed}"
                train(run, VARIANTS[name], seed, options)
                settings, _ = runs.read_config(run)
                found = {1: measure(after_first(run), options.data_dir, few=True)}
                found |= {settings.rounds: measure(runs.load_network(run), options.data_dir)}
                files.write_text(path, json.dumps({"variant": name, "seed": seed, "rounds": found}))
                print(
                    f"{name}, seed {seed}: class 1 {found[max(found)][CLASS_1]['mean']['auroc']:.3f}",
                    flush=True,
                )
    found = [json.loads(path.read_text()) for path in sorted(options.work.glob("*-*.json"))]
    print("\n".join(tables(found)))


def train(run: Path, variant: Variant, seed: int, options: argparse.Namespace) -> None:
    """Train a network, or go on; the weights after the first round are kept beside those of the run."""
    sources = [options.textures if name == "textures" else name for name in variant.sources]

    def keep(record: dict[str, Any]) -> None:
        if record["round"] == 1:
            with np.load(run / "checkpoint-0001.npz") as arrays:
                weights = [arrays[name] for name in arrays.files[: len(residual.build().weights)]]
            np.savez(run / FIRST, *weights)

    if not (run / runs.WEIGHTS).exists():
        triplet_training.train_network(
            run,
            sources,
            data_dir=options.data_dir,
            settings=Settings(**variant.changes, seed=seed),
            resume=(run / runs.CONFIG).exists(),
            on_round=keep,
        )


def after_first(run: Path) -> keras.Model:
    """Return the network as it was after the first round."""
    network = residual.build()
    with np.load(run / FIRST) as arrays:
        network.set_weights([arrays[name] for name in arrays.files])
    return network


def measure(network: keras.Model, data_dir: str, *, few: bool = False) -> dict[str, Any]:
    """Test a network on all surfaces, or on class 1 alone: the mean's two readings, whole and interior."""
    features = factory.extractor(network)
    surfaces = datasets.load(CLASS_1, data_dir=data_dir)
    if few:
        return {CLASS_1: judge(features, surfaces[0])}
    surfaces += [rivals.fewer(one, MOST) for one in datasets.load("surfaces", data_dir=data_dir)]
    return {CLASS_1 if n == 0 else one.name: judge(features, one) for n, one in enumerate(surfaces)}


def judge(features: Any, surface: Surface) -> dict[str, Any]:
    """Compute AUROC, AUROC of the interior, and how often the peak lies in the mask, for both readings."""
    good = [features(image) for image in datasets.read_all(surface.fit)]
    defect = np.array([sample.is_defect for sample in surface.test])
    tested = [features(image) for image in datasets.read_all(surface.test)]
    masks = [sample.read_mask() if sample.is_defect else None for sample in surface.test]
    # Sums of millions of features need float64.
    means = {
        "mean": np.mean(good, axis=(0, 1, 2), dtype=np.float64),
        "positional-mean": np.mean(good, axis=0, dtype=np.float64),
    }
    if surface.name == "class1":
        spread = {count: np.linspace(0, len(good) - 1, count).round().astype(int) for count in FEWER}
        means |= {
            f"mean of {count}": np.mean([good[k] for k in chosen], axis=(0, 1, 2), dtype=np.float64)
            for count, chosen in spread.items()
        }
    return {
        name: figures(
            [np.linalg.norm(one - mean.astype(np.float32), axis=-1) for one in tested], defect, masks
        )
        for name, mean in means.items()
    }


def figures(maps: list[np.ndarray], defect: np.ndarray, masks: list[np.ndarray | None]) -> dict[str, float]:
    """Compute the figures of one reading from the distance maps of the test images."""
    inner = slice(BORDER // residual.STRIDE, -BORDER // residual.STRIDE)
    peaks = [np.unravel_index(one.argmax(), one.shape) for one in maps]
    centers = [[round(residual.GRID.first + residual.STRIDE * k) for k in peak] for peak in peaks]
    hits = [mask[*center] for mask, center in zip(masks, centers, strict=True) if mask is not None]
    near = [
        min(*peak, *(side - 1 - k for side, k in zip(one.shape, peak, strict=True))) * residual.STRIDE
        < BORDER
        for one, peak in zip(maps, peaks, strict=True)
    ]
    return {
        "auroc": metrics.auroc(defect, [one.max() for one in maps]),
        "interior": metrics.auroc(defect, [one[inner, inner].max() for one in maps]),
        "peak in mask": float(np.mean(hits)),
        "good near border": float(np.mean(np.array(near)[~defect])),
    }


def tables(found: list[dict[str, Any]]) -> list[str]:
    """Return the tables: class 1 and the synthetic surfaces by variant, medians over seeds."""
    rows = []
    for name, variant in VARIANTS.items():
        own = [one["rounds"][max(one["rounds"], key=int)] for one in found if one["variant"] == name]
        if not own:
            continue
        synthetic = {
            reading: [np.mean([one[s][reading]["auroc"] for s in one if s != CLASS_1]) for one in own]
            for reading in ("mean", "positional-mean")
        }
        of_class = {
            key: [one[CLASS_1][reading][figure] for one in own]
            for key, (reading, figure) in {
                "mean": ("mean", "auroc"),
                "positional": ("positional-mean", "auroc"),
                "interior": ("mean", "interior"),
                "hits": ("mean", "peak in mask"),
                "border": ("mean", "good near border"),
            }.items()
        }
        values = [*synthetic.values(), *of_class.values()]
        rows.append([Cell(variant.what), Cell(str(len(own))), *(Cell(described(each)) for each in values)])
    header = [
        "training", "seeds", "synthetic ten, mean", "positional mean", "class 1, mean", "positional mean",
        "interior, mean", "peak in the mask", "good images with peak near the border",
    ]  # fmt: skip
    return markdown.table(Table("", header, rows))


def described(values: list[float]) -> str:
    """Return median and standard deviation."""
    return f"{np.median(values):.3f} ± {np.std(values):.3f}"


if __name__ == "__main__":
    main()
