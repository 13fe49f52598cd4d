"""What an exported inspector says of itself comes back as it was, or is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from metricad.deploy import InputType, metadata
from metricad.deploy.metadata import Description
from metricad.errors import BundleError
from metricad.networks.feature_grid import FeatureGrid
from metricad.preprocessing.regions import MaskRegion
from metricad.scoring.calibration import Calibration
from metricad.scoring.score_names import SCORES

sides = st.integers(1, 3000)
spans = st.tuples(sides, sides).map(sorted).map(tuple)
finite = st.floats(0, 1e6, allow_subnormal=True)
masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)).filter(np.any)
grids = st.builds(
    FeatureGrid,
    first=st.floats(0, 40),
    stride=st.integers(1, 16),
    smallest=sides,
    tile_step=st.integers(1, 64),
    reach=st.integers(0, 200),
)
descriptions = st.builds(
    Description,
    calibration=st.builds(
        Calibration,
        st.lists(finite, min_size=20, max_size=30).map(sorted).map(np.array),
        st.floats(0.05, 0.95),
    ),
    grid=grids,
    score=st.sampled_from(list(SCORES)),
    center=st.floats(-10, 10),
    spread=st.floats(0.1, 10),
    sources=st.lists(st.text(max_size=9), max_size=4).map(tuple),
    channels=st.sampled_from([1, 3]),
    input_type=st.sampled_from(list(InputType)),
    sizes=st.none() | st.tuples(spans, spans),
    mask=st.none() | masks.map(MaskRegion),
    facts=st.dictionaries(st.sampled_from(["bundle", "fitted_on", "versions"]), st.text() | st.integers()),
)


@given(descriptions)
def test_a_description_comes_back_to_the_last_bit(made):
    again = metadata.read(made.to_text(), "a.onnx")
    np.testing.assert_array_equal(again.calibration.scores, made.calibration.scores)
    assert again.calibration.false_alarm_rate == made.calibration.false_alarm_rate
    assert again.calibration.threshold == made.calibration.threshold
    assert again.grid == made.grid
    for name in ("score", "center", "spread", "sources", "channels"):
        assert getattr(again, name) == getattr(made, name)
    assert again.input_type == made.input_type
    assert again.sizes == made.sizes
    assert again.facts == made.facts
    assert (again.mask is None) == (made.mask is None)
    if made.mask is not None:
        assert again.mask.mask.dtype == bool
        np.testing.assert_array_equal(again.mask.mask, made.mask.mask)


@given(descriptions)
def test_the_text_is_one_line_of_plain_characters(made):
    """Each format keeps it in a place of its own, some of them between quotes."""
    text = made.to_text()
    assert text.isascii()
    assert text.isprintable()


@given(descriptions)
def test_the_smallest_image_is_within_the_sizes(made):
    if made.sizes is None:
        assert made.smallest == (made.grid.smallest, made.grid.smallest)
    else:
        assert all(side == least for side, (least, _) in zip(made.smallest, made.sizes, strict=True))


# Damage.


@pytest.fixture(scope="module")
def text():
    mask = np.zeros((40, 60), bool)
    mask[3:9, 5:50] = True
    calibration = Calibration(np.linspace(1, 2, 20), 0.1)
    grid = FeatureGrid(first=15.5, stride=2, smallest=32)
    sizes = ((40, 40), (60, 60))
    return Description(calibration, grid, sizes=sizes, mask=MaskRegion(mask), facts={"σ": 1}).to_text()


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_file_without_a_description_is_not_ours(nothing):
    with pytest.raises(BundleError, match=r"^a\.onnx: not written by 'metricad export'"):
        metadata.read(nothing, "a.onnx")


def test_a_truncated_description_is_refused_at_every_length(text):
    for length in range(1, len(text)):
        with pytest.raises(BundleError, match=r"^a\.onnx: a damaged description .*; export it again$"):
            metadata.read(text[:length], "a.onnx")


def test_a_description_that_lacks_something_is_refused(text):
    whole = json.loads(text)
    for name in whole.keys() - {"σ", "format"}:
        lacking = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(BundleError, match=f"a damaged description .*{name}"):
            metadata.read(json.dumps(lacking), "a.onnx")


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 1.5},
        {"calibration_scores": []},
        {"calibration_scores": "many"},
        {"false_alarm_rate": 0.5},
        {"false_alarm_rate": None},
        {"grid": {"first": 1}},
        {"grid": 3},
        {"score": "median"},
        {"input_type": "float16"},
        {"sizes": 40},
        {"mask": {"shape": [40, 60], "bits": "not in base 64"}},
        {"mask": {"shape": [40, 60], "bits": "bm90IHBhY2tlZA=="}},
        {"mask": {"shape": [40], "bits": ""}},
        {"mask": [40, 60]},
        {"mask": {"shape": [2**30, 2**30], "bits": ""}},
        {"channels": 2},
        {"spread": 0},
        {"spread": float("nan")},
        {"center": [1]},
        {"sources": [1]},
        {"precision": "float16"},
        {"sizes": [[40, 40], [60, 50]]},
        {"false_alarm_rate": [0.1]},
    ],
    ids=str,
)
def test_a_description_that_contradicts_itself_is_refused(text, changes):
    with pytest.raises(BundleError, match=r"^a\.onnx: a damaged description .*; export it again$"):
        metadata.read(json.dumps(json.loads(text) | changes), "a.onnx")


def test_a_mask_of_fewer_bits_than_pixels_is_refused(text):
    found = json.loads(text)
    found["mask"]["shape"] = [400, 60]
    with pytest.raises(BundleError, match="a damaged description"):
        metadata.read(json.dumps(found), "a.onnx")


@pytest.mark.parametrize("other", ["[]", "3", '"text"', "{}", "null"])
def test_another_text_is_refused(other):
    with pytest.raises(BundleError, match=r"^a\.onnx: a damaged description"):
        metadata.read(other, "a.onnx")


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (2, "expected 1; a newer metricad wrote it: upgrade this one"),
        (0, "expected 1; export it again"),
        (None, "expected 1; export it again"),
    ],
)
def test_an_unknown_version_is_refused_with_what_to_do(text, version, advice):
    with pytest.raises(BundleError, match=f"^a.onnx: export format {version}, {advice}$"):
        metadata.read(json.dumps(json.loads(text) | {"format_version": version}), "a.onnx")
