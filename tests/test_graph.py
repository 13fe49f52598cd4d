"""The graph that is exported says what the library says: of every kind of part, at every size."""

import functools
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_outputs, make_part, surface
from metricad.positional import PositionalPrototype
from metricad.prototype import GaussianPrototype, MeanPrototype

from metricad import kinds
from metricad.deploy import graph
from metricad.errors import DataError
from metricad.inspection import bundle
from metricad.inspection.detector import Features
from metricad.networks import factory as architectures
from metricad.networks import hypercolumn
from metricad.networks import residual as network
from metricad.preprocessing.intensity import Tone
from metricad.preprocessing.regions import ForegroundRegion, MaskRegion
from metricad.scoring import maps

SHAPES = [
    (69, 69), (71, 73), (73, 71), (75, 75), (77, 113), (79, 399), (81, 83), (85, 87), (89, 69), (93, 101),
    (97, 95), (99, 105), (117, 71), (123, 131), (135, 137), (139, 133), (143, 69), (201, 77), (267, 89),
    (393, 73),
]  # fmt: skip
"""Twenty odd sizes, some of them very narrow, that every network takes."""

paper = functools.cache(lambda: network.build(4, seed=1))
columns = functools.cache(lambda: hypercolumn.build(2, seed=1))
three_scales = functools.cache(lambda: hypercolumn.build_three_scales(2, seed=1))


features = functools.cache(lambda network: Features(network()))
"""One for all parts of a network: it takes a while to trace."""


def part(network, prototype, shape=(96, 96), **options):
    """Fit an inspector in no time."""
    return make_part(network(), prototype, shape, features=features(network), **options)


def gaussian(network):
    """The kind that goes with a network: with its scales, and its border."""
    return kinds.prototype_of("gaussian", architectures.grid(network()))


PARTS = {
    "mean": lambda: part(paper, MeanPrototype()),
    "mean, Manhattan": lambda: part(paper, MeanPrototype(metric="manhattan")),
    "Gaussian": lambda: part(paper, GaussianPrototype()),
    "Gaussian, border": lambda: part(paper, GaussianPrototype(border=5)),
    "Gaussian, parts": lambda: part(paper, GaussianPrototype(scales=(1.0, 0.5), border=2)),
    "Gaussian, hypercolumn": lambda: part(columns, gaussian(columns)),
    "Gaussian, three scales": lambda: part(three_scales, gaussian(three_scales)),
    "Gaussian, three scales in one": lambda: part(three_scales, GaussianPrototype(border=3)),
    "head": lambda: part(paper, GaussianPrototype(scales=(1.0, 0.5), border=2), head=True),
    "auto": lambda: part(columns, kinds.prototype_of("auto", hypercolumn.GRID)),
    "linear": lambda: part(paper, MeanPrototype(), tone=Tone("linear")),
    "logarithmic": lambda: part(paper, MeanPrototype(), tone=Tone("logarithmic")),
    "top-0.1%": lambda: part(paper, MeanPrototype(), reduction="top-0.1%"),
    "top-1%": lambda: part(paper, MeanPrototype(), reduction="top-1%"),
    "top-10%": lambda: part(paper, MeanPrototype(), reduction="top-10%"),
}


def pixels(*images, input_type="float32"):
    """Gray levels (N, H, W), as a camera gives them."""
    return ((np.stack(images) + 1) * 127.5).round().astype(input_type)


def first(found):
    """The first image's outputs."""
    return {name: value.numpy()[0] for name, value in found.items()}


@pytest.mark.parametrize("name", PARTS)
def test_the_graph_says_what_the_library_says_at_twenty_odd_sizes(name):
    inspector = PARTS[name]()
    module = graph.build(inspector)
    assert graph.sizes(inspector.detector) is None
    rng = np.random.default_rng(0)
    verdicts = []
    for number, shape in enumerate(SHAPES):
        image = surface(rng, shape, scratch=number % 2 > 0)
        found = first(module.inspect(pixels(image)))
        assert_outputs(found, inspector, image)
        verdicts.append(bool(found["is_defect"]))
    assert set(verdicts) == {False, True}


REGISTERED = {
    "paper": lambda shape: part(paper, PositionalPrototype(), shape),
    "paper, whole tiles": lambda shape: part(paper, PositionalPrototype(), (63, 77)),
    "paper, parts": lambda shape: part(paper, PositionalPrototype(scales=(1.0, 0.5)), shape),
    "hypercolumn": lambda shape: part(columns, PositionalPrototype(), shape),
    "three scales": lambda shape: part(three_scales, PositionalPrototype(scales=(1, 1, 0.5)), shape),
    "head": lambda shape: part(paper, PositionalPrototype(), shape, head=True),
}
"""Parts that are always seen in register."""


@pytest.mark.parametrize("name", REGISTERED)
def test_the_graph_says_the_same_of_parts_in_register(name):
    inspector = REGISTERED[name]((75, 101))
    module = graph.build(inspector)
    (least, most), (narrow, wide) = graph.sizes(inspector.detector)
    rng = np.random.default_rng(0)
    for shape in [(least, narrow), (most, wide), (least, wide), (most, narrow)]:
        image = surface(rng, shape, scratch=True)
        assert_outputs(first(module.inspect(pixels(image))), inspector, image)


