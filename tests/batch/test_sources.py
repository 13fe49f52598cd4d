"""Sources: folders, globs, URLs, lists."""

import fsspec
import pyarrow
import pytest
from pyarrow import csv, parquet

from metricad.batch import sources
from metricad.errors import DataError, MetricadError


@pytest.fixture
def folder(tmp_path):
    for name in ("b/2.png", "b/1.JPG", "a.tif", "c.heic", "notes.txt", ".hidden.png", "list.d/x.png"):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "in"


def below(folder, *names):
    return {None: [str(folder / name) for name in names]}


@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/**"])
def test_folders_globs_and_file_urls_are_sorted_paths(folder, form):
    found = sources.find(form.format(folder))
    assert found.paths == below(folder, "a.tif", "b/1.JPG", "b/2.png", "c.heic", "list.d/x.png")
    assert found.skipped[".txt"] == 1


def test_a_glob_takes_only_what_it_names(folder):
    assert sources.find(f"{folder}/*/?.png").paths == below(folder, "b/2.png", "list.d/x.png")


def test_relative_paths_become_absolute(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert sources.find("b").paths == sources.find("b/*").paths == below(folder, "b/1.JPG", "b/2.png")


@pytest.fixture
def memory():
    """A file system without a disk."""
    system = fsspec.filesystem("memory")
    for name in ("/bucket/line/b.png", "/bucket/line/a.png", "/bucket/line/.x/c.png", "/bucket/notes.txt"):
        system.pipe_file(name, b"content")
    yield
    system.store.clear()


@pytest.mark.parametrize("url", ["memory://bucket/line", "memory://bucket/line/", "memory://bucket/l*/*"])
def test_urls_are_listed(memory, url):
    found = sources.find(url)
    assert [path.rpartition("bucket/")[2] for path in found.paths[None]] == ["line/a.png", "line/b.png"]
    assert all(path.startswith("memory://") for path in found.paths[None])
    assert sources.read_bytes(found.paths[None][0]) == b"content"


def test_a_missing_url_is_an_error_of_the_image(memory):
    with pytest.raises(DataError):
        sources.read_bytes("memory://bucket/line/none.png")


COLUMNS = {"path": ["/b.png", "a.png", "s3://line/c.png", "a.png"], "part": ["x", "y", "x", "y"]}


@pytest.mark.parametrize(("write", "suffix"), [(csv.write_csv, "csv"), (parquet.write_table, "parquet")])
def test_lists_name_the_part_of_each_image(tmp_path, write, suffix):
    write(pyarrow.table({**COLUMNS, "taken": [1, 2, 3, 4]}), tmp_path / f"list.{suffix}")
    found = sources.find(str(tmp_path / f"list.{suffix}"))
    assert found.paths == {"x": ["/b.png", "s3://line/c.png"], "y": [str(tmp_path / "a.png")]}


def test_a_list_without_parts_is_for_all(tmp_path):
    parquet.write_table(pyarrow.table({"path": COLUMNS["path"]}), tmp_path / "list.parquet")
    found = sources.find(str(tmp_path / "list.parquet"))
    assert found.paths == {None: ["/b.png", str(tmp_path / "a.png"), "s3://line/c.png"]}


OTHERS = ["file\n/a.png\n", "path,part\n/a.png,\n", "path\n", "", "path\n/a.png,/b.png\n"]


@pytest.mark.parametrize("text", OTHERS)
def test_other_lists_are_refused(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError):
        sources.find(str(tmp_path / "list.csv"))


@pytest.mark.parametrize("name", ["none", "none/*.png", "none.csv", "none.parquet", "memory://none"])
def test_what_is_not_there_is_an_error(tmp_path, name):
    with pytest.raises(DataError):
        sources.find(name if "://" in name else str(tmp_path / name))


def test_unknown_urls_are_refused():
    with pytest.raises(MetricadError):
        sources.find("nonsense://line/")
