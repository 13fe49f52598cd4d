"""Render a document as GitHub Markdown.

All text is plain text: characters that Markdown would read as markup, such as in folder names, are escaped.
"""

import re
from collections.abc import Sequence
from urllib.parse import quote

from metricad.reporting.document import Cell, Document, Picture, Section, Table

# Escape only where they have a meaning, so that snake_case, "a < b" and "[0.8, 0.9]" stay readable.
_SPECIAL = (
    r"[\\`*~$]",
    r"(?<![^\W_])_|_(?![^\W_])",
    r"<(?=[A-Za-z/!?])",
    r"&(?=#?\w+;)",
    r"\](?=[(:])",
)
_BEFORE_LIST_OR_HEADING = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[#>+=|-]))")
_DEEPEST = 6


def render(document: Document) -> str:
    """Render a report; its pictures must be in the same folder under their names."""
    blocks = [f"# {_heading(document.title)}", *map(_block, document.blocks)]
    for section in document.sections:
        blocks += _section(section, 2)
    return "\n\n".join(block for block in blocks if block) + "\n"


def table(table: Table) -> list[str]:
    """Render a table as lines, without its caption: numbers aligned right, footer rows last."""
    marks = ["---:" if table.is_numeric(column) else "---" for column in range(len(table.header))]
    rows = [[_cell(cell) for cell in row] for row in (*table.rows, *table.footer)]
    header = [_text(name, r"\|") for name in table.header]
    return [f"| {' | '.join(cells)} |" for cells in (header, marks, *rows)]


def _section(section: Section, level: int) -> list[str]:
    blocks = [f"{'#' * min(level, _DEEPEST)} {_heading(section.title)}", *map(_block, section.blocks)]
    for inner in section.sections:
        blocks += _section(inner, level + 1)
    return blocks


def _block(block: str | Table | Picture) -> str:
    match block:
        case Table():
            return _joined([_italic(block.caption), "\n".join(table(block))])
        case Picture():
            image = f"![{_text(block.alt, r'[][]')}]({quote(block.name)})"
            return _joined([image, _italic(block.caption)])
        case _:
            return _paragraph(block)


def _joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(block for block in blocks if block)


def _cell(cell: Cell) -> str:
    text = _text(cell.text, r"\|")
    if cell.mark == "strong" and text:
        return f"**{text}**"
    return f"{text} ⚠".strip() if cell.mark == "warning" else text


def _paragraph(text: str) -> str:
    """Render plain text so that it does not start a list, a heading or a quotation."""
    return _BEFORE_LIST_OR_HEADING.sub(r"\1\\", _text(text))


def _heading(text: str) -> str:
    # Markdown removes number signs at the end of a heading.
    return re.sub(r"#$", r"\\#", _text(text))


def _italic(text: str) -> str:
    return f"*{_text(text)}*" if text.strip() else ""


def _text(text: str, *also: str) -> str:
    """Put plain text on one line and escape Markdown markup and the patterns in `also`."""
    return re.sub("|".join([*_SPECIAL, *also]), r"\\\g<0>", " ".join(text.split()))