@pytest.mark.parametrize("name", ["paper", "hypercolumn"])
def test_the_sizes_of_a_part_in_register_are_those_with_its_number_of_features(name):
    detector = REGISTERED[name]((75, 101)).detector
    allowed = graph.sizes(detector)
    for axis, (least, most) in enumerate(allowed):
        assert least <= (75, 101)[axis] <= most
        suited = []
        for side in range(max(least - 5, detector.grid.smallest), most + 6):
            shape = [75, 101]
            shape[axis] = side
            if detector.features(np.zeros(shape, np.float32)).shape == detector.prototype.mean.shape:
                suited.append(side)
        assert suited == list(range(least, most + 1))


def test_the_smallest_part_in_register_has_a_size_too():
    smallest = hypercolumn.GRID.smallest
    detector = part(columns, PositionalPrototype(), (smallest, smallest)).detector
    (least, most), _ = graph.sizes(detector)
    assert least == smallest < most


@pytest.fixture(scope="module")
def mask():
    """Odd of size and of shape."""
    mask = np.zeros((75, 101), bool)
    mask[9:50, 30:77] = True
    mask[20:33, 40:51] = False
    return MaskRegion(mask)


@pytest.mark.parametrize("prototype", [MeanPrototype, PositionalPrototype])
def test_outside_a_mask_nothing_is_seen(mask, prototype):
    inspector = part(paper, prototype(), (75, 101), region=mask, reduction="top-10%")
    assert graph.sizes(inspector.detector) == ((75, 75), (101, 101))
    module = graph.build(inspector)
    rng = np.random.default_rng(0)
    for _ in range(4):
        image = surface(rng, (75, 101), scratch=True)
        found = first(module.inspect(pixels(image)))
        assert_outputs(found, inspector, image)
        assert not found["anomaly_map"][~mask.mask].any()


@pytest.mark.parametrize("name", ["Gaussian, border", "head", "paper", "mask"])
def test_a_batch_of_three_is_each_of_them_alone(name, mask):
    if name == "mask":
        inspector = part(columns, gaussian(columns), (75, 101), region=mask)
    else:
        inspector = PARTS[name]() if name in PARTS else REGISTERED[name]((75, 101))
    rng = np.random.default_rng(0)
    images = [surface(rng, (75, 101), scratch=scratch) for scratch in (True, False, True)]
    found = graph.build(inspector).inspect(pixels(*images))
    for number, image in enumerate(images):
        assert_outputs({name: value[number].numpy() for name, value in found.items()}, inspector, image)


def test_whole_gray_levels_are_taken_as_such():
    inspector = PARTS["logarithmic"]()
    module = graph.build(inspector, input_type="uint8")
    image = surface(np.random.default_rng(0), (75, 101), scratch=True)
    assert_outputs(first(module.inspect(pixels(image, input_type="uint8"))), inspector, image)


def test_fractions_of_gray_levels_count():
    inspector = PARTS["mean"]()
    image = surface(np.random.default_rng(0), (75, 101)) * np.float32(0.4321)
    levels = (image[np.newaxis] + 1) * np.float32(127.5)
    module = graph.build(inspector)
    assert_outputs(first(module.inspect(levels)), inspector, image)
    assert module.inspect(levels.round())["score"].numpy()[0] != pytest.approx(
        inspector.inspect(image)[0].score
    )


def test_a_part_from_its_bundle_gives_the_same_graph(tmp_path):
    inspector = PARTS["head"]()
    bundle.save(inspector, tmp_path / "a.metricad")
    image = surface(np.random.default_rng(0), (75, 101), scratch=True)
    found = graph.build(bundle.load(tmp_path / "a.metricad")).inspect(pixels(image))
    assert_outputs(first(found), inspector, image)


def test_inputs_and_outputs_have_the_names_types_and_axes_that_are_promised():
    found = graph.build(PARTS["mean"]()).inspect(tf.zeros((2, 75, 101)))
    assert {name: (value.dtype.name, tuple(value.shape)) for name, value in found.items()} == {
        "score": ("float32", (2,)),
        "is_defect": ("bool", (2,)),
        "peak": ("int32", (2, 2)),
        "distance_map": ("float32", (2, 22, 35)),
        "anomaly_map": ("float32", (2, 75, 101)),
    }
    assert set(found) == set(graph.OUTPUTS)


@pytest.mark.parametrize("reduction", maps.REDUCTIONS)
def test_the_score_is_of_as_many_features_as_the_library_takes(reduction):
    """Of the numbers from 0 the mean of the farthest tells how many they were."""
    score = tf.function(
        lambda distances: graph._score(distances, reduction),
        input_signature=[tf.TensorSpec((1, 1, None), tf.float32)],
    )
    among = maps.REDUCTIONS[reduction] or 10
    halves = [among // 2 * number + step for number in range(1, 42) for step in (-1, 0, 1)]
    for size in [*range(1, 40), *halves]:
        found = float(score(np.arange(size, dtype=np.float32).reshape(1, 1, -1))[0])
        expected = maps.farthest_count(size, reduction)
        assert size - 1 - Fraction(expected - 1, 2) == pytest.approx(found, rel=1e-5), size


def test_a_region_that_is_found_anew_is_refused():
    inspector = part(paper, MeanPrototype(), region=ForegroundRegion())
    with pytest.raises(
        DataError, match=r"kind 'foreground' is found anew .* make the inspector again with --mask"
    ):
        graph.build(inspector)


def test_an_unknown_input_type_is_refused():
    with pytest.raises(ValueError, match="must be one of float32, uint8, received 'float16'"):
        graph.build(PARTS["mean"](), input_type="float16")
