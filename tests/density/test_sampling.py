"""The sample of feature vectors: bounded, uniform, seeded, with the numbers of images."""

import numpy as np
import pytest

from metricad.density import sampling
from metricad.density.sampling import VectorSample


@pytest.fixture
def size(monkeypatch):
    """A small sample."""
    monkeypatch.setattr(sampling, "SIZE", 300)
    return 300


def numbered(start, shape=(10, 12)):
    """A feature map whose vectors tell their own number, in two ways."""
    numbers = np.arange(start, start + np.prod(shape), dtype=np.float32).reshape(shape)
    return np.stack([numbers, -numbers], axis=-1)


def drawn(count, seed=0, *, shape=(10, 12), inside=None):
    sample = VectorSample(np.random.default_rng(seed))
    for image in range(count):
        sample.update(numbered(image * np.prod(shape), shape), image, inside)
    return sample


def test_few_vectors_are_all_kept(size):
    found = drawn(2)
    np.testing.assert_array_equal(np.sort(found.vectors[:, 0]), np.arange(240))


@pytest.mark.parametrize("count", [3, 10, 40])
def test_never_more_are_kept_than_its_size_and_none_twice(size, count):
    sample = VectorSample(np.random.default_rng(0))
    for image in range(count):
        sample.update(numbered(120 * image), image)
        assert sample._count <= 2 * size + 120
    numbers = sample.vectors[:, 0]
    assert sample.vectors.shape == (size, 2)
    assert sample.vectors.dtype == np.float32
    assert len(np.unique(numbers)) == size
    np.testing.assert_array_equal(sample.vectors[:, 1], -numbers)


def test_each_vector_has_the_number_of_its_image(size):
    found = drawn(20)
    np.testing.assert_array_equal(found.images, found.vectors[:, 0] // 120)


def test_the_sample_is_uniform(size):
    """Over many seeds every vector is drawn equally often, whichever image it comes from."""
    times = np.zeros(1200)
    for seed in range(400):
        times[drawn(10, seed).vectors[:, 0].astype(int)] += 1
    assert times.sum() == 400 * size
    # Each vector is drawn with a chance of 1/4: 100 ± 8.7 times.
    assert abs(times.std() - np.sqrt(400 * 0.25 * 0.75)) < 1
    assert np.abs(times.reshape(10, 120).mean(axis=1) - 100).max() < 4


def test_the_seed_decides_the_sample(size):
    one, same, other = (drawn(10, seed).vectors for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(np.sort(one[:, 0]), np.sort(other[:, 0]))


def test_asking_in_between_changes_nothing(size):
    asked = VectorSample(np.random.default_rng(0))
    for image in range(10):
        asked.update(numbered(120 * image), image)
        assert len(asked.vectors) == len(asked.images) == min(size, 120 * (image + 1))
    np.testing.assert_array_equal(np.sort(asked.vectors[:, 0]), np.sort(drawn(10).vectors[:, 0]))


def test_only_what_is_inside_is_drawn(size):
    inside = np.zeros((10, 12), bool)
    inside[:, 3:5] = True
    numbers = drawn(10, inside=inside).vectors[:, 0]
    assert len(numbers) == 200
    assert set((numbers % 12).astype(int)) == {3, 4}
