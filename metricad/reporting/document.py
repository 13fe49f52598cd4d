"""Content of a report, independent of its format (Markdown or web page)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Start of a cell with a number: 0.91 ± 0.02, −3, < 1, 12 / 30; or a blank cell.
_NUMBER = re.compile(r"[-−+±<>≤≥~]?\s*\d|[-–—]?$")


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    text : str
    value : float, optional
        Value to sort the table by; the default is the text.
    mark : {"", "warning", "strong"}
        ``warning`` for important remarks; it is visible without color, too.
    """

    text: str
    value: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a header. Footer rows (means, controls) stay at the bottom when the table is sorted.

    Attributes
    ----------
    caption : str
    header : sequence of str
    rows, footer : sequence of sequence of Cell
        Each row is as long as the header; its first cell is the name of the row.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    footer: Sequence[Sequence[Cell]] = ()

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers, which are aligned right; the first column holds names."""
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
        Text that describes the picture for readers who cannot see it.
    caption : str
    """

    name: str
    content: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and its content in order; a string is a paragraph of plain text.

    Attributes
    ----------
    title : str
    blocks : sequence of str, Table or Picture
    sections : sequence of Section
        Subsections.
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
        Content before the first section.
    sections : sequence of Section
    """

    title: str
    blocks: Sequence[str | Table | Picture] = ()
    sections: Sequence[Section] = ()
