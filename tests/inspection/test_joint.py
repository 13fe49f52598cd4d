"""Inspectors with ImageNet features, alone and beside the shipped network's."""

import zipfile

import numpy as np
import pytest

from metricad.deploy import exported
from metricad.errors import BundleError, DataError
from tests.helpers import COLLECTING, make_part, needs_weights, once, surface

if not COLLECTING:
    from metricad.deploy import export
    from metricad.inspection import bundle, fit_detector
    from metricad.inspection.detector import PartDetector
    from metricad.inspection.model import CELLS_SIDE
    from metricad.networks import efficientnet, pretrained
    from metricad.networks.resampling import Resize
    from metricad.scoring.standardize import Fuse, fused

pytestmark = pytest.mark.tf

SIDE = 96
KINDS = ("network", "network", "imagenet", "imagenet", "cells", "lines")


@pytest.fixture(params=[("joint", True), ("imagenet", False)], ids=["joint", "imagenet"])
def made(request, shared):
    """An inspector of few components, and its file."""
    name, color = request.param

    def make(path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit_detector, "FINE", (2,))
            patch.setattr(fit_detector, "COARSE", (2,))
            bundle.save(make_part(pretrained.load(name), "mixture", color=color), path)

    path = once(shared / f"{name}.metricad", make)
    return bundle.load(path), path, color


@needs_weights
def test_features_lie_where_their_places_say(made):
    detector, color = made[0].detector, made[2]
    found = detector.feature_maps(surface(np.random.default_rng(0), (SIDE, SIDE), color=color))
    for source, features in zip(detector.features.sources, found, strict=True):
        assert features.shape[-1] == source.dimensions
        if source.kind == "imagenet":
            assert features.shape[:2] == (SIDE // source.place[1],) * 2
    kinds = [source.kind for source in detector.features.sources]
    assert detector.standardize.uniform == (kinds.index("cells"),)
    own = [source for source in detector.features.sources if source.kind == "imagenet"]
    assert [(source.place, source.dimensions) for source in own] == [((7.0, 8), 48), ((15.0, 16), 120)]


@needs_weights
def test_large_images_are_shrunk_for_them():
    images = [np.zeros((side, side), np.float32) for side in (511, 512, 699, 700, 1400)]
    found = [
        fit_detector.Look.at(PartDetector(pretrained.load("imagenet")), [one]).settings() for one in images
    ]
    assert [one["shrink"] for one in found] == [1, 2, 2, 1, 2]
    assert [one["is_halved"] for one in found] == [False, False, False, True, True]


@needs_weights
@pytest.mark.parametrize("name", ["imagenet", "joint"])
def test_images_of_several_sizes_have_cells_of_one_size(name):
    rng = np.random.default_rng(2)
    good = [surface(rng, shape) for shape in ((96, 96), (96, 128), (96, 96))]
    detector = PartDetector(pretrained.load(name))
    look = fit_detector.Look.at(detector, good)
    assert look.settings()["resizes_cells"]
    assert not look.settings(without=[1])["resizes_cells"]
    number = [source.kind for source in detector.features.sources].index("cells")
    image = good[1]
    as_it_is = detector.feature_maps(image)
    detector.prepare(resizes_cells=True)
    found = detector.feature_maps(image)
    one_size = Resize(CELLS_SIDE)(image[np.newaxis, ..., np.newaxis]).numpy()[0, ..., 0]
    detector.prepare(resizes_cells=False)
    expected = detector.feature_maps(one_size)[number]
    np.testing.assert_allclose(found[number], expected, atol=1e-3 * np.abs(expected).max())
    for k, one in enumerate(as_it_is):
        if k != number:
            np.testing.assert_allclose(found[k], one, atol=1e-5)


@needs_weights
def test_a_bundle_holds_all_but_the_imagenet_weights(made, monkeypatch):
    inspector, path, color = made
    image = surface(np.random.default_rng(3), (SIDE, SIDE), color=color, scratch=True)
    again = bundle.load(path)
    assert again.inspect(image)[0].score == inspector.inspect(image)[0].score
    own = pretrained.load("accurate").get_weights()
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.startswith("network/")]
    assert len(names) == (len(own) if color else 0)

    def missing():
        raise DataError("not installed; pip install 'metricad[imagenet]'")

    monkeypatch.setattr(efficientnet, "_content", missing)
    efficientnet.load.cache_clear()
    with pytest.raises(BundleError, match="imagenet"):
        bundle.load(path)
    efficientnet.load.cache_clear()


