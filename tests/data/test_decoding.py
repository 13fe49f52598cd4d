"""Every kind of image file beside its twin: the same picture in a kind that was always read right."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from metricad.data import decoding, images
from metricad.data.decoding import decode
from metricad.data.levels import find as levels_of
from metricad.data.picture import DecodingLimits, TooManyPixelsError, UnreadableError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
COLOR = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 2**16, (40, 50), dtype=np.uint16)
DEEP_COLOR = RNG.integers(0, 2**16, (40, 50, 3), dtype=np.uint16)
TWELVE = DEEP >> 4
SMOOTH = np.dstack([np.add.outer(np.arange(40), k * np.arange(50)) for k in (1, 2, 3)]).astype(np.uint8)
HALF = np.full(GRAY.shape, 255, np.uint8)
HALF[:20] = 100


def pillow(pixels, kind, *, mode=None, **options):
    """A file of these pixels, by Pillow."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def tiff(pixels, **options):
    """A file of these pixels, by tifffile."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def png(pixels, color, *, depth=16, chunks=b""):
    """A PNG, which Pillow does not write with 16-bit colors: by the specification, each row unfiltered."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = pixels.astype(">u2" if depth == 16 else np.uint8)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def filtered(pixels):
    """Replace each level by its difference to the one on its left, as TIFF's predictor 2 does."""
    return np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1]))


def two_level(pixels):
    return np.where(pixels > 127, np.uint8(255), np.uint8(0))


def with_tag(content, code, value, *, page=0):
    """Overwrite the value of a SHORT tag of a TIFF."""
    content = bytearray(content)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tag = file.pages[page].tags[code]
        struct.pack_into(f"{file.byteorder}H", content, tag.valueoffset, value)
    return bytes(content)


