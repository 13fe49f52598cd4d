"""Image files of every kind to luminance in [-1, 1], and pictures back to files."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from metricad.data import images
from metricad.errors import DataError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
COLOR = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
LUMINANCE = COLOR / 255 @ [0.2125, 0.7154, 0.0721] * 2 - 1  # ITU-R BT.709, as scikit-image has it


def with_alpha(pixels):
    """Add an alpha channel of its own at each pixel."""
    alpha = RNG.integers(0, 256, pixels.shape[:2], dtype=np.uint8)
    return np.dstack([pixels, alpha])


# Reading.


@pytest.mark.parametrize("name", ["i.png", "i.bmp", "i.tif", "i.tiff", "i.pgm", "i.PNG"])
def test_8_bit_gray(tmp_path, name):
    Image.fromarray(GRAY).save(tmp_path / name)
    image = images.read(tmp_path / name)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, GRAY / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("name", ["i.png", "i.tif"])
def test_16_bit_is_scaled_by_the_range_of_its_type(tmp_path, name):
    deep = RNG.integers(0, 2**16, GRAY.shape, dtype=np.uint16)
    deep[0, :2] = 0, 2**16 - 1
    if name == "i.tif":
        tifffile.imwrite(tmp_path / name, deep)
    else:
        Image.fromarray(deep).save(tmp_path / name)
    image = images.read(tmp_path / name)
    np.testing.assert_allclose(image, deep / 32767.5 - 1, atol=1e-6)
    assert (image.min(), image.max()) == (-1, 1)


@pytest.mark.parametrize("name", ["i.png", "i.bmp", "i.tif", "i.ppm"])
def test_color_becomes_luminance(tmp_path, name):
    Image.fromarray(COLOR).save(tmp_path / name)
    np.testing.assert_allclose(images.read(tmp_path / name), LUMINANCE, atol=1e-6)


def test_jpeg_and_webp_lose_little(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    for name in ("i.jpg", "i.webp"):
        Image.fromarray(smooth).save(tmp_path / name, quality=95)
        np.testing.assert_allclose(images.read(tmp_path / name), smooth / 127.5 - 1, atol=0.03)


@pytest.mark.parametrize("pixels", [COLOR, GRAY])
def test_opaque_alpha_is_dropped_and_any_other_refused(tmp_path, pixels):
    opaque = np.dstack([pixels, np.full(GRAY.shape, 255, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "without.png")
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    Image.fromarray(with_alpha(pixels)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(images.read(tmp_path / "opaque.png"), images.read(tmp_path / "without.png"))
    with pytest.raises(DataError, match="transparent"):
        images.read(tmp_path / "clear.png")


def test_a_palette_is_looked_up(tmp_path):
    picture = Image.fromarray(COLOR // 64 * 64).quantize(64)  # few enough colors for a palette to be exact
    picture.save(tmp_path / "i.png")
    expected = np.asarray(picture.convert("RGB")) / 255 @ [0.2125, 0.7154, 0.0721] * 2 - 1
    np.testing.assert_allclose(images.read(tmp_path / "i.png"), expected, atol=1e-6)
    picture.save(tmp_path / "clear.png", transparency=3)
    with pytest.raises(DataError, match="transparent"):
        images.read(tmp_path / "clear.png")


def test_black_and_white_is_minus_one_and_one(tmp_path):
    Image.fromarray(GRAY > 127).save(tmp_path / "i.png")
    np.testing.assert_array_equal(images.read(tmp_path / "i.png"), np.where(GRAY > 127, 1, -1))


def test_floats_are_read_from_0_to_1(tmp_path):
    values = RNG.random(GRAY.shape, dtype=np.float32)
    tifffile.imwrite(tmp_path / "i.tif", values)
    np.testing.assert_allclose(images.read(tmp_path / "i.tif"), 2 * values - 1, atol=1e-6)


def test_the_same_scene_in_every_depth_gives_the_same_image():
    depths = [GRAY, GRAY.astype(np.uint16) * 257, GRAY.astype(np.uint32) * 16843009, GRAY / 255]
    for pixels in (*depths, np.dstack([GRAY] * 3), GRAY[..., np.newaxis]):
        np.testing.assert_allclose(images.to_image(pixels), GRAY / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((40, 40), np.nan), "NaN or infinite"),
        (np.full((40, 40), -np.inf), "NaN or infinite"),
        (np.full((40, 40), 1.5), "from 1.5 to 1.5; expected \\[0, 1\\]"),
        (np.full((40, 40), -0.25), "from -0.25 to -0.25; expected \\[0, 1\\]"),
        (np.zeros((40, 40), np.int16), "received int16"),
        (np.zeros((40, 40), complex), "received complex128"),
        (np.zeros((40, 40, 5)), "received an array of shape \\(40, 40, 5\\)"),
        (np.zeros((2, 40, 40, 3)), "received an array of shape \\(2, 40, 40, 3\\)"),
        (np.zeros(40), "received an array of shape \\(40,\\)"),
        (np.zeros((0, 40)), "received 0×40"),
    ],
)
def test_pixels_that_cannot_be_luminance_are_refused(pixels, message):
    with pytest.raises(DataError, match=f"part 7: .*{message}"):
        images.to_image(pixels, name="part 7")


def test_too_small_an_image_is_refused_by_its_shorter_side(tmp_path):
    Image.fromarray(GRAY[:31]).save(tmp_path / "i.png")
    with pytest.raises(DataError, match=r"i\.png: expected at least 32×32 pixels, received 31×50"):
        images.read(tmp_path / "i.png", minimum_size=32)
    assert images.read(tmp_path / "i.png", minimum_size=31).shape == (31, 50)


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"just text\n" * 40, b"\x89PNG\r\n\x1a\n", b"II*\0\x08\0\0\0"]
)
@pytest.mark.parametrize("name", ["i.png", "i.tif"])
def test_a_file_that_is_no_image_is_refused_by_name_and_in_silence(tmp_path, capfd, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: "):
        images.read(tmp_path / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", ["nowhere.png", "."])
def test_a_path_without_a_file_is_refused(tmp_path, path):
    with pytest.raises(DataError, match="no such file; expected an image"):
        images.read(tmp_path / path)


@pytest.mark.parametrize("name", ["i.png", "i.jpg", "i.bmp", "i.webp", "i.tif", "deflate.tif", "deep.png"])
def test_a_truncated_image_is_refused_or_whole_but_never_half(tmp_path, name):
    """A last checksum may be missing; half a picture would be a surface with a gray lower part."""
    path = tmp_path / name
    if name == "deflate.tif":
        tifffile.imwrite(path, GRAY, compression="zlib", rowsperstrip=8)
    else:
        Image.fromarray(GRAY.astype(np.uint16) * 257 if name == "deep.png" else GRAY).save(path)
    whole, content = images.read(path), path.read_bytes()
    refusals = []
    for length in np.linspace(0, len(content) - 1, 25).astype(int):
        path.write_bytes(content[:length])
        try:
            np.testing.assert_array_equal(images.read(path), whole)
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) >= 23
    assert all(refusal.startswith(f"{path}: ") for refusal in refusals)


def test_pages_of_a_scan_are_not_taken_for_channels(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.stack([GRAY] * 5), photometric="minisblack")
    with pytest.raises(DataError, match="several pages"):
        images.read(tmp_path / "i.tif")
    np.testing.assert_array_equal(images.read(tmp_path / "i.tif", page=2), images.from_uint8(GRAY))


# 8-bit levels and sizes.


def test_every_8_bit_level_survives_the_round_trip():
    levels = np.arange(256, dtype=np.uint8)
    image = images.from_uint8(levels)
    assert image.dtype == np.float32
    assert (image[0], image[-1]) == (-1, 1)
    np.testing.assert_array_equal(images.to_uint8(image), levels)
    np.testing.assert_array_equal(images.to_image(levels[np.newaxis])[0], image)


def test_values_beyond_the_range_are_clipped_not_wrapped():
    np.testing.assert_array_equal(images.to_uint8(np.float32([-1.5, -1, 0, 1, 1.5])), [0, 0, 128, 255, 255])


def test_resizing_to_the_same_size_changes_nothing():
    image = images.from_uint8(GRAY)
    assert images.resize(image, (40, 50)) is image
    assert images.resize(image.astype(np.float64), (40, 50)).dtype == np.float32


def test_resizing_interpolates_linearly_and_keeps_the_type():
    ramp = np.tile(np.linspace(-1, 1, 32, dtype=np.float32), (32, 1))
    large = images.resize(ramp, (48, 64))
    assert large.shape == (48, 64)
    assert large.dtype == np.float32
    # Away from the border each pixel of half the size is a quarter of a step from the old centres.
    np.testing.assert_allclose(
        large[:, 1:-1], np.tile((np.arange(64) / 2 - 0.25)[1:-1] / 15.5 - 1, (48, 1)), atol=1e-5
    )


def test_shrinking_averages_what_would_alias():
    checkers = np.where(np.indices((64, 64)).sum(axis=0) % 2, 1, -1).astype(np.float32)
    assert np.abs(images.resize(checkers, (24, 24))).max() < 0.1
    # Also when only one side shrinks.
    assert np.abs(images.resize(checkers, (64, 24))).max() < 0.2


# Folders.


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def test_folders_are_walked_in_order_and_only_for_visible_images(tmp_path):
    expected = touch(tmp_path, "a.png", "b/c.JPG", "b/d/e.Tiff", "f.bmp")
    touch(tmp_path, ".hidden.png", ".git/g.png", "b/.h/i.png", "notes.txt", "j.png.txt", "png")
    (tmp_path / "folder.png").mkdir()
    assert images.find([tmp_path]) == expected


def test_a_file_that_cannot_be_read_is_an_error_of_that_image(tmp_path, monkeypatch):
    (path,) = touch(tmp_path, "a.png")

    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", fail)
    with pytest.raises(DataError, match=r"a\.png: cannot be read: Permission denied"):
        images.read(path)


def test_a_folder_below_a_hidden_one_can_be_named(tmp_path):
    expected = touch(tmp_path, ".cache/a.png")
    assert images.find([tmp_path / ".cache"]) == expected


def test_named_files_come_as_named_and_each_once(tmp_path):
    first, second, odd = touch(tmp_path, "a/1.png", "a/2.png", "b/raw.bin")
    assert images.find([odd, second, tmp_path / "a", second]) == [odd, second, first]


def test_missing_paths_are_refused_or_listed(tmp_path):
    (known,) = touch(tmp_path, "a.png")
    missing = tmp_path / "missing.png"
    with pytest.raises(DataError, match=r"missing\.png: no such file or folder"):
        images.find([known, missing])
    assert images.find([known, missing], missing_ok=True) == [known, missing]


def test_linked_folders_and_files_are_followed_each_once(tmp_path):
    elsewhere = touch(tmp_path / "elsewhere", "a.png", "b.png")
    line = tmp_path / "line"
    own = touch(line, "c.png")
    (line / "drive").symlink_to(tmp_path / "elsewhere")
    (line / "again").symlink_to(tmp_path / "elsewhere")
    (line / "loop").symlink_to(line)
    (line / "link.png").symlink_to(elsewhere[0])
    (line / "broken.png").symlink_to(tmp_path / "nowhere.png")
    expected = [
        line / "again" / "a.png",
        line / "again" / "b.png",
        line / "broken.png",
        *own,
        line / "link.png",
    ]
    assert images.find([line]) == expected
    with pytest.raises(DataError, match="no such file"):
        images.read(line / "broken.png")


def test_what_is_left_out_is_counted(tmp_path):
    touch(tmp_path, "a.png", "b.heic", "c.GIF", "notes.txt", "more.txt", "none", ".hidden.png", ".git/d.png")
    found = images.search([tmp_path])
    assert found.paths == [tmp_path / "a.png"]
    assert found.others == [tmp_path / "b.heic", tmp_path / "c.GIF"]
    assert found.left_out() == {".txt": 2, "": 1, "hidden": 2, ".heic": 1, ".gif": 1}
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="of a kind that is not read"):
        images.find([tmp_path])
    for path in found.others:
        path.write_bytes(b"GIF89a")
        with pytest.raises(DataError, match="a GIF file; expected PNG"):
            images.read(path)


def test_a_folder_without_images_is_refused(tmp_path):
    touch(tmp_path, "empty/notes.txt", "full/a.png")
    with pytest.raises(DataError, match=r"empty: no images in this folder; expected files ending in .*png"):
        images.find([tmp_path / "full", tmp_path / "empty"])


def test_maps_are_named_by_their_path_below_the_shared_folder(tmp_path):
    names = images.map_names([tmp_path / "a" / "x.png", tmp_path / "b" / "x.png", tmp_path / "b" / "x.jpg"])
    assert names == ["a/x.png.png", "b/x.png.png", "b/x.jpg.png"]
    assert images.map_names([tmp_path / "a" / "x.png"]) == ["x.png.png"]
    assert images.map_names([]) == []


def test_names_of_maps_never_climb_out_of_their_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert images.map_names(["../x.png", "y.png"]) == ["x.png.png", "here/y.png.png"]


NAMES = [
    "new\nline.png", "\udcff.png", "-leading.png", "\"quoted'.png", "a,b;c.png", "t\tab.png", "ü.png",
    " .png", "x" * 251 + ".png", "y" * 251 + ".png", "ü" * 125 + ".png", "%s{}$(x).png", "a.png", "a.jpg",
    "\x1b[31m.png",
]  # fmt: skip


def test_any_name_has_a_map_of_its_own(tmp_path):
    paths = [tmp_path / "in" / name for name in NAMES]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(GRAY).save(path, "PNG")
    assert set(images.find([tmp_path / "in"])) == set(paths)
    names = images.map_names(paths)
    assert len(set(names)) == len(paths)
    for path, name in zip(paths, names, strict=True):
        images.write(tmp_path / "out" / name, np.asarray(Image.open(path)))
    assert len(list((tmp_path / "out").iterdir())) == len(paths)


def test_maps_of_links_are_named_by_the_link(tmp_path):
    (original,) = touch(tmp_path, "far/x.png")
    links = [tmp_path / "a.png", tmp_path / "b.png"]
    for link in links:
        link.symlink_to(original)
    assert images.map_names(links) == ["a.png.png", "b.png.png"]


# Pictures.

IMAGE = images.from_uint8(GRAY)


def test_a_low_map_leaves_the_surface_visible_and_a_high_one_colors_it():
    low = images.overlay(IMAGE, np.zeros(GRAY.shape, np.float32), low=0, high=1)
    high = images.overlay(IMAGE, np.ones(GRAY.shape, np.float32), low=0, high=1)
    assert low.shape == high.shape == (40, 50, 3)
    assert low.dtype == np.uint8
    assert np.corrcoef(low.mean(axis=-1).ravel(), GRAY.ravel())[0, 1] > 0.999
    assert low.std(axis=(0, 1)).min() > 2 * high.std(axis=(0, 1)).max()
    assert high[..., 0].mean() > high[..., 2].mean() + 50  # viridis ends in yellow


def test_values_beyond_the_scale_look_like_its_ends():
    scale = {"low": 1.0, "high": 3.0}
    inside = np.float32([[1, 3]]).repeat(2, axis=0)
    beyond = np.float32([[-5, 1e9]]).repeat(2, axis=0)
    image = np.zeros((2, 2), np.float32)
    np.testing.assert_array_equal(
        images.overlay(image, inside, **scale), images.overlay(image, beyond, **scale)
    )


def test_boxes_are_drawn_around_areas_and_cut_at_the_border():
    anomaly_map = np.zeros((40, 50), np.float32)
    plain = images.overlay(IMAGE, anomaly_map, low=0.0, high=1.0)
    boxed = images.overlay(IMAGE, anomaly_map, low=0.0, high=1.0, boxes=[(10, 10, 5, 6), (0, 40, 40, 10)])
    changed = (plain != boxed).any(axis=-1)
    expected = np.zeros((40, 50), bool)
    expected[7:18, 7:19] = True
    expected[8:17, 8:18] = False
    expected[:, 37:] = True
    expected[1:-1, 38:-1] = False
    np.testing.assert_array_equal(changed, expected)


def test_the_outline_runs_along_the_edge_of_what_is_above_the_threshold():
    anomaly_map = np.zeros((40, 50), np.float32)
    anomaly_map[10:20, 10:30] = 1
    scale = {"low": 0.0, "high": 1.0}
    plain = images.overlay(IMAGE, anomaly_map, **scale)
    outlined = images.overlay(IMAGE, anomaly_map, **scale, threshold=0.5)
    changed = (plain != outlined).any(axis=-1)
    assert changed[[9, 10, 19, 20], 15].all()
    assert changed[15, [9, 10, 29, 30]].all()
    assert not changed[12:18, 12:28].any()
    assert not changed[:8].any()
    assert not changed[22:].any()
    assert len(np.unique(outlined[changed], axis=0)) == 1
    # Exactly on the threshold is not above it.
    np.testing.assert_array_equal(images.overlay(IMAGE, anomaly_map, **scale, threshold=1.0), plain)


@pytest.mark.parametrize("distance", [0, 1, 1e9])
def test_a_scale_without_extent_is_drawn_without_a_warning(distance):
    """As of a part whose good images never vary: its threshold is 0."""
    anomaly_map = np.full(GRAY.shape, distance, np.float32)
    picture = images.overlay(IMAGE, anomaly_map, low=0.0, high=0.0, threshold=0.0)
    end = images.overlay(IMAGE, np.full(GRAY.shape, min(distance, 1), np.float32), low=0.0, high=1.0)
    np.testing.assert_array_equal(picture, end)


def test_written_pictures_are_read_back(tmp_path):
    images.write(tmp_path / "new" / "gray.png", GRAY)
    images.write(tmp_path / "color.png", COLOR)
    np.testing.assert_array_equal(images.to_uint8(images.read(tmp_path / "new" / "gray.png")), GRAY)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "color.png")), COLOR)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["color.png", "new"]
