"""`metricad check` on a folder, and what `metricad prototype` takes from it."""

import importlib
import json
import re
import shutil

import pytest

from metricad.cli.check import check
from metricad.data import images
from metricad.errors import DataError

# The package's name of this module is the verb.
prototype = importlib.import_module("metricad.cli.prototype")


def test_a_folder_is_checked_without_tensorflow(good_folder, tmp_path, capsys):
    test = tmp_path / "test"
    test.mkdir()
    shutil.copy(good_folder / "007.png", test / "leak.png")
    (test / "notes.txt").write_text("no image")
    check([good_folder], test=[test], out=tmp_path / "page", files_only=True)
    printed = capsys.readouterr().out
    assert "leak.png" in printed
    assert "1 .txt" in printed
    assert json.loads((tmp_path / "page" / "check.json").read_text())["leaks"] == [str(test / "leak.png")]


def test_prototype_says_what_is_unusual_and_groups_duplicates(good_folder, tmp_path):
    folder = tmp_path / "good"
    shutil.copytree(good_folder, folder)
    shutil.copy(folder / "007.png", folder / "copy.png")
    paths = images.find([folder])
    groups, (line,) = prototype._look_at(paths, None)
    assert groups[7] == groups[-1]
    assert len(set(groups)) == 30
    assert "2 exact" in line
    assert prototype._look_at(paths[:4], None) == (None, [])
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=re.escape(str(folder / "broken.png"))):
        prototype._look_at([*paths, folder / "broken.png"], None)


def test_confirmed_defects_are_named_by_file_or_path(good_folder, tmp_path):
    paths = images.find([good_folder])
    listed = tmp_path / "defects.txt"
    listed.write_text(f"003.png\n\n{paths[5]}\n")
    assert prototype._confirmed(listed, paths) == {paths[3], paths[5]}
    assert prototype._confirmed(None, paths) == set()
    listed.write_text("003.png\nnone.png\n")
    with pytest.raises(DataError, match="none"):
        prototype._confirmed(listed, paths)