PALETTE = Image.fromarray(COLOR // 64 * 64).quantize(64)
LOOKED_UP = np.asarray(PALETTE.convert("RGB"))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# Name: the file, and the levels that it must give.
EXACT = {
    "png 16-bit color": (png(DEEP_COLOR, 2), DEEP_COLOR),
    "png 16-bit color, opaque": (png(np.dstack([DEEP_COLOR, np.full_like(DEEP, 65535)]), 6), DEEP_COLOR),
    "png 16-bit gray, opaque": (png(np.dstack([DEEP, np.full_like(DEEP, 65535)]), 4), DEEP),
    "png palette": (pillow(PALETTE, "PNG"), LOOKED_UP),
    "png palette of 4 bits": (pillow(PALETTE.convert("RGB").quantize(8), "PNG", bits=4),
                              np.asarray(PALETTE.convert("RGB").quantize(8).convert("RGB"))),
    "png 1 bit": (pillow(GRAY > 127, "PNG"), two_level(GRAY)),
    "png opaque": (pillow(np.dstack([COLOR, np.full_like(GRAY, 255)]), "PNG"), COLOR),
    "png with sRGB": (pillow(COLOR, "PNG", icc_profile=SRGB), COLOR),
    "bmp palette": (pillow(PALETTE, "BMP"), LOOKED_UP),
    "bmp 1 bit": (pillow(GRAY > 127, "BMP"), two_level(GRAY)),
    "webp lossless": (pillow(COLOR, "WEBP", lossless=True), COLOR),
    "pgm 16-bit": (b"P5\n# made\n50 40\n65535\n" + DEEP.astype(">u2").tobytes(), DEEP),
    "pgm 12-bit": (b"P5 50 40 4095\n" + TWELVE.astype(">u2").tobytes(), TWELVE),
    "ppm 16-bit": (b"P6 50 40 65535\n" + DEEP_COLOR.astype(">u2").tobytes(), DEEP_COLOR),
    "pgm of text": (b"P2 50 40 # comment\n255\n" + " ".join(map(str, GRAY.ravel())).encode(), GRAY),
    "pbm": (b"P4 50 40\n" + np.packbits(GRAY < 128, axis=1).tobytes(), two_level(GRAY)),
    "pgm of 3 levels": (b"P5 50 40 2\n" + (GRAY % 3).tobytes(), np.rint(GRAY % 3 * 127.5).astype(np.uint8)),
    "tiff min-is-white": (tiff(255 - GRAY, photometric="miniswhite"), GRAY),
    "tiff palette": (pillow(PALETTE, "TIFF"), LOOKED_UP),
    "tiff lzw": (pillow(COLOR, "TIFF", compression="tiff_lzw"), COLOR),
    "tiff lzw, predicted": (pillow(GRAY, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}), GRAY),
    "tiff lzw 16-bit": (pillow(DEEP, "TIFF", compression="tiff_lzw"), DEEP),
    "tiff zstd": (pillow(COLOR, "TIFF", compression="zstd"), COLOR),
    "tiff packbits": (pillow(GRAY, "TIFF", compression="packbits"), GRAY),
    "tiff g4": (pillow(GRAY > 127, "TIFF", compression="group4"), two_level(GRAY)),
    "tiff g3": (pillow(GRAY > 127, "TIFF", compression="group3"), two_level(GRAY)),
    "tiff 1 bit": (pillow(GRAY > 127, "TIFF"), two_level(GRAY)),
    "tiff deflate 16-bit color": (tiff(DEEP_COLOR, compression="zlib", predictor=2), DEEP_COLOR),
    "tiff big, big-endian": (tiff(DEEP, bigtiff=True, byteorder=">"), DEEP),
    "tiff planes": (tiff(np.moveaxis(COLOR, -1, 0), photometric="rgb", planarconfig="separate"), COLOR),
    "tiff planes of 3 rows": (tiff(np.moveaxis(COLOR[:3], -1, 0), photometric="rgb", planarconfig="separate"),
                              COLOR[:3]),
    "tiff of 3 columns": (tiff(GRAY[:, :3]), GRAY[:, :3]),
    "tiff with alpha": (tiff(np.dstack([COLOR, np.full_like(GRAY, 255)]), extrasamples=["assocalpha"]),
                        COLOR),
    "tiff with an unnamed channel": (tiff(np.dstack([COLOR, GRAY]), photometric="rgb",
                                          extrasamples=["unspecified"]), COLOR),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_levels_are_those_of_the_twin(name):
    content, expected = EXACT[name]
    found = decode(content)
    assert found.pixels.dtype == expected.dtype
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.alpha is None
    assert not found.is_turned


def test_16_bit_colors_of_every_compression_keep_both_bytes():
    """Pillow writes no such files, so the strips of an uncompressed one are compressed here."""
    for predictor in (1, 2):
        levels = filtered(DEEP_COLOR) if predictor == 2 else DEEP_COLOR
        file = io.BytesIO()
        raw = np.ascontiguousarray(levels.astype("<u2")).view(np.uint8).reshape(40, -1)
        Image.fromarray(raw).save(file, "TIFF", compression="tiff_lzw", tiffinfo={278: 40})
        with tifffile.TiffFile(io.BytesIO(file.getvalue())) as made:
            start, size = made.pages[0].dataoffsets[0], made.pages[0].databytecounts[0]
        strip = file.getvalue()[start : start + size]
        content = lzw_tiff(strip, DEEP_COLOR.shape, predictor)
        np.testing.assert_array_equal(decode(content).pixels, DEEP_COLOR)


def lzw_tiff(strip, shape, predictor):
    tags = [
        (256, shape[1]), (257, shape[0]), (258, 16), (259, 5), (262, 2), (273, 8), (277, 3), (278, shape[0]),
        (279, len(strip)), (284, 1), (317, predictor),
    ]  # fmt: skip
    table = struct.pack("<H", len(tags))
    end = 8 + len(strip) + 2 + 12 * len(tags) + 4
    for code, value in tags:
        if code == 258:
            table += struct.pack("<HHII", code, 3, 3, end)
        else:
            table += struct.pack("<HHII", code, 4, 1, value)
    head = b"II*\0" + struct.pack("<I", 8 + len(strip))
    return head + strip + table + struct.pack("<I", 0) + struct.pack("<HHH", 16, 16, 16)


@pytest.mark.parametrize(
    ("content", "most"),
    [
        (pillow(SMOOTH, "JPEG", quality=95), 12),
        (pillow(SMOOTH, "JPEG", quality=95, progressive=True), 12),
        (pillow(SMOOTH, "TIFF", compression="jpeg", quality=95), 12),
        (pillow(Image.fromarray(SMOOTH).convert("YCbCr"), "TIFF", compression="jpeg", quality=95), 12),
        (pillow(Image.fromarray(SMOOTH).convert("CMYK"), "TIFF"), 1),
        (pillow(Image.fromarray(SMOOTH).convert("CMYK"), "TIFF", compression="tiff_lzw"), 1),
        (pillow(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95), 12),
        (pillow(SMOOTH, "WEBP", quality=95), 20),
    ],
    ids=["jpeg", "progressive", "tiff jpeg", "tiff ycbcr", "tiff cmyk", "tiff cmyk lzw", "jpeg cmyk", "webp"],
)
def test_colors_are_near_those_of_the_twin(content, most):
    found = decode(content)
    smooth = SMOOTH[2:38, 2:24]  # where no channel wraps around
    assert np.abs(found.pixels[2:38, 2:24].astype(int) - smooth).mean() < most / 3
    assert np.abs(found.pixels[2:38, 2:24].astype(int) - smooth).max() <= 2 * most


def test_ycck_is_told_from_cmyk():
    """Adobe's JPEGs hold the negative of CMYK, as YCC and K; their marker says so."""
    cmyk = pillow(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95)
    at = cmyk.index(b"Adobe")
    assert cmyk[at + 11] in (0, 2)
    other = cmyk[: at + 11] + bytes([2 - cmyk[at + 11]]) + cmyk[at + 12 :]
    ours, theirs = (decode(one).pixels for one in (cmyk, other))
    np.testing.assert_array_equal(theirs, np.asarray(Image.open(io.BytesIO(other)).convert("RGB")))
    assert (ours != theirs).any()


def test_min_is_white_beyond_8_bits_is_turned_round_when_the_range_is_known():
    content = tiff(4095 - TWELVE, photometric="miniswhite")
    found = decode(content)
    assert found.is_negative
    levels = levels_of([("a", found)])
    assert levels.bits == 12
    np.testing.assert_allclose(images.to_image(found, levels=levels), TWELVE / 2047.5 - 1, atol=1e-6)


def test_a_color_profile_is_applied():
    """A profile whose red and blue are exchanged: the picture that a viewer shows has them exchanged."""
    profile = bytearray(SRGB)
    tags = {bytes(profile[k : k + 4]): k + 4 for k in range(132, 132 + 12 * 20, 12)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    for kind in ("PNG", "TIFF"):
        found = decode(pillow(COLOR, kind, icc_profile=bytes(profile))).pixels
        assert np.abs(found.astype(int) - COLOR[..., ::-1]).max() <= 2
    with pytest.raises(UnreadableError, match="color profile"):
        decode(pillow(COLOR, "PNG", icc_profile=SRGB[:200]))
    # Profiles of gray images and sRGB itself leave levels as they are.
    np.testing.assert_array_equal(decode(pillow(GRAY, "PNG", icc_profile=bytes(profile))).pixels, GRAY)


@pytest.mark.parametrize(
    ("content", "color"),
    [
        (pillow(np.dstack([COLOR, HALF]), "PNG"), COLOR),
        (pillow(np.dstack([GRAY, HALF]), "PNG"), GRAY),
        (pillow(np.dstack([COLOR, HALF]), "WEBP", lossless=True, exact=True), COLOR),
        (tiff(np.dstack([COLOR, HALF]), photometric="rgb", extrasamples=["unassalpha"]), COLOR),
    ],
)
def test_alpha_is_kept_apart_if_it_says_anything(content, color):
    found = decode(content)
    np.testing.assert_array_equal(found.pixels, color)
    np.testing.assert_array_equal(found.alpha, HALF)


def test_a_transparent_color_is_alpha():
    flat = np.where(GRAY > 127, COLOR[..., 0], 7).astype(np.uint8)
    found = decode(pillow(flat, "PNG", transparency=7))
    np.testing.assert_array_equal(found.pixels, flat)
    np.testing.assert_array_equal(found.alpha == 0, flat == 7)


TURNS = {
    1: COLOR, 2: COLOR[:, ::-1], 3: COLOR[::-1, ::-1], 4: COLOR[::-1], 5: COLOR.transpose(1, 0, 2),
    6: COLOR[::-1].transpose(1, 0, 2), 7: COLOR[::-1, ::-1].transpose(1, 0, 2),
    8: COLOR[:, ::-1].transpose(1, 0, 2),
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_is_applied_in_every_format(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    files = [
        pillow(COLOR, "PNG", exif=exif),
        pillow(COLOR, "WEBP", lossless=True, exif=exif),
        pillow(COLOR, "TIFF", tiffinfo={274: orientation}),
        pillow(COLOR, "TIFF", tiffinfo={274: orientation}, compression="tiff_lzw"),
        tiff(COLOR, compression="zlib", extratags=[(274, "H", 1, orientation, True)]),
    ]
    for content in files:
        found = decode(content)
        np.testing.assert_array_equal(found.pixels, TURNS[orientation])
        assert found.is_turned == (orientation > 1)
    upright = decode(pillow(COLOR, "JPEG")).pixels
    shape = TURNS[orientation].shape
    turned = decode(pillow(COLOR, "JPEG", exif=exif)).pixels
    assert turned.shape == shape
    assert orientation == 1 or not np.array_equal(turned, upright)


def test_pages_are_chosen_by_number_and_thumbnails_are_no_pages():
    pages = [COLOR, 255 - COLOR]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(COLOR[::8, ::8], subfiletype=1, photometric="rgb")
        for page in pages:
            writer.write(page, photometric="rgb", compression="zlib")
    with pytest.raises(UnreadableError, match="several pages"):
        decode(file.getvalue())
    for number, page in enumerate(pages, start=1):
        np.testing.assert_array_equal(decode(file.getvalue(), page=number).pixels, page)
    with pytest.raises(UnreadableError, match="2 page"):
        decode(file.getvalue(), page=3)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(COLOR, photometric="rgb")
        writer.write(COLOR[::8, ::8], subfiletype=1, photometric="rgb")
    np.testing.assert_array_equal(decode(file.getvalue()).pixels, COLOR)


def test_pages_of_another_codec_are_chosen_too():
    first, second = Image.fromarray(COLOR), Image.fromarray(255 - COLOR)
    content = pillow(first, "TIFF", save_all=True, append_images=[second], compression="tiff_lzw")
    np.testing.assert_array_equal(decode(content, page=2).pixels, 255 - COLOR)
    assert decode(pillow(COLOR, "PNG"), page=1).pixels.shape == COLOR.shape
    with pytest.raises(UnreadableError, match="one picture"):
        decode(pillow(COLOR, "PNG"), page=2)


REFUSED = {
    "several pages": tiff(np.stack([GRAY] * 3), photometric="minisblack"),
    "several frames": pillow(GRAY, "WEBP", save_all=True, append_images=[Image.fromarray(255 - GRAY)]),
    "several pictures": 2 * (b"P5 50 40 255\n" + GRAY.tobytes()),
    "5 images": tiff(GRAY, description="ImageJ=1.11a\nimages=5\nslices=5\n", metadata=None),
    "a GIF": pillow(GRAY, "GIF"),
    "a JPEG 2000": pillow(GRAY, "JPEG2000"),
    "an AVIF": pillow(COLOR, "AVIF"),
    "Lab colors": pillow(Image.fromarray(COLOR).convert("RGB"), "TIFF").replace(
        struct.pack("<HHII", 262, 3, 1, 2), struct.pack("<HHII", 262, 3, 1, 8)
    ),
    "YCbCr colors": tiff(COLOR, photometric="ycbcr", subsampling=(1, 1)),
    "5 channels": tiff(np.dstack([COLOR, GRAY, GRAY]), photometric="rgb"),
    "2 channels": tiff(np.dstack([GRAY, GRAY]), photometric="minisblack", planarconfig="contig"),
    "volume": tiff(np.stack([GRAY] * 16), volumetric=True, tile=(16, 16, 16)),
    "checksum": pillow(GRAY, "PNG").replace(b"IDAT", b"IDAS"),
    "codecs": with_tag(tiff(GRAY, compression="zlib"), 259, 34887),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_other_kinds_are_refused_for_the_true_reason(reason, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(UnreadableError, match=reason):
        decode(REFUSED[reason])


def test_a_flipped_bit_in_the_pixels_of_a_png_is_noticed():
    content = bytearray(pillow(GRAY, "PNG", compress_level=0))
    content[len(content) // 2] ^= 1
    with pytest.raises(UnreadableError, match="checksum"):
        decode(bytes(content))


def test_a_missing_strip_is_damage_not_black():
    content = tiff(GRAY, rowsperstrip=20)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tag = file.pages[0].tags[279]
    content = content[: tag.valueoffset] + b"\0\0" + content[tag.valueoffset + 2 :]
    with pytest.raises(UnreadableError, match="strips"):
        decode(content)


def test_the_content_tells_the_format(tmp_path):
    for name, content in (("png.tif", pillow(GRAY, "PNG")), ("tif.png", tiff(GRAY)), ("none", tiff(GRAY))):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(images.decode(tmp_path / name).pixels, GRAY)


def test_pillows_own_limit_does_not_count(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for content in (pillow(GRAY, "PNG"), pillow(GRAY, "BMP"), pillow(GRAY, "TIFF", compression="packbits")):
        np.testing.assert_array_equal(decode(content).pixels, GRAY)


def test_limits_are_checked_before_decoding():
    content = pillow(GRAY, "TIFF", compression="packbits")
    assert decode(content, limits=DecodingLimits(pixels=2000)).pixels.shape == (40, 50)
    with pytest.raises(TooManyPixelsError, match="1999 at most"):
        decode(content, limits=DecodingLimits(pixels=1999))
    assert set(decoding.FORMATS) == {"PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"}
