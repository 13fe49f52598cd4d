"""The network that ships: where its features lie, what they see, and what the border does."""

import numpy as np
import pytest

from metricad.networks import factory as architectures
from metricad.networks import hypercolumn, pretrained
from metricad.networks import residual as network
from metricad.networks.hypercolumn import GRID


@pytest.fixture(scope="module")
def model():
    return hypercolumn.build(4, seed=1)


@pytest.fixture(scope="module")
def extract(model):
    return architectures.extractor(model)


@pytest.mark.parametrize("shape", [(68, 68), (69, 75), (128, 96), (253, 131)])
def test_features_lie_every_four_pixels_within_the_image(extract, shape):
    rows, columns, dimensions = extract(np.zeros(shape, np.float32)).shape
    assert dimensions == 64
    for count, side in zip((rows, columns), shape, strict=True):
        last = GRID.first + GRID.stride * (count - 1)
        assert side - 1 - last < GRID.first + GRID.stride + 0.5
        assert last <= side - 1


def test_an_impulse_is_seen_about_where_it_is(extract):
    """Features that change lie around the impulse, as near to it on all sides as their grid allows."""
    image = np.zeros((256, 256), np.float32)
    quiet = extract(image)
    for pixel in (101, 128, 150):
        image[:] = 0
        image[pixel, 120] = 1
        changed = np.abs(extract(image) - quiet).max(axis=(1, 2)) > 1e-6
        centers = GRID.first + GRID.stride * np.flatnonzero(changed)
        assert abs((centers.min() + centers.max()) / 2 - pixel) <= 4
        assert centers.max() - centers.min() <= GRID.smallest + 8


def test_every_pixel_of_the_image_is_judged(extract):
    quiet = extract(np.zeros((90, 80), np.float32))
    for row, column in [(0, 0), (0, 79), (89, 0), (89, 79), (0, 40), (45, 79)]:
        image = np.zeros((90, 80), np.float32)
        image[row, column] = 1
        # Pooling may leave out up to 7 pixels at the far edges.
        image[max(0, row - 7) : row + 1, max(0, column - 7) : column + 1] = 1
        assert np.abs(extract(image) - quiet).max() > 1e-6, (row, column)


def test_moving_by_the_coarsest_stride_moves_the_features(extract):
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (200, 200)).astype(np.float32)
    whole, moved = extract(image), extract(np.ascontiguousarray(image[8:, 16:]))
    inner = slice(10, 25)  # where no outermost feature is taken again
    np.testing.assert_allclose(moved[inner, inner], whole[12:27, 14:29], atol=1e-4)


def test_one_trace_serves_every_size(model):
    extract = architectures.extractor(model)
    for side in (68, 100, 131):
        extract(np.zeros((side, 90), np.float32))
    assert extract.trace_count() == 1


def test_an_image_that_is_too_small_is_refused(extract):
    with pytest.raises(ValueError, match=r"at least 68×68 pixels, received \(67, 90\)"):
        extract(np.zeros((67, 90), np.float32))


def test_the_seed_decides_the_weights():
    first, same, other = (hypercolumn.build(2, seed=seed).get_weights() for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("units", [0, 1, 3])
def test_units_must_be_even(units):
    with pytest.raises(ValueError, match="even"):
        hypercolumn.build(units)


@pytest.mark.parametrize("name", pretrained.UNITS)
def test_a_shipped_network_loads_and_is_small(name):
    model = pretrained.load(name)
    assert architectures.units(model) == pretrained.UNITS[name]
    weights = np.concatenate([array.ravel() for array in model.get_weights()])
    assert np.isfinite(weights).all()
    assert weights.nbytes < 2**20


def test_a_network_that_does_not_ship_is_refused():
    with pytest.raises(ValueError, match="accurate, fast"):
        pretrained.load("huge")


def test_saving_halves_the_numbers_and_keeps_them(tmp_path, model):
    pretrained.save(model, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        kept = [arrays[name] for name in sorted(arrays)]
    assert {array.dtype for array in kept} == {np.dtype(np.float16)}
    for array, weights in zip(kept, model.get_weights(), strict=True):
        np.testing.assert_allclose(array, weights, atol=1e-3)


SAMPLINGS = {
    network.NAME: network.GRID,
    hypercolumn.NAME: GRID,
    hypercolumn.THREE_SCALES: hypercolumn.THREE_SCALES_GRID,
}


@pytest.mark.parametrize("build", [network.build, hypercolumn.build, hypercolumn.build_three_scales])
def test_architectures_know_every_network(build):
    made = build(4, seed=0)
    assert architectures.grid(made) == SAMPLINGS[made.name]
    rebuilt = architectures.build(made.name, architectures.units(made), seed=0)
    assert rebuilt.name == made.name
    for weights, same in zip(made.get_weights(), rebuilt.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, same)
    with pytest.raises(ValueError, match="staar2018, hypercolumn, hypercolumn-three-scales"):
        architectures.build("vgg", 16)


# Three scales.


@pytest.mark.parametrize("shape", [(160, 176), (103, 130), (68, 68)])
@pytest.mark.parametrize("factor", [2, 4])
def test_three_scales_are_the_whole_image_its_half_and_its_quarter(model, extract, shape, factor):
    """The other features are those of means of 2×2 and 4×4 pixels, the nearest at each place."""
    image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    joined = architectures.extractor(hypercolumn.on_three_scales(model))(image)
    whole = extract(image)
    assert joined.shape == (*whole.shape[:2], 192)
    np.testing.assert_allclose(joined[..., :64], whole, atol=1e-5)
    rows, columns = (side // factor for side in shape)
    small = (
        image[: factor * rows, : factor * columns].reshape(rows, factor, columns, factor).mean(axis=(1, 3))
    )
    # A quarter of 68 pixels must be mirrored more than once; NumPy does so as well.
    coarse = extract(np.pad(small, [(0, max(0, 68 - side)) for side in small.shape], mode="symmetric"))
    found = joined[..., 64:128] if factor == 2 else joined[..., 128:]
    first = factor * 7.5 + (factor - 1) / 2
    for row, column in [(0, 0), (3, 5), (whole.shape[0] - 1, whole.shape[1] - 1)]:
        # Where two are equally near, either will do.
        at = [(4 * k + 7.5 - first) / (4 * factor) for k in (row, column)]
        places = [
            np.clip([np.floor(place), np.ceil(place)], 0, count - 1).astype(int)
            if place % 1 == 0.5
            else np.clip([round(place)], 0, count - 1)
            for place, count in zip(at, coarse.shape, strict=False)
        ]
        near = [coarse[i, j] for i in places[0] for j in places[1]]
        assert min(np.abs(one - found[row, column]).max() for one in near) < 1e-4


def test_three_scales_have_no_weights_of_their_own(model):
    joined = hypercolumn.on_three_scales(model)
    assert joined.count_params() == model.count_params()
    assert pretrained.load("accurate").name == hypercolumn.THREE_SCALES
    assert pretrained.load("fast").name == hypercolumn.NAME
