"""`metricad check` on a folder."""

import json
import shutil

from metricad.cli.check import check


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
