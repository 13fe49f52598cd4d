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

from metricad.deploy import loading
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
) -> None:
    """Inspect images as they arrive in a folder, write a JSON line for each, and report drift of scores.

    Each image is inspected once, even if the watch is stopped or killed and started again with the same
    --out. Files that cannot be read get a line, too. SIGTERM or Ctrl-C stops the watch after the current
    image.

    Example: metricad watch part.metricad line/ --out line.jsonl
    """
    watched = WatchedFolder(folder, stable_seconds=stable_seconds)
    if maps is not None and maps.resolve().is_relative_to(folder.resolve()):
        raise typer.BadParameter(
            f"--maps {maps} is in the watched folder, so maps would be inspected; give a folder outside of it"
        )
    with _stopping() as stop:
        inspector = loading.load(part)
        with Journal(out) as journal:
            watching = Watch(inspector, watched, journal, drift_level=drift_level, maps=maps)
            if not once:
                typer.echo(f"{folder}: watching; lines go to {out}, which has {watching.before}")
            warned = _warn(watching)
            verdicts: Counter[str] = Counter()
            for record in watching.run(once=once, stop=stop):
                verdicts[record["verdict"]] += 1
                warned = warned or _warn(watching)
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
