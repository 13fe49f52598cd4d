"""The service's page: its files, and what a browser makes of it where there is one."""

import tomllib
from pathlib import Path

import pytest

import metricad
from tests.service.devtools import BROWSER, Page
from tests.service.test_app import TOKEN, FakeInspector, Server, picture, running

PARTS = {"part": FakeInspector(), "other part": FakeInspector(threshold=2.0)}


def test_its_files_are_packaged():
    root = Path(__file__).parent.parent.parent
    packaged = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    names = {path.name for path in (Path(metricad.__file__).parent / "service").glob("service.*")}
    assert names == {"service.html", "service.css", "service.js"}
    assert {f"*{Path(name).suffix}" for name in names} == set(packaged["metricad.service"])


def test_it_is_served_as_it_is_and_asks_nothing_of_others():
    with running() as client:
        for path, kind in (("/", "html"), ("/service.css", "css"), ("/service.js", "javascript")):
            answer = client.get(path)
            assert answer.headers["content-type"] == f"text/{kind}; charset=utf-8"
            assert "http:" not in answer.text
            assert "https:" not in answer.text
        assert "<style" not in client.get("/").text
        assert " style=" not in client.get("/").text


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A good image, one with a defect, and what is no image."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "good.png").write_bytes(picture(shape=(40, 60)))
    (folder / "defect.png").write_bytes(picture(shape=(40, 60), spot=255))
    (folder / "none.png").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module", params=[360, 1280])
def page(request, tmp_path_factory):
    """The page of two parts in a browser of this width."""
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    with Server(PARTS) as server, Page(tmp_path_factory.mktemp("profile"), width=request.param) as page:
        page.open("http://{}:{}/".format(*server.address))
        page.wait("!document.getElementById('desk').hidden")
        page.width = request.param
        yield page


def text(page, name):
    """What an element of the page says; nothing where it is hidden."""
    return page.js(f"document.getElementById('{name}').checkVisibility()"
                   f" ? document.getElementById('{name}').innerText : ''")  # fmt: skip


def judged(page, path):
    """Choose a file and wait until the page is done with it."""
    before = page.js("asked")
    page.choose_file(path)
    page.wait(f"asked > {before} && document.getElementById('progress').textContent === ''")


def test_a_defect_is_shown_with_its_map(page, files):
    page.js("document.getElementById('part').value = 'part'")
    judged(page, files / "defect.png")
    assert "Defect" in text(page, "verdict")
    assert "row 3, column 5" in text(page, "numbers")
    assert "defect.png" in text(page, "numbers")
    assert text(page, "notice") == ""
    assert page.js("document.getElementById('map').naturalWidth") == 60
    assert "row 3, column 5" in page.js("document.getElementById('map').alt")
    assert page.js("document.activeElement.id") == "verdict"
    assert page.js("document.documentElement.scrollWidth") <= page.width


def test_the_part_that_is_chosen_judges(page, files):
    page.js("document.getElementById('part').value = 'other part'")
    judged(page, files / "defect.png")
    assert "Good" in text(page, "verdict")
    assert "other part" in text(page, "numbers")


def test_another_part_does_not_keep_the_verdict(page, files):
    judged(page, files / "good.png")
    assert text(page, "verdict")
    page.js("document.getElementById('part').dispatchEvent(new Event('change'))")
    assert text(page, "verdict") == ""


def test_what_cannot_be_judged_is_said_in_words(page, files):
    judged(page, files / "none.png")
    assert "Not a readable image" in text(page, "notice")
    assert text(page, "verdict") == ""
    judged(page, files / "good.png")
    assert text(page, "notice") == ""
    assert "Good" in text(page, "verdict")


def test_an_image_can_be_dropped(page, files):
    content = list((files / "defect.png").read_bytes())
    page.js("document.getElementById('part').value = 'part'")
    page.js(
        "(() => { const data = new DataTransfer();"
        f"data.items.add(new File([new Uint8Array({content})], 'dropped.png', {{type: 'image/png'}}));"
        "document.body.dispatchEvent(new DragEvent('drop',"
        "{dataTransfer: data, bubbles: true, cancelable: true})) })()"
    )
    page.wait("document.getElementById('numbers').textContent.includes('dropped.png')")
    assert "Defect" in text(page, "verdict")


def test_the_keyboard_reaches_the_file_input(page):
    page.js("document.getElementById('part').focus()")
    page.press("Tab")
    assert page.js("document.activeElement.id") == "file"


def test_the_browser_has_nothing_to_complain_of(page):
    refused = [problem for problem in page.problems() if "422" not in problem]
    assert refused == []
    origin = page.js("location.origin")
    assert all(url.startswith((origin, f"blob:{origin}", "data:")) for url in page.requested())


def test_the_token_is_asked_for_and_kept_nowhere(files, tmp_path):
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    with Server(token=TOKEN) as server, Page(tmp_path, width=800, dark=True) as page:
        page.open("http://{}:{}/".format(*server.address))
        page.wait("!document.getElementById('entry').hidden")
        assert text(page, "notice") == ""
        for sign in "wrong":
            page.press(sign)  # the field has the focus
        page.press("Enter")
        page.wait("!document.getElementById('notice').hidden")
        assert "does not know this token" in text(page, "notice")
        page.js("document.getElementById('token').value = ''")
        for sign in TOKEN:
            page.press(sign)
        page.press("Enter")
        page.wait("!document.getElementById('desk').hidden")
        assert text(page, "choice") == ""  # of one part there is nothing to choose
        judged(page, files / "good.png")
        assert "Good" in text(page, "verdict")
        kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
        assert TOKEN not in page.js(kept)
        assert all(TOKEN not in url for url in page.requested())
