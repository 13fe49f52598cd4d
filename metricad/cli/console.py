"""Shared by both command lines: run a verb, print errors, set the exit status."""

import difflib
import io
import re
import sys
import traceback
from typing import NoReturn

import typer

from metricad.errors import MetricadError, explain_os_error

EXIT_DONE, EXIT_DEFECT, EXIT_ERROR = 0, 1, 2
_OURS = ("", "metricad", "data_prep")  # our own packages; a missing module of these is a bug
INTERRUPTED = 130  # returned by typer after Ctrl-C


def fail(message: str) -> NoReturn:
    """Print one line on standard error and exit with status 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(EXIT_ERROR)


def run(app: typer.Typer, *, prog: str) -> NoReturn:
    """Run a command line. Print an expected error as one line without traceback, and exit with status 2."""
    # File names may not be UTF-8: characters that cannot be printed are escaped and do not stop the run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = app(prog_name=prog, standalone_mode=False)
    except typer.TyperException as error:
        fail_on_options(error, prog)
    except KeyboardInterrupt:
        fail("interrupted")
    except (MetricadError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(explain_os_error(error))
    except Exception as error:  # a bug, printed with traceback; status 1 would mean a defect was found
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] not in _OURS:
            fail(
                f"this needs {error.name}, which is not installed here: install it, or the whole of metricad "
                "with all that it asks for, or inspect with what 'metricad export' wrote"
            )
        traceback.print_exc()
        raise SystemExit(EXIT_ERROR) from None
    if status == INTERRUPTED:
        fail("interrupted")
    raise SystemExit(status or EXIT_DONE)


def fail_on_options(error: typer.TyperException, prog: str) -> NoReturn:
    """Print which option is wrong and how to get help."""
    message = error.format_message()
    if not message:  # typer has already printed the help
        raise SystemExit(EXIT_ERROR)
    context = getattr(error, "ctx", None)
    message = message.replace("Value error, ", "").rstrip(".")
    message += _suggestion(message)
    command = context.command_path if context else prog
    fail(f"{message}; see '{command} --help'")


def _suggestion(message: str) -> str:
    """Suggest the most similar allowed value of an option."""
    found = re.search(r"'([^']*)' is not one of (.+)", message)
    near = difflib.get_close_matches(found[1], re.findall(r"'(.*?)'", found[2]), n=1) if found else []
    return f"; did you mean '{near[0]}'?" if near else ""
