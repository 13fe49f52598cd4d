"""`metricad watch`: inspect images as they arrive in a folder."""

import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from metricad import files
from metricad.cli.options import Verify
from metricad.deploy.loading import PartFile
from metricad.errors import MetricadError
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import ImageJudge
from metricad.monitoring.folder import WatchedFolder
from metricad.monitoring.journal import Journal
from metricad.monitoring.watch import Watch

_DRIFTED = {
    "higher": "scores are higher than when the inspector was made",
    "lower": "scores are lower than when the inspector was made",
    "wider": "scores spread wider than when the inspector was made",
    "narrower": "scores spread less than when the inspector was made",
    "mostly defects": "most images are defects",
}


def watch(
    part: Annotated[Path, typer.Argument(help="Inspector made by 'metricad prototype', or an export of it.")],
    folder: Annotated[Path, typer.Argument(help="Folder where images arrive; subfolders are included.")],
    out: Annotated[Path, typer.Option(help="Journal of JSON lines; an existing file is continued.")],
    maps: Annotated[
        Path | None,
        typer.Option(help="Folder for heat maps, outside the watched folder.", show_default=False),
    ] = None,
    stable_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds without a change until a file is complete; 0 for files moved in complete.",
        ),
    ] = 1.0,
    drift_level: Annotated[
        float,
        typer.Option(
            min=0, max=0.5, help="Probability of ever reporting drift falsely; 0 turns the test off."
        ),
    ] = 0.001,
    once: Annotated[
        bool, typer.Option("--once", help="Inspect the images in the folder, then exit.")
    ] = False,
    verify: Verify = None,
) -> None:
    """Inspect images as they come into a folder; report drift.

    A line of JSON is written for each. Each image is inspected once, even if the watch is stopped or killed
    and started again with the same --out. Files that cannot be read or judged get a line, too. SIGTERM or
    Ctrl-C stops the watch after the current image. SIGHUP loads the part anew; until then a replaced file
    changes nothing.

    Example: metricad watch part.metricad line/ --out line.jsonl
    """
    watched = WatchedFolder(folder, stable_seconds=stable_seconds)
    if maps is not None and maps.resolve().is_relative_to(folder.resolve()):
        raise typer.BadParameter(
            f"--maps {maps} is in the watched folder, so maps would be inspected; give a folder outside of it"
        )
    files.check_writable(out)
    if maps is not None:
        files.check_writable(maps, folder=True)
    with _stopping() as stop, _renewing(PartFile(part, key=verify)) as (load, renew):
        inspector = load()
        with Journal(out) as journal:
            watching = Watch(inspector, watched, journal, drift_level=drift_level, maps=maps)
            if not once:
                typer.echo(f"{folder}: watching; lines go to {out}, which has {watching.before}")
            warned = watching.drift if _warn(watching) else None
            verdicts: Counter[str] = Counter()
            for record in watching.run(once=once, stop=stop, renew=renew):
                verdicts[record["verdict"]] += 1
                if warned is not watching.drift and _warn(watching):
                    warned = watching.drift
            counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("good", "defect", "error"))
            typer.echo(f"{out}: {verdicts.total()} images judged: {counts}")


def _warn(watching: Watch) -> bool:
    """Print on standard error how the scores have drifted, if they have."""
    drift = watching.drift
    if drift.alarm is not None:
        print(
            f"drift: {_DRIFTED[drift.alarm]} (noticed {watching.drift_since}, level {drift.level:g}); "
            "look at light, lens and material, or make the inspector again",
            file=sys.stderr,
            flush=True,
        )
    return drift.alarm is not None


@contextlib.contextmanager
def _renewing(
    part: PartFile,
) -> Iterator[tuple[Callable[[], Inspector[ImageJudge]], Callable[[], Inspector[ImageJudge] | None]]]:
    """Yield functions that load the part, and that load it anew if SIGHUP came.

    A part that cannot be loaded anew and one that was replaced are told on standard error.
    """
    asked: list[int] = []

    def renew() -> Inspector[ImageJudge] | None:
        if not asked:
            if part.is_replaced():
                say("was replaced; the one that was loaded stays until SIGHUP")
            return None
        asked.clear()
        try:
            inspector = part.load()
        except (MetricadError, OSError) as error:
            say(f"not loaded anew, the one before stays: {error}")
            return None
        say("loaded anew")
        return inspector

    def say(what: str) -> None:
        print(f"{part.path}: {what}", file=sys.stderr, flush=True)

    number = getattr(signal, "SIGHUP", None)  # not on every system
    before = None if number is None else signal.signal(number, lambda *_: asked.append(1))
    try:
        yield part.load, renew
    finally:
        if number is not None:
            signal.signal(number, before)


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGTERM or Ctrl-C came; a second Ctrl-C interrupts at once."""
    caught: set[int] = set()

    def note(number: int, _: FrameType | None) -> None:
        caught.add(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in caught:
        raise KeyboardInterrupt
