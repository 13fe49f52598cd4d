"""Shared by both command lines: run a verb, print errors, set the exit status."""

import difflib
import io
import re
import sys
import traceback
from typing import Any, NoReturn

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from metricad.errors import MetricadError, explain_os_error

EXIT_DONE, EXIT_DEFECT, EXIT_ERROR = 0, 1, 2
_OURS = ("", "metricad", "data_prep")  # our own packages; a missing module of these is a bug
INTERRUPTED = 130  # returned by typer after Ctrl-C
_WIDE = 16  # choices with more characters are named in the text of an option, not beside its name


PANELS = {
    "prototype": {
        "Model": "--network --kind --metric --preset --seed",
        "What is inspected": "--gray --mask --foreground --margin --min-defect --bits --page",
        "Threshold": "--false-alarm-rate --holdout --keep-suspects --confirmed-defects",
    },
    "evaluate": {
        "Networks": "--network --kind --metric",
        "Published methods": "--method --epochs --weights --resize",
        "Protocol": "--data-dir --normals --holdout --false-alarm-rate --embedding",
        "Machines": "--jobs --engine --address --resources",
    },
    "reproduce": {
        "Data": "--data-dir --textures --objects --known --novel",
        "Training and testing": "--units --seeds --rounds --epochs --triplets --holdout --normals",
        "Machines": "--jobs --engine --address --resources",
    },
    "serve": {
        "Who may ask": "--host --port --token-file --insecure",
        "Limits": "--max-megabytes --max-megapixels --workers --queue --wait --upload",
    },
    "train": {
        "Data": "--source --data-dir --normals --mix",
        "Network and training": "--units --rounds --epochs --triplets --batch-size --learning-rate "
        "--metric --seed",
        "Textures": "--pyramid --never-enlarge --noise-share --noise-side --noise-strength --noise-relative",
    },
}
"""Panels of the help of verbs with many options; all other options come first."""


class Verb(TyperCommand):
    """A verb whose help fits into 80 columns."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.help = "\n\n".join(" ".join(part.split()) for part in (self.help or "").split("\n\n"))
        panels = PANELS.get(self.name or "", {})
        panel_of = {option: panel for panel, options in panels.items() for option in options.split()}
        for one in self.params:
            if isinstance(one, TyperOption):
                one.rich_help_panel = panel_of.get(one.opts[0])

    def get_params(self, ctx: Any) -> list[Any]:
        """Return arguments and options, with short descriptions of their values."""
        return [_short(one, ctx) for one in super().get_params(ctx)]


class Program(TyperGroup):
    """A program with such verbs."""

    def get_params(self, ctx: Any) -> list[Any]:
        """See `Verb`."""
        return [_short(one, ctx) for one in super().get_params(ctx)]


def fail(message: str) -> NoReturn:
    """Print one line on standard error and exit with status 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(EXIT_ERROR)


def _short(one: Any, context: Any) -> TyperArgument | TyperOption:
    """Describe the values of an argument or option in few characters: none for a flag, no long choices."""
    if one.metavar is not None:
        return one
    if isinstance(one, TyperArgument):
        one.metavar = one.name.upper()
        return one
    choices = [str(choice.value) for choice in one.type_descriptor.choices or ()]
    one.metavar = one.display_type(context).replace("list[", "").replace("]", "").replace(" range", "")
    one.metavar = one.metavar.replace("Path", "path")
    if one.is_flag:
        one.metavar = ""
    elif len("|".join(choices)) > _WIDE:
        one.metavar = "<choice>"
        if not all(re.search(rf"\b{re.escape(choice)}\b", one.help or "") for choice in choices):
            one.help = f"{one.help} One of {', '.join(choices)}."
    return one


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
