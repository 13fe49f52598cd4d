"""Mean features of the cells of an image, and their Gaussians."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.helpers import COLLECTING

if not COLLECTING:
    import tensorflow as tf

    from metricad.density.cells import SHARE, CellGaussian
    from metricad.density.covariance import shrunk
    from metricad.density.cross_fit import Cells
    from metricad.networks import cells

pytestmark = pytest.mark.tf


def test_cells_are_means_of_equal_parts_of_the_image():
    rng = np.random.default_rng(0)
    fine, coarse = (rng.normal(size=(2, side, 2 * side, 3)).astype(np.float32) for side in (32, 16))
    found = cells.CellMeans()([tf.constant(fine), tf.constant(coarse)]).numpy()
    assert found.shape == (2, cells.SIDE, cells.SIDE, 6)
    for one, own in ((fine, found[..., :3]), (coarse, found[..., 3:])):
        count = one.shape[1] // cells.SIDE
        blocks = one.reshape(2, cells.SIDE, count, cells.SIDE, 2 * count, 3)
        assert_allclose(own, blocks.mean(axis=(2, 4)), atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 5), (8, 9), (11, 30), (13, 100)])
def test_every_feature_counts_by_its_share(shape):
    """Of a map of any size, the mean over cells is the mean over features."""
    found = np.random.default_rng(1).normal(size=(1, *shape, 2)).astype(np.float32)
    means = cells.CellMeans()([tf.constant(found)]).numpy()
    assert_allclose(means.mean(axis=(1, 2)), found.mean(axis=(1, 2)), atol=1e-5)
    same = cells.CellMeans()([tf.ones((1, *shape, 2))]).numpy()
    assert_allclose(same, 1, atol=1e-5)


def test_values_are_interpolated_between_the_centers_of_cells():
    values = np.arange(cells.SIDE**2, dtype=np.float32).reshape(1, cells.SIDE, cells.SIDE)
    found = cells.spread(tf.constant(values), tf.zeros((1, 3 * cells.SIDE, 5 * cells.SIDE))).numpy()
    assert found.shape == (1, 3 * cells.SIDE, 5 * cells.SIDE)
    assert_allclose(found[:, 1::3, 2::5], values, atol=1e-4)  # at the centers
    assert_allclose(found[0, 1, 2:8], values[0, 0, 0] + np.arange(6) / 5, atol=1e-4)
    assert (found.min(), found.max()) == (values.min(), values.max())
    alone = cells.spread(tf.constant(values), tf.zeros((1, 1, 1))).numpy()
    assert_allclose(alone, values[:, 3:5, 3:5].mean(), atol=1e-4)


def oracle(maps, features):
    """Distances (n, g, g) with NumPy, without whitening: the covariance of all cells is added to each."""
    _, g, _, d = maps.shape
    common = shrunk(np.cov(maps.reshape(-1, d).T.astype(np.float64), bias=True))
    found = np.empty(features.shape[:3])
    for row in range(g):
        for column in range(g):
            own = maps[:, row, column].astype(np.float64)
            covariance = np.cov(own.T) + SHARE * common
            away = features[:, row, column] - own.mean(axis=0)
            found[:, row, column] = np.sqrt(np.einsum("nd,de,ne->n", away, np.linalg.inv(covariance), away))
    return found


def test_distances_are_those_of_a_gaussian_for_each_cell():
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(6, 6))
    maps = (rng.normal(size=(9, 3, 3, 6)) @ mixing + rng.normal(size=(3, 3, 6))).astype(np.float32)
    features = (rng.normal(size=(4, 3, 3, 6)) @ mixing).astype(np.float32)
    layer = CellGaussian(6, 3).fit(maps)
    assert_allclose(layer(tf.constant(features)).numpy(), oracle(maps, features), rtol=1e-4)
    assert not np.tril(layer.projections.numpy(), -1).any()  # zeros take no place in a bundle


@pytest.mark.parametrize("count", [1, 2])
def test_few_images_are_enough(count):
    maps = np.random.default_rng(3).normal(size=(count, 2, 2, 5)).astype(np.float32)
    layer = CellGaussian(5, 2).fit(maps)
    assert_allclose(layer(maps.mean(axis=0, keepdims=True)).numpy(), 0, atol=1e-4)
    found = layer(maps + 1).numpy()
    assert np.isfinite(found).all()
    assert found.min() > 0


def test_constant_images_have_large_but_finite_distances():
    layer = CellGaussian(3, 2).fit(np.ones((4, 2, 2, 3), np.float32))
    assert layer(np.ones((1, 2, 2, 3), np.float32)).numpy().max() == 0
    found = layer(np.full((1, 2, 2, 3), 1.01, np.float32)).numpy()
    assert np.isfinite(found).all()
    assert found.min() > 100


def test_folds_are_left_out():
    rng = np.random.default_rng(4)
    maps, images = rng.normal(size=(6, 2, 2, 3)).astype(np.float32), np.array([7, 0, 3, 2, 9, 5])
    folds = np.arange(10) % 2
    both = Cells(maps, images, folds)
    for fold, density in enumerate(both.by_fold):
        rest = CellGaussian(3, 2).fit(maps[folds[images] != fold])
        assert_allclose(density(maps).numpy(), rest(maps).numpy(), rtol=1e-5)
    rest = CellGaussian(3, 2).fit(maps[[0, 1, 3, 4]])
    assert_allclose(both.without([3, 5])(maps).numpy(), rest(maps).numpy(), rtol=1e-5)
    one = Cells(maps[:1], images[:1], np.zeros(10, int))
    assert one.by_fold == [one.full]
