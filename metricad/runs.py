"""A training run's folder: settings, a line for each round, checkpoints, and the finished weights.

``config.json`` and ``log.jsonl`` are for people as well; the newest ``checkpoint-NNNN.weights.h5`` holds
the network with the optimiser's state after round NNNN; ``network.weights.h5`` stands there once all
rounds are done.
"""

import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path

import keras

from metricad import files, network
from metricad.errors import RunError
from metricad.settings import Settings
from metricad.versions import versions

CONFIG, LOG, WEIGHTS = "config.json", "log.jsonl", "network.weights.h5"
_CHECKPOINT = "checkpoint-{:04d}.weights.h5"


def start(out: str | os.PathLike, settings: Settings, data: dict) -> Path:
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


def check_new(out: str | os.PathLike) -> None:
    """Raise a RunError unless this is a new or an empty folder."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: exists and is not empty; give a new folder, or --resume to go on with a run")


def read_config(run: str | os.PathLike) -> tuple[Settings, dict]:
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
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in config["settings"].items()}
        return Settings(**settings), config["data"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: damaged or of another version of metricad ({error}); train again") from error


def load_network(run: str | os.PathLike) -> keras.Model:
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
    model = network.build(settings.units)
    _load_weights(model, path)
    return model


def describe_progress(run: str | os.PathLike) -> str:
    """Say, for an interrupted run, what is kept and how to go on."""
    if not (Path(run) / CONFIG).is_file():
        return "nothing was written"
    settings, _ = read_config(run)
    return (
        f"{_newest_checkpoint(Path(run))[0]} of {settings.rounds} rounds are kept: go on with "
        f"'metricad train --out {run} --resume'"
    )


def read_log(run: str | os.PathLike) -> list[dict]:
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


def save_round(run: Path, model: keras.Model, record: dict) -> None:
    """Keep what a round has reached: its record, then the checkpoint that makes it count.

    In this order, since `restore` goes by the checkpoint, and records beyond it are dropped here.
    """
    number = record["round"]
    records = [*read_log(run)[: number - 1], record]
    files.write_text(run / LOG, "".join(json.dumps(line) + "\n" for line in records))
    _save_weights(model, run / _CHECKPOINT.format(number))
    (run / _CHECKPOINT.format(number - 1)).unlink(missing_ok=True)


def restore(run: Path, model: keras.Model) -> int:
    """Load the newest checkpoint, optimiser and all; return the number of rounds it stands for."""
    done, checkpoint = _newest_checkpoint(run)
    if checkpoint:
        # Adam's moments must exist before there is anything to load them into.
        model.optimizer.build(model.trainable_variables)
        _load_weights(model, checkpoint)
    return done


def finish(run: Path, embedding: keras.Model) -> None:
    """Write the finished network's weights."""
    _save_weights(embedding, run / WEIGHTS)


def _newest_checkpoint(run: Path) -> tuple[int, Path | None]:
    """Number of rounds that are kept, and the file that keeps them."""
    checkpoints = sorted(run.glob(_CHECKPOINT.replace("{:04d}", "*")))
    if not checkpoints:
        return 0, None
    return int(checkpoints[-1].name.removeprefix("checkpoint-").split(".")[0]), checkpoints[-1]


def _load_weights(model: keras.Model, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of what it then raises an error for
            model.load_weights(path)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RunError(f"{path}: damaged, or weights of another network; train again") from error


def _save_weights(model: keras.Model, path: Path) -> None:
    with files.replacing(path) as temporary:
        # On a full disk HDF5 takes the whole process down: as many plain bytes raise an OSError instead.
        temporary.write_bytes(os.urandom(_file_size_at_most(model)))
        model.save_weights(temporary)


def _file_size_at_most(model: keras.Model) -> int:
    """Weights, Adam's two moments of each, and HDF5's own tables, in bytes."""
    return 3 * sum(weights.nbytes for weights in model.get_weights()) + 2**17
