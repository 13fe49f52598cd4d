"""The web page: its markup, that it stands alone, and what a browser makes of it where there is one."""

import base64
import json
import math
import shutil
import subprocess
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import skimage.io
from hypothesis import given
from hypothesis import strategies as st

from metricad.reporting import html as page
from metricad.reporting.document import Cell, Document, Picture, Section, Table
from tests.helpers import ROOT

HOSTILE = "</title><script>alert('1')</script> & \"><img src=x onerror=alert(2)> &amp; "
LONG = "a_folder_name_without_a_single_space_that_goes_on_for_longer_than_any_screen_of_a_phone_is_wide"
VOID = {"img", "link", "meta"}


@dataclass
class Element:
    """A tag of a page that was read."""

    tag: str
    attributes: dict[str, str | None]
    children: list = field(default_factory=list)

    @property
    def text(self):
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, *tags):
        """Give the elements of these tags, or of any, in the order of the page."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                found += [child] * (not tags or child.tag in tags) + child.all(*tags)
        return found

    def one(self, tag):
        (found,) = self.all(tag)
        return found


class Reader(HTMLParser):
    """Reads a page whose every tag must be closed where it belongs."""

    def __init__(self):
        super().__init__()
        self.stack = [Element("", {})]

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {attrs}"
        element = Element(tag, dict(attrs))
        self.stack[-1].children.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_endtag(self, tag):
        assert self.stack.pop().tag == tag

    def handle_data(self, data):
        self.stack[-1].children.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert len(reader.stack) == 1, f"left open: {[element.tag for element in reader.stack]}"
    return reader.stack[0].one("html")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A PNG that is wider than a phone and a small JPEG."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1000, 3), dtype=np.uint8)
    found = []
    for name, width in (("wide.png", 1000), ("small.jpg", 40)):
        skimage.io.imsave(folder / name, pixels[:, :width], check_contrast=False)
        found.append(Picture(name, (folder / name).read_bytes(), f'{name} & "alt"', f"Caption <{name}>"))
    return found


# In this order by the value, by the text, and as they were.
BY_VALUE = ["surface 10", LONG, "surface 2", HOSTILE.strip()]
BY_TEXT = [HOSTILE.strip(), LONG, "surface 2", "surface 10"]
AS_GIVEN = ["surface 2", HOSTILE.strip(), "surface 10", LONG]
VALUES = [10.5, None, -3.0, 9.25]


@pytest.fixture(scope="module")
def document(pictures):
    def row(name, value):
        number = Cell("–") if value is None else Cell(f"{value} ± 0.125", value)
        return [Cell(name), number, *[Cell("0.500 ± 0.125", 0.5)] * 12]

    rows = [row(name, value) for name, value in zip(AS_GIVEN, VALUES, strict=True)]
    rows[0][2] = Cell("0.100", 0.1, "warning")
    rows[1][2] = Cell("0.900", 0.9, "strong")
    rows[2][2] = Cell("inf", math.inf)
    rows[3][2] = Cell("nan", math.nan)
    header = ["surface", "value", *(f"a method of many words, number {number}" for number in range(12))]
    wide = Table(f"Table of {HOSTILE}", header, rows, [row("mean", 99.0), row("control", -99.0)])
    kinds = Table("", ["image", "kind"], [[Cell("1.png"), Cell("good")], [Cell("2.png"), Cell("hole")]])
    return Document(
        f"Report {HOSTILE}",
        ["Before the first section."],
        [
            Section("Scores", ["A paragraph.", wide, "After it."]),
            Section("Pictures", pictures, [Section("Scores"), Section(HOSTILE, [kinds]), Section(LONG)]),
            Section("×"),
            Section("Scores"),
        ],
    )


@pytest.fixture(scope="module")
def rendered(document):
    return page.render(document)


@pytest.fixture(scope="module")
def html(rendered):
    return read(rendered)


def test_contents_name_every_section_in_order(html):
    titles = ["Scores", "Pictures", "Scores", HOSTILE, LONG, "×", "Scores"]
    sections = html.all("section")
    assert [section.all("h2", "h3")[0].text for section in sections] == titles
    links = html.one("nav").all("a")
    assert [link.text for link in links] == titles
    assert [link.attributes["href"] for link in links] == [f"#{each.attributes['id']}" for each in sections]


def test_ids_are_unique_and_without_spaces(html):
    ids = [element.attributes["id"] for element in html.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids)) == 7
    assert ids[0] == "scores"
    assert not any(set(" <>'\"&") & set(name) or not name for name in ids)


def test_no_contents_without_sections():
    assert not read(page.render(Document("t", ["A paragraph."]))).all("nav")


def test_headings_go_down_six_levels():
    section = Section("8")
    for title in "765432":
        section = Section(title, (), [section])
    headings = [
        element.tag
        for element in read(page.render(Document("1", (), [section]))).all()
        if element.tag[0] == "h" and element.tag[1:].isdigit()
    ]
    assert headings == ["h1", "h2", "h3", "h4", "h5", "h6", "h6", "h6"]


def test_page_asks_nothing_of_a_network(html, rendered):
    policies = [each.attributes for each in html.all("meta") if "http-equiv" in each.attributes]
    assert [policy["http-equiv"] for policy in policies] == ["Content-Security-Policy"]
    assert policies[0]["content"].startswith("default-src 'none'; img-src data:;")
    for element in html.all():
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert element.attributes.get(name, "#").startswith(("#", "data:")), element
        assert not any(name.startswith("on") or name == "style" for name in element.attributes), element
    assert "http:" not in rendered
    assert "https:" not in rendered
    style = html.one("style").text
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_names_are_text(html, document):
    assert len(html.all("script")) == len(html.all("style")) == 1
    assert html.one("title").text == html.one("h1").text == document.title
    assert html.all("figcaption")[0].text == f"Table of {HOSTILE}"
    assert {image.attributes["alt"] for image in html.all("img")} == {
        'wide.png & "alt"',
        'small.jpg & "alt"',
    }
    assert [row.all("th")[0].text for row in html.one("main").all("tbody")[0].all("tr")] == AS_GIVEN


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_text_is_read_back_as_it_was(text):
    shown = Table(text, [text], [[Cell(text)], [Cell(text, mark="strong")]])
    found = read(page.render(Document(text, [text, shown], [Section(text)])))
    assert [element.text for element in found.all("title", "h1", "p", "a", "th", "h2")] == [text] * 8


def test_pictures_are_inside(html, pictures):
    figures = [figure for figure in html.all("figure") if figure.all("img")]
    for figure, picture, kind in zip(figures, pictures, ("png", "jpeg"), strict=True):
        start, content = figure.one("img").attributes["src"].split(",")
        assert start == f"data:image/{kind};base64"
        assert base64.b64decode(content, validate=True) == picture.content
        assert figure.one("figcaption").text == picture.caption


def test_other_kinds_of_picture_are_refused():
    with pytest.raises(ValueError, match=r"'map\.svg'.*\.png or \.jpg"):
        page.render(Document("t", [Picture("map.svg", b"<svg/>", "a map")]))


def test_table(html):
    table = html.all("table")[0]
    assert [element.tag for element in table.all("thead", "tbody", "tfoot")] == ["thead", "tbody", "tfoot"]
    assert all(cell.attributes["scope"] == "col" for cell in table.one("thead").all("th"))
    assert len(table.one("thead").all("th")) == 14
    body, foot = table.one("tbody").all("tr"), table.one("tfoot").all("tr")
    assert [row.one("th").text for row in foot] == ["mean", "control"]
    for row in (*body, *foot):
        assert row.one("th").attributes == {"scope": "row"}
        assert len(row.all("td")) == 13
        assert all(cell.attributes["class"] == "number" for cell in row.all("td"))
    values = [[cell.attributes.get("data-value") for cell in row.all("td")[:2]] for row in body]
    assert values == [["10.5", "0.1"], [None, "0.9"], ["-3.0", "Infinity"], ["9.25", None]]


def test_marks_show_without_color(html):
    warning, strong = (row.all("td")[1] for row in html.all("tbody")[0].all("tr")[:2])
    assert warning.text == "\u26a0\ufe0e 0.100"
    assert warning.all("span")[0].attributes["title"] == "Warning"
    assert strong.one("strong").text == "0.900"
    assert (
        len(html.all("strong")) == len([each for each in html.all("span") if "title" in each.attributes]) == 1
    )


def test_columns_of_words_stand_to_the_left_and_no_footer_is_made_up(html):
    table = html.all("table")[1]
    assert not table.all("tfoot")
    assert not any("class" in cell.attributes for cell in table.all("th", "td"))


def test_without_a_script_there_are_no_dead_buttons(html):
    assert not html.all("button")


def test_style_and_script_are_installed_with_the_package():
    root = Path(page.__file__).parent
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packaged = settings["tool"]["setuptools"]["package-data"]["metricad.reporting"]
    needed = [path.name for path in root.glob("page.*")]
    assert len(needed) == 3
    assert all(any(fnmatch(name, pattern) for pattern in packaged) for name in needed)


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)

# Stands before everything else on the page, to hear of every error.
WATCH = """<script>
const errors = [];
addEventListener("error", event => errors.push(event.message));
addEventListener("securitypolicyviolation", event => errors.push(event.violatedDirective));
</script>"""

# Uses the page and leaves what it saw, with the order of rows after each click, for --dump-dom.
PROBE = """<script>
addEventListener("load", () => {
  const root = document.documentElement;
  const table = document.querySelector("table");
  const heads = [...table.querySelectorAll("thead th")];
  const click = column => {
    const button = heads[column].querySelector("button");
    button.focus();
    button.click();
    return {
      rows: [...table.rows].slice(1).map(row => row.cells[0].textContent),
      sorted: heads.map(head => head.getAttribute("aria-sort")),
      focused: document.activeElement === button,
    };
  };
  const clicks = [0, 0, 1, 1].map(click);
  const scroller = table.parentElement;
  scroller.scrollLeft = 300;
  const first = table.tBodies[0].rows[0].cells[0].getBoundingClientRect();
  root.dataset.seen = JSON.stringify({
    width: innerWidth,
    pageWidth: root.scrollWidth,
    tableScrolls: scroller.scrollWidth > scroller.clientWidth,
    firstColumnStays: Math.abs(first.left - scroller.getBoundingClientRect().left) < 3,
    firstColumnShare: first.width / scroller.clientWidth,
    pictures: [...document.images].map(image => [image.naturalWidth, image.getBoundingClientRect().right]),
    clicks,
    errors,
  });
});
</script>"""

# A window cannot be made as narrow as a phone, a frame can.
FRAME = """<!doctype html><body style="margin: 0"><iframe style="border: 0; width: {}px; height: 800px"
onload="document.documentElement.dataset.seen = this.contentDocument.documentElement.dataset.seen"
srcdoc="{}"></iframe></body>"""


@pytest.fixture(scope="module", params=[360, 1280])
def seen(request, rendered, tmp_path_factory):
    """What a browser of this width makes of the page."""
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    folder = tmp_path_factory.mktemp("browser")
    probed = rendered.replace("<head>", f"<head>{WATCH}", 1).replace("</body>", f"{PROBE}</body>")
    if request.param < 600:
        probed = FRAME.format(request.param, escape(probed))
    (folder / "page.html").write_text(probed, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={max(request.param, 600)},800"]
    command += ["--virtual-time-budget=5000", "--enable-logging=stderr", (folder / "page.html").as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    console = [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
    report = read(ended.stdout).attributes.get("data-seen", "undefined")
    assert report != "undefined", f"the page's script failed: {console}"
    found = json.loads(report) | {"console": console}
    assert found["width"] == request.param
    return found


def test_browser_sees_no_errors(seen):
    assert seen["errors"] == []
    assert seen["console"] == []


def test_browser_scrolls_the_table_but_not_the_page(seen):
    assert seen["pageWidth"] <= seen["width"]
    assert seen["tableScrolls"]
    assert seen["firstColumnStays"]
    assert seen["firstColumnShare"] < 0.5


def test_browser_shows_the_pictures_within_the_page(seen):
    assert [width for width, _ in seen["pictures"]] == [1000, 40]
    assert all(right <= seen["width"] for _, right in seen["pictures"])


def test_browser_sorts_up_then_down_with_gaps_and_footer_last(seen):
    footer = ["mean", "control"]
    by_text, by_text_down, by_value, by_value_down = seen["clicks"]
    assert by_text["rows"] == [*BY_TEXT, *footer]
    assert by_text_down["rows"] == [*BY_TEXT[::-1], *footer]
    assert by_value["rows"] == [*BY_VALUE, *footer]
    assert by_value_down["rows"] == [*BY_VALUE[-2::-1], BY_VALUE[-1], *footer]
    others = [None] * 12
    assert [click["sorted"] for click in seen["clicks"]] == [
        ["ascending", None, *others],
        ["descending", None, *others],
        [None, "ascending", *others],
        [None, "descending", *others],
    ]
    assert all(click["focused"] for click in seen["clicks"])
