"""Images in memory: as files are read, and refused before they cost anything."""

import contextlib
import io
import struct
import tracemalloc
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from metricad.data import images
from metricad.data.picture import TooManyPixelsError, UnreadableError
from metricad.errors import DataError
from metricad.service import decoding
from tests.data.test_decoding import EXACT, tiff
from tests.data.test_decoding import pillow as encoded

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
COLOR = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (40, 50), dtype=np.uint16)


FILES = {
    "gray.png": encoded(GRAY, "PNG"),
    "color.png": encoded(COLOR, "PNG"),
    "deep.png": encoded(DEEP, "PNG"),
    "alpha.png": encoded(COLOR, "PNG", mode="RGBA"),
    "gray_alpha.png": encoded(GRAY, "PNG", mode="LA"),
    "palette.png": encoded(COLOR, "PNG", mode="P"),
    "bilevel.png": encoded(GRAY, "PNG", mode="1"),
    "gray.jpg": encoded(GRAY, "JPEG"),
    "color.jpg": encoded(COLOR, "JPEG"),
    "progressive.jpg": encoded(COLOR, "JPEG", progressive=True),
    "two_pictures.jpg": encoded(COLOR, "MPO", save_all=True, append_images=[PIL.Image.fromarray(COLOR)]),
    "gray.bmp": encoded(GRAY, "BMP"),
    "color.bmp": encoded(COLOR, "BMP"),
    "color.webp": encoded(COLOR, "WEBP"),
    "gray.pgm": encoded(GRAY, "PPM"),
    "color.ppm": encoded(COLOR, "PPM"),
    "gray.tif": tiff(GRAY),
    "deep.tif": tiff(DEEP),
    "float.tif": tiff(GRAY.astype(np.float32) / 255),
    "color.tif": tiff(COLOR),
    "deflated.tiff": tiff(DEEP, compression="zlib", predictor=2),
    "tiles.tif": tiff(GRAY, tile=(32, 32), compression="zlib"),
    "planes.tif": tiff(np.moveaxis(COLOR, -1, 0), photometric="rgb", planarconfig="separate"),
    "big_endian.tif": tiff(DEEP, byteorder=">", bigtiff=True),
}


@pytest.mark.parametrize("name", FILES)
def test_as_a_file_is_read(name, tmp_path):
    (tmp_path / name).write_bytes(FILES[name])
    expected = images.read(tmp_path / name)
    found = decoding.decode(FILES[name])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_every_kind_of_file_is_read_as_from_disk_to_the_bit(tmp_path):
    for content, _ in EXACT.values():
        (tmp_path / "file").write_bytes(content)
        expected = images.read(tmp_path / "file", color=True)
        np.testing.assert_array_equal(decoding.decode(content, color=True), expected)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.9])
def test_truncated_is_refused_or_read_as_the_file_is(name, share, tmp_path):
    content = FILES[name][: int(share * len(FILES[name]))]
    path = tmp_path / name
    path.write_bytes(content)
    try:
        expected = images.read(path)
    except DataError:
        with pytest.raises(DataError):
            decoding.decode(content)
    else:  # a TIFF's data may stand before what describes them, and some files need not be whole
        np.testing.assert_array_equal(decoding.decode(content), expected)


@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused(content):
    with pytest.raises(DataError):
        decoding.decode(content)


