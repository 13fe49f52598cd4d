"""The model that is exported says what the library says: of every kind of part, at every size."""

import functools

import numpy as np
import pytest

from metricad.preprocessing.regions import MaskRegion
from tests.helpers import COLLECTING, assert_outputs, make_part, surface

if not COLLECTING:
    from metricad.deploy import graph
    from metricad.networks import hypercolumn, residual

pytestmark = pytest.mark.tf

SHAPES = [(69, 69), (71, 93), (97, 130), (143, 70)]


@functools.cache
def columns():
    return hypercolumn.build(2, seed=1)


MASK = np.zeros((96, 101), bool)
MASK[9:70, 30:77] = True
MASK[40:53, 40:51] = False

PARTS = {
    "mean": lambda: make_part(residual.build(4, seed=1), "mean"),
    "positional-mean": lambda: make_part(residual.build(4, seed=1), "positional-mean", (96, 101)),
    "manhattan": lambda: make_part(residual.build(4, seed=1), "mean", metric="manhattan"),
    "gaussian": lambda: make_part(columns(), "gaussian"),
    "color": lambda: make_part(columns(), "gaussian", color=True),
    "top-0.1%": lambda: make_part(columns(), "gaussian", score="top-0.1%"),
    "maximum": lambda: make_part(columns(), "gaussian", score="max"),
    "positional": lambda: make_part(columns(), "positional", (96, 101)),
    "mask": lambda: make_part(columns(), "gaussian", MASK.shape, region=MaskRegion(MASK), score="top-10%"),
}


@functools.cache
def part(name):
    return PARTS[name]()


def levels(*images, input_type="float32"):
    """Levels (N, H, W) or (N, H, W, 3), as a camera gives them."""
    return ((np.stack(images) + 1) * 127.5).round().astype(input_type)


def outputs(found):
    """The outputs of each image."""
    arrays = {name: value.numpy() for name, value in found.items()}
    return [{name: value[k] for name, value in arrays.items()} for k in range(len(arrays["score"]))]


@pytest.mark.parametrize("name", PARTS)
def test_the_model_says_what_the_library_says(name):
    inspector = part(name)
    model = graph.build(inspector)
    size = graph.sizes(inspector.detector)
    shapes = SHAPES if size is None else [MASK.shape] * 2
    rng = np.random.default_rng(0)
    for number, shape in enumerate(shapes):
        image = surface(rng, shape, scratch=number % 2 > 0, color=inspector.detector.channels == 3)
        (found,) = outputs(model(levels(image)))
        assert_outputs(found, inspector, image)
        if name == "mask":
            assert (found["anomaly_map"][~MASK] == found["distance_map"].min()).all()


@pytest.mark.parametrize("name", ["mean", "color", "mask", "positional"])
def test_a_batch_of_three_is_each_of_them_alone(name):
    inspector = part(name)
    rng = np.random.default_rng(0)
    images = [
        surface(rng, MASK.shape, scratch=scratch, color=inspector.detector.channels == 3)
        for scratch in (True, False, True)
    ]
    for found, image in zip(outputs(graph.build(inspector)(levels(*images))), images, strict=True):
        assert_outputs(found, inspector, image)


@pytest.mark.parametrize("name", ["gaussian", "color"])
def test_whole_levels_are_taken_as_such(name):
    inspector = part(name)
    image = surface(np.random.default_rng(0), (75, 101), scratch=True, color=name == "color")
    model = graph.build(inspector, input_type="uint8")
    (found,) = outputs(model(levels(image, input_type="uint8")))
    assert_outputs(found, inspector, image)


def test_fractions_of_levels_count():
    inspector = part("mean")
    image = surface(np.random.default_rng(0), (75, 101)) * np.float32(0.4321)
    fractions = (image[np.newaxis] + 1) * np.float32(127.5)
    model = graph.build(inspector)
    (found,) = outputs(model(fractions))
    assert_outputs(found, inspector, image)
    assert model(fractions.round())["score"].numpy()[0] != found["score"]


def test_outputs_have_the_names_types_and_axes_that_are_promised():
    found = graph.build(part("mean"))(np.zeros((2, 75, 101), np.float32))
    assert {name: (value.dtype.name, tuple(value.shape)) for name, value in found.items()} == {
        "score": ("float32", (2,)),
        "is_defect": ("bool", (2,)),
        "peak": ("int32", (2, 2)),
        "source": ("int32", (2,)),
        "distance_map": ("float32", (2, 22, 35)),
        "anomaly_map": ("float32", (2, 75, 101)),
    }
    assert set(found) == set(graph.OUTPUTS)


def test_the_size_is_fixed_by_a_mask_and_by_positions_alone():
    assert graph.sizes(part("gaussian").detector) is None
    for name in ("mask", "positional"):
        assert graph.sizes(part(name).detector) == ((96, 96), (101, 101))


def test_an_unknown_input_type_is_refused():
    with pytest.raises(ValueError, match=r"must be one of float32, uint8, received 'float16'"):
        graph.build(part("mean"), input_type="float16")
