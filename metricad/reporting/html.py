"""A report as one web page.

The page stands alone: style, script and pictures are inside, and its content security policy lets it ask
nothing of any network. Every text is escaped, as names come from users' folders.
"""

import base64
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import PurePath

from metricad.reporting.document import Cell, Document, Picture, Section, Table

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}
# The second character asks for the plain sign, in the color of the text, where there is an emoji as well.
_WARNING_SIGN = "\u26a0\ufe0e"
_DEEPEST = 6


@dataclass(frozen=True)
class _Place:
    """A section and the id that links lead to."""

    id: str
    section: Section
    places: Sequence["_Place"]


def render(document: Document) -> str:
    """Render a report as HTML5.

    Raises
    ------
    ValueError
        A picture is neither PNG nor JPEG by its name.
    """
    title = escape(document.title)
    places = _places(document.sections, set())
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',  # or a browser asks the server for one
            f"<title>{title}</title>",
            f"<style>\n{_packaged('page.css')}</style>",
            "</head>",
            "<body>",
            f"<header><h1>{title}</h1></header>",
            *_contents(places),
            "<main>",
            *_blocks(document.blocks),
            *(line for place in places for line in _section(place, 2)),
            "</main>",
            f"<script>\n{_packaged('page.js')}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _packaged(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _places(sections: Sequence[Section], taken: set[str]) -> list[_Place]:
    return [_Place(_id(each.title, taken), each, _places(each.sections, taken)) for each in sections]


def _id(title: str, taken: set[str]) -> str:
    """Make an id that is not yet `taken` from a title, and take it."""
    stem = re.sub(r"\W+", "-", title.lower()).strip("-") or "section"
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name


def _contents(places: Sequence[_Place]) -> Iterator[str]:
    if places:
        yield '<nav aria-label="Contents">'
        yield from _links(places)
        yield "</nav>"


def _links(places: Sequence[_Place]) -> Iterator[str]:
    yield "<ul>"
    for place in places:
        yield f'<li><a href="#{place.id}">{escape(place.section.title)}</a>'
        if place.places:
            yield from _links(place.places)
        yield "</li>"
    yield "</ul>"


def _section(place: _Place, level: int) -> Iterator[str]:
    heading = f"h{min(level, _DEEPEST)}"
    yield f'<section id="{place.id}">'
    yield f"<{heading}>{escape(place.section.title)}</{heading}>"
    yield from _blocks(place.section.blocks)
    for inner in place.places:
        yield from _section(inner, level + 1)
    yield "</section>"


def _blocks(blocks: Sequence[str | Table | Picture]) -> Iterator[str]:
    for block in blocks:
        match block:
            case Table():
                yield from _table(block)
            case Picture():
                yield from _picture(block)
            case _:
                yield f"<p>{escape(block)}</p>"


def _table(table: Table) -> Iterator[str]:
    # The caption stays put outside of the part that scrolls, which the keyboard can reach.
    yield '<figure class="table">'
    if table.caption:
        yield f"<figcaption>{escape(table.caption)}</figcaption>"
    label = escape(table.caption or "Table")
    yield f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">'
    yield "<table>"
    numeric = [table.is_numeric(column) for column in range(len(table.header))]
    heads = (
        f'<th scope="col"{_numbers(right)}>{escape(name)}</th>'
        for name, right in zip(table.header, numeric, strict=True)
    )
    yield f"<thead>\n<tr>{''.join(heads)}</tr>\n</thead>"
    yield from _rows("tbody", table.rows, numeric)
    if table.footer:
        yield from _rows("tfoot", table.footer, numeric)
    yield "</table>"
    yield "</div>"
    yield "</figure>"


def _rows(part: str, rows: Sequence[Sequence[Cell]], numeric: Sequence[bool]) -> Iterator[str]:
    yield f"<{part}>"
    for row in rows:
        first, *others = (_content(cell) for cell in row)
        cells = (
            f"<td{_numbers(right)}{_value(cell)}>{content}</td>"
            for cell, content, right in zip(row[1:], others, numeric[1:], strict=True)
        )
        yield f'<tr><th scope="row"{_value(row[0])}>{first}</th>{"".join(cells)}</tr>'
    yield f"</{part}>"


def _numbers(right: bool) -> str:
    return ' class="number"' if right else ""


def _value(cell: Cell) -> str:
    if cell.value is None or math.isnan(cell.value):
        return ""
    # As JavaScript's Number reads it.
    value = repr(float(cell.value)).replace("inf", "Infinity")
    return f' data-value="{value}"'


def _content(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.mark == "strong":
        return f"<strong>{text}</strong>"
    if cell.mark == "warning":
        sign = f'<span class="sign" role="img" aria-label="Warning">{_WARNING_SIGN}</span>'
        return f'<span class="warning" title="Warning">{sign} {text}</span>'
    return text


def _picture(picture: Picture) -> Iterator[str]:
    suffix = PurePath(picture.name).suffix.lower()
    if suffix not in _MEDIA_TYPES:
        raise ValueError(f"picture {picture.name!r}: expected a name ending in {' or '.join(_MEDIA_TYPES)}")
    content = base64.b64encode(picture.content).decode("ascii")
    yield "<figure>"
    yield f'<img src="data:{_MEDIA_TYPES[suffix]};base64,{content}" alt="{escape(picture.alt)}">'
    if picture.caption:
        yield f"<figcaption>{escape(picture.caption)}</figcaption>"
    yield "</figure>"
