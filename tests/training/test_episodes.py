"""Episodes: crops of one surface with synthetic defects, and the random textures among them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metricad.errors import DataError
from metricad.synthetic import textures
from metricad.training import episodes
from metricad.training.episodes import CROPS, DEFECTIVE, GOOD, SIDE, SUPPORT


def rng(seed=0):
    return np.random.default_rng(seed)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_textures_are_images_and_no_two_alike(seed):
    first, second = (textures.random_texture(rng(s), 64) for s in (seed, seed + 1))
    assert first.shape == (64, 64)
    assert first.dtype == np.float32
    assert -1 <= first.min() < first.max() <= 1
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, textures.random_texture(rng(seed), 64))


def test_random_textures_have_no_seam():
    """What lies across the border is as like as neighbours inside are."""
    for seed in range(10):
        texture = textures.random_texture(rng(seed), 128).astype(float)
        inside = np.abs(np.diff(texture, axis=0)).mean()
        across = np.abs(texture[0] - texture[-1]).mean()
        assert across < 3 * inside


def test_crops_of_a_large_image_do_not_overlap():
    image = np.arange(512 * 384, dtype=np.float32).reshape(512, 384)
    crops = episodes.cut([image], rng())
    assert crops.shape == (CROPS, SIDE, SIDE)
    corners = {tuple(np.argwhere(image == crop[0, 0])[0] // SIDE) for crop in crops}
    assert len(corners) == CROPS
    for crop in crops:
        row, column = np.argwhere(image == crop[0, 0])[0]
        np.testing.assert_array_equal(crop, image[row : row + SIDE, column : column + SIDE])


def test_crops_reach_every_edge_of_an_image():
    image = np.arange(200 * 200, dtype=np.float32).reshape(200, 200)
    starts = [crop[0, 0] for seed in range(30) for crop in episodes.cut([image], rng(seed))]
    rows, columns = np.divmod(starts, 200)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 72, 0, 72)


def test_an_image_too_small_for_a_crop_is_refused():
    with pytest.raises(DataError, match="128×128"):
        episodes.cut([np.zeros((127, 300), np.float32)], rng())


def test_light_changes_each_crop_by_a_plane():
    crops = np.stack([np.full((40, 40), 0.1, np.float32)] * 4)
    lit = episodes.relight(crops, rng(2), amount=0.5).astype(float)
    slopes = []
    for crop in lit:
        rows, columns = np.indices(crop.shape) / 39
        plane = np.stack([rows.ravel(), columns.ravel(), np.ones(rows.size)], axis=1)
        found, *_ = np.linalg.lstsq(plane, crop.ravel(), rcond=None)
        assert np.abs(crop.ravel() - plane @ found).std() < 0.03
        slopes.append(found)
    assert np.ptp(slopes, axis=0).min() > 1e-3


def test_no_light_changed_is_no_change():
    crops = rng(1).uniform(-1, 0.8, (2, 40, 40)).astype(np.float32)
    np.testing.assert_allclose(episodes.relight(crops, rng(), amount=0), crops, atol=1e-6)


def test_only_the_last_crops_are_spoiled():
    crops = np.stack([textures.random_texture(rng(k), SIDE) for k in range(CROPS)])
    before = crops.copy()
    spoiled, masks = episodes.spoil(crops, rng(), other=textures.random_texture(rng(99), SIDE))
    np.testing.assert_array_equal(crops, before)
    np.testing.assert_array_equal(spoiled[: SUPPORT + GOOD], crops[: SUPPORT + GOOD])
    assert masks.shape == (DEFECTIVE, SIDE, SIDE)
    for k in range(DEFECTIVE):
        assert masks[k].any()
        assert not np.array_equal(spoiled[SUPPORT + GOOD + k], crops[SUPPORT + GOOD + k])


def test_a_matched_texture_has_the_mean_and_contrast_of_the_image():
    texture, image = textures.random_texture(rng(1), 64), textures.random_texture(rng(2), 80)
    found = textures.matched(texture, image)
    assert found.dtype == np.float32
    assert (found.mean(), found.std()) == pytest.approx((image.mean(), image.std()), abs=1e-4)
    assert np.corrcoef(found.ravel(), texture.ravel())[0, 1] == pytest.approx(1, abs=1e-4)
    assert np.isfinite(textures.matched(np.zeros((8, 8), np.float32), image)).all()
