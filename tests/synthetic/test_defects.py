"""Synthetic defects: each changes the image where its mask says, as much as asked, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from metricad.synthetic import defects, shapes
from metricad.synthetic.defects import KINDS, VISIBLE
from tests.helpers import texture

SIZES = {kind: (3, 6) if kind in ("scratch", "crack", "spots", "gap") else (10, 30) for kind in KINDS}

seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(list(KINDS))


def rough(seed=0, shape=(96, 96)):
    """A surface on which every kind of defect can be seen: strong grain, no direction."""
    rng = np.random.default_rng(seed)
    return np.clip(0.3 * rng.standard_normal(shape), -1, 1).astype(np.float32)


def put(kind, *, size=None, contrast=1.0, seed=0, image=None, other=None):
    return defects.add(
        rough() if image is None else image,
        kind=kind,
        size=SIZES[kind][1] if size is None else size,
        contrast=contrast,
        rng=np.random.default_rng(seed),
        other=other,
    )


@given(kind=kinds, seed=seeds, size=st.floats(0.5, 120), contrast=st.floats(0.01, 1))
def test_a_defect_is_where_its_mask_is(kind, seed, size, contrast):
    image = rough()
    before = image.copy()
    changed, mask = put(kind, size=size, contrast=contrast, seed=seed, image=image)
    assert changed.shape == mask.shape == image.shape
    assert (changed.dtype, mask.dtype) == (np.float32, bool)
    assert np.abs(changed).max() <= 1
    change = np.abs(changed - image)
    assert (change[~mask] < VISIBLE).all()
    assert (change[mask] >= VISIBLE).all()
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(changed, image)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_seen_on_a_rough_surface(kind):
    shown = [put(kind, seed=seed)[1] for seed in range(20)]
    assert all(mask.sum() >= 4 for mask in shown)
    # It is a defect on a surface, and not another surface.
    assert np.mean([mask.mean() for mask in shown]) < 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_defect_covers_more(kind):
    small, large = (
        np.mean([put(kind, size=size, seed=seed)[1].sum() for seed in range(40)]) for size in SIZES[kind]
    )
    assert large > 1.5 * small


@pytest.mark.parametrize("kind", KINDS)
def test_a_stronger_defect_changes_more(kind):
    # Of a coarse grain: what a fine one loses by being moved does not grow with how far it is moved.
    image = 4 * ndimage.gaussian_filter(rough(), 4)

    def change(contrast):
        changed = (put(kind, contrast=contrast, seed=seed, image=image)[0] for seed in range(40))
        return np.mean([np.abs(each - image).sum() for each in changed])

    assert change(0.8) > 1.5 * change(0.3)


@pytest.mark.parametrize("kind", ["scratch", "crack", "spots", "stain"])
def test_contrast_is_the_share_of_the_gray_range(kind):
    """On mid-gray, where nothing is cut off, the strongest pixel changes by that share of the range of 2."""
    even = np.zeros((96, 96), np.float32)
    strongest = [np.abs(put(kind, contrast=0.25, seed=seed, image=even)[0]).max() for seed in range(40)]
    assert max(strongest) == pytest.approx(0.5, rel=0.1)
    assert max(strongest) <= 0.5 + 1e-6


def test_a_crack_is_dark_and_a_scratch_either():
    even = np.zeros((96, 96), np.float32)
    cracks = [put("crack", contrast=0.3, seed=seed, image=even)[0].sum() for seed in range(20)]
    scratches = [put("scratch", contrast=0.3, seed=seed, image=even)[0].sum() for seed in range(20)]
    assert max(cracks) < 0
    assert min(scratches) < 0 < max(scratches)


@given(kind=kinds, seed=seeds)
def test_the_same_generator_gives_the_same_defect(kind, seed):
    one, again = put(kind, seed=seed), put(kind, seed=seed)
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    assert not np.array_equal(one[0], put(kind, seed=seed + 1)[0])


@pytest.mark.parametrize("kind", ["blur", "paste", "warp", "gap"])
def test_an_even_surface_cannot_show_what_only_moves_or_smooths_it(kind):
    even = np.full((64, 64), 0.25, np.float32)
    changed, mask = put(kind, image=even)
    assert not mask.any()
    np.testing.assert_array_equal(changed, even)
    assert not np.shares_memory(changed, even)


def test_a_foreign_body_is_of_the_other_surface():
    other = np.full((17, 31), 0.9, np.float32)  # of another size: it is repeated
    changed, mask = put("foreign", contrast=1.0, image=np.zeros((64, 64), np.float32), other=other)
    assert changed[mask].max() == pytest.approx(0.9)
    assert changed.min() == 0


@pytest.mark.parametrize("shape", [(40, 120), (120, 40), (33, 33)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_shape_of_image_will_do(kind, shape):
    for seed in range(5):
        changed, mask = put(kind, image=rough(1, shape), seed=seed)
        assert changed.shape == mask.shape == shape
        assert mask.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "dent"}, "one of scratch, crack, .*, received 'dent'"),
        ({"size": 0}, r"size must be above 0 .* received 0 and 0\.5"),
        ({"size": np.nan}, "received nan"),
        ({"contrast": 0.0}, r"contrast in \(0, 1\]"),
        ({"contrast": 1.01}, r"received 5 and 1\.01"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(change, words):
    arguments = {"kind": "stain", "size": 5, "contrast": 0.5} | change
    with pytest.raises(ValueError, match=words):
        defects.add(rough(), rng=np.random.default_rng(0), **arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_lies_inside_where_it_is_asked_to(kind):
    inside = np.zeros((96, 96), bool)
    inside[:, 60:] = True
    rng = np.random.default_rng(0)
    for _ in range(10):
        _, mask = defects.add(rough(), kind=kind, size=6, contrast=0.8, rng=rng, inside=inside)
        assert mask.any()
        assert mask[inside].sum() >= mask[~inside].sum()
        _, mask, _ = defects.add_any(rough(), rng, inside=inside)
        assert mask[inside].sum() >= mask[~inside].sum()


def test_where_there_is_no_place_there_is_no_defect():
    image, nowhere = rough(), np.zeros((96, 96), bool)
    changed, mask = defects.add(
        image, kind="stain", size=9, contrast=0.8, rng=np.random.default_rng(0), inside=nowhere
    )
    assert not mask.any()
    np.testing.assert_array_equal(changed, image)


# Any defect.


@given(seed=seeds)
def test_any_defect_can_be_seen(seed):
    image = texture(np.random.default_rng(3))
    before = image.copy()
    changed, mask, kind = defects.add_any(image, np.random.default_rng(seed))
    assert mask.any()
    assert kind in KINDS
    assert changed.dtype == np.float32
    assert np.abs(changed).max() <= 1
    np.testing.assert_array_equal(mask, np.abs(changed - image) >= VISIBLE)
    np.testing.assert_array_equal(image, before)


def test_any_defect_is_of_every_kind_in_turn():
    rng = np.random.default_rng(0)
    drawn = [defects.add_any(rough(), rng)[2] for _ in range(300)]
    assert set(drawn) == set(KINDS)
    assert max(map(drawn.count, KINDS)) < 3 * min(map(drawn.count, KINDS))


def test_on_an_even_surface_only_what_can_be_seen_is_drawn():
    rng = np.random.default_rng(0)
    even = np.full((64, 64), 0.25, np.float32)
    drawn = {kind for _, mask, kind in (defects.add_any(even, rng) for _ in range(60)) if mask.any()}
    assert drawn <= {"scratch", "crack", "spots", "stain", "foreign", "noise"}
    assert len(drawn) >= 5


# Shapes.


def test_a_blob_has_its_diameter_and_its_rim():
    """Lobes and stretch leave the mean area that of a disk; a soft rim is centred on the outline."""
    rng = np.random.default_rng(0)
    for soft in (0.05, 0.6):
        areas = [
            shapes.blob((200, 200), 40, rng, soft=soft, at=np.array([100, 100])).sum() for _ in range(60)
        ]
        assert np.mean(areas) == pytest.approx(np.pi * 20**2, rel=0.15)
    sharp, gentle = (shapes.blob((200, 200), 40, np.random.default_rng(1), soft=soft) for soft in (0.05, 0.6))
    assert np.sum((sharp > 0) & (sharp < 1)) < np.sum((gentle > 0) & (gentle < 1)) / 3


def test_a_stroke_is_as_wide_as_asked():
    """No pixel of it is farther from its edge than half its width, and the blur of that edge."""
    rng = np.random.default_rng(0)
    for width in (2.0, 6.0):
        for _ in range(10):
            weight = shapes.stroke((160, 160), width, rng, jitter=0.0)
            inside = np.pad(weight > 0, 1)
            if weight.any():
                assert width / 2 - 0.5 <= ndimage.distance_transform_edt(inside).max() <= width / 2 + 2


def test_weights_stay_between_nothing_and_all():
    rng = np.random.default_rng(0)
    for _ in range(50):
        for weight in (
            shapes.blob((50, 70), rng.uniform(0.5, 90), rng, soft=0.5),
            shapes.stroke((50, 70), rng.uniform(0.5, 9), rng, jitter=0.25),
        ):
            assert weight.shape == (50, 70)
            assert weight.dtype == np.float32
            assert weight.min() >= 0
            assert weight.max() <= 1
