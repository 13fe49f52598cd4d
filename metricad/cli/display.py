"""Output of the command line: progress on standard error, verdicts and tables on standard output."""

import contextlib
import csv
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip
from rich.table import Table

from metricad.data import images
from metricad.training.settings import Settings

if TYPE_CHECKING:
    from metricad.batch.run import Progress as BatchCalls
    from metricad.batch.run import Tally
    from metricad.batch.sources import Source
    from metricad.batch.work import Outcome
    from metricad.batch.workers import Failure, Unit
    from metricad.inspection.inspector import Inspection
    from metricad.inspection.timing import StageTimer
    from metricad.reproduction.grid import Cell
    from metricad.reproduction.runner import Progress as Calls

# Width of the table if the output is a pipe or a file; wide enough for long paths.
_WIDTH_OF_A_FILE = 200
_SECONDS_BETWEEN_LINES = 10.0  # of the progress of a batch, where it is no terminal
_VERDICT_STYLES = {"good": "green", "defect": "bold red", "error": "yellow", "none": "dim"}


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDTH_OF_A_FILE, highlight=False)


def found(paths: Iterable[Path]) -> list[Path]:
    """Find images, and say on standard error what was left out."""
    search = images.search(paths)
    left_out(search.left_out())
    return search.readable()


def left_out(counts: Counter[str]) -> None:
    """Say on standard error how many files of other kinds were left out."""
    if counts:
        said = ", ".join(f"{count} {name or 'without suffix'}" for name, count in sorted(counts.items()))
        print(f"left out {counts.total()} file{'s' * (counts.total() > 1)}: {said}", file=sys.stderr)


@contextlib.contextmanager
def turned() -> Iterator[None]:
    """Say on standard error how many files were turned during the block, as their orientation asks."""
    paths: set[str] = set()
    handler = logging.Handler()
    handler.emit = lambda record: paths.add(str(record.args))  # type: ignore[method-assign]
    images.TURNED.addHandler(handler)
    images.TURNED.setLevel(logging.INFO)
    try:
        yield
    finally:
        images.TURNED.removeHandler(handler)
        images.TURNED.setLevel(logging.NOTSET)
    if paths:
        print(f"turned as EXIF or TIFF orientation asks: {len(paths)} images", file=sys.stderr)


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on standard error during the block; yield the function that advances it."""
    with _bar() as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def training(
    settings: Settings,
) -> Iterator[tuple[Callable[[dict[str, Any]], None], Callable[[int, dict[str, Any]], None]]]:
    """Show the progress of training: a bar that advances with each epoch, and a line for each round.

    Yields two functions for `train_network`. The first is called after a round with its record. The second is
    called after an epoch with its number from 0 and its loss and accuracy.
    """
    with _bar() as bar:
        task = bar.add_task("reading images", total=settings.rounds * settings.epochs)

        def on_round(record: dict[str, Any]) -> None:
            bar.console.print(
                f"round {record['round']}/{settings.rounds}   loss {record['loss']:.4f}   "
                f"triplet accuracy {record['accuracy']:.4f}   {record['seconds']:.0f} s"
            )

        def on_epoch(epoch: int, logs: dict[str, Any]) -> None:
            bar.update(task, completed=epoch + 1, description=f"training, loss {logs['loss']:.3f}")

        yield on_round, on_epoch


@contextlib.contextmanager
def verdicts(format: str, total: int) -> Iterator[Callable[["Inspection"], None]]:
    """Print inspections in this format: line by line, or as one table at the end."""
    if format == "table":
        table = _table()
        for name in ("verdict", "score", "threshold", "percentile", "peak"):
            table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
        table.add_column("image", overflow="fold")
        try:
            with progress("images", total) as advance:

                def add(inspection: "Inspection") -> None:
                    table.add_row(*_cells(inspection))
                    advance()

                yield add
        finally:
            _console().print(table)
    elif format == "csv":
        from metricad.inspection.inspector import FIELDS

        writer = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
        writer.writeheader()
        yield lambda inspection: writer.writerow(_row(inspection.record()))
    else:
        # Non-ASCII characters are escaped: file names may not be UTF-8, but JSON must be.
        yield lambda inspection: print(json.dumps(inspection.record(), allow_nan=False), flush=True)


def _row(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with its list of defects as JSON, for one column."""
    return record if record["defects"] is None else record | {"defects": json.dumps(record["defects"])}