@needs_weights
@pytest.mark.export
@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "format"),
    [
        (("joint", True), "litert"),
        (("joint", True), "openvino"),
        (("imagenet", False), "onnx"),
    ],
    indirect=["made"],
)
def test_exports_say_the_same(made, format, tmp_path):
    """Those formats that do without TensorFlow; scripts/export_parity.py has them all."""
    inspector, _, color = made
    path = tmp_path / f"part{export.FORMATS[format][0]}"
    export.export(inspector, path, format=format)
    other = exported.load(path)
    rng = np.random.default_rng(9)
    for shape, scratch in (((SIDE, SIDE), True), ((77, 131), False)):
        image = surface(rng, shape, color=color, scratch=scratch)
        one, found = inspector.inspect(image)[0], other.inspect(image)[0]
        least = max(abs(one.score), export.SMALLEST_SCORE)
        assert abs(one.score - found.score) <= export.TOLERANCE["float32"] * least
        assert (one.verdict, one.source) == (found.verdict, found.source)


@needs_weights
def test_a_peak_lies_in_the_image(made):
    detector, color = made[0].detector, made[2]
    distances = np.full((20, 20, len(detector.features.sources)), 1.0, np.float32)
    distances[-1, -1] = 100
    image = surface(np.random.default_rng(1), (77, 77), color=color)
    detector.distances = lambda _: distances
    try:
        assert max(detector.judge(image).peak) <= 76
    finally:
        del detector.distances


# Fusion.


def layer(rng):
    made = Fuse(KINDS)
    made.gain.assign(rng.uniform(0.2, 1, len(KINDS)))
    made.offset.assign(rng.uniform(-1, 1, len(KINDS)))
    return made


def test_imagenet_features_and_cells_are_averaged_with_the_largest_of_all_others():
    rng = np.random.default_rng(0)
    one, scores = layer(rng), rng.normal(size=(1, 5, 6, len(KINDS))).astype(np.float32)
    reached = scores * one.gain.numpy() - one.offset.numpy()
    network, lines = reached[..., :2].sum(axis=-1), reached[..., 5]
    expected = (np.maximum(network, lines) + reached[..., 2:4].sum(axis=-1) + reached[..., 4]) / 3
    np.testing.assert_allclose(one(scores).numpy().sum(axis=-1), expected, atol=1e-5)
    maps = {kind: each.numpy() for kind, each in one.by_kind(scores).items()}
    np.testing.assert_allclose(fused(maps), expected, atol=1e-5)


@pytest.mark.parametrize(
    "kinds",
    [
        ["imagenet"],
        ["cells"],
        ["network"],
        ["lines"],
        ["network", "lines"],
        ["imagenet", "lines"],
        ["imagenet", "cells"],
        ["network", "cells", "lines"],
        KINDS,
    ],
)
def test_of_some_kinds_only_these_count(kinds):
    rng = np.random.default_rng(1)
    one, scores = layer(rng), rng.normal(size=(1, 5, 6, len(KINDS))).astype(np.float32)
    maps = {kind: each.numpy() for kind, each in one.by_kind(scores).items() if kind in kinds}
    found = one.only(kinds)(scores).numpy().sum(axis=-1)
    np.testing.assert_allclose(found, fused(maps), atol=1e-5)
