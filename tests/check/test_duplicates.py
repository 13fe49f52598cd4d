"""Exact and near duplicates: copies are found, and parts that look alike are not taken for copies."""

import io

import numpy as np
import PIL.Image
import pytest
from scipy.ndimage import gaussian_filter

from metricad.check import duplicates
from metricad.check.facts import read_detail, survey
from metricad.data import images
from tests.helpers import save

SIDE = 128


def surface(rng):
    """A surface with coarse and fine spots."""
    noise = rng.standard_normal((SIDE, SIDE))
    spots = sum(gaussian_filter(noise, width) * width for width in (2, 4, 8))
    return np.clip(0.6 * spots, -1, 1).astype(np.float32)


def part(rng):
    """A part in a fixed place, on a surface of its own."""
    row, column = np.mgrid[:SIDE, :SIDE]
    disk = np.hypot(row - SIDE / 2, column - SIDE / 2) < SIDE / 3
    return np.clip(0.6 * disk - 0.3 + 0.4 * surface(rng), -1, 1).astype(np.float32)


def groups(paths):
    exact, near = duplicates.groups(survey(paths), read_detail=read_detail)
    found = [[paths[k].stem for k in np.flatnonzero(near == group)] for group in np.unique(near)]
    return sorted(found), exact


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def compressed(image):
    file = io.BytesIO()
    PIL.Image.fromarray(images.to_uint8(image)).save(file, "JPEG", quality=85)
    return images.from_uint8(np.asarray(PIL.Image.open(file)))


COPIES = {
    "compressed": compressed,
    "darker": lambda image: 0.7 * image - 0.2,
    "noisy": lambda image: image + np.random.default_rng(0).normal(0, 0.05, image.shape),
    "shifted": lambda image: np.roll(image, (1, -1), axis=(0, 1)),
    "smaller": lambda image: images.resize(image, (96, 96)),
}


@pytest.mark.parametrize("draw", [surface, part])
@pytest.mark.parametrize("count", [4, 12])
def test_copies_are_found_and_no_others(draw, count, rng, tmp_path):
    originals = [draw(rng) for _ in range(count)]
    paths = [save(tmp_path / f"{number}.png", one) for number, one in enumerate(originals)]
    assert groups(paths)[0] == sorted([path.stem] for path in paths)
    names = list(COPIES) if draw is surface else ["compressed", "darker", "smaller"]
    for number, name in enumerate(names[:count]):
        paths.append(save(tmp_path / f"{name}.png", np.clip(COPIES[name](originals[number]), -1, 1)))
    found, exact = groups(paths)
    assert sorted(group for group in found if len(group) > 1) == sorted(
        [str(number), name] for number, name in enumerate(names[:count])
    )
    assert len(set(exact.tolist())) == len(paths)


def test_exact_copies_have_the_same_pixels_in_any_format(rng, tmp_path):
    levels = images.to_uint8(surface(rng))
    for name in ("a.png", "b.bmp"):
        PIL.Image.fromarray(levels).save(tmp_path / name)
    save(tmp_path / "c.png", surface(rng))
    exact, near = duplicates.groups(survey(sorted(tmp_path.iterdir())), read_detail=read_detail)
    assert exact[0] == exact[1] != exact[2]
    assert near[0] == near[1] != near[2]


def test_a_pattern_that_repeats_is_not_taken_for_copies(rng, tmp_path):
    row, column = np.mgrid[:SIDE, :SIDE]
    paths = []
    for number in range(8):
        phases = rng.uniform(0, 6, 2)
        dots = np.sin(row / 2.5 + phases[0]) * np.sin(column / 2.5 + phases[1])
        paths.append(save(tmp_path / f"{number}.png", np.clip(dots + 0.03 * surface(rng), -1, 1)))
    assert groups(paths)[0] == sorted([path.stem] for path in paths)


def test_unreadable_and_blank_files_are_alone(tmp_path):
    blank = [save(tmp_path / f"{name}.png", np.full((16, 16), level)) for name, level in (("a", 0), ("b", 1))]
    broken = [tmp_path / "c.png", tmp_path / "d.png"]
    for path in broken:
        path.write_bytes(b"no image")
    assert len(groups([*blank, *broken])[0]) == 4
