"""Triplets: who is whose positive and negative, and where they are cut.

Images are painted so that a patch tells where it comes from.
"""

import weakref

import numpy as np
import pytest

from metricad.data import images
from metricad.errors import DataError
from metricad.training import triplets
from metricad.training.triplets import Source

CLEAN = {"noise_share": 0.0, "noise_side": (4, 16), "noise_strength": (0.1, 0.1)}
NOISY = CLEAN | {"noise_share": 1.0}


def flat(*levels, side=64):
    """One stack of constant images of these gray levels."""
    return np.stack([np.full((side, side), level, np.uint8) for level in levels])


def draw(sources, count=300, *, seed=0, mix=None, **options):
    """Draw triplets and turn them back to 8-bit levels: uint8 (3, count, 32, 32)."""
    drawn = triplets.sample(sources, count, rng=np.random.default_rng(seed), mix=mix, **(CLEAN | options))
    return np.stack([images.to_uint8(role[..., 0]) for role in drawn])


# Textures, flat ones: class c has the levels 50 c to 50 c + 9, one for each image.
TEXTURES = Source("textures", {f"c{c}": [flat(*range(50 * c, 50 * c + 10))] for c in range(3)}, False)


def test_shape_type_and_range():
    for role in triplets.sample([TEXTURES], 7, rng=np.random.default_rng(0), **NOISY):
        assert role.shape == (7, 32, 32, 1)
        assert role.dtype == np.float32
        assert np.abs(role).max() <= 1


