"""A training run's folder: settings, a line for each round, checkpoints, and the finished weights.

``config.json`` and ``log.jsonl`` are for people as well; the newest ``checkpoint-NNNN.npz`` holds
the network with the optimiser's state after round NNNN; ``network.npz`` stands there once all
rounds are done.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from metricad import files
from metricad.errors import RunError
from metricad.networks import residual
from metricad.training.settings import Settings
from metricad.versions import versions

CONFIG, LOG, WEIGHTS = "config.json", "log.jsonl", "network.npz"
_CHECKPOINT = "checkpoint-{:04d}.npz"


def start(out: str | os.PathLike[str], settings: Settings, data: dict[str, Any]) -> Path:
    """Make a run folder and write its `config.json`.

    Parameters
    ----------
    out : path
        A new or empty folder.
    settings : Settings
    data : dict
        What is trained on, for the record and for resuming.

    Raises
    ------
    RunError
        The folder holds something already.
    """
    check_new(out)
    out = Path(out)
    config = {"settings": asdict(settings), "data": data, "versions": versions()}
    files.write_text(out / CONFIG, json.dumps(config, indent=2) + "\n")
    return out


def check_new(out: str | os.PathLike[str]) -> None:
    """Raise a RunError unless this is a new or an empty folder."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: exists and is not empty; give a new folder, or --resume to go on with a run")


def read_config(run: str | os.PathLike[str]) -> tuple[Settings, dict[str, Any]]:
    """Read a run's settings and what it is trained on.

    Raises
    ------
    RunError
        The folder or its `config.json` is missing or damaged.
    """
    path = Path(run) / CONFIG
    if not path.is_file():
        raise RunError(f"{run}: no training run here ({CONFIG} is missing); make one with 'metricad train'")
    try:
        config = json.loads(path.read_text())
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in config["settings"].items()
        }
        return Settings(**settings), config["data"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: damaged or of another version of metricad ({error}); train again") from error


def load_network(run: str | os.PathLike[str]) -> keras.Model:
    """Load the network of a finished run.

    Raises
    ------
    RunError
        There is no run, it is unfinished, or its weights are damaged.
    """
    run = Path(run)
    settings, _ = read_config(run)
    path = run / WEIGHTS
    if not path.is_file():
        raise RunError(f"{run}: no weights here ({WEIGHTS} is missing); {describe_progress(run)}")
    model = residual.build(settings.units)
    _load(path, model.weights)
    return model


def describe_progress(run: str | os.PathLike[str]) -> str:
    """Say, for an interrupted run, what is kept and how to go on."""
    if not (Path(run) / CONFIG).is_file():
        return "nothing was written"
    settings, _ = read_config(run)
    return (
        f"{_newest_checkpoint(Path(run))[0]} of {settings.rounds} rounds are kept: go on with "
        f"'metricad train --out {run} --resume'"
    )


def read_log(run: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the records of the rounds that are done; empty when there are none.

    Raises
    ------
    RunError
        The log is damaged.
    """
    path = Path(run) / LOG
    try:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); train again") from error


def save_round(run: Path, model: keras.Model, record: dict[str, Any]) -> None:
    """Keep what a round has reached: its record, then the checkpoint that makes it count.

    In this order, since `restore` goes by the checkpoint, and records beyond it are dropped here.
    """
    number = record["round"]
    records = [*read_log(run)[: number - 1], record]
    files.write_text(run / LOG, "".join(json.dumps(line) + "\n" for line in records))
    _save(run / _CHECKPOINT.format(number), _with_optimizer(model))
    (run / _CHECKPOINT.format(number - 1)).unlink(missing_ok=True)


def restore(run: Path, model: keras.Model) -> int:
    """Load the newest checkpoint, optimiser and all; return the number of rounds it stands for."""
    done, checkpoint = _newest_checkpoint(run)
    if checkpoint:
        # Adam's moments must exist before there is anything to load them into.
        model.optimizer.build(model.trainable_variables)
        _load(checkpoint, _with_optimizer(model))
    return done


def finish(run: Path, embedding: keras.Model) -> None:
    """Write the finished network's weights."""
    _save(run / WEIGHTS, embedding.weights)


def _newest_checkpoint(run: Path) -> tuple[int, Path | None]:
    """Number of rounds that are kept, and the file that keeps them."""
    checkpoints = sorted(run.glob(_CHECKPOINT.replace("{:04d}", "*")))
    if not checkpoints:
        return 0, None
    return int(checkpoints[-1].name.removeprefix("checkpoint-").removesuffix(".npz")), checkpoints[-1]


def _with_optimizer(model: keras.Model) -> list[keras.Variable]:
    return [*model.weights, *model.optimizer.variables]


def _load(path: Path, variables: Sequence[keras.Variable]) -> None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            values = [arrays[name] for name in arrays.files]
        if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
            raise ValueError("other shapes")
    except Exception as error:  # zipfile, zlib and NumPy's header parser each raise kinds of their own
        raise RunError(f"{path}: damaged, or weights of another network; train again") from error
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _save(path: Path, variables: Sequence[keras.Variable]) -> None:
    # A zip of plain arrays: each is checksummed, and a full disk is an OSError. HDF5, which Keras writes
    # by itself, loads flipped bits without a word, and a full disk takes the whole process down.
    with files.replacing(path) as temporary:
        np.savez(temporary, *(variable.numpy() for variable in variables))
