"""Train a shipped network with episodes of free texture photographs, synthetic surfaces and random textures.

    python scripts/free_textures.py ... --out textures
    python scripts/train_shipped.py --textures textures --work work --units 24 --epochs 4 --out accurate.npz

Episodes are drawn once and kept in the work folder, 100 to a file, each file from a seed of its own. Training
saves its state there after every epoch; repeat the command to continue after an interruption. Surfaces
7 to 10 and the starburst are never trained on; of the others, seeds from 1000 on, which no evaluation uses.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from skimage import io, transform

from data_prep.surfaces.generator import render
from metricad import files
from metricad.data import images
from metricad.synthetic import textures
from metricad.training import episodes

_FAMILIES = (1, 2, 3, 5, 6)
_FIRST_SEED, _SEEDS, _RENDERED, _TOGETHER = 1000, 40, 40, 6
_PHOTOGRAPHS, _SURFACES = 0.55, 0.25  # shares of the episodes; the rest are random textures
_A_FILE = 100
_BATCH = 4


def main() -> None:
    """Read the options, draw the episodes that are missing, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--textures", type=Path, required=True, help="folder of photographs, one image a texture"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for episodes and checkpoints")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--units", type=int, required=True)
    parser.add_argument("--episodes", type=int, default=5000)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only-episodes", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    paths = sorted(map(str, images.find([options.textures])))
    numbers = range(options.episodes // _A_FILE)
    with ProcessPoolExecutor(options.jobs) as pool:
        drawn = list(pool.map(draw_file, numbers, [paths] * len(numbers), [options.work] * len(numbers)))
    if not options.only_episodes:
        train(options, drawn)


def draw_file(number: int, photographs: list[str], work: Path) -> Path:
    """Draw a file of episodes, unless it exists."""
    path = work / f"episodes-{number:03d}.npz"
    if not path.exists():
        rng = np.random.default_rng([1, number])
        drawn = [draw(rng, photographs) for _ in range(_A_FILE)]
        crops = np.stack([images.to_uint8(one) for one, _ in drawn])
        masks = np.packbits(np.stack([masks for _, masks in drawn]), axis=-1)
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, crops=crops, masks=masks)
    return path


def draw(rng: np.random.Generator, photographs: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Draw one episode: crops float32 (CROPS, SIDE, SIDE) in [-1, 1] and masks (DEFECTIVE, SIDE, SIDE)."""
    crops = episodes.cut(surface(rng, photographs), rng)
    if rng.random() < 0.5:
        crops = -crops
    mean = crops.mean()
    level = np.clip(mean + rng.normal(0, 0.15), -0.7, 0.7)
    crops = np.clip((crops - mean) * np.exp(rng.uniform(np.log(0.6), np.log(1.4))) + level, -1, 1)
    lit = episodes.relight(crops, rng, amount=float(rng.choice([0, 0.3, 1])))
    other = episodes.cut(surface(rng, photographs), rng)[0]
    return episodes.spoil(lit, rng, other=other)


def surface(rng: np.random.Generator, photographs: list[str]) -> list[np.ndarray]:
    """Choose a surface: one or more images of it, float32 in [-1, 1], turned or mirrored."""
    kind = rng.random()
    if kind < _PHOTOGRAPHS:
        chosen = [photograph(photographs[rng.integers(len(photographs))], rng)]
    elif kind < _PHOTOGRAPHS + _SURFACES:
        family = int(rng.choice(_FAMILIES))
        seed = _FIRST_SEED + int(rng.integers(_SEEDS))
        numbers = rng.choice(_RENDERED, _TOGETHER, replace=False)
        chosen = [images.from_uint8(rendered(family, int(number), seed)) for number in numbers]
        if rng.random() < 0.3:
            side = round(256 * rng.uniform(0.6, 1.5))
            chosen = [images.resize(one, (side, side)) for one in chosen]
    else:
        chosen = [textures.random_texture(rng, 512)]
    turns, is_mirrored = int(rng.integers(4)), rng.random() < 0.5
    turned = [np.rot90(one, turns) for one in chosen]
    return [one[::-1] for one in turned] if is_mirrored else turned


def photograph(path: str, rng: np.random.Generator) -> np.ndarray:
    """Read a photograph and scale it, so that at least nine crops fit."""
    gray = images.from_uint8(io.imread(path))
    scale = max(np.exp(rng.uniform(np.log(0.8), np.log(1.5))), 3 * episodes.SIDE / min(gray.shape))
    return transform.rescale(gray, scale, anti_aliasing=scale < 1).astype(np.float32)


@lru_cache(maxsize=3000)
def rendered(family: int, index: int, seed: int) -> np.ndarray:
    """Render one good image of a synthetic surface: uint8 (256, 256)."""
    return render(family, index, seed=seed, size=256)[0]


def train(options: argparse.Namespace, drawn: list[Path]) -> None:
    """Train on the episodes and write the weights."""
    import keras

    from metricad.networks import hypercolumn, pretrained
    from metricad.training import episodic_training

    crops, masks = [], []
    for path in drawn:
        with np.load(path) as arrays:
            crops.append(arrays["crops"])
            masks.append(np.unpackbits(arrays["masks"], axis=-1).astype(bool))
    crops, masks = np.concatenate(crops), np.concatenate(masks)
    keras.utils.set_random_seed(options.seed)
    model = hypercolumn.build(options.units, seed=options.seed)
    steps = options.epochs * -(-len(crops) // _BATCH)
    trainer = episodic_training.compiled(model, learning_rate=options.learning_rate, steps=steps)
    state = options.work / f"training-{options.units}-{options.seed}"
    trainer.fit(
        crops,
        masks,
        batch_size=_BATCH,
        epochs=options.epochs,
        verbose=2,
        callbacks=[keras.callbacks.BackupAndRestore(str(state))],
    )
    pretrained.save(model, options.out)
    print(f"{options.out}: {model.count_params()} parameters, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
