"""From a folder of good parts to verdicts: what is fitted, what is held out, what is said of an image."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metricad.data import images
from metricad.deploy import loading
from metricad.errors import DataError, InspectorError
from metricad.inspection.inspector import FIELDS, Inspection, Inspector
from metricad.scoring.anomaly_maps import place
from metricad.scoring.calibration import Calibration
from tests.helpers import COLLECTING, GOOD_IMAGES, save, scratched, texture

if not COLLECTING:
    from metricad.inspection import bundle, fit
    from metricad.inspection.detector import PartDetector
    from metricad.inspection.fit import calibrate_inspector, fit_inspector
    from metricad.networks import residual
    from metricad.training import runs

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def model(run_folder):
    return runs.load_network(run_folder)


@pytest.fixture(scope="module")
def paths(good_folder):
    return images.find([good_folder])


def new_part(seed=99):
    return texture(np.random.default_rng(seed))


# Making one.


def test_the_prototype_is_of_the_fitted_images_and_the_threshold_of_the_others(model, paths, fitted):
    """By hand, with the split that the inspector says it made."""
    order = np.random.default_rng(0).permutation(GOOD_IMAGES)
    held_out = {paths[i] for i in order[:9]}
    read = {path: images.read(path) for path in paths}
    by_hand = PartDetector(model, "mean").fit([read[p] for p in paths if p not in held_out])
    found, expected = (one.densities[0].mean.numpy() for one in (fitted.detector, by_hand))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    expected = sorted(by_hand.score(read[path]) for path in held_out)
    np.testing.assert_allclose(fitted.calibration.scores, expected, rtol=1e-5)
    # 9 images at a rate of 0.1: their largest score.
    assert fitted.threshold == fitted.calibration.scores[-1]
    assert fitted.fitted_on == {"fit_images": 21, "held_out_images": 9, "holdout": 0.3, "seed": 0}


def test_an_inspector_judges_by_its_detectors_score(fitted):
    wide = fitted.detector.with_score("top-10%", ["network"], center=0, spread=1)
    scratch = scratched(new_part(), 20, 30)
    found, anomaly = Inspector(wide, fitted.calibration).inspect(scratch)
    plain, same_map = fitted.inspect(scratch)
    np.testing.assert_allclose(anomaly, same_map, rtol=1e-6)
    assert found.score == wide.score(scratch) < plain.score == fitted.detector.score(scratch)
    assert (found.size_class, plain.size_class) == ("top-10%", "max")


def test_the_seed_chooses_the_images_held_out(model, paths):
    def scores(seed):
        made = fit_inspector(paths, model, false_alarm_rate=0.1, holdout=0.3, seed=seed)
        return made.calibration.scores

    np.testing.assert_array_equal(scores(1), scores(1))
    assert not np.array_equal(scores(1), scores(2))


@pytest.mark.parametrize(("total", "holdout"), [(10, 0.3), (7, 0.5), (30, 0.9), (100, 0.2)])
def test_no_image_is_both_fitted_and_held_out(total, holdout):
    held_out, fitted = fit.split_paths(list(range(total)), holdout, seed=4)
    assert sorted(held_out + fitted) == list(range(total))
    assert len(held_out) == round(total * holdout)
    assert held_out == sorted(held_out)
    assert fitted == sorted(fitted)


def test_without_a_holdout_all_of_few_images_fit_and_of_many_every_fifth_two_calibrate():
    paths = [Path(f"{number:04}.png") for number in range(1000)]
    assert fit.split_paths(paths[:200], None, seed=0) == ([], paths[:200])
    held_out, fitted = fit.split_paths(paths[:300][::-1], None, seed=0)
    assert (len(held_out), len(fitted)) == (120, 180)
    assert sorted(held_out + fitted) == paths[:300]
    assert fitted == sorted(fitted)
    assert all(sum(path in fitted for path in paths[i : i + 10]) in (5, 6, 7) for i in range(290))
    assert len(fit.split_paths(paths, None, seed=0)[1]) == 500


@pytest.fixture(scope="module")
def unjudging(model, paths):
    return fit_inspector(paths[:8], model, holdout=0)


def test_without_a_threshold_there_are_scores_and_maps_but_no_verdicts(unjudging, paths):
    """The paper's protocol: the prototype is of all images."""
    whole = PartDetector(unjudging.detector.network, "mean").fit([images.read(path) for path in paths[:8]])
    scratch = scratched(new_part(), 20, 30)
    found, anomaly = unjudging.inspect(scratch)
    assert (found.verdict, found.score) == ("none", whole.score(scratch))
    assert found.threshold is found.percentile is found.false_alarm_rate is found.defects is None
    assert unjudging.map_scale()["threshold"] is None
    largest = max(whole.judge(images.read(path)).anomaly.max() for path in paths[:8])
    assert unjudging.fitted_on["largest_on_good"] == pytest.approx(largest)
    assert unjudging.picture(found, scratch, anomaly).shape == (*scratch.shape, 3)
    with pytest.raises(InspectorError, match="no threshold"):
        unjudging.check_threshold()


