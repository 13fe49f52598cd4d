"""What a report consists of, before it is known whether it becomes Markdown or a web page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

# What a cell of numbers may start with: 0.91 ± 0.02, −3, < 1, 12 / 30; or it is a blank.
_NUMBER = re.compile(r"[-−+±<>≤≥~]?\s*\d|[-–—]?$")


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    text : str
    value : float, optional
        What the table is sorted by; the text when not given.
    mark : {"", "warning", "strong"}
        ``warning`` for what a reader must not miss; it shows without color as well.
    """

    text: str
    value: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a header, the last ones (means, controls) perhaps kept below when it is sorted.

    Attributes
    ----------
    caption : str
    header : sequence of str
    rows, footer : sequence of sequence of Cell
        As long as the header; the first cell of each names it.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    footer: Sequence[Sequence[Cell]] = ()

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers, which stand to the right; the first one holds names."""
        cells = [row[column] for row in (*self.rows, *self.footer)]
        return column > 0 and (
            any(cell.value is not None for cell in cells)
            or all(_NUMBER.match(cell.text.strip()) for cell in cells)
        )


@dataclass(frozen=True)
class Picture:
    """An image file of the report.

    Attributes
    ----------
    name : str
        File name, ending in ``.png`` or ``.jpg``.
    content : bytes
        The file itself.
    alt : str
        What it shows, for those who do not see it.
    caption : str
    """

    name: str
    content: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in this order; a string is a paragraph of plain text.

    Attributes
    ----------
    title : str
    blocks : sequence of str, Table or Picture
    sections : sequence of Section
        One level further down.
    """

    title: str
    blocks: Sequence[str | Table | Picture] = ()
    sections: Sequence["Section"] = ()


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes
    ----------
    title : str
    blocks : sequence of str, Table or Picture
        Before the first section.
    sections : sequence of Section
    """

    title: str
    blocks: Sequence[str | Table | Picture] = ()
    sections: Sequence[Section] = ()
