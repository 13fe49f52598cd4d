"""The report of a study, with the AUROC of each surface: Markdown, one web page, CSV, JSON and pictures."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from metricad import files
from metricad.evaluation.results import Cost, Result, Study
from metricad.reporting import html, markdown, sections, tables
from metricad.reporting.document import Cell, Document, Picture, Section, Table
from metricad.reporting.summary import Summary, plain

# More columns do not fit into a terminal line; then only the main method is shown.
_TERMINAL_COLUMNS = 8
_CSV_FIELDS = [each.name for each in fields(Result) if each.name != "scores"]
_COST_FIELDS = [each.name for each in fields(Cost)]


def write(study: Study, out: str | os.PathLike[str], *, is_embedded: bool = False) -> list[Path]:
    """Write the whole report into a folder.

    Parameters
    ----------
    study : Study
    out : path
    is_embedded : bool
        Also plot the embeddings stored in the study.

    Returns
    -------
    list of Path
        Written files: ``report.md``, ``report.html``, ``report.csv``, ``report.json`` and the pictures of
        ``report.md``; the web page contains its pictures.

    Raises
    ------
    DataError
        The results do not fit together, or there are no embeddings to plot.
    """
    document = sections.build(study, is_embedded=is_embedded)
    return write_document(
        document, out, name="report", numbers=to_csv(study), others={"report.json": to_json(document)}
    )


def write_document(
    document: Document,
    out: str | os.PathLike[str],
    *,
    name: str,
    numbers: str,
    others: Mapping[str, str] = MappingProxyType({}),
) -> list[Path]:
    """Write a document into a folder, with its pictures and its numbers.

    Parameters
    ----------
    document : Document
    out : path
    name : str
        File name of the Markdown, the web page and the CSV, without suffix.
    numbers : str
        Content of the CSV.
    others : mapping of str to str, optional
        Further text files by file name.

    Returns
    -------
    list of Path
        Written files: Markdown first, then the web page, the other files, and the pictures.
    """
    out = Path(out)
    pictures = [block for _, block in _walk(document) if isinstance(block, Picture)]
    for picture in pictures:
        with files.replacing(out / picture.name) as temporary:
            temporary.write_bytes(picture.content)
    texts = {
        f"{name}.csv": numbers,
        **others,
        f"{name}.html": html.render(document),
        f"{name}.md": markdown.render(document),
    }
    for file, text in texts.items():
        files.write_text(out / file, text)
    return [out / file for file in (*reversed(texts), *(picture.name for picture in pictures))]


def table(results: Sequence[Result]) -> list[list[str]]:
    """Make table rows with the AUROC per surface for a terminal: header first, means over the surfaces last.

    If there are many columns, only the main method is shown: the paper's, if it was used.
    """
    summary = Summary(results)
    free = ("trained", "untrained")
    columns = [
        (setting, method)
        for setting in summary.labels
        for method in (summary.methods if setting.role in free else [summary.method])
        if any(summary.of(surface, setting, method) for surface in summary.titles)
    ]
    if len(columns) > _TERMINAL_COLUMNS:
        columns = [(setting, method) for setting, method in columns if method == summary.method_of(setting)]
    header = [
        f"{method}, {summary.labels[setting]}" if setting.role in free else summary.labels[setting]
        for setting, method in columns
    ]
    rows, medians = [], []
    for surface, title in summary.titles.items():
        cells = [tables.figure(summary.values(surface, *column)) for column in columns]
        rows.append([title, summary.counts(surface), *(cell.text for cell in cells)])
        medians.append([np.nan if cell.value is None else cell.value for cell in cells])
    means = [f"{mean:.3f}" for mean in np.nanmean(medians, axis=0)]
    return [["surface", "good / defect", *header], *rows, ["mean", "", *means]]


def to_csv(study: Study) -> str:
    """Write one CSV line for each result: all fields except single scores, and the times."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*_CSV_FIELDS, *_COST_FIELDS])
    for result, cost in zip(study.results, study.costs, strict=True):
        values = [getattr(result, name) for name in _CSV_FIELDS]
        values = [json.dumps(value) if isinstance(value, dict) else value for value in values]
        values += [getattr(cost, name, None) for name in _COST_FIELDS]
        writer.writerow([plain(value) if isinstance(value, str) else value for value in values])
    return buffer.getvalue()


def to_json(document: Document) -> str:
    """Write the tables of a report as JSON: each cell has its text and, if it is a number, its value."""

    def cell(one: Cell) -> dict[str, Any]:
        return {
            name: value for name, value in asdict(one).items() if value not in (None, "") or name == "text"
        }

    content = [
        {
            "section": section,
            "caption": block.caption,
            "header": list(block.header),
            "rows": [[cell(one) for one in row] for row in block.rows],
            "footer": [[cell(one) for one in row] for row in block.footer],
        }
        for section, block in _walk(document)
        if isinstance(block, Table)
    ]
    return json.dumps({"title": document.title, "tables": content}, indent=1, allow_nan=False) + "\n"


def _walk(part: Document | Section, *titles: str) -> Iterator[tuple[list[str], str | Table | Picture]]:
    """Yield every block of a report with the titles of its sections."""
    for block in part.blocks:
        yield list(titles), block
    for section in part.sections:
        yield from _walk(section, *titles, section.title)
