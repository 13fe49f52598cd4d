"""Options that several verbs of the command line share, and how their values are read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

DataDir = Annotated[
    Path | None, typer.Option(help="Where metricad-data put the prepared data sets.", show_default=False)
]
Normals = Annotated[
    int | None,
    typer.Option(
        min=1, help="Good images of each labelled surface to learn from.", show_default="half of them"
    ),
]
Holdout = Annotated[
    float, typer.Option(min=0, help="Share of the good images to learn from kept for setting the threshold.")
]
FalseAlarmRate = Annotated[
    float, typer.Option(help="Largest share of good images that may be called defects.")
]

UnseenGood = Annotated[
    list[Path],
    typer.Argument(help="Images of good parts, or folders of them, that took no part in fitting it."),
]


class PartPreset(StrEnum):
    """Methods by name."""

    paper = "paper"


class Format(StrEnum):
    """How verdicts are printed."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


def read_numbers(text: str, kind: type, option: str, *, count: int | None = None) -> tuple[Any, ...]:
    """Read numbers with commas between them, as many as `count` if that is given."""
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or count not in (None, len(numbers)):
        expected = f"{count} numbers with a comma" if count else "numbers with commas"
        raise typer.BadParameter(f"{option} expects {expected} between them; received {text!r}")
    return numbers


def refuse_all_but(context: typer.Context, *allowed: str) -> None:
    """Refuse every option on the command line but these: an interrupted run knows its own."""
    given = [
        name
        for name in context.params
        if name not in allowed and getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"
    ]
    if given:
        raise typer.BadParameter(f"--resume goes on with the run's own options; leave out {', '.join(given)}")
