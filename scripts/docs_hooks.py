"""Hooks of MkDocs: pages from elsewhere in the repository, the command line, formulas.

Links are written as in the repository, so that they also work where its files are read. Here they become
links between pages of the site.
"""

import html
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # hooks are imported by path

PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "metricad/methods/README.md": "published.md",
    "metricad/networks/pretrained/README.md": "model-card.md",
    "results/reproduction/report.html": "results/reproduction/one-page.html",  # beside that of report.md
}
"""Pages outside docs/, and their names on the site if these differ."""

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the results, other pages of the repository, and the command line."""
    results = [path for path in (ROOT / "results").rglob("*") if path.suffix != ".csv" and path.is_file()]
    shown = {path.relative_to(ROOT).as_posix() for path in results} | PAGES.keys()
    for source in sorted(shown):
        name = PAGES.get(source, source)
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, "command-line.md", content="\n".join(command_line())))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links between files of the repository into links between pages."""
    own = page.file.src_uri
    source = {name: path for path, name in PAGES.items()}.get(own, own)
    source = source if (ROOT / source).exists() else f"docs/{own}"

    def on_site(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        target = PAGES.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(target, posixpath.dirname(own) or ".")

    return _LINK.sub(on_site, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML, which browsers show without a script."""

    def formula(found: re.Match[str]) -> str:
        return convert(html.unescape(found[2]), display="inline" if found[1] == "span" else "block")

    return _FORMULA.sub(formula, content)


def command_line() -> Iterator[str]:
    """Yield lines of the page about the command line, from both programs."""
    import typer

    from data_prep.cli import app as data_prep
    from metricad.cli.app import app

    yield "# Command line\n"
    yield "Made from the program itself. `metricad VERB --help` says the same.\n"
    for program, name in ((app, "metricad"), (data_prep, "metricad-data")):
        group: Any = typer.main.get_command(program)
        context = group.make_context(name, [], resilient_parsing=True)
        if name != "metricad":
            yield f"## {name}\n\n{_text(group.help)}\n"
        level = "##" if name == "metricad" else "###"
        for verb, command in group.commands.items():
            yield f"{level} {name} {verb}\n"
            yield from _verb(command, f"{name} {verb}", context)


def _verb(command: Any, name: str, parent: Any) -> Iterator[str]:
    """Yield lines about a verb: text, example, arguments and options."""
    context = command.make_context(name.split()[-1], [], parent=parent, resilient_parsing=True)
    text, _, example = command.help.partition("Example: ")
    yield _text(text)
    if example:
        yield f"```sh\n{' '.join(example.split())}\n```\n"
    panels: dict[str, list[str]] = {}
    for one in command.get_params(context):
        if "--help" in one.opts:
            continue
        panel = one.rich_help_panel or ("Options" if one.opts[0].startswith("-") else "Arguments")
        panels.setdefault(panel, []).append(_row(one, context))
    for panel, rows in panels.items():
        yield f"| {panel} | | default |\n| --- | --- | --- |"
        yield from rows
        yield ""


def _row(one: Any, context: Any) -> str:
    is_option = one.opts[0].startswith("-")
    names = ", ".join(f"`{name}`" for name in one.opts) if is_option else f"`{one.display_name_raw}`"
    choices = [choice.value for choice in one.type_descriptor.choices or ()]
    about = html.escape(one.help or "", quote=False)
    if choices and not all(re.search(rf"\b{re.escape(choice)}\b", about) for choice in choices):
        about += f" One of {', '.join(choices)}."
    default = one.show_default if isinstance(one.show_default, str) else one.default
    if one.required:
        default = "required"
    elif one.show_default is False or getattr(one, "is_flag", False) or default in (None, [], ()):
        default = ""
    elif isinstance(default, list | tuple):
        default = ", ".join(map(str, default))
    return f"| {names} | {about} | {default} |".replace("\n", " ")


def _text(text: str) -> str:
    return html.escape(text.replace("\b", "").strip(), quote=False) + "\n"
