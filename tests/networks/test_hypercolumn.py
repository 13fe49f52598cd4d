"""The networks that ship: where their features lie, what they see, and what the border does."""

import numpy as np
import pytest

from metricad.networks import SHIPPED
from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.networks import factory, hypercolumn, pretrained, residual
    from metricad.networks.hypercolumn import GRID

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def model():
    return hypercolumn.build(4, seed=1)


@pytest.fixture(scope="module")
def extract(model):
    return factory.extractor(model)


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
    extract = factory.extractor(model)
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


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network_loads_and_is_small(name):
    model = pretrained.load(name)
    assert model.name == pretrained.ARCHITECTURES[name]
    assert factory.units(model) == pretrained.UNITS[name]
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


# By name.

if not COLLECTING:
    BUILT = {
        residual.NAME: (residual.build, residual.GRID),
        hypercolumn.NAME: (hypercolumn.build, GRID),
        hypercolumn.THREE_SCALES: (hypercolumn.build_three_scales, hypercolumn.THREE_SCALES_GRID),
    }


@pytest.mark.parametrize("name", ["staar2018", "hypercolumn", "hypercolumn-three-scales"])
def test_the_factory_knows_every_network(name):
    build, grid = BUILT[name]
    made = build(4, seed=0)
    assert factory.grid(made) == grid
    places = factory.places(made)
    assert len(places) == len(made.outputs)
    assert places[0] == (grid.first, grid.stride)
    rebuilt = factory.build(made.name, factory.units(made), seed=0)
    assert rebuilt.name == made.name
    for weights, same in zip(made.get_weights(), rebuilt.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, same)


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="staar2018, hypercolumn, hypercolumn-three-scales"):
        factory.build("vgg", 16)


# Three scales.


@pytest.mark.parametrize("shape", [(160, 176), (103, 130), (68, 68)])
def test_three_scales_are_the_whole_image_its_half_and_its_quarter(model, extract, shape):
    """Each map is what one scale gives for means of 2×2 or 4×4 pixels, on a grid of its own."""
    image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    found = hypercolumn.on_three_scales(model)(image[None, ..., None])
    for one, factor in zip(found, (1, 2, 4), strict=True):
        rows, columns = (side // factor for side in shape)
        whole = image[: factor * rows, : factor * columns]
        small = whole.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
        # A quarter of 68 pixels must be mirrored more than once; NumPy does so as well.
        small = np.pad(small, [(0, max(0, 68 - side)) for side in small.shape], mode="symmetric")
        np.testing.assert_allclose(one[0], extract(small), atol=1e-4)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_coarse_features_place_is_where_its_pixels_lie(model, scale):
    """Pushing a blot over the image moves the change in the map along with its places."""
    network = hypercolumn.on_three_scales(model)
    first, stride = hypercolumn.places(3)[scale]
    middle = 192 * scale
    plain = np.random.default_rng(0).uniform(-0.1, 0.1, (1, 2 * middle, 2 * middle, 1)).astype(np.float32)
    quiet = network(plain)[scale].numpy()
    for row, column in [(middle, middle - 20), (middle + 20, middle + 9)]:
        marked = plain.copy()
        marked[0, row - 4 : row + 4, column - 4 : column + 4] = 1
        changed = np.abs(network(marked)[scale].numpy() - quiet)[0].max(axis=-1) > 1e-4
        for at, axis in ((row - 0.5, 1), (column - 0.5, 0)):
            centers = first + stride * np.flatnonzero(changed.any(axis=axis))
            assert abs((centers.min() + centers.max()) / 2 - at) <= stride


def test_three_scales_have_no_weights_of_their_own(model):
    assert hypercolumn.on_three_scales(model).count_params() == model.count_params()


def test_a_halved_grid_lies_on_twice_the_pixels():
    """A pixel of the smaller image lies in the middle of four, half a pixel beyond the first of them."""
    halved = GRID.halved()
    assert (halved.first, halved.stride, halved.smallest) == (15.5, 8, 136)
    assert (halved.tile_step, halved.reach) == (2 * GRID.tile_step, 2 * GRID.reach)
    for number in range(4):
        pixel = GRID.first + GRID.stride * number
        assert halved.first + halved.stride * number == 2 * pixel + 0.5
    assert halved.middle == 16