def test_positive_is_another_image_of_the_class_and_negative_of_another_class():
    anchor, positive, negative = (role.max(axis=(1, 2)) for role in draw([TEXTURES]))
    assert (anchor // 50 == positive // 50).all()
    assert (anchor != positive).all()
    assert (anchor // 50 != negative // 50).all()
    # Every image takes every part.
    everything = {level for c in range(3) for level in range(50 * c, 50 * c + 10)}
    for role in (anchor, positive, negative):
        assert set(role.tolist()) == everything
    # Every pair of classes comes up.
    assert len(set(zip((anchor // 50).tolist(), (negative // 50).tolist(), strict=True))) == 6


@pytest.mark.parametrize("axis", [0, 1])
def test_all_three_are_cut_at_one_position(axis):
    """A global pattern must not give the negative away."""
    place = np.indices((64, 64), np.uint8)[axis]
    source = Source("s", {name: [np.stack([place, place])] for name in "ab"}, False)
    anchor, positive, negative = draw([source])
    np.testing.assert_array_equal(anchor, positive)
    np.testing.assert_array_equal(anchor, negative)
    # The first pixel and the last one that fit are both used.
    assert set(anchor[:, 0, 0].tolist()) == set(range(33))


def test_all_three_are_cut_from_one_level_of_the_pyramid():
    levels = {
        name: [flat(value, value + 1, side=side) for value, side in ((start, 64), (start + 10, 32))]
        for name, start in (("a", 0), ("b", 100))
    }
    drawn = draw([Source("s", levels, False)]).max(axis=(2, 3)) % 100 // 10
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] == drawn[2]).all()
    assert 0.4 < drawn[0].mean() < 0.6


def test_a_negative_may_come_from_another_source():
    single = Source("single", {"only": [flat(200, 201)]}, False)
    anchor, _, negative = (role.max(axis=(1, 2)) for role in draw([TEXTURES, single]))
    assert (negative[anchor >= 200] < 200).all()
    assert (negative[anchor < 200] >= 200).any()


OBJECTS = Source("objects", {f"o{c}": [flat(*range(50 * c, 50 * c + 5), side=32)] for c in range(4)}, True)


@pytest.mark.parametrize("options", [CLEAN, NOISY])
def test_objects_are_used_whole_and_never_corrupted(options):
    anchor, positive, negative = draw([OBJECTS], **options)
    for role in (anchor, positive, negative):
        assert (role == role[:, :1, :1]).all()
    assert (anchor[:, 0, 0] // 50 == positive[:, 0, 0] // 50).all()
    assert (anchor[:, 0, 0] != positive[:, 0, 0]).all()
    assert (anchor[:, 0, 0] // 50 != negative[:, 0, 0] // 50).all()


def test_objects_and_textures_never_meet_in_one_triplet():
    textures = Source("textures", {"a": [flat(220, 221)], "b": [flat(230, 231)]}, False)
    anchor, positive, negative = draw([OBJECTS, textures])[:, :, 0, 0]
    assert (anchor < 200).any()
    assert (anchor >= 200).any()
    np.testing.assert_array_equal(anchor >= 200, positive >= 200)
    np.testing.assert_array_equal(anchor >= 200, negative >= 200)


def corrupted(drawn):
    """Which triplets of flat images have a negative that is not flat."""
    assert (drawn[:2] == drawn[:2, :, :1, :1]).all()  # anchors and positives never are
    return (drawn[2] != drawn[2, :, :1, :1]).any(axis=(1, 2))


def test_a_corrupted_negative_is_of_the_anchors_class():
    drawn = draw([TEXTURES], **NOISY)
    assert corrupted(drawn).all()
    # Noise fills less than half of a patch: its median is the surface around.
    around = np.median(drawn[2], axis=(1, 2)).astype(int)
    np.testing.assert_array_equal(around // 50, drawn[0, :, 0, 0] // 50)


def test_a_corrupted_negative_is_a_third_image():
    drawn = draw([Source("s", {"only": [flat(0, 50, 100, 150)]}, False)], 600, **NOISY)
    anchor, positive, negative = (np.median(role, axis=(1, 2)) for role in drawn)
    assert (negative != anchor).all()
    assert (negative != positive).all()
    assert set(negative.tolist()) == {0, 50, 100, 150}


def test_of_two_images_a_corrupted_negative_is_one_of_them():
    negative = draw([Source("s", {"only": [flat(0, 50)]}, False)], 600, **NOISY)[2]
    assert (np.median(negative, axis=(1, 2)) == 0).mean() == pytest.approx(1 / 2, abs=0.06)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_noise_share_is_kept(share):
    drawn = draw([TEXTURES], 2000, noise_share=share)
    assert corrupted(drawn).mean() == pytest.approx(share, abs=0.04)


def test_of_a_single_texture_every_negative_is_corrupted():
    single = Source("single", {"only": [flat(100, 101)]}, False)
    assert corrupted(draw([single])).all()
    # Also beside objects, which are no other surface.
    drawn = draw([single, OBJECTS], mix=(1, 0))
    assert corrupted(drawn).all()


@pytest.mark.parametrize(("mix", "expected"), [(None, 0.5), ((1, 3), 0.25), ((0, 2), 0.0), ((5, 0), 1.0)])
def test_the_mix_is_that_of_the_anchors(mix, expected):
    one, other = (Source(str(v), {"a": [flat(v, v + 1)], "b": [flat(v + 5, v + 6)]}, False) for v in (0, 100))
    anchor = draw([one, other], 2000, mix=mix)[0, :, 0, 0]
    assert (anchor < 100).mean() == pytest.approx(expected, abs=0.04 if 0 < expected < 1 else 0)


@pytest.mark.parametrize(
    "mix", [(1,), (1, 1, 1), (-1, 2), (0, 0), (), (float("nan"), 1), (float("inf"), 1), (-1, -1)]
)
def test_a_mix_that_is_no_share_of_each_source_is_refused(mix):
    with pytest.raises(ValueError, match="mix must hold 2 shares of 0 or more"):
        triplets.shares(mix, 2)


def test_shares_sum_to_one():
    np.testing.assert_allclose(triplets.shares((1, 1, 2), 3), [0.25, 0.25, 0.5])
    np.testing.assert_allclose(triplets.shares(None, 4), 0.25)


def test_the_generator_decides_the_triplets():
    first, same, other = (draw([TEXTURES, OBJECTS], seed=seed, noise_share=0.5) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


# Preparing.


def picture(side=40):
    return np.zeros((side, side), np.float32)


def test_textures_become_pyramids_and_objects_stay_as_they_are():
    textures = triplets.prepare("t", {"a": [picture()] * 3, "b": [picture(50)] * 2}, sides=(48, 32))
    assert not textures.is_object
    assert [level.shape for level in textures.classes["a"]] == [(3, 48, 48), (3, 32, 32)]
    assert textures.image_count == 5
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    classes = {"x": images.from_uint8(pixels), "y": [picture(32)] * 2}
    objects = triplets.prepare("o", classes, sides=(48, 32))
    assert objects.is_object
    assert len(objects.classes["x"]) == 1
    np.testing.assert_array_equal(objects.classes["x"][0], pixels)


def test_images_that_are_not_enlarged_meet_larger_ones():
    source = triplets.prepare(
        "t", {"a": [picture(70)] * 2, "b": [picture()] * 2}, sides=(64, 36), enlarges=False
    )
    assert [level.shape[1] for level in source.classes["a"]] == [64, 36]
    assert [level.shape[1] for level in source.classes["b"]] == [36]
    assert draw([source]).shape == (3, 300, 32, 32)
    tiny = triplets.prepare("t", {"a": [picture(33)] * 2}, sides=(64, 36), enlarges=False)
    assert [level.shape[1] for level in tiny.classes["a"]] == [36]


def test_images_are_taken_one_at_a_time():
    """A source may be larger than memory before it is turned to 8 bits."""
    given = []

    def members():
        for _ in range(5):
            assert sum(reference() is not None for reference in given) <= 1
            image = picture()
            given.append(weakref.ref(image))
            yield image
            del image

    assert triplets.prepare("t", {"a": members(), "b": members()}, sides=(48,)).image_count == 10


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "no classes"),
        ({"a": [picture()] * 2, "b": [picture()]}, "class b has 1 image\\(s\\); a triplet needs two"),
        ({"a": []}, "class a has 0 image"),
        ({"a": [picture(32), picture()]}, "32×32 images \\(objects\\) beside larger ones"),
        ({"a": [picture(32)] * 2, "b": [picture()] * 2}, "32×32 images \\(objects\\) beside larger ones"),
        ({"a": [picture(32)] * 2}, "one class of objects; a negative needs another class"),
    ],
)
def test_sources_without_triplets_are_refused(classes, message):
    with pytest.raises(DataError, match=f"here: {message}"):
        triplets.prepare("here", classes)