def test_a_threshold_can_be_set_later(unjudging, paths, tmp_path):
    bundle.save(unjudging, tmp_path / "part.metricad")
    made = fit.calibrate_inspector(bundle.load(tmp_path / "part.metricad"), paths[8:28])
    scores = [unjudging.detector.score(images.read(path)) for path in paths[8:28]]
    np.testing.assert_allclose(made.calibration.scores, sorted(scores), rtol=1e-6)
    assert made.calibration.basis == "promised"
    assert made.calibration.asked_rate == 0.01


def test_all_images_fit_and_cross_validated_scores_set_the_threshold(model, paths):
    seen = []
    made = fit_inspector(paths[:8], model, on_image=lambda: seen.append(1))
    assert len(seen) > 8
    assert made.calibration.basis == "expected"
    assert made.calibration.false_alarm_rate == 1 / 9
    assert made.fitted_on == {"fit_images": 8, "held_out_images": 0, "seed": 0, "folds": 8}
    whole = PartDetector(model, "mean").fit([images.read(path) for path in paths[:8]])
    np.testing.assert_array_equal(made.detector.densities[0].mean.numpy(), whole.densities[0].mean.numpy())
    assert made.threshold == made.calibration.scores[-1] > whole.score(images.read(paths[0]))
    found, _ = made.inspect(new_part())
    assert (found.false_alarm_rate, found.rate_basis) == (1 / 9, "expected")


def test_calibrate_promises_from_these_images_alone(model, paths):
    made = fit_inspector(paths[:8], model)
    again = fit.calibrate_inspector(made, paths[8:])
    expected = sorted(made.detector.score(made.read(path)) for path in paths[8:])
    np.testing.assert_array_equal(again.calibration.scores, expected)
    assert again.calibration.basis == "promised"
    assert (again.calibration.false_alarm_rate, again.calibration.asked_rate) == (1 / 23, 0.01)
    loose = fit.calibrate_inspector(again, paths[8:], false_alarm_rate=0.2)
    assert loose.calibration.false_alarm_rate == 0.2
    assert loose.threshold < again.threshold
    with pytest.raises(DataError):
        fit.calibrate_inspector(made, [])


def test_the_same_folder_given_twice_does_not_hold_out_what_is_fitted(good_folder):
    assert len(images.find([good_folder, good_folder])) == GOOD_IMAGES


def test_each_image_is_announced_once(model, paths):
    seen = []
    fit_inspector(
        paths,
        model,
        false_alarm_rate=0.1,
        holdout=0.3,
        keeps_suspects=True,
        on_image=lambda: seen.append(1),
    )
    assert len(seen) == GOOD_IMAGES


