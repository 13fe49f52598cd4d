"""Moments merged against NumPy on everything at once, shrinkage against SciPy's densities."""

import numpy as np
import pytest
from metricad.covariance import SHARE_OF_IDENTITY, Moments, cross_validated, merged, shrunk
from scipy.stats import multivariate_normal


def vectors(count, seed=0, *, scales=2, dimensions=3):
    """Vectors (count, scales, d), correlated, each scale in its own way."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(scales, dimensions, dimensions))
    return 5 + np.einsum("nsd,sde->nse", rng.normal(size=(count, scales, dimensions)), mixing)


def moments_of(*several):
    moments = Moments()
    for one in several:
        moments.add(one)
    return moments


def test_moments_of_parts_are_those_of_all():
    parts = np.split(vectors(50), [3, 3, 20])
    found = merged([moments_of(*parts[:2]), Moments(), moments_of(*parts[2:])])
    assert found.count == 50
    np.testing.assert_allclose(found.mean, vectors(50).mean(axis=0))
    for scale, covariance in enumerate(found.covariance):
        np.testing.assert_allclose(covariance, np.cov(vectors(50)[:, scale].T, bias=True))
        about = vectors(50)[:, scale] - 1
        np.testing.assert_allclose(found.about(np.ones((2, 3)))[scale], about.T @ about)


def test_nothing_merged_is_nothing():
    assert merged([Moments(), Moments()]).count == 0
    assert merged([]).count == 0


def test_each_covariance_is_shrunk_by_its_own_share():
    both = moments_of(vectors(9)).covariance
    found = shrunk(both, np.array([0.1, 0.5]))
    for scale, share in enumerate((0.1, 0.5)):
        np.testing.assert_array_equal(found[scale], shrunk(both[scale], share))
        assert np.trace(found[scale]) == pytest.approx(np.trace(both[scale]))


@pytest.mark.parametrize("count", [3, 5, 8, 200])
@pytest.mark.parametrize("seed", range(4))
def test_the_shrinkage_is_that_under_which_each_fold_is_likeliest(count, seed):
    folds = [vectors(count * 4, seed, dimensions=6)[start::4] for start in range(4)]
    candidates = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1)
    expected = []
    for scale in range(2):
        likelihoods = []
        for share in candidates:
            total = 0
            for number, fold in enumerate(folds):
                others = np.concatenate(folds[:number] + folds[number + 1 :])[:, scale]
                covariance = shrunk(np.cov(others.T, bias=True), share)
                total += multivariate_normal(others.mean(axis=0), covariance).logpdf(fold[:, scale]).sum()
            likelihoods.append(total)
        expected.append(candidates[np.argmax(likelihoods)])
    found = cross_validated([moments_of(fold) for fold in folds])
    np.testing.assert_array_equal(found, expected)


def test_one_fold_says_nothing_of_shrinkage():
    found = cross_validated([Moments(), moments_of(vectors(7)), Moments()])
    np.testing.assert_array_equal(found, [SHARE_OF_IDENTITY] * 2)


def test_vectors_that_never_vary_are_shrunk_no_farther():
    found = cross_validated([moments_of(np.ones((4, 2, 3))) for _ in range(4)])
    assert np.isfinite(found).all()
    assert (found >= SHARE_OF_IDENTITY).all()
