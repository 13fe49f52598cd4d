"""Render a document as one web page.

The page is self-contained: style, script and pictures are inside, and its content security policy forbids any
network access. All text is escaped, because names come from users' folders.
"""

import base64
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePath

import jinja2
import markupsafe

from metricad.reporting.document import Cell, Document, Picture, Section, Table

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}
# The second character selects the text form of the sign instead of an emoji.
_WARNING_SIGN = "\u26a0\ufe0e"


@dataclass(frozen=True)
class _Place:
    """A section and the id for links to it."""

    id: str
    section: Section
    places: Sequence["_Place"]


def render(document: Document) -> str:
    """Render a report as HTML5.

    Raises
    ------
    ValueError
        The name of a picture ends neither in .png nor .jpg.
    """
    return _template().render(
        document=document,
        places=_places(document.sections, set()),
        policy=_POLICY,
        style=_packaged("page.css"),
        script=_packaged("page.js"),
        warning_sign=_WARNING_SIGN,
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        columns=_numeric_columns,
        is_picture=lambda block: isinstance(block, Picture),
        is_table=lambda block: isinstance(block, Table),
        source=_source,
        value=_value,
    )
    return environment.from_string(_packaged("page.html.jinja"))


def _packaged(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _places(sections: Sequence[Section], taken: set[str]) -> list[_Place]:
    return [_Place(_id(each.title, taken), each, _places(each.sections, taken)) for each in sections]


def _id(title: str, taken: set[str]) -> str:
    """Make an id from a title that is not yet `taken`, and add it to `taken`."""
    stem = re.sub(r"\W+", "-", title.lower()).strip("-") or "section"
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name


def _numeric_columns(table: Table) -> list[bool]:
    return [table.is_numeric(column) for column in range(len(table.header))]


def _value(cell: Cell) -> markupsafe.Markup:
    """Make the attribute that the page's script sorts by; empty if the cell has no number."""
    if cell.value is None or math.isnan(cell.value):
        return markupsafe.Markup("")
    # Format for JavaScript's Number.
    number = repr(float(cell.value)).replace("inf", "Infinity")
    return markupsafe.Markup(' data-value="{}"').format(number)


def _source(picture: Picture) -> str:
    suffix = PurePath(picture.name).suffix.lower()
    if suffix not in _MEDIA_TYPES:
        raise ValueError(f"picture {picture.name!r}: expected a name ending in {' or '.join(_MEDIA_TYPES)}")
    content = base64.b64encode(picture.content).decode("ascii")
    return f"data:{_MEDIA_TYPES[suffix]};base64,{content}"
