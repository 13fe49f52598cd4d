"""Train the paper's network with Keras `fit`; each round has new triplets and a checkpoint (section 2.8)."""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from metricad.data import datasets, patches
from metricad.errors import RunError
from metricad.networks import residual
from metricad.training import loss, runs, triplets
from metricad.training.settings import Settings


def train_network(
    out: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]] = (),
    *,
    data_dir: str | os.PathLike[str] | None = None,
    normals: int | None = None,
    settings: Settings | None = None,
    resume: bool = False,
    on_round: Callable[[dict[str, Any]], object] = lambda record: None,
    on_skipped: Callable[[Counter[str]], object] = lambda counts: None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """Train a network on folders and prepared data sets, in a new run folder.

    Parameters
    ----------
    out : path
        Folder of the run: new, or an existing run if `resume` is true.
    sources : sequence of path or str
        Folders of classes or names of prepared data sets; see `datasets.load`. Of labeled surfaces only good
        images are used.
    data_dir, normals
        See `datasets.load`.
    settings : Settings, optional
        The default is the paper's settings.
    resume : bool
        Continue after the last finished round, with the sources and settings of the run.
    on_round : function, optional
        Called with each round's record, as in ``log.jsonl``.
    on_skipped : function, optional
        Called with the numbers of files in the sources that are no images, by suffix.
    callbacks : sequence of keras.callbacks.Callback, optional
        Callbacks for Keras `fit`, such as a progress bar.

    Returns
    -------
    keras.Model
        See `residual.build`.

    Raises
    ------
    RunError, DataError
        The folder or a source cannot be used.
    """
    if resume:
        settings, data = runs.read_config(out)
        sources, data_dir, normals = data["sources"], data["data_dir"], data["normals"]
    settings = settings or Settings()
    if not sources:
        raise ValueError("no sources to train on; give at least one --source")
    triplets.shares(settings.mix, len(sources))
    if not resume:
        runs.check_new(out)
    loaded = [datasets.load(source, data_dir=data_dir, normals=normals) for source in sources]
    on_skipped(sum((surface.skipped for surfaces in loaded for surface in surfaces), Counter()))
    if resume and data["seen"] != [datasets.describe(surfaces) for surfaces in loaded]:
        raise RunError(f"{out}: the images of its sources have changed since the run began; start a new run")
    prepared = [
        triplets.from_surfaces(surfaces, sides=settings.pyramid, enlarges=settings.enlarges)
        for surfaces in loaded
    ]
    # The folder is made after all data was read, so that a bad image leaves no folder behind.
    if not resume:
        data = {
            "sources": [str(source) for source in sources],
            "data_dir": None if data_dir is None else str(data_dir),
            "normals": normals,
            "seen": [datasets.describe(surfaces) for surfaces in loaded],
        }
        runs.start(out, settings, data)
    train(out, prepared, on_round=on_round, callbacks=callbacks)
    return runs.load_network(out)


def train(
    run: str | os.PathLike[str],
    sources: Sequence[triplets.Source],
    *,
    on_round: Callable[[dict[str, Any]], object] = lambda record: None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train a run made by `runs.start`, from its last checkpoint.

    Each round depends only on the seed, its number and the previous checkpoint. So an interrupted run gives
    the same result as an uninterrupted one.
    """
    run = Path(run)
    settings, _ = runs.read_config(run)
    embedding = residual.build(settings.units, seed=settings.seed)
    batches = math.ceil(settings.triplets_per_round / settings.batch_size)
    model = three_branches(
        embedding, learning_rate=settings.learning_rate, metric=settings.metric, steps_per_execution=batches
    )
    done = runs.restore(run, model)
    target = np.tile(np.array(loss.TARGET, np.float32), (settings.triplets_per_round, 1))
    for number in range(done + 1, settings.rounds + 1):
        began = time.perf_counter()
        # Seed of the order of batches; triplets have their own generator.
        keras.utils.set_random_seed(int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0]))
        history = model.fit(
            settings.sample(sources, number),
            target,
            batch_size=settings.batch_size,
            epochs=number * settings.epochs,
            initial_epoch=(number - 1) * settings.epochs,
            callbacks=list(callbacks),
            verbose=0,
        ).history
        if not np.isfinite(history["loss"]).all():
            raise RunError(
                f"{run}: the loss of round {number} is not finite; train with a lower learning rate"
            )
        record = {
            "round": number,
            "loss": history["loss"][-1],
            "accuracy": history["accuracy"][-1],
            "epoch_loss": history["loss"],
            "epoch_accuracy": history["accuracy"],
            "seconds": round(time.perf_counter() - began, 3),
        }
        runs.save_round(run, model, record)
        on_round(record)
    runs.finish(run, embedding)


def after_each_epoch(on_epoch: Callable[[int, dict[str, Any]], object]) -> keras.callbacks.Callback:
    """Make a Keras callback from a function of the epoch's number, from 0, and its loss and accuracy."""
    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch)


def three_branches(
    embedding: keras.Model,
    *,
    learning_rate: float = 1e-4,
    metric: str = "euclidean",
    steps_per_execution: int = 1,
) -> keras.Model:
    """Compile the network's three branches, which share their weights, with the paper's loss.

    Parameters
    ----------
    embedding : keras.Model
        See `residual.build`.
    learning_rate : float
        Learning rate of Adam.
    metric : {"euclidean", "manhattan"}
        Metric of the distances in the loss.
    steps_per_execution : int
        Number of batches that TensorFlow runs before it returns to Python: same steps, less time.

    Returns
    -------
    keras.Model
        Three inputs (N, 32, 32, 1) to the softmax of the two distances (N, 2). The target is `loss.TARGET`.
        Its mean absolute error is `loss.triplet_loss`. A triplet counts as accurate if the negative is
        farther than the positive.
    """
    shape = (patches.PATCH_SIZE, patches.PATCH_SIZE, 1)
    branches = [keras.Input(shape, name=role) for role in ("anchor", "positive", "negative")]
    ratio = loss.DistanceRatio(metric=metric, name="distance_ratio")(
        *(embedding(branch) for branch in branches)
    )
    model = keras.Model(branches, ratio, name="triplet")
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="mean_absolute_error",
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,  # on CPUs, XLA makes a step three times slower
        steps_per_execution=steps_per_execution,
    )
    return model
