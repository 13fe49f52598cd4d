"""Markdown: what it says, and that a parser of Markdown reads back the text that went in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Picture, Section, Table

AUROCS = Table(
    "AUROC per surface.",
    ["surface", "verdict", "mean, h = 16"],
    [
        [Cell("tile"), Cell("fit"), Cell("0.912 ± 0.010", 0.912, "strong")],
        [Cell("wood"), Cell("unfit"), Cell("0.431", 0.431, "warning")],
    ],
    [[Cell("mean"), Cell(""), Cell("0.672", 0.672)]],
)

# Whatever Markdown might take for markup.
TEXTS = st.text(st.sampled_from("ab1 _*`~$<>&;#![]()|\\-+=.:/\"'\n\t×é"), min_size=1).filter(str.strip)


def parse(text):
    """Give the inline tokens of a document with what contains each, as ``(container, token)``."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(text)
    return [(before.tag, token) for before, token in pairwise(tokens) if token.type == "inline"]


def plain(token, *wrapped):
    """Read a token that must be text and nothing else, but for emphasis around all of it."""
    kinds = [child.type for child in token.children if child.type != "text" or child.content]
    assert kinds == (["text"] if not wrapped else [wrapped[0], "text", wrapped[1]])
    return "".join(child.content for child in token.children)


def test_a_whole_report():
    document = Document(
        "Report",
        ["What was done."],
        [
            Section("AUROC", [AUROCS, "Read it so."]),
            Section(
                "Maps", (), [Section("tile", [Picture("map tile.png", b"", "a map", "Left the image.")])]
            ),
        ],
    )
    assert (
        markdown.render(document)
        == """\
# Report

What was done.

## AUROC

*AUROC per surface.*

| surface | verdict | mean, h = 16 |
| --- | --- | ---: |
| tile | fit | **0.912 ± 0.010** |
| wood | unfit | 0.431 ⚠ |
| mean |  | 0.672 |

Read it so.

## Maps

### tile

![a map](map%20tile.png)

*Left the image.*
"""
    )


def test_table_alone_has_no_caption():
    lines = markdown.table(AUROCS)
    assert len(lines) == 5
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)


def test_bars_and_newlines_stay_in_their_cell():
    header, _, row = markdown.table(Table("", ["a|b"], [[Cell("c|d\ne\\|f")]]))
    assert header == r"| a\|b |"
    assert row == r"| c\|d e\\\|f |"


@pytest.mark.parametrize(
    "text", ["snake_case_name", "a < b & c > d", "[0.8, 0.9] of 30", "−0.5 ± 0.1", "2 / 2", "3-fold", "1.5 %"]
)
def test_what_is_no_markup_is_not_escaped(text):
    assert markdown.render(Document("t", [text])) == f"# t\n\n{text}\n"


@pytest.mark.parametrize(
    ("texts", "right"),
    [
        (["0.9", "–", ""], True),
        (["12 / 30", "< 1"], True),
        (["1.5", "none"], False),
        (["good", "defect"], False),
    ],
)
def test_columns_of_numbers_stand_to_the_right(texts, right):
    shown = Table("", ["name", "x"], [[Cell("0"), Cell(text)] for text in texts])
    assert markdown.table(shown)[1] == ("| --- | ---: |" if right else "| --- | --- |")


def test_a_value_makes_a_column_of_numbers():
    shown = Table("", ["name", "x"], [[Cell("a"), Cell("none")], [Cell("b"), Cell("about 3", 3.0)]])
    assert markdown.table(shown)[1] == "| --- | ---: |"


def test_headings_go_down_six_levels():
    section = Section("8")
    for title in "765432":
        section = Section(title, (), [section])
    lines = markdown.render(Document("1", (), [section])).split("\n\n")
    assert [line.count("#") for line in lines] == [1, 2, 3, 4, 5, 6, 6, 6]


@given(TEXTS)
def test_any_text_is_read_back_as_it_was(text):
    shown = Table(text, [text], [[Cell(text)], [Cell(text, mark="strong")], [Cell(text, mark="warning")]])
    picture = Picture("a.png", b"", text)
    read = parse(markdown.render(Document(text, [text, shown, picture], [Section(text)])))
    assert [tag for tag, _ in read] == ["h1", "p", "p", "th", "td", "td", "td", "p", "h2"]
    title, paragraph, caption, header, cell, strong, warning, image, heading = (token for _, token in read)
    once = " ".join(text.split())
    assert [plain(token) for token in (title, paragraph, header, cell, heading)] == [once] * 5
    assert plain(warning) == f"{once} ⚠"
    assert plain(caption, "em_open", "em_close") == once
    assert plain(strong, "strong_open", "strong_close") == once
    (image,) = image.children
    assert image.type == "image"
    assert "".join(child.content for child in image.children) == once