def profile(timer: "StageTimer", images: int, *, seconds: float, workers: int) -> None:
    """Print on standard error how much time each stage of an inspection took, and the images per second."""
    shown = _table()
    for name in ("stage", "ms per image", "share"):
        shown.add_column(name, justify="left" if name == "stage" else "right")
    total = sum(timer.seconds.values())
    for stage, taken in timer.seconds.items():
        shown.add_row(stage, f"{1e3 * taken / max(images, 1):.2f}", f"{100 * taken / max(total, 1e-9):.1f} %")
    console = _console(stderr=True)
    console.print(shown)
    console.print(
        f"{images} images in {seconds:.2f} s, {images / seconds:.1f} per second, {workers} at once; times "
        "are sums over threads and include waiting"
    )


@contextlib.contextmanager
def grid(jobs: int | None) -> Iterator["Calls"]:
    """Show the progress of a grid: a line for each finished cell, and a bar with running cells and time left.

    Yields the callbacks of `runner.reproduce`. The time left is estimated from the cost of the cells left and
    the speed so far.
    """
    from metricad.reproduction.runner import Progress as Calls

    console = _console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    began = time.monotonic()
    running: dict[str, float] = {}
    cost = {"done": 0.0, "all": 0.0}

    def left() -> str:
        # Running cells count as half done.
        done = cost["done"] + sum(running.values()) / 2
        if not cost["done"] or done >= cost["all"]:
            return ""
        return f"{_duration((time.monotonic() - began) * (cost['all'] - done) / done)} to go"

    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading the data", total=None, left="")

        def show() -> None:
            bar.update(
                task,
                description=escape(f"running {', '.join(running)}" if running else "writing the report"),
                left=left(),
            )

        def on_plan(cells: Sequence["Cell"], done: Collection[str]) -> None:
            bar.update(task, total=len(cells), completed=len(done))
            cost["all"] = sum(cell.cost for cell in cells if cell.name not in done)
            at_once = f", {jobs} at a time" if jobs else ""
            console.print(f"{len(cells)} cells, {len(done)} done before{at_once}")

        def on_start(cell: "Cell") -> None:
            running[cell.name] = cell.cost
            show()

        def end(cell: "Cell", line: str) -> None:
            running.pop(cell.name, None)
            cost["done"] += cell.cost
            bar.advance(task)
            count = f"{bar.tasks[task].completed:.0f}/{bar.tasks[task].total:.0f}"
            console.print(escape(f"{count}  {line}  {left()}".rstrip()))
            show()

        yield Calls(
            on_plan=on_plan,
            on_start=on_start,
            on_done=lambda cell, seconds: end(cell, f"{cell.name}: {_duration(seconds)}"),
            on_failure=lambda cell, failure: end(cell, f"{cell.name}: FAILED: {failure.message}"),
        )


@contextlib.contextmanager
def batch() -> Iterator["BatchCalls"]:
    """Show the progress of a batch on standard error: one live line, or plain lines now and then.

    Yields the callbacks of `run.batch`.
    """
    from metricad.batch.run import Progress as Calls

    console = _console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rest]}"),
    )
    counts: Counter[str] = Counter()
    times = {"began": time.monotonic(), "said": time.monotonic()}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("listing images", total=None, rest="")

        def on_source(source: "Source") -> None:
            if console.is_terminal:
                bar.update(task, description="reading what is done")
            left_out(source.skipped)

        def on_plan(tally: "Tally") -> None:
            times["began"] = times["said"] = time.monotonic()
            bar.update(task, description="images", total=tally.asked, completed=tally.before)
            if tally.before:
                console.print(f"{tally.before} of {tally.asked} images were done before")

        def on_shard(outcome: "Outcome") -> None:
            if outcome.error is not None:
                console.print(escape(f"{outcome.shard.name}: FAILED: {outcome.error}"))
            counts.update(outcome.verdicts)
            bar.advance(task, outcome.verdicts.total())
            now = time.monotonic()
            speed = counts.total() / max(now - times["began"], 1e-9)
            done = bar.tasks[task]
            left = (done.total or 0) - done.completed
            rest = f"{speed:.1f} images/s, {counts['defect']} defects, {counts['error']} errors" + (
                f", {_duration(left / speed)} to go" if speed and left else ""
            )
            bar.update(task, rest=rest)
            if not console.is_terminal and now - times["said"] > _SECONDS_BETWEEN_LINES:
                times["said"] = now
                console.print(f"{done.completed:.0f}/{done.total:.0f}  {rest}")

        yield Calls(on_source=on_source, on_plan=on_plan, on_shard=on_shard)


