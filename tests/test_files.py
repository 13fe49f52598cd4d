"""Files are whole or not there, whatever interrupts the writing."""

import errno
import os

import pytest

from metricad import files


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_what_was_written_stands_under_its_name(tmp_path):
    path = tmp_path / "new" / "folder" / "out.bin"
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert names(path.parent) == ["out.bin"]


def test_the_temporary_name_is_beside_the_file_and_keeps_its_suffixes(tmp_path):
    with files.replacing(tmp_path / "network.npz") as temporary:
        assert temporary.parent.parent == tmp_path
        assert temporary.name == "network.npz"
        assert temporary.parent.name.startswith(".")  # a walk of the folder meanwhile passes over it
        assert temporary.parent.stat().st_mode & 0o077 == 0
        temporary.touch()


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), ValueError("wrong"), KeyboardInterrupt()])
@pytest.mark.parametrize("has_begun", [True, False])
def test_after_a_failure_the_old_file_is_as_it_was(tmp_path, failure, has_begun):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def write():
        with files.replacing(path) as temporary:
            if has_begun:
                temporary.write_bytes(b"ne")
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out.bin"]


def test_after_a_failure_no_new_file_is_there(tmp_path):
    with pytest.raises(TypeError), files.replacing(tmp_path / "out.bin") as temporary:
        temporary.write_bytes("no bytes")
    assert names(tmp_path) == []


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError) as refusal, files.replacing(folder) as temporary:
        temporary.touch()
    assert refusal.value.filename == str(folder)
    assert ".partial" not in str(refusal.value)
    assert names(tmp_path) == ["folder"]


def test_an_error_without_a_number_keeps_its_words(tmp_path):
    with pytest.raises(OSError, match="encoder error"), files.replacing(tmp_path / "out.png"):
        raise OSError("encoder error -2")


def test_an_error_keeps_the_name_of_another_file(tmp_path):
    with pytest.raises(FileNotFoundError) as refusal, files.replacing(tmp_path / "out.txt"):
        (tmp_path / "in.txt").read_text()
    assert refusal.value.filename == str(tmp_path / "in.txt")


def test_of_two_files_at_once_the_failing_one_is_named_and_neither_is_moved(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"

    def write():
        with files.replacing(one) as first, files.replacing(two) as second:
            first.touch()
            second.touch()
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full") as refusal:
        write()
    assert refusal.value.filename == str(two)
    assert names(tmp_path) == []


def test_text_is_utf_8(tmp_path):
    files.write_text(tmp_path / "out.txt", "σ × 2\n")
    assert (tmp_path / "out.txt").read_bytes() == b"\xcf\x83 \xc3\x97 2\n"


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_cleaned", set())
    killed = tmp_path / f"{files.PARTIAL}killed"
    killed.mkdir()
    (killed / "out.bin").touch()
    (killed / ".lock").touch()
    os.utime(killed, (0, 0))
    young = tmp_path / f"{files.PARTIAL}young"
    young.mkdir()
    (young / ".lock").touch()
    with files.replacing(tmp_path / "one") as first:
        first.touch()
        assert not killed.exists()
        os.utime(first.parent, (0, 0))
        files._cleaned.clear()
        files.write_text(tmp_path / "two", "")
    assert sorted(names(tmp_path)) == [young.name, "one", "two"]


def test_an_output_that_cannot_be_written_is_known_before(tmp_path):
    files.check_writable(tmp_path / "new" / "out.bin")
    files.check_writable(tmp_path / "new" / "folder", folder=True)
    assert names(tmp_path) == []
    with pytest.raises(IsADirectoryError):
        files.check_writable(tmp_path)
    (tmp_path / "file").touch()
    files.check_writable(tmp_path / "file")
    for path, folder in [("file", True), ("file/out.bin", False), ("file/folder", True)]:
        with pytest.raises(NotADirectoryError) as refusal:
            files.check_writable(tmp_path / path, folder=folder)
        assert refusal.value.filename == str(tmp_path / path)
    with pytest.raises(OSError, match="too long"):
        files.check_writable(tmp_path / ("x" * 300))


def test_files_are_read_within_bounds(tmp_path):
    (tmp_path / "file").write_bytes(b"1234")
    assert files.read_whole(tmp_path / "file", most_bytes=4) == b"1234"
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "pipe"):
        with pytest.raises(ValueError, match=name):
            files.read_whole(tmp_path / name, most_bytes=3)


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[-Infinity]", "1e999", '{"a": 1, "a": 2}', "[" * 100_000, "1" * 5000, b"\xff"]
)
def test_json_that_no_program_writes_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        files.parse_json(text)


def test_json_is_read():
    assert files.parse_json('{"a": [1, -2.5e-3, null, true]}') == {"a": [1, -0.0025, None, True]}
