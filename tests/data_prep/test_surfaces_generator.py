"""The synthetic surfaces: pure functions of their numbers, with masks that tell the truth."""

import numpy as np
import pytest

from data_prep.surfaces import generator
from data_prep.surfaces.generator import NAMES, VISIBLE, render

SURFACES = range(1, 11)
every_surface = pytest.mark.parametrize("surface", SURFACES, ids=NAMES)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_ten_distinct_snake_case_names():
    assert len(NAMES) == len(set(NAMES)) == 10
    assert all(name.isidentifier() and name == name.lower() for name in NAMES)


@every_surface
@pytest.mark.parametrize("size", [64, 100, 256])
@pytest.mark.parametrize("defect", [False, True])
def test_type_shape_and_gray_range(surface, size, defect):
    image, mask = render(surface, 0, size=size, defect=defect)
    assert image.dtype == np.uint8
    assert mask.dtype == bool
    assert image.shape == mask.shape == (size, size)
    assert mask.any() == defect
    assert image.std() > 8
    assert np.isin(image, (0, 255)).mean() < 0.02


@every_surface
def test_default_size_is_that_of_dagm(surface):
    image, mask = render(surface, 3)
    assert image.shape == (512, 512)
    assert not mask.any()


@every_surface
@pytest.mark.parametrize("defect", [False, True])
def test_same_arguments_give_the_same_bytes(surface, defect):
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    first = render(surface, 5, seed=7, size=100, defect=defect)
    np.random.seed(1)  # noqa: NPY002
    second = render(surface, 5, seed=7, size=100, defect=defect)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@every_surface
def test_index_seed_and_defect_each_give_another_image(surface):
    image, _ = render(surface, 5, seed=7, size=64)
    others = [
        render(surface, 6, seed=7, size=64),
        render(surface, 5, seed=8, size=64),
        render(surface, 5, seed=7, size=64, defect=True),
    ]
    # More than a local defect: most pixels differ, since normal and defective images are unrelated.
    assert all((image != other).mean() > 0.5 for other, _ in others)


@every_surface
@pytest.mark.parametrize("size", [64, 256])
def test_outside_the_mask_a_defective_image_equals_its_good_twin(surface, size):
    for index in range(4):
        good, marred, mask = generator._twins(surface, index, seed=0, size=size)
        image, rendered_mask = render(surface, index, size=size, defect=True)
        np.testing.assert_array_equal(image, marred)
        np.testing.assert_array_equal(rendered_mask, mask)
        np.testing.assert_array_equal(marred[~mask], good[~mask])
        # Inside, what stays the same is gaps in a texture, not room around the defect.
        changed = np.abs(marred.astype(int) - good) >= VISIBLE
        assert changed[mask].mean() > 0.35


@every_surface
def test_the_good_twin_is_a_surface_like_any_other(surface):
    good, _, _ = generator._twins(surface, 0, seed=0, size=256)
    image, _ = render(surface, 0, size=256)
    assert abs(good.mean() - image.mean()) < 40
    assert 0.6 < good.std() / image.std() < 1.7


@every_surface
def test_every_defect_can_be_seen(surface):
    for index in range(25):
        _, mask = render(surface, index, seed=3, size=100, defect=True)
        assert mask.sum() >= 24
        assert mask.mean() < 0.4
        assert mask[4:-4, 4:-4].any()  # not only a sliver at the border


@every_surface
def test_defects_vary_in_place_and_size(surface):
    masks = [render(surface, index, size=100, defect=True)[1] for index in range(8)]
    centres = np.array([np.argwhere(mask).mean(axis=0) for mask in masks])
    assert centres.std(axis=0).min() > 5
    assert len({int(mask.sum()) for mask in masks}) > 4


@every_surface
@pytest.mark.parametrize("defect", [False, True])
def test_no_number_is_out_of_order(surface, defect):
    flaw = np.random.default_rng(2) if defect else None
    gray = generator._PAINTERS[surface - 1](np.random.default_rng(1), 100, flaw)
    assert gray.shape == (100, 100)
    assert np.isfinite(gray).all()


def test_only_the_starburst_is_in_register():
    for surface in SURFACES:
        (a, _), (b, _) = render(surface, 0, size=256), render(surface, 1, size=256)
        if NAMES[surface - 1] == "starburst":
            assert correlation(a, b) > 0.9
        else:
            assert abs(correlation(a, b)) < 0.5
    woven = [render(1, index, size=256)[0] for index in range(2)]
    assert abs(correlation(*woven)) < 0.1


def test_starburst_scales_with_the_image_and_does_not_follow_the_seed():
    large, _ = render(4, 0, size=512)
    small, _ = render(4, 9, seed=5, size=256)
    halved = large.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    assert correlation(halved, small) > 0.9


def test_other_surfaces_keep_their_scale():
    # The dots' pitch, the peak of the spectrum beside the slow drift, is 11 px whatever the size.
    for size in (128, 512):
        image, _ = render(10, 0, size=size)
        amplitude = np.abs(np.fft.rfft(image, axis=1)).mean(axis=0)
        amplitude[: size // 20] = 0
        assert size / np.argmax(amplitude) == pytest.approx(11, abs=0.9)


def test_a_defect_that_hardly_shows_is_drawn_again(monkeypatch):
    draws = []

    def painter(rng, size, flaw):
        gray = np.full((size, size), 100.0)
        if flaw is not None:
            draws.append(flaw.random())
            gray[:8, :8] += VISIBLE if len(draws) == 3 else VISIBLE - 1
        return gray

    monkeypatch.setattr(generator, "_PAINTERS", (painter,) * 10)
    image, mask = render(1, 0, size=64, defect=True)
    assert len(set(draws)) == 3
    assert mask.sum() == 64
    assert mask[:8, :8].all()
    assert image[mask].tolist() == [100 + VISIBLE] * 64


def test_region_closes_gaps_and_holes_but_does_not_grow():
    whole = np.zeros((40, 40), dtype=bool)
    whole[0:12, 0:12] = whole[20:27, 20:40] = True  # both touch the border
    changed = whole.copy()
    changed[2:10, 2:10] = False  # a hole, 8 px wide
    changed[21:26, 30] = False  # a slit
    np.testing.assert_array_equal(generator._region(changed), whole)
    assert not generator._region(np.zeros((40, 40), dtype=bool)).any()
    assert generator._region(np.ones((40, 40), dtype=bool)).all()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"surface": 0}, "an integer from 1 to 10. Received: surface=0"),
        ({"surface": 11}, "an integer from 1 to 10. Received: surface=11"),
        ({"surface": "wood"}, "Received: surface='wood'"),
        ({"surface": True}, "Received: surface=True"),
        ({"index": -1}, "an integer from 0. Received: index=-1"),
        ({"index": 0.5}, "Received: index=0.5"),
        ({"seed": -3}, "an integer from 0. Received: seed=-3"),
        ({"seed": None}, "Received: seed=None"),
        ({"size": 63}, "an integer from 64. Received: size=63"),
        ({"size": (64, 64)}, "Received: size="),
    ],
)
def test_wrong_arguments_are_told_apart(arguments, expected):
    with pytest.raises(ValueError, match="expected an integer") as error:
        render(**({"surface": 1, "index": 0} | arguments))
    assert expected in str(error.value)


def test_numpy_integers_are_integers():
    a, _ = render(np.int64(5), np.uint8(2), seed=np.int32(1), size=np.int64(64))
    b, _ = render(5, 2, seed=1, size=64)
    np.testing.assert_array_equal(a, b)