@pytest.fixture(scope="module")
def doubtful(paths, tmp_path_factory):
    """Fourteen good images and a scratched one."""
    return [*paths[:14], save(tmp_path_factory.mktemp("bad") / "bad.png", scratched(new_part(), 30, 20))]


def test_suspects_are_left_out_and_count_as_alarms(model, doubtful):
    made = fit_inspector(doubtful, model, false_alarm_rate=0.1)
    assert (made.fitted_on["suspects"], made.fitted_on["fit_images"]) == (["bad.png"], 14)
    assert (made.calibration.false_alarm_rate, made.calibration.asked_rate) == (2 / 16, 0.1)
    assert made.threshold == made.calibration.scores[-2] < made.calibration.scores[-1] / 1.5
    kept = fit_inspector(doubtful, model, false_alarm_rate=0.1, keeps_suspects=True)
    assert "suspects" not in kept.fitted_on
    assert (kept.threshold > 1.5 * made.threshold, kept.fitted_on["fit_images"]) == (True, 15)


@pytest.mark.parametrize(("seed", "is_held_out"), [(0, False), (1, True)])
def test_suspects_are_found_whether_held_out_or_not(model, paths, doubtful, seed, is_held_out):
    given = [*paths[:20], doubtful[-1]]
    made = fit_inspector(given, model, false_alarm_rate=0.3, holdout=0.4, seed=seed)
    assert made.fitted_on["suspects"] == ["bad.png"]
    assert (doubtful[-1] in fit.split_paths(given, 0.4, seed)[0]) == is_held_out
    assert made.fitted_on["fit_images"] == (13 if is_held_out else 12)


def test_groups_count_once_and_are_not_split(model, paths):
    groups = [0, 0, 0, *range(3, 14)]
    made = fit_inspector(paths[:14], model, false_alarm_rate=0.1, groups=groups)
    assert len(made.calibration.scores) == 12
    for seed in range(4):
        parts = fit.split_paths(paths[:14], 0.4, seed, dict(zip(paths, groups, strict=False)))
        assert not {groups[paths.index(path)] for path in parts[0]} & {
            groups[paths.index(path)] for path in parts[1]
        }


def test_the_kind_that_is_asked_for_is_fitted(model, paths):
    made = fit_inspector(paths, model, kind="gaussian", false_alarm_rate=0.1, holdout=0.3)
    assert made.detector.kind == "gaussian"
    assert made.detector.densities[0].components == 1