def tally(found: "Tally", out: str) -> None:
    """Print the rows of a batch's results, one line for each inspector."""
    for (part, sha256), counts in sorted(found.rows.items()):
        shown = ("good", "defect", "error", *(("none",) if counts["none"] else ()))
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in shown)
        print(f"{out}: {counts.total()} images by {part} ({sha256[:12]}): {said}")


@contextlib.contextmanager
def cells_at_once(total: int) -> Iterator[dict[str, Callable[..., object]]]:
    """Show the progress of cells in other processes; yield the callbacks of `workers.run`."""
    with progress("surfaces", total) as advance:

        def on_failure(cell: "Unit", failure: "Failure") -> None:
            print(f"{cell.name}: {failure.message}", file=sys.stderr)
            advance()

        yield {
            "on_start": lambda cell: None,
            "on_done": lambda cell, seconds: advance(),
            "on_failure": on_failure,
        }


def cells(found: Sequence["Cell"], *, seconds: float, jobs: int) -> None:
    """Print the plan of a grid: the number of cells of each kind, and the estimated time."""
    total = sum(cell.cost for cell in found)
    shown = _table(title="plan")
    for name in ("cells", "number", "estimated time"):
        shown.add_column(name, justify="left" if name == "cells" else "right")
    kinds = {
        "train": [cell for cell in found if not cell.surface],
        "evaluate trained networks": [cell for cell in found if cell.surface and cell.is_trained],
        "evaluate controls": [cell for cell in found if cell.surface and not cell.is_trained],
    }
    for kind, members in kinds.items():
        share = sum(cell.cost for cell in members) / total
        shown.add_row(kind, str(len(members)), _duration(share * seconds))
    shown.add_section()
    shown.add_row("all", str(len(found)), _duration(seconds), style="bold")
    _console().print(shown)
    _console().print(f"{jobs} cells at a time; the estimate may be wrong by a factor of two")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def table(rows: Sequence[Sequence[str]], *, title: str, has_summary: bool = True) -> None:
    """Print a table whose first row is its header and whose last row may be a summary of the others.

    Of a table that is too wide for the terminal, the last columns are left out.
    """
    console, whole = _console(), len(rows[0])
    unbounded = console.options.update(width=_WIDTH_OF_A_FILE**2)
    shown = _fitted(rows, title, has_summary=has_summary)
    count = whole
    while count > 1 and Measurement.get(console, unbounded, shown).minimum > console.width:
        count -= 1
        shown = _fitted([row[:count] for row in rows], title, has_summary=has_summary)
    console.print(shown)
    if count < whole:
        console.print(f"columns left out: {whole - count}; take a wider terminal, or pipe this into a file")


def _fitted(rows: Sequence[Sequence[str]], title: str, *, has_summary: bool) -> Table:
    header, *body = rows
    shown = _table(title=title)
    for number, name in enumerate(header):
        shown.add_column(escape(name), justify="right" if number else "left")
    for number, cells in enumerate(body, 1):
        is_summary = has_summary and number == len(body)
        if is_summary:
            shown.add_section()
        shown.add_row(*map(escape, cells), style="bold" if is_summary else None)
    return shown


def _table(*, title: str | None = None) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)


def lines(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and what is said of each, aligned."""
    shown = Table.grid(padding=(0, 2))
    shown.add_column(no_wrap=True, style="bold")
    shown.add_column(overflow="fold")
    for name, said in rows:
        shown.add_row(escape(name), escape(said))
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
        error = escape(inspection.error)  # most errors name the file
        return verdict, "", "", "", "", error if error.startswith(path) else f"{path}\n[dim]{error}[/]"
    return (
        verdict,
        f"{inspection.score:#.4g}",
        "" if inspection.threshold is None else f"{inspection.threshold:#.4g}",
        "" if inspection.percentile is None else f"{inspection.percentile:.1f} %",
        f"{inspection.peak_row}, {inspection.peak_col}",
        path,
    )
