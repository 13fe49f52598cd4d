"""The common parts of data_prep: source files read, folders published whole, its command line."""

import ast
import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage

from data_prep import sources, staging
from metricad.errors import DataError

PACKAGE = Path(sources.__file__).parent


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    skimage.io.imsave(path, pixels, check_contrast=False)
    return path


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "data_prep", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_nothing_of_metricad_is_imported_but_errors_and_console():
    allowed = {("metricad.errors", None), ("metricad.cli", "console"), ("metricad.deploy", "native_output")}
    allowed |= {("metricad", "files")}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(alias.name.split(".")[0] == "metricad" for alias in node.names), path
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "metricad":
                for alias in node.names:
                    assert {(node.module, None), (node.module, alias.name)} & allowed, (path, alias.name)


# Images


def test_gray_image_is_read_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5), dtype=np.uint8)
    np.testing.assert_array_equal(sources.read_gray(write(tmp_path / "a.png", pixels)), pixels)


def test_equal_channels_keep_their_level():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(sources.to_gray(np.stack([levels] * 3, axis=-1)), levels)


@pytest.mark.parametrize("channels", [3, 4])
def test_color_is_read_as_luminance(tmp_path, channels):
    pixels = np.random.default_rng(1).integers(0, 256, (6, 4, channels), dtype=np.uint8)
    expected = np.zeros((6, 4), dtype=np.uint8)
    for row, column in np.ndindex(6, 4):
        red, green, blue = map(int, pixels[row, column, :3])
        expected[row, column] = round(0.2125 * red + 0.7154 * green + 0.0721 * blue)
    np.testing.assert_array_equal(sources.read_gray(write(tmp_path / "a.png", pixels)), expected)


