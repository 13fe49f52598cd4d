"""A part's datasheet: the same numbers as a page, as Markdown, as CSV and as a picture."""

import re

import numpy as np
import pytest
from PIL import Image

from metricad.evaluation.detectability import Chart, Count, Example, Setting
from metricad.reporting import markdown
from metricad.reporting.document import Table
from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.reporting import datasheet

SIZES, CONTRASTS = (1, 2, 3), (0.1, 0.2)


@pytest.fixture
def chart():
    """Gaps are found from 2 px and 20 % on; some are elsewhere; blurs cannot be seen at all."""
    counts = {
        Setting("gap", size, contrast): Count(20, 20, 18)
        if size >= 2 and contrast == 0.2
        else Count(20, 7, 7)
        for size in SIZES
        for contrast in CONTRASTS
    }
    counts |= {Setting("blur", size, 0.5): Count() for size in SIZES}
    mask = np.zeros((40, 60), bool)
    mask[10:14, 20:50] = True
    image = np.where(mask, 0.8, -0.3).astype(np.float32)
    examples = {"gap": Example(Setting("gap", 2, 0.2), image, mask, "found elsewhere")}
    return Chart(counts, good_images=12, false_alarms=1, examples=examples)


def tables(document):
    parts = [document, *document.sections]
    return {block.caption: block for part in parts for block in part.blocks if isinstance(block, Table)}


def test_the_folder_holds_a_page_markdown_csv_and_pictures(chart, tmp_path):
    written = datasheet.write(chart, tmp_path / "new" / "sheet", name="tiles", facts={"threshold": "0.25"})
    assert [path.name for path in written] == [
        "detectability.md", "detectability.html", "detectability.csv", "detectability.png", "defects.jpg"
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "new" / "sheet").iterdir()} == {path.name for path in written}
    page = written[1].read_text()
    text = written[0].read_text()
    assert "<title>What tiles finds</title>" in page
    assert text.startswith("# What tiles finds\n")
    assert page.count("data:image/png;base64,") == page.count("data:image/jpeg;base64,") == 1
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)  # asks nothing of any network
    for said in ("1 of 12 are called defective", "120 synthetic defects", "95 % interval"):
        assert said in page
        assert said in text
    assert "| threshold | 0.25 |" in text
    for path in written[3:]:
        assert f"]({path.name})" in text
        with Image.open(path) as picture:
            assert picture.size[0] > 400
    assert written[2].read_text().count("\n") == 1 + len(chart.counts)


def test_the_first_table_says_from_where_on_a_kind_is_found(chart):
    table = tables(datasheet.build(chart, name="tiles", facts={}))[
        "From which size and contrast on 95 % or more are found"
    ]
    assert markdown.table(table)[2:] == [
        "| gaps | 2 px wide | strength of 20 % | 100 % | 91–100 | 90 % | 40 |",
        "| blurred patches | not found reliably ⚠ | – | – | – | – | – |",
    ]


def test_a_table_of_each_kind_has_all_counts(chart):
    found = tables(datasheet.build(chart, name="tiles", facts={}))
    gaps = found["gaps: found / all, by contrast and size"]
    assert list(gaps.header) == ["strength", "1 px", "2 px", "3 px"]
    assert [[cell.text for cell in row] for row in gaps.rows] == [
        ["10 %", "7 / 20", "7 / 20", "7 / 20"],
        ["20 %", "7 / 20", "20 / 20", "20 / 20"],
    ]
    blurs = found["blurred patches: found / all, by contrast and size"]
    assert [[cell.text for cell in row] for row in blurs.rows] == [["50 %", "–", "–", "–"]]


def test_the_picture_says_what_the_tables_say(chart):
    gaps, blurs = datasheet.draw_heat(chart).axes
    assert gaps.get_title() == "gaps"
    written = {text.get_position(): text.get_text() for text in gaps.texts}
    assert written == {
        (0, 0): "35", (1, 0): "35", (2, 0): "35", (0, 1): "35", (1, 1): "100 (90)", (2, 1): "100 (90)"
    }  # fmt: skip
    assert [label.get_text() for label in gaps.get_xticklabels()] == ["1", "2", "3"]
    assert [label.get_text() for label in gaps.get_yticklabels()] == ["10 %", "20 %"]
    assert (gaps.get_xlabel(), gaps.get_ylabel()) == ("size, px", "strength")
    colors = {text.get_text(): text.get_color() for text in gaps.texts}
    assert colors == {"35": "black", "100 (90)": "white"}
    assert not blurs.texts


def test_the_frame_is_around_what_is_found(chart):
    """Two cells beside each other: six edges, none between them."""
    gaps, blurs = datasheet.draw_heat(chart).axes
    edges = {tuple(map(tuple, np.transpose(line.get_data()))) for line in gaps.lines}
    assert edges == {
        ((0.5, 0.5), (1.5, 0.5)), ((1.5, 0.5), (2.5, 0.5)), ((0.5, 1.5), (1.5, 1.5)),
        ((1.5, 1.5), (2.5, 1.5)), ((0.5, 0.5), (0.5, 1.5)), ((2.5, 0.5), (2.5, 1.5)),
    }  # fmt: skip
    assert not blurs.lines


def test_an_example_shows_the_image_and_a_box_around_the_defect(chart):
    panel = datasheet.draw_examples(chart).axes[0]
    np.testing.assert_array_equal(panel.images[0].get_array(), chart.examples["gap"].image)
    assert panel.get_title() == "gaps\n2 px, 20 %, found elsewhere"
    (box,) = panel.patches
    assert box.get_x() < 20 < 49 < box.get_x() + box.get_width()
    assert box.get_y() < 10 < 13 < box.get_y() + box.get_height()


def test_examples_stand_in_the_order_of_the_kinds(chart):
    chart.examples = {"blur": chart.examples["gap"], **chart.examples}
    titles = [panel.get_title().split("\n")[0] for panel in datasheet.draw_examples(chart).axes]
    assert titles == ["gaps", "blurred patches"]


def test_without_examples_there_is_no_picture_of_them(chart):
    chart.examples = {}
    document = datasheet.build(chart, name="tiles", facts={})
    assert "What the defects look like" not in [section.title for section in document.sections]


def test_names_are_escaped(chart, tmp_path):
    written = datasheet.write(chart, tmp_path, name="<b>*x*", facts={"inspector": "<i>"})
    assert "&lt;b&gt;" in written[1].read_text()
    assert "<i>" not in written[1].read_text()
    assert "# What \\<b>\\*x\\* finds" in written[0].read_text()
