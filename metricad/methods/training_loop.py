"""Train Keras models on the images of one surface, with seeds, and continue after an interruption.

All compared methods that are trained use this module. `keras.callbacks.BackupAndRestore` restores the
weights, but neither the order of batches nor their noise. So a continued training would get other batches
than an uninterrupted one. Here each epoch depends only on the seed, its number and the previous checkpoint.
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
"""File in a checkpoint folder: weights, optimizer, losses, and a digest of the training."""

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
    steps: int | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[], object] = lambda: None,
) -> list[float]:
    """Train a compiled model for some epochs, each over all examples in a new order.

    Parameters
    ----------
    model : keras.Model
        Built and compiled model with seeded initial weights and without random layers, because dropout and
        noise could not be restored after an interruption; put them into `prepare`.
    examples : array (n, …) or sequence of arrays
        One image each; sizes may differ.
    epochs, batch_size : int
    prepare : function
        Function from a list of examples and a generator to a batch, (inputs, targets). It may flip, crop or
        change the images. By default each example is its own target.
    seed : int
        Seed of the order of examples, and of the generator passed to `prepare`.
    steps : int, optional
        Number of batches of an epoch; the examples are drawn in new orders again until there are enough. By
        default every example once.
    checkpoint : path, optional
        Folder for checkpoints. After every epoch, all that the next one needs is saved there. Training
        continues after the last saved epoch, with the same result as without interruption. A finished
        training is loaded from there, or continued if more epochs are requested.
    on_epoch : function
        Called after each epoch trained in this call.

    Returns
    -------
    list of float
        Loss of every epoch, including those before an interruption.

    Raises
    ------
    ValueError
        There are no examples, or a number is below 1.
    RunError
        The checkpoint is damaged, belongs to another training or has more epochs; or the loss is not finite.
    """
    check_counts(epochs=epochs, batch_size=batch_size)
    if not len(examples):
        raise ValueError("no examples to train on; expected at least one")
    state = None
    losses: list[float] = []
    if checkpoint is not None:
        state = Path(checkpoint) / CHECKPOINT
        first = prepare([examples[0]], np.random.default_rng(seed))
        facts = {"batch_size": batch_size, "seed": seed, **({} if steps is None else {"steps": steps})}
        identity = _identity(model, examples, first, facts)
        losses = _restore(state, model, identity, epochs)
    for epoch in range(len(losses), epochs):
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(examples))
        while steps is not None and len(order) < steps * batch_size:
            order = np.concatenate([order, rng.permutation(len(examples))])
        order = order[: None if steps is None else steps * batch_size]
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


def gather(images: Iterable[np.ndarray], side: int, *, color: bool = False) -> np.ndarray:
    """Resize images to squares of one size, regardless of their aspect ratio: float32 (n, side, side, 1).

    With `color`, images may have three channels, and gray ones are repeated on three: (n, side, side, 3).

    Raises
    ------
    ValueError
        There are no images.
    DataError
        See `check_image`.
    """
    squares = []
    for image in images:
        check_image(image[..., 0] if color and image.ndim == 3 else image)
        square = image_files.resize(image, (side, side))
        squares.append(
            square if square.ndim == 3 else np.repeat(square[..., np.newaxis], 3 if color else 1, -1)
        )
    if not squares:
        raise ValueError("no images to fit to; expected at least one good image")
    return np.stack(squares)


def check_image(image: np.ndarray) -> np.ndarray:
    """Return the image; raise a DataError unless it is (H, W), not empty and finite."""
    if image.ndim != 2 or not image.size:
        raise DataError(
            f"expected a gray image (H, W), received shape {image.shape}; read it with images.read"
        )
    if not np.isfinite(image).all():
        raise DataError("the image holds NaN or infinite values; expected finite ones in [-1, 1]")
    return image


def check_counts(**numbers: int) -> None:
    """Raise a ValueError that names the first number below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, received {number}")


def check_filters(side: int, filters: Sequence[int]) -> None:
    """Raise a ValueError unless each layer has a filter or more, and `side` can be halved by every layer."""
    check_counts(**{f"filters[{i}]": count for i, count in enumerate(filters)})
    if not filters or side % 2 ** len(filters):
        raise ValueError(
            f"side must be a multiple of {2 ** len(filters)}, halved by each of at least one filters; "
            f"received side {side} and filters {tuple(filters)}"
        )


def layer_seeds(seed: int) -> Callable[[], int]:
    """Make a function that returns the next seed at each call, for the initial weights of a network's layers.

    So no two layers have the same weights, and Keras's global seed is not changed.
    """
    rng = np.random.default_rng(seed)
    return lambda: int(rng.integers(2**31))


def _identity(
    model: keras.Model,
    examples: Sequence[np.ndarray] | np.ndarray,
    first: tuple[np.ndarray, ...],
    facts: dict[str, int],
) -> str:
    """Compute a digest of all that must be equal to continue from a checkpoint.

    The first example after `prepare` is included to detect other noise or crops.
    """
    # Without the name, because Keras adds a running number to it.
    optimizer = {**model.optimizer.get_config(), "name": type(model.optimizer).__name__}
    words = {**facts, "optimizer": optimizer, "examples": len(examples)}
    digest = hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode())
    for array in (*(variable.numpy() for variable in model.weights), *first, *examples):
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.weights, *model.optimizer.variables]


def _save(path: Path, model: keras.Model, identity: str, losses: list[float]) -> None:
    # A zip of plain arrays: each has a checksum, and nothing is unpickled.
    arrays = {f"variable{number}": variable.numpy() for number, variable in enumerate(_variables(model))}
    with files.replacing(path) as temporary:
        np.savez(temporary, identity=np.array(identity), losses=np.array(losses), **arrays)


def _restore(path: Path, model: keras.Model, identity: str, epochs: int) -> list[float]:
    """Load a checkpoint with the optimizer's state, if there is one; return the losses of its epochs."""
    if not path.exists():
        return []
    model.optimizer.build(model.trainable_variables)  # Adam's moments must exist before loading
    variables = _variables(model)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            owner, losses = str(arrays["identity"]), arrays["losses"].tolist()
            values = [arrays[f"variable{number}"] for number in range(len(variables))] * (owner == identity)
    except Exception as error:  # zipfile, zlib and NumPy raise their own types of error
        raise RunError(f"{path}: damaged; delete it and train again") from error
    if owner != identity:
        raise RunError(
            f"{path}: a training with other images, settings or seed; give each training its own folder"
        )
    if len(losses) > epochs:
        raise RunError(
            f"{path}: trained for {len(losses)} epochs already, more than the {epochs} asked for; "
            "ask for as many, or give another folder"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return losses
