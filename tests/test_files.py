"""Files are whole or not there, whatever interrupts the writing."""

import errno

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
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".npz")
        assert temporary.name.startswith(".")  # a folder of images that is walked meanwhile passes over it
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