def damage(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated png", "truncated jpeg", "16 bit"])
def test_unusable_image_is_refused_by_name(tmp_path, kind):
    noise = np.random.default_rng(2).integers(0, 256, (64, 64), dtype=np.uint8)
    path = tmp_path / ("a.jpg" if kind == "truncated jpeg" else "a.png")
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not an image", encoding="utf-8")
    elif kind == "16 bit":
        write(path, noise.astype(np.uint16) * 256)
    elif kind.startswith("truncated"):
        damage(write(path, noise))
    with pytest.raises(DataError, match=str(path)) as raised:
        sources.read_gray(path)
    assert "\n" not in str(raised.value)
    assert "expected" in str(raised.value)


@pytest.mark.parametrize("stored", [(0, 1), (0, 255), (0, 7, 130, 255)])
def test_mask_is_what_is_brighter_than_half(tmp_path, stored):
    pixels = np.resize(np.array(stored, dtype=np.uint8), (6, 8))
    mask = sources.read_mask(write(tmp_path / "a.png", pixels), (6, 8))
    np.testing.assert_array_equal(mask, np.where(pixels > max(stored) / 2, 255, 0))


def test_empty_mask_stays_empty(tmp_path):
    assert not sources.read_mask(write(tmp_path / "a.png", np.zeros((4, 4), np.uint8)), (4, 4)).any()


def test_mask_of_another_size_is_refused(tmp_path):
    path = write(tmp_path / "a.png", np.zeros((4, 6), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: a mask of 4×6 pixels; expected 6×4"):
        sources.read_mask(path, (6, 4))


def test_walk_goes_nearest_first_to_its_depth_and_skips_hidden_folders(tmp_path):
    for name in ("b/c/d", "a", ".hidden/e"):
        (tmp_path / name).mkdir(parents=True)
    found = [path.relative_to(tmp_path).as_posix() for path in sources.walk(tmp_path, depth=2)]
    assert found == [".", "a", "b", "b/c"]


# Publishing


def fill(folder: Path, text: str = "new") -> None:
    (folder / "name/1.0.0").mkdir(parents=True)
    (folder / "name/1.0.0/data").write_text(text, encoding="utf-8")


def test_published_folder_is_moved_to_its_place(tmp_path):
    with staging.publishing(tmp_path / "root", "name/1.0.0") as folder:
        fill(folder)
        assert not (tmp_path / "root/name").exists()
    assert (tmp_path / "root/name/1.0.0/data").read_text(encoding="utf-8") == "new"
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["name"]


def publish_and_fail(root: Path, error: BaseException) -> None:
    with staging.publishing(root, "name/1.0.0") as folder:
        fill(folder)
        raise error


@pytest.mark.parametrize("error", [DataError("no"), KeyboardInterrupt()])
def test_failure_leaves_nothing_behind_and_keeps_what_was_there(tmp_path, error):
    fill(tmp_path / "there", "old")
    for root in (tmp_path / "there", tmp_path / "new/deep"):
        with pytest.raises(type(error)):
            publish_and_fail(root, error)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there/name/1.0.0/data").read_text(encoding="utf-8") == "old"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["name"]


def test_published_folder_replaces_the_one_before(tmp_path):
    fill(tmp_path, "old")
    with staging.publishing(tmp_path, "name/1.0.0") as folder:
        fill(folder)
    assert (tmp_path / "name/1.0.0/data").read_text(encoding="utf-8") == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_folder_before_is_put_back_when_the_new_one_cannot_be_moved(tmp_path):
    fill(tmp_path, "old")
    with pytest.raises(FileNotFoundError), staging.publishing(tmp_path, "name/1.0.0"):
        pass  # nothing was built, so there is nothing to move
    assert (tmp_path / "name/1.0.0/data").read_text(encoding="utf-8") == "old"


def test_file_in_place_of_the_data_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataError, match="a file; expected a folder"),
        staging.publishing(tmp_path / "file", "name/1.0.0"),
    ):
        pass


# The command line

WITHOUT_TENSORFLOW = """
import sys
from typer.testing import CliRunner
from data_prep.cli import app
for arguments in (
    ["--help"], ["kylberg", "--help"], ["surfaces", "--help"], ["kylberg"], ["nothing"],
    ["dagm2007", "--config", "class11", "--manual-dir", ".", "--data-dir", "."],
    ["kylberg", "--manual-dir", "/no/such/folder", "--data-dir", "."],
    ["surfaces", "--surfaces", "1,99", "--data-dir", "."],
    ["surfaces", "--size", "9", "--data-dir", "."],
    ["surfaces", "--data-dir", "/dev/null"],
    ["kylberg", "--manual-dir", ".", "--data-dir", "/dev/null"],
):
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code == 0) == ("--help" in arguments), (arguments, result.output)
    slow = {name.split(".")[0] for name in sys.modules} & {"tensorflow", "tensorflow_datasets", "keras"}
    assert not slow, (arguments, slow)
print("done")
"""


def test_help_and_option_errors_come_without_tensorflow():
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout == "done\n", result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kylberg", "--manual-dir", "{}/none"], "none: no such folder"),
        (["dagm2007", "--manual-dir", "{}/file"], "file: a file; expected the folder"),
        (["cifar100", "--manual-dir", "{}/empty"], "empty: an empty folder"),
        (["magnetic-tile", "--manual-dir", "{}/empty"], "empty: an empty folder"),
        (["surfaces", "--surfaces", "1,b"], "expected numbers between commas"),
        (["surfaces", "--normals", "1"], "Invalid normals: expected at least 2. Received: normals=1"),
    ],
)
def test_error_is_one_line_and_exit_status_2(tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    result = run(*(argument.format(tmp_path) for argument in arguments), "--data-dir", tmp_path / "out")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.tf
def test_what_tfds_wraps_is_found_again():
    from data_prep.building import _in_short

    full = OSError(errno.ENOSPC, "No space left on device", "file")
    wrapped = OSError("Failed to finalize writing")
    wrapped.__cause__ = full
    assert _in_short(wrapped, "name") is full
    assert _in_short(full, "name") is full
    assert str(_in_short(RuntimeError("path; reason"), "name")).startswith("name: TensorFlow could not")
