"""The network's geometry, which everything that places a map on an image relies on."""

import numpy as np
import pytest

from tests.helpers import COLLECTING

if not COLLECTING:
    import keras

    from metricad.networks import factory, residual

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def model():
    return residual.build(4, seed=1)


@pytest.mark.parametrize(("units", "parameters"), [(16, 21_136), (32, 82_720)])
def test_parameters_are_the_papers(units, parameters):
    assert residual.build(units).count_params() == parameters


@pytest.mark.parametrize("shape", [(32, 32), (33, 34), (64, 47), (200, 100)])
def test_feature_shape_is_what_the_network_gives(model, shape):
    features = factory.extractor(model)(np.zeros(shape, np.float32))
    assert features.shape == (*residual.feature_shape(shape), 4)


def test_paper_sizes():
    model = residual.build(16)
    assert model.compute_output_shape((1, 512, 512, 1)) == (1, 241, 241, 16)
    assert model.compute_output_shape((1, 32, 32, 1)) == (1, 1, 1, 16)
    assert residual.feature_shape((256, 256)) == (113, 113)  # nothing is enlarged to the paper's 512


@pytest.mark.parametrize("pixel", [(40, 40), (41, 40), (55, 62), (31, 64)])
def test_impulse_proves_receptive_field_and_stride(model, pixel):
    """Changing one pixel changes exactly the features whose 32×32 square, every 2 pixels, holds it."""
    size = 96
    extract = factory.extractor(model)
    rng = np.random.default_rng(0)
    # A different impulse for each try: max pooling may hide a single one behind a larger neighbour.
    changed = np.zeros(residual.feature_shape((size, size)), bool)
    for strength in (-8.0, 8.0, 3.0):
        image = rng.uniform(-1, 1, (size, size)).astype(np.float32)
        before = extract(image)
        image[pixel] += strength
        changed |= (extract(image) != before).any(axis=-1)

    first = np.arange(len(changed)) * residual.STRIDE
    rows, columns = ((first <= p) & (p < first + residual.RECEPTIVE_FIELD) for p in pixel)
    np.testing.assert_array_equal(changed, np.outer(rows, columns))


def test_whole_image_equals_patch_by_patch(model):
    image = np.random.default_rng(2).uniform(-1, 1, (40, 46)).astype(np.float32)
    extract = factory.extractor(model)
    whole = extract(image)
    for row, column in [(0, 0), (2, 5), (4, 7)]:
        top, left = row * residual.STRIDE, column * residual.STRIDE
        patch = image[top : top + residual.RECEPTIVE_FIELD, left : left + residual.RECEPTIVE_FIELD]
        np.testing.assert_allclose(extract(patch)[0, 0], whole[row, column], rtol=1e-4, atol=1e-5)


def test_elu_after_the_pool_gives_the_papers_numbers(model):
    """The paper's stem is a convolution with ELU, then the pool: bit for bit the same features."""
    given = keras.models.clone_model(
        model,
        clone_function=lambda layer: layer.__class__.from_config(
            layer.get_config()
            | {"stem": {"activation": "elu"}, "stem_elu": {"activation": "linear"}}.get(layer.name, {})
        ),
    )
    given.set_weights(model.get_weights())
    image = np.random.default_rng(3).uniform(-1, 1, (77, 90)).astype(np.float32)
    features = factory.extractor(model)(image)
    np.testing.assert_array_equal(features, factory.extractor(given)(image))


def test_one_trace_for_all_sizes(model):
    extract = factory.extractor(model)
    for size in (32, 40, 64, 51, 40, 64):
        extract(np.zeros((size, size + 3), np.float32))
    assert extract.trace_count() == 1


def test_seed_decides_the_weights():
    first, same, other = (residual.build(4, seed=seed).get_weights() for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_layers_of_a_network_differ_from_each_other():
    model = residual.build(4, seed=0)
    windows = [model.get_layer(f"block{block}_window").get_weights()[0] for block in (1, 2, 3)]
    assert not np.array_equal(windows[0], windows[1])
    assert not np.array_equal(windows[1], windows[2])


def test_has_no_normalisation_and_no_padding(model):
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    assert all(layer.padding == "valid" for layer in model.layers if isinstance(layer, keras.layers.Conv2D))


def test_too_small_an_image_is_refused(model):
    with pytest.raises(ValueError, match="at least 32×32 pixels, received \\(31, 40\\)"):
        factory.extractor(model)(np.zeros((31, 40), np.float32))


def test_units_must_be_positive():
    with pytest.raises(ValueError, match="units must be at least 1"):
        residual.build(0)
