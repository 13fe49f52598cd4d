"""The folder of a training run: settings, one log line for each round, checkpoints, and final weights.

``config.json`` and ``log.jsonl`` are readable. The newest ``checkpoint-NNNN.npz`` holds the network and the
optimizer's state after round NNNN. ``network.npz`` exists when all rounds are done.
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
    """Make the folder of a run and write its `config.json`.

    Parameters
    ----------
    out : path
        A new or empty folder.
    settings : Settings
    data : dict
        Description of the training data, for the record and for resuming.

    Raises
    ------
    RunError
        The folder is not empty.
    """
    check_new(out)
    out = Path(out)
    config = {"settings": asdict(settings), "data": data, "versions": versions()}
    files.write_text(out / CONFIG, json.dumps(config, indent=2) + "\n")
    return out


def check_new(out: str | os.PathLike[str]) -> None:
    """Raise a RunError unless the folder is new or empty."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: exists and is not empty; give a new folder, or --resume to go on with a run")


def read_config(run: str | os.PathLike[str]) -> tuple[Settings, dict[str, Any]]:
    """Read the settings and the training data of a run.

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
        There is no run, it is not finished, or its weights are damaged.
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
    """Describe what is kept of an interrupted run and how to continue it."""
    if not (Path(run) / CONFIG).is_file():
        return "nothing was written"
    settings, _ = read_config(run)
    return (
        f"{_newest_checkpoint(Path(run))[0]} of {settings.rounds} rounds are kept: go on with "
        f"'metricad train --out {run} --resume'"
    )


def read_log(run: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the records of the finished rounds; empty if there are none.

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
    """Save a finished round: first its record, then the checkpoint.

    The order matters: `restore` uses the checkpoint, and records after it are dropped here.
    """
    number = record["round"]
    records = [*read_log(run)[: number - 1], record]
    files.write_text(run / LOG, "".join(json.dumps(line) + "\n" for line in records))
    _save(run / _CHECKPOINT.format(number), _with_optimizer(model))
    (run / _CHECKPOINT.format(number - 1)).unlink(missing_ok=True)


def restore(run: Path, model: keras.Model) -> int:
    """Load the newest checkpoint with the optimizer's state; return the number of finished rounds."""
    done, checkpoint = _newest_checkpoint(run)
    if checkpoint:
        # Adam's moments must exist before values are loaded into them.
        model.optimizer.build(model.trainable_variables)
        _load(checkpoint, _with_optimizer(model))
    return done


def finish(run: Path, embedding: keras.Model) -> None:
    """Write the weights of the finished network."""
    _save(run / WEIGHTS, embedding.weights)


def _newest_checkpoint(run: Path) -> tuple[int, Path | None]:
    """Return the number of saved rounds and their checkpoint file."""
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
    except Exception as error:  # zipfile, zlib and NumPy raise their own types of error
        raise RunError(f"{path}: damaged, or weights of another network; train again") from error
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _save(path: Path, variables: Sequence[keras.Variable]) -> None:
    # A zip of plain arrays: each has a checksum, and a full disk raises OSError. HDF5, Keras's own format,
    # loads flipped bits without an error, and a full disk kills the process.
    with files.replacing(path) as temporary:
        np.savez(temporary, *(variable.numpy() for variable in variables))
