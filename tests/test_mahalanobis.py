import numpy as np
import pytest
from metricad.prototype import GaussianPrototype

from metricad import kinds, mahalanobis
from metricad.inspection.detector import Features
from metricad.networks import factory as architectures
from metricad.networks import hypercolumn
from metricad.networks import residual as network

SIZES = [(96, 96), (97, 130), (143, 99), (256, 80)]


@pytest.fixture(params=[network.build, hypercolumn.build, hypercolumn.build_three_scales])
def model(request):
    return request.param(4, seed=0)


@pytest.fixture
def features(model):
    return Features(model)


@pytest.fixture
def images(rng):
    return [rng.uniform(-1, 1, size).astype(np.float32) for size in SIZES]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def fitted(model, features, images):
    suited = kinds.prototype_of("gaussian", architectures.grid(model))
    return suited.fit(features(image) for image in images)


def test_distances_are_the_prototypes_at_every_size(model, features, images):
    prototype = fitted(model, features, images[:3])
    for image in images:
        expected = prototype.distance(features(image))
        np.testing.assert_allclose(features.distance(image, prototype), expected, rtol=5e-6)


def test_one_trace_serves_every_prototype_and_size(model, features, images):
    distance = mahalanobis.compiled(model)
    for count in (1, 2, 3):
        prototype, image = fitted(model, features, images[:count]), images[count]
        found = prototype.levelled(distance(image, *prototype.affine))
        np.testing.assert_allclose(found, prototype.distance(features(image)), rtol=5e-6)
    assert distance.trace_count() == 1


def test_what_never_varies_is_at_no_distance(model, features):
    even = np.full((96, 96), 0.3, np.float32)
    prototype = fitted(model, features, [even, even])
    inside = features.distance(even, prototype)[2:-2, 2:-2]
    assert np.median(inside) < 1
    changed = even.copy()
    changed[40:56, 40:56] = -0.3
    assert features.distance(changed, prototype).max() > 1e3


def test_a_prototype_of_other_scales_is_taken_as_it_is(features, images):
    prototype = GaussianPrototype(shrinkage=0.5).fit(features(image) for image in images)
    expected = prototype.distance(features(images[1]))
    np.testing.assert_allclose(features.distance(images[1], prototype), expected, rtol=5e-6)


def test_a_small_image_is_refused(model, features, images):
    prototype = fitted(model, features, images)
    with pytest.raises(ValueError, match="expected an image of at least"):
        features.distance(np.zeros((20, 200), np.float32), prototype)
