"""Epochs of Keras training on one surface's images, seeded, and gone on with after an interruption.

What the comparison methods that train have in common. `keras.callbacks.BackupAndRestore` brings back the
weights, but neither the order of the batches nor their noise: a training that goes on would see other
batches than an unbroken one. Here each epoch depends on the seed, its number and the checkpoint before it,
and on nothing else.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import keras
import numpy as np

from metricad import files
from metricad.data import images as image_files
from metricad.errors import DataError, RunError

CHECKPOINT = "training.npz"
"""The file in a checkpoint folder: weights, optimiser, losses, and whose they are."""

Prepare = Callable[[list[np.ndarray], np.random.Generator], tuple[np.ndarray, np.ndarray]]


def reproduced(examples: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Stack a batch as the inputs and as the targets of an autoencoder."""
    batch = np.stack(examples)
    return batch, batch


def train(
    model: keras.Model,
    examples: Sequence[np.ndarray] | np.ndarray,
    *,
    epochs: int,
    batch_size: int,
    prepare: Prepare = reproduced,
    seed: int = 0,
    checkpoint: Path | None = None,
    on_epoch: Callable[[], object] = lambda: None,
) -> list[float]:
    """Train a compiled model for some epochs, each over all examples in an order of its own.

    Parameters
    ----------
    model : keras.Model
        Built and compiled, with seeded initial weights and without random layers: dropout and noise would
        not come back after an interruption; put them into `prepare`.
    examples : array (n, …) or sequence of arrays
        An image each, of one size or of several.
    epochs, batch_size : int
    prepare : function
        From a list of examples and a generator to a batch, (inputs, targets): where images are flipped,
        cropped or spoiled. Without one, each example is its own target.
    seed : int
        Of the order of the examples, and of the generator that `prepare` is given.
    checkpoint : path, optional
        A folder. After every epoch all that the next one needs is kept there, and training begins after
        the last epoch that it holds: it ends like an unbroken one. A finished training stays there, and
        is taken over as it is, or gone on with where more epochs are asked for.
    on_epoch : function
        Called after each epoch that is trained here.

    Returns
    -------
    list of float
        Loss of every epoch, those before an interruption included.

    Raises
    ------
    ValueError
        There is nothing to train on, or a number is below 1.
    RunError
        The checkpoint is damaged, holds another training or more epochs; or the loss is no longer finite.
    """
    check_counts(epochs=epochs, batch_size=batch_size)
    if not len(examples):
        raise ValueError("no examples to train on; expected at least one")
    state = None
    losses: list[float] = []
    if checkpoint is not None:
        state = Path(checkpoint) / CHECKPOINT
        first = prepare([examples[0]], np.random.default_rng(seed))
        identity = _identity(model, examples, first, batch_size=batch_size, seed=seed)
        losses = _restore(state, model, identity, epochs)
    for epoch in range(len(losses), epochs):
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(examples))
        total = 0.0
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            batch = prepare([examples[number] for number in numbers], rng)
            total += len(numbers) * float(model.train_on_batch(*batch, return_dict=True)["loss"])
        losses.append(total / len(order))
        if not np.isfinite(losses[-1]):
            raise RunError(
                f"the loss of epoch {epoch + 1} is not finite; train with a lower learning rate, "
                "or look for a damaged image"
            )
        if state is not None:
            _save(state, model, identity, losses)
        on_epoch()
    return losses


def gather(images: Iterable[np.ndarray], side: int) -> np.ndarray:
    """Resize images to squares of one size, whatever their proportions: float32 (n, side, side, 1).

    Raises
    ------
    ValueError
        There are no images.
    DataError
        See `check_image`.
    """
    squares = [image_files.resize(check_image(image), (side, side)) for image in images]
    if not squares:
        raise ValueError("no images to fit to; expected at least one good image")
    return np.stack(squares)[..., np.newaxis]


def check_image(image: np.ndarray) -> np.ndarray:
    """Give the image back, or raise a DataError unless it is (H, W), not empty, of finite values."""
    if image.ndim != 2 or not image.size:
        raise DataError(
            f"expected a gray image (H, W), received shape {image.shape}; read it with images.read"
        )
    if not np.isfinite(image).all():
        raise DataError("the image holds NaN or infinite values; expected finite ones in [-1, 1]")
    return image


def check_counts(**numbers: int) -> None:
    """Raise a ValueError that names the first of these that is below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, received {number}")


def layer_seeds(seed: int) -> Callable[[], int]:
    """Make a function whose every call is the next seed, for the initial weights of a network's layers.

    So that no layer repeats another's weights, and Keras's global seed is left alone.
    """
    rng = np.random.default_rng(seed)
    return lambda: int(rng.integers(2**31))


def _identity(
    model: keras.Model,
    examples: Sequence[np.ndarray] | np.ndarray,
    first: tuple[np.ndarray, ...],
    *,
    batch_size: int,
    seed: int,
) -> str:
    """Digest of all that two trainings must share for one to go on with the other's checkpoint.

    The first example as it is prepared tells also another noise or crop.
    """
    # Without its name, which Keras numbers on.
    optimizer = {**model.optimizer.get_config(), "name": type(model.optimizer).__name__}
    facts = {"optimizer": optimizer, "batch_size": batch_size, "seed": seed, "examples": len(examples)}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for array in (*(variable.numpy() for variable in model.weights), *first, *examples):
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.weights, *model.optimizer.variables]


def _save(path: Path, model: keras.Model, identity: str, losses: list[float]) -> None:
    # A zip of plain arrays: each is checksummed, and none is ever unpickled.
    arrays = {f"variable{number}": variable.numpy() for number, variable in enumerate(_variables(model))}
    with files.replacing(path) as temporary:
        np.savez(temporary, identity=np.array(identity), losses=np.array(losses), **arrays)


def _restore(path: Path, model: keras.Model, identity: str, epochs: int) -> list[float]:
    """Load a checkpoint, if there is one, optimiser and all; return the losses of its epochs."""
    if not path.exists():
        return []
    model.optimizer.build(model.trainable_variables)  # Adam's moments must exist to be loaded into
    variables = _variables(model)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            owner, losses = str(arrays["identity"]), arrays["losses"].tolist()
            values = [arrays[f"variable{number}"] for number in range(len(variables))] * (owner == identity)
    except Exception as error:  # zipfile, zlib and NumPy's header parser each raise kinds of their own
        raise RunError(f"{path}: damaged; delete it and train again") from error
    if owner != identity:
        raise RunError(
            f"{path}: a training of other images, settings or another seed; give each a folder of its own"
        )
    if len(losses) > epochs:
        raise RunError(
            f"{path}: trained for {len(losses)} epochs already, more than the {epochs} asked for; "
            "ask for as many, or give another folder"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return losses