@given(
    name=st.sampled_from(sorted(FILES)),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_flipped_bytes_give_an_image_or_one_kind_of_error(name, changes):
    content = bytearray(FILES[name])
    for place, value in changes:
        content[int(place * min(len(content), 600))] = value
    with contextlib.suppress(DataError):  # of all other kinds the service would take the blame
        assert 0 < decoding.decode(bytes(content), most_pixels=10_000).size <= 10_000


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_counted_before_decoding(name):
    content = FILES[name]
    assert decoding.decode(content, most_pixels=2000).shape == (40, 50)
    with pytest.raises(TooManyPixelsError, match=r"40×50 pixels are 2000; expected 1999 at most"):
        decoding.decode(content, most_pixels=1999)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb(side):
    """A PNG that claims to be (side, side); its data are short zeros."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(2**20), 9))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


def bmp_bomb(side):
    content = bytearray(FILES["gray.bmp"])
    content[18:26] = struct.pack("<ii", side, side)
    return bytes(content)


def jpeg_bomb(side):
    content = FILES["gray.jpg"]
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", side, side) + content[at + 4 :]


BOMBS = {
    "png": png_bomb(12_000),
    "png beyond Pillow's own limit": png_bomb(60_000),
    "png, largest": png_bomb(2**31 - 1),
    "bmp": bmp_bomb(12_000),
    "jpeg": jpeg_bomb(60_000),
    "pgm": b"P5 12000 12000 255\n" + bytes(100),
    "webp": encoded(np.zeros((4000, 4000), np.uint8), "WEBP", quality=0, method=0),
    "tiff": tiff(np.zeros((4000, 4000), np.uint8), compression="zlib"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_its_header(name):
    tracemalloc.start()
    try:
        with pytest.raises(TooManyPixelsError, match=r"expected 8000000 at most"):
            decoding.decode(BOMBS[name])
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def test_a_strip_that_inflates_beyond_its_image_is_refused():
    honest = tiff(np.zeros((64, 64), np.uint8), compression="zlib", rowsperstrip=64)
    with tifffile.TiffFile(io.BytesIO(honest)) as file:
        count = file.pages[0].tags["StripByteCounts"]
        offset = file.pages[0].tags["StripOffsets"]
    bomb = zlib.compress(bytes(2**25), 9)
    content = bytearray(honest + bomb)
    for tag, value in ((count, len(bomb)), (offset, len(honest))):
        content[tag.offset + 8 : tag.offset + 12] = struct.pack("<I", value)
        content[tag.offset + 2 : tag.offset + 4] = struct.pack("<H", 4)  # a long, whatever it was
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableError, match="inflates beyond its size"):
            decoding.decode(bytes(content))
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def test_many_strips_are_refused(monkeypatch):
    monkeypatch.setattr(decoding, "_MOST_SEGMENTS", 100)
    assert decoding.decode(tiff(np.zeros((100, 1), np.uint8), rowsperstrip=1)).shape == (100, 1)
    content = tiff(np.zeros((101, 1), np.uint8), rowsperstrip=1, compression="zlib")
    with pytest.raises(UnreadableError, match="strips or tiles unlike"):
        decoding.decode(content)


def test_a_jpeg_of_many_scans_is_refused():
    content = FILES["progressive.jpg"]
    last = content.rindex(b"\xff\xda")
    again = content[:-2] + 60 * content[last:-2] + content[-2:]
    with pytest.raises(UnreadableError, match="more than 64 scans"):
        decoding.decode(again)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tiff(np.zeros((3, 40, 50), np.uint8), photometric="minisblack"), "several pages"),
        (encoded(GRAY, "PNG", save_all=True, append_images=[PIL.Image.fromarray(255 - GRAY)]), "several fr"),
        (encoded(GRAY, "WEBP", save_all=True, append_images=[PIL.Image.fromarray(255 - GRAY)]), "several fr"),
        (tiff(np.zeros((40, 50, 9), np.uint8), planarconfig="contig"), "9 channels"),
        (encoded(GRAY, "GIF"), "expected PNG, JPEG, BMP, TIFF, WEBP, PPM"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
        (b"", "not a readable image"),
    ],
)  # fmt: skip
def test_what_is_not_one_ordinary_image_is_refused(content, says):
    with pytest.raises(UnreadableError, match=says):
        decoding.decode(content)


def test_too_small_is_refused_with_what_was_expected():
    with pytest.raises(DataError, match=r"expected at least 48×48 pixels, received 40×50"):
        decoding.decode(FILES["gray.png"], smallest=48)


def test_float_values_are_checked():
    with pytest.raises(DataError, match=r"expected \[0, 1\]"):
        decoding.decode(tiff(GRAY.astype(np.float32)))
