"""What the command line shows: progress on standard error, verdicts and tables on standard output."""

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from metricad.settings import Settings

if TYPE_CHECKING:
    from metricad.inspector import Inspection

# A pipe or a file has no width of its own; this one keeps long paths whole.
_WIDTH_OF_A_FILE = 200
_VERDICT_STYLES = {"good": "green", "defect": "bold red", "error": "yellow"}


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDTH_OF_A_FILE, highlight=False)


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error while the block runs; give the function that moves it one step."""
    with _bar() as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def training(settings: Settings) -> Iterator[tuple[Callable[[dict], None], Callable[[int, dict], None]]]:
    """Show a training run: a bar that moves at each epoch, and a line for each round.

    Gives what `training.train` calls after a round, with its record, and after an epoch, with its
    number from 0 and its loss and accuracy.
    """
    with _bar() as bar:
        task = bar.add_task("reading images", total=settings.rounds * settings.epochs)

        def on_round(record: dict) -> None:
            bar.console.print(
                f"round {record['round']}/{settings.rounds}   loss {record['loss']:.4f}   "
                f"triplet accuracy {record['accuracy']:.4f}   {record['seconds']:.0f} s"
            )

        def on_epoch(epoch: int, logs: dict) -> None:
            bar.update(task, completed=epoch + 1, description=f"training, loss {logs['loss']:.3f}")

        yield on_round, on_epoch


@contextlib.contextmanager
def verdicts(format: str, total: int) -> Iterator[Callable[["Inspection"], None]]:
    """Print inspections in this format, line by line, or as a table when all are there."""
    if format == "table":
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("verdict", "score", "threshold", "percentile", "peak (row, column)"):
            table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
        table.add_column("image", overflow="fold")
        try:
            with progress("images", total) as advance:
                yield lambda inspection: (table.add_row(*_cells(inspection)), advance())
        finally:
            _console().print(table)
    elif format == "csv":
        from metricad.inspector import Inspection

        writer = csv.DictWriter(sys.stdout, [field.name for field in fields(Inspection)], lineterminator="\n")
        writer.writeheader()
        yield lambda inspection: writer.writerow(asdict(inspection))
    else:
        # Escaped beyond ASCII: file names need not be UTF-8, and JSON must be.
        yield lambda inspection: print(json.dumps(asdict(inspection), allow_nan=False), flush=True)


def table(rows: Sequence[Sequence[str]], *, title: str) -> None:
    """Print a table whose first row is its header and whose last row sums it up."""
    header, *body, last = rows
    shown = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for number, name in enumerate(header):
        shown.add_column(escape(name), justify="right" if number else "left")
    for cells in body:
        shown.add_row(*map(escape, cells))
    shown.add_section()
    shown.add_row(*map(escape, last), style="bold")
    _console().print(shown)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = _console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _cells(inspection: "Inspection") -> tuple[str, ...]:
    style = _VERDICT_STYLES[inspection.verdict]
    verdict = f"[{style}]{inspection.verdict}[/]"
    path = escape(inspection.path or "")
    if inspection.error is not None:
        return verdict, "", "", "", "", f"{path}\n[dim]{escape(inspection.error)}[/]"
    return (
        verdict,
        f"{inspection.score:#.4g}",
        f"{inspection.threshold:#.4g}",
        f"{inspection.percentile:.1f} %",
        f"{inspection.peak_row}, {inspection.peak_col}",
        path,
    )
