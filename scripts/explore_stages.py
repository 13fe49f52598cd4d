"""Which of the network's stages to score: each alone, joined, and joined after calibration.

    python scripts/explore_stages.py --data surfaces --data-dir PREPARED grid/networks/h16-0 untrained-0

Prints, for each network (a run's folder, or untrained-SEED for h = 16 without training), a Markdown table of
AUROC by surface; results/experiments.md has what it found. A Gaussian is fitted to each set of stages; where
scores of several are added, each has first been measured in standard deviations of held-out good images.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from metricad.prototype import GaussianPrototype

from metricad import datasets, metrics, runs
from metricad.evaluation import Protocol
from metricad.networks import residual as network

# Layer and the margin that it has beyond the last: features of all stages are then of the same places.
STAGES = {"pool": 6, "block1": 4, "block2": 2, "block3": 0}
SETS = {
    "pool": ["pool"],
    "block1": ["block1"],
    "block2": ["block2"],
    "block3": ["block3"],
    "early joined": ["pool", "block1", "block2"],
    "all joined": list(STAGES),
}
SUMS = {"early + block3": ["early joined", "block3"], "four added": list(STAGES)}


def main() -> None:
    """Read the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--data", required=True, action="append")
    parser.add_argument("--data-dir")
    parser.add_argument("--reflect", type=int, default=0, help="pixels mirrored at every edge of an image")
    options = parser.parse_args()
    surfaces = [s for source in options.data for s in datasets.load(source, data_dir=options.data_dir)]
    for name in options.networks:
        print(f"\n{Path(name).name}\n\n| surface | {' | '.join([*SETS, *SUMS])} |")
        print(f"| --- |{' ---: |' * len([*SETS, *SUMS])}", flush=True)
        features = extractor(load(name), options.reflect)
        rows = []
        for surface in surfaces:
            rows.append(list(explore(features, surface).values()))
            print_row(surface.name, rows[-1])
        print_row("mean", np.mean(rows, axis=0))


def load(name: str) -> keras.Model:
    """Load a run's network, or build an untrained one."""
    if name.startswith("untrained-"):
        return network.build(16, seed=int(name.removeprefix("untrained-")))
    return runs.load_network(name)


def extractor(model: keras.Model, reflect: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Compile a network to a function from an image to the features of every stage, (h', w', d) each."""
    outputs = {
        stage: keras.layers.Cropping2D(margin)(model.get_layer(stage).output)
        for stage, margin in STAGES.items()
    }
    stages = keras.Model(model.input, outputs)
    signature = [tf.TensorSpec((1, None, None, 1), tf.float32)]
    graph = tf.function(lambda pixels: stages(pixels, training=False), input_signature=signature)

    def features(image: np.ndarray) -> dict[str, np.ndarray]:
        image = np.pad(image, reflect, mode="reflect")
        return {stage: found.numpy()[0] for stage, found in graph(image[None, :, :, None]).items()}

    return features


def explore(
    features: Callable[[np.ndarray], dict[str, np.ndarray]], surface: datasets.Surface
) -> dict[str, float]:
    """AUROC of every set of stages, and of every sum."""
    good, held_out = Protocol(holdout=0.2, false_alarm_rate=0.1).split(surface.fit)
    gaussians = {name: GaussianPrototype() for name in SETS}
    for image in datasets.read_all(good):
        found = features(image)
        for name, stages in SETS.items():
            gaussians[name].update(np.concatenate([found[stage] for stage in stages], axis=-1))

    def scores(samples: list[datasets.Sample]) -> dict[str, np.ndarray]:
        columns = {name: [] for name in SETS}
        for image in datasets.read_all(samples):
            found = features(image)
            for name, stages in SETS.items():
                joined = np.concatenate([found[stage] for stage in stages], axis=-1)
                columns[name].append(gaussians[name].distance(joined).max())
        return {name: np.array(column) for name, column in columns.items()}

    normal, test = scores(held_out), scores(surface.test)
    defect = [sample.is_defect for sample in surface.test]
    standard = {name: (test[name] - normal[name].mean()) / normal[name].std() for name in SETS}
    added = {name: sum(standard[part] for part in parts) for name, parts in SUMS.items()}
    return {name: metrics.auroc(defect, column) for name, column in (test | added).items()}


def print_row(name: str, values: list[float]) -> None:
    """Print one line of a Markdown table."""
    print(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |", flush=True)


if __name__ == "__main__":
    main()