def test_a_bad_image_among_the_good_is_named(model, paths, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(paths[0].read_bytes()[:100])
    with pytest.raises(DataError, match=r"bad\.png: not a readable image"):
        fit_inspector([*paths, bad], model, false_alarm_rate=0.1, holdout=0.3)


def test_too_few_images_are_refused_before_any_is_read(model):
    with pytest.raises(DataError, match="4 good images are too few"):
        fit_inspector(["nowhere.png"] * 4, model)


def test_a_network_that_has_diverged_is_refused(paths):
    diverged = residual.build(4, seed=0)
    diverged.get_layer("features").set_weights(
        [np.full_like(weights, np.nan) for weights in diverged.get_layer("features").get_weights()]
    )
    with pytest.raises(DataError, match="network has diverged"):
        fit_inspector(paths, diverged, false_alarm_rate=0.1, holdout=0.3)


# Asking it.


def test_a_good_part_and_a_scratched_one(fitted):
    good, _ = fitted.inspect(new_part())
    scratch, _ = fitted.inspect(scratched(new_part(), 20, 30))
    assert (good.verdict, scratch.verdict) == ("good", "defect")
    assert good.score <= good.threshold == scratch.threshold == fitted.threshold < scratch.score
    assert 0 <= good.percentile <= scratch.percentile == 100
    assert good.error is None


def test_what_is_said_agrees_with_the_distance_map(fitted):
    inspection, distance_map = fitted.inspect(scratched(new_part(), 20, 30), path="part.png")
    assert inspection.path == "part.png"
    assert inspection.score == pytest.approx(distance_map.max(), rel=1e-6)
    assert inspection.percentile == fitted.calibration.percentile(inspection.score)
    row, column = np.unravel_index(distance_map.argmax(), distance_map.shape)
    assert (inspection.peak_row, inspection.peak_col) == (2 * row + 16, 2 * column + 16)


@pytest.mark.parametrize("corner", [(14, 40), (40, 14), (44, 44)])
def test_the_peak_is_at_the_scratch(fitted, corner):
    inspection, _ = fitted.inspect(scratched(new_part(), *corner))
    assert abs(inspection.peak_row - (corner[0] + 2.5)) <= residual.RECEPTIVE_FIELD // 2 + 3
    assert abs(inspection.peak_col - (corner[1] + 2.5)) <= residual.RECEPTIVE_FIELD // 2 + 3


def test_exactly_at_the_threshold_a_part_is_still_good(fitted):
    score = fitted.inspect(new_part())[0].score

    def verdict(threshold):
        calibrated = Calibration(np.array([threshold]), 0.5)
        return dataclasses.replace(fitted, calibration=calibrated).inspect(new_part())[0].verdict

    assert verdict(score) == "good"
    assert verdict(np.nextafter(score, 0)) == "defect"


def test_the_held_out_images_alarm_no_more_often_than_promised(model, paths):
    for rate, count in [(0.1, 9), (0.25, 12), (0.5, 15)]:
        made = fit_inspector(paths, model, false_alarm_rate=rate, holdout=count / GOOD_IMAGES)
        held_out = made.calibration.scores
        assert len(held_out) == count
        assert (held_out > made.threshold).sum() <= rate * (count + 1)


def test_maps_of_a_part_share_a_scale_that_has_room_above_the_threshold(fitted):
    scale = fitted.map_scale()
    assert scale["low"] < scale["threshold"] < scale["high"]
    assert scale["threshold"] == pytest.approx(fitted.threshold)  # the paper's score is the map's maximum
    images.overlay(new_part(), np.zeros((64, 64), np.float32), **scale)


def test_files_are_judged_in_order_and_past_bad_ones(fitted, tmp_path):
    whole = save(tmp_path / "scratched.png", scratched(new_part(), 20, 30))
    small = tmp_path / "small.png"
    Image.fromarray(np.zeros((31, 40), np.uint8)).save(small)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    good = save(tmp_path / "good.png", new_part())
    found = list(fitted.inspect_files([bad, whole, tmp_path / "missing.png", small, good]))
    assert [inspection.verdict for inspection, _, _ in found] == ["error", "defect", "error", "error", "good"]
    names = [inspection.path.rpartition("/")[2] for inspection, _, _ in found]
    assert names == ["bad.png", "scratched.png", "missing.png", "small.png", "good.png"]
    for inspection, image, distances in found:
        if inspection.verdict == "error":
            assert image is None
            assert distances is None
            assert inspection.error
            assert str(tmp_path) not in inspection.error  # the path stands in its own column
            assert (inspection.score, inspection.threshold, inspection.percentile) == (None, None, None)
            assert (inspection.peak_row, inspection.peak_col) == (None, None)
        else:
            origin = {"path": inspection.path, "sha256": inspection.sha256}
            alone, distance_map = fitted.inspect(images.read(inspection.path), **origin)
            assert inspection == alone
            np.testing.assert_array_equal(image, images.read(inspection.path))
            np.testing.assert_array_equal(distances, distance_map)
    assert "expected at least 32×32 pixels, received 31×40" in found[3][0].error


def test_any_number_of_workers_say_the_same_in_the_same_order(fitted, good_folder, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    names = images.find([good_folder])
    names = [*names[:5], bad, *names[5:]]
    alone = [found for found, _, _ in fitted.inspect_files(names)]
    drawn = []
    together = fitted.inspect_files(names, workers=3, draw=lambda found, *_: drawn.append(found.path))
    assert [found for found, _, _ in together] == alone
    assert sorted(drawn) == sorted(map(str, set(names) - {bad}))
    assert fitted.detector.timer.seconds.keys() == {"read", "network and distance", "score", "write"}


def test_no_files_are_no_trouble(fitted):
    assert list(fitted.inspect_files([])) == []


def test_leaving_in_the_middle_leaves_no_thread_behind(fitted, good_folder):
    import threading

    before = threading.active_count()
    found = fitted.inspect_files(images.find([good_folder]))
    next(found)
    found.close()
    assert threading.active_count() == before


def test_a_file_that_is_gone_when_its_turn_comes_is_reported(fitted, good_folder, tmp_path):
    names = [shutil.copy(good_folder / "000.png", tmp_path / f"{i}.png") for i in range(4)]
    found = fitted.inspect_files(names)
    next(found)
    names[-1].unlink()
    assert [inspection.verdict for inspection, _, _ in found][-1] == "error"


def test_a_record_is_seventeen_fields_that_json_can_hold(fitted):
    inspection, _ = fitted.inspect(scratched(new_part(), 20, 20))
    record = inspection.record()
    assert list(record) == list(FIELDS) == [
        "time", "path", "sha256", "part", "part_sha256", "score", "threshold", "percentile", "verdict",
        "peak_row", "peak_col", "size_class", "source", "false_alarm_rate", "rate_basis", "defects", "error",
    ]  # fmt: skip
    assert len(record["defects"]) > 0
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["path"], record["sha256"], record["part"], record["part_sha256"]) == (None,) * 4
    assert Inspection("b.png", error="why").record()["verdict"] == "error"


def test_a_record_tells_file_and_inspector_by_their_bytes(part, good_folder, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    paths = [good_folder / "000.png", bad, tmp_path / "missing.png"]
    inspector = loading.load(part)
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    found = [inspection for inspection, _, _ in inspector.inspect_files(paths)]
    assert [one.sha256 for one in found] == [
        hashlib.sha256(paths[0].read_bytes()).hexdigest(), hashlib.sha256(b"no image").hexdigest(), None,
    ]  # fmt: skip
    assert {(one.part, one.part_sha256) for one in found} == {("part", digest)}
    other = calibrate_inspector(inspector, [good_folder / f"{k:03}.png" for k in range(12)])
    assert (other.part, other.part_sha256) == (None, None)  # no longer the one in the file


def test_constant_parts_make_an_inspector_of_both_kinds(model, tmp_path):
    paths = [save(tmp_path / f"{i}.png", np.full((40, 40), 0.25, np.float32)) for i in range(20)]
    for kind in ("mean", "gaussian"):
        made = fit_inspector(paths, model, kind=kind, false_alarm_rate=0.2, holdout=0.3)
        same, _ = made.inspect(images.read(paths[0]))
        other, anomaly = made.inspect(new_part())
        assert same.verdict == "good"
        assert other.verdict == "defect"
        assert np.isfinite([same.score, other.score, other.threshold]).all()
        assert images.overlay(new_part(), place(anomaly, (64, 64), residual.GRID), **made.map_scale()).any()


def test_an_image_out_of_register_is_named_and_does_not_end_a_run(paths, model, tmp_path):
    odd = save(tmp_path / "odd.png", texture(np.random.default_rng(1), side=72))
    fitted = fit_inspector(paths, model, kind="positional", false_alarm_rate=0.2, holdout=0.2)
    good, bad, last = (found for found, _, _ in fitted.inspect_files([paths[0], odd, paths[1]]))
    assert (good.verdict, bad.verdict, last.verdict) == ("good", "error", "good")
    assert "needs aligned images of one size" in bad.error
    with pytest.raises(DataError, match=r"\.png: a positional density needs aligned images of one size"):
        fit_inspector([odd, *paths], model, kind="positional", false_alarm_rate=0.2, holdout=0.2)
