"""The smallest defect that matters: smaller ones are let through, in the library and the service."""

import io
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from metricad.data import images
from metricad.errors import BundleError, DataError
from metricad.scoring.calibration import calibrate
from metricad.service.judge import Judge, RequestLimits
from tests import helpers
from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.inspection import bundle, min_defect

pytestmark = pytest.mark.tf


def test_without_it_all_sizes_are_defects(small_defects):
    plain = replace(small_defects[0], detector=small_defects[0].detector.with_opening(None))
    for side in (helpers.SMALL, helpers.LARGE):
        assert plain.inspect(helpers.defective(side))[0].verdict == "defect"


def test_a_smaller_one_is_let_through_and_a_larger_one_is_not(small_defects):
    inspector, _ = small_defects
    small, anomaly = inspector.inspect(helpers.defective(helpers.SMALL))
    assert (small.verdict, small.score) == ("good", pytest.approx(inspector.threshold, rel=1e-6))
    assert anomaly.max() < inspector.map_scale()["threshold"]
    assert inspector.inspect(helpers.defective(helpers.LARGE))[0].verdict == "defect"


def test_good_images_keep_their_scores(small_defects):
    inspector, _ = small_defects
    plain = inspector.detector.with_opening(None)
    for image in helpers.smooth_images(4):
        expected = plain.score(image)
        found = inspector.detector.score(image)
        assert (
            found == expected if expected <= inspector.threshold else inspector.threshold <= found <= expected
        )


def test_the_record_says_what_is_reported(small_defects):
    record = small_defects[0].fitted_on["min_defect"]
    assert record["area"] == helpers.AREA
    shares = list(record["reported"].values())
    assert shares == sorted(shares)
    assert shares[-1] > 0.5
    assert "36 pixels" in min_defect.describe(record)


def test_another_threshold_moves_the_level(small_defects):
    inspector, _ = small_defects
    calibration = calibrate(inspector.calibration.scores + 1, 0.1)
    moved = min_defect.with_calibration(inspector, calibration)
    assert moved.detector.opening.windows == inspector.detector.opening.windows
    assert moved.detector.opening.threshold == moved.threshold
    assert moved.detector.opening.level == pytest.approx(moved.map_scale()["threshold"], rel=0.01)


def test_in_the_service(small_defects):
    judge = Judge({"part": small_defects[0]}, limits=RequestLimits())

    def verdict(side: int) -> str:
        file = io.BytesIO()
        PIL.Image.fromarray(images.to_uint8(helpers.defective(side))).save(file, "PNG")
        return judge.verdict("part", file.getvalue()).verdict

    assert [verdict(helpers.SMALL), verdict(helpers.LARGE)] == ["good", "defect"]


@pytest.mark.parametrize("area", [0, -1, np.nan, np.inf])
def test_no_area(small_defects, area):
    with pytest.raises(ValueError, match="more than 0"):
        min_defect.let_through(small_defects[0], helpers.smooth_images(1), area)


def test_too_large_an_area(small_defects):
    with pytest.raises(DataError):
        min_defect.let_through(small_defects[0], helpers.smooth_images(1), 5000)


def test_a_bundle_that_contradicts_itself(small_defects, tmp_path):
    _inspector, path = small_defects
    layers = bundle.read_manifest(path)["layers"]
    for change in ({"threshold": 0.0}, {"windows": [[0, 1]]}, {"level": None}):
        changed = layers | {"opening": layers["opening"] | change}
        with pytest.raises(BundleError):
            bundle.load(helpers.repack(path, tmp_path / "part.metricad", manifest={"layers": changed}))
