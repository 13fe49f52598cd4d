"""Published methods as inspectors: judged, kept in a bundle to the bit, calibrated, exported or refused."""

import contextlib
import json
import sys
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from metricad.deploy import exported
from metricad.errors import BundleError, DataError
from metricad.inspection.inspector import Inspector
from metricad.methods import Method
from metricad.scoring.calibration import calibrate
from tests.helpers import COLLECTING, eagerly, repack, save, scratched, surface, texture

if not COLLECTING:
    from metricad.deploy import export
    from metricad.evaluation import candidates
    from metricad.inspection import bundle, fit, fit_method
    from metricad.inspection.method_detector import MethodDetector
    from metricad.methods.choice import choose

pytestmark = pytest.mark.tf

SIDE = 64
GOOD = [texture(np.random.default_rng(seed), side=SIDE) for seed in range(14)]
PROBES = [GOOD[0], scratched(GOOD[1], 20, 30, side=12), texture(np.random.default_rng(5), side=90)[:71]]

TRAINED = {"epochs": 1, "batch_size": 8}
BACKBONE = {"backbone": "MobileNetV2", "weights": "none"}
TINY = {
    "cae-kde": {"side": 32, "filters": (4, 4), "components": 3, **TRAINED},
    "denoising": {"units": 4, "code": 4, "crop": 32, **TRAINED},
    "autoencoder": {"side": 32, "latent": 8, "filters": (4, 4), **TRAINED},
    "f-anogan": {"side": 16, "latent": 8, "filters": 4, "encoder_epochs": 1, **TRAINED},
    "cpcae": {"side": 32, "patch": 16, "stride": 16, "latent": 8, **TRAINED},
    "cpcae-knn": {"side": 32, "patch": 16, "stride": 16, "latent": 8, "map_side": 32, **TRAINED, **BACKBONE},
    "deep-feature-knn": {"side": 32, **BACKBONE},
    "nearest-image": {},
    "patch-gaussian": {"side": 32, "dimensions": 12, **BACKBONE},
    "patch-bank": {"side": 32, "share": 0.5, **BACKBONE},
}


def chosen(name, **settings):
    """A method with tiny settings."""
    given = TINY[name] | settings
    options = {key: given.pop(key) for key in ("epochs", "weights") if key in given}
    return choose(name, **options, settings=given)


def quickly(name):
    """Small networks are run operation by operation; to compile a large one pays."""
    return contextlib.nullcontext() if "backbone" in TINY[name] else eagerly()


@cache
def made(name):
    """An inspector of a method, fitted to a few images."""
    with quickly(name):
        detector = MethodDetector(chosen(name)).fit(GOOD[:8])
        found = [detector.measured(image) for image in GOOD[8:]]
    detector.calibrate(found)
    return Inspector(detector, calibrate([score for score, _ in found], 0.2), {"method": name})


def test_every_method_has_its_settings_here():
    assert list(TINY) == list(Method)


@pytest.mark.parametrize("name", TINY)
def test_a_method_is_kept_in_a_bundle_to_the_bit(name, tmp_path):
    with quickly(name):
        assert_kept(made(name), tmp_path)


def assert_kept(inspector, tmp_path):
    bundle.save(inspector, tmp_path / "a.metricad")
    again = bundle.load(tmp_path / "a.metricad")
    for image in PROBES:
        (found, anomaly), (expected, wanted) = again.inspect(image), inspector.inspect(image)
        assert found == expected
        np.testing.assert_array_equal(anomaly, wanted)
        method = again.detector.method
        assert found.score == method.score(image)
        np.testing.assert_array_equal(anomaly, method.anomaly_map(image))
        assert anomaly.shape == image.shape
    assert again.map_scale() == inspector.map_scale()
    assert again.detector.choice.settings == json.loads(json.dumps(inspector.detector.choice.settings))
    bundle.save(again, tmp_path / "b.metricad")
    one, two = (bundle.read_manifest(tmp_path / f"{name}.metricad") for name in "ab")
    assert one["sha256"] == two["sha256"]


def test_a_registered_part_is_kept_with_its_reference(tmp_path, eager):
    pytest.importorskip("cv2")
    detector = MethodDetector(chosen("denoising", registration=True, largest_angle=12)).fit([plate(0)] * 2)
    again = read_back(detector, tmp_path)
    turned = plate(8)
    assert again.detector.method.register(turned).angle == pytest.approx(8, abs=1.5)
    assert again.detector.score(turned) == detector.score(turned)
    assert np.isfinite(again.detector.score(np.zeros((8, 8), np.float32)))  # as a service tries at its start


def plate(angle):
    """A dark plate with a hole, turned by some degrees."""
    row, column = np.mgrid[:SIDE, :SIDE] - 31.5
    turn = np.radians(angle)
    x, y = np.cos(turn) * column + np.sin(turn) * row, np.cos(turn) * row - np.sin(turn) * column
    image = np.where((np.abs(x) < 20) & (np.abs(y) < 12), 0.5, -0.5)
    image[(x - 8) ** 2 + y**2 < 16] = -0.1
    return image.astype(np.float32)


def read_back(detector, folder, scores=(1.0, 2.0)):
    bundle.save(Inspector(detector, calibrate(scores, 0.4)), folder / "a.metricad")
    return bundle.load(folder / "a.metricad")


@pytest.mark.parametrize("name", ["autoencoder", "f-anogan", "patch-bank"])
def test_color_is_seen_where_images_have_it(name, tmp_path):
    with quickly(name):
        assert_color(name, tmp_path)


def assert_color(name, tmp_path):
    rng = np.random.default_rng(0)
    good = [surface(rng, (SIDE, SIDE), color=True) for _ in range(4)]
    settings = {} if name == "patch-bank" else {"color": True}
    detector = MethodDetector(chosen(name, **settings)).fit(good)
    again = read_back(detector, tmp_path)
    assert detector.channels == again.detector.channels == 3
    score, anomaly = again.detector.method.judge(good[0])
    assert score == detector.score(good[0])
    assert anomaly.shape == (SIDE, SIDE)
    assert detector.score(good[0][..., ::-1]) != score
    with pytest.raises(DataError, match="expected a color image"):
        detector.judge(GOOD[0])
    assert MethodDetector(chosen(name), is_gray=True).fit(good).channels == 1


def test_the_density_of_the_whole_code_is_kept(tmp_path, eager):
    detector = MethodDetector(chosen("cae-kde", components=None, rule="either", steps=2)).fit(GOOD[:8])
    assert detector.method.embedding(GOOD[0]).shape == (8 * 8 * 4,)
    assert read_back(detector, tmp_path).detector.score(PROBES[1]) == detector.score(PROBES[1])


def test_a_one_class_svm_takes_the_place_of_neighbors(tmp_path):
    detector = MethodDetector(chosen("cpcae-knn", classifier="svm")).fit(GOOD[:3])
    again = read_back(detector, tmp_path).detector
    assert again.choice.settings["classifier"] == "svm"
    assert again.score(PROBES[1]) == detector.score(PROBES[1])
    assert again.score(PROBES[1]) != made("cpcae-knn").detector.score(PROBES[1])


# The outline.


def test_the_outline_has_the_rank_of_the_threshold():
    detector = MethodDetector(chosen("nearest-image")).calibrate([(3, 0.5), (1, 0.9), (2, 0.7), (4, 0.6)])
    assert [detector.map_value(score) for score in (0, 1, 2, 3.5, 4, 9)] == pytest.approx(
        [0.5, 0.5, 0.6, 0.8, 0.9, 0.9]
    )


def test_a_method_without_a_map_marks_the_whole_image():
    inspector = made("deep-feature-knn")
    assert inspector.detector.map_value(inspector.threshold) == pytest.approx(inspector.threshold, rel=1e-6)
    odd = np.where(np.indices((SIDE, SIDE)).sum(axis=0) % 2, 1, -1).astype(np.float32)
    found, anomaly = inspector.inspect(odd)
    assert (found.verdict, found.peak_row, found.peak_col) == ("defect", SIDE // 2, SIDE // 2)
    assert [(box.height, box.width) for box in found.defects] == [(SIDE, SIDE)]
    np.testing.assert_array_equal(anomaly, np.float32(found.score))


def test_a_defect_lies_where_it_is():
    found, _ = made("nearest-image").inspect(PROBES[1])
    assert 20 <= found.peak_row < 32
    assert 30 <= found.peak_col < 42
    assert (found.size_class, found.source) == ("own", "nearest-image")


# From files.


@pytest.fixture(scope="module")
def good_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    return [save(folder / f"{number:02}.png", image) for number, image in enumerate(GOOD)]


def test_a_fifth_of_the_images_and_five_at_least_are_held_out(good_files):
    choice, seen = chosen("nearest-image"), []
    inspector = fit_method.fit_method(
        good_files, choice, false_alarm_rate=0.2, on_image=lambda: seen.append(1)
    )
    assert inspector.fitted_on["fit_images"] == 9
    assert inspector.fitted_on["held_out_images"] == len(inspector.calibration.scores) == 5
    assert inspector.calibration.basis == "promised"
    assert inspector.levels.bits == 8
    assert len(seen) == fit_method.steps(14, choice)
    assert inspector.detector.shape == (SIDE, SIDE)
    with pytest.raises(DataError, match="9 good images are too few"):
        fit_method.fit_method(good_files[:9], choice)
    half = fit_method.fit_method(good_files[:6], choice, holdout=0.5, groups=[0, 0, 1, 1, 2, 2])
    assert half.fitted_on["fit_images"] + half.fitted_on["held_out_images"] == 6


def test_other_good_images_set_the_threshold_anew(good_files):
    inspector = made("nearest-image")
    again = fit.calibrate_inspector(inspector, good_files[:4], false_alarm_rate=0.2)
    assert again.threshold < inspector.threshold  # the method keeps these images
    assert again.calibration.basis == "promised"
    assert again.detector is inspector.detector


def test_an_interrupted_training_continues(good_files, tmp_path, eager):
    class Stopped(Exception):
        pass

    def stop():
        raise Stopped

    settings = {key: value for key, value in TINY["autoencoder"].items() if key != "epochs"}
    choice = choose("autoencoder", epochs=2, settings=settings)
    with pytest.raises(Stopped):
        fit_method.fit_method(good_files, choice, checkpoint=tmp_path, on_epoch=stop)
    epochs = []
    fit_method.fit_method(good_files, choice, checkpoint=tmp_path, on_epoch=lambda: epochs.append(1))
    assert len(epochs) == 1


# Damage and other refusals.


def test_another_bundle_of_a_method_is_refused(tmp_path):
    path = tmp_path / "a.metricad"
    bundle.save(made("patch-gaussian"), path)
    settings = bundle.read_manifest(path)["settings"]
    for manifest in (
        {"method": "magic"},
        {"settings": {**settings, "flavor": 1}},
        {"settings": {**settings, "side": 10**9}},
        {"channels": 2},
    ):
        with pytest.raises(BundleError, match="incomplete or contradictory"):
            bundle.load(repack(path, tmp_path / "b.metricad", manifest=manifest))
    with pytest.raises(BundleError, match="incomplete or contradictory"):
        bundle.load(repack(path, tmp_path / "b.metricad", method__mean=None))


def test_own_verbs_refuse_a_method(tmp_path):
    bundle.save(made("nearest-image"), tmp_path / "a.metricad")
    with pytest.raises(DataError, match="tune is for inspectors on metricad's own networks"):
        bundle.load_own(tmp_path / "a.metricad", verb="tune")
    method = candidates.of_bundle(tmp_path / "a.metricad")
    assert method.name == "a: nearest-image"
    assert method.make().score(PROBES[0]) == made("nearest-image").detector.score(PROBES[0])


def test_weights_of_a_file_are_named_and_looked_for_beside_the_bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    weights = tmp_path / "own.weights.h5"
    weights.write_bytes(b"weights")
    choice = choose("patch-bank", weights=weights)
    described, _ = bundle._of_method(SimpleNamespace(choice=choice, channels=1, shape=None, arrays=dict))
    name, digest = described["settings"]["weights"], described["weights_sha256"]
    assert name == "own.weights.h5"
    assert bundle._weights(name, digest, tmp_path) == weights
    (tmp_path / "keras" / "models").mkdir(parents=True)
    moved = weights.rename(tmp_path / "keras" / "models" / name)
    assert bundle._weights(name, digest, tmp_path) == moved
    moved.write_bytes(b"others")
    with pytest.raises(BundleError, match=r"needs the pre-trained weights own\.weights\.h5"):
        bundle._weights(name, digest, tmp_path)


# Exports.


EXPORTED = {"denoising": ["onnx", "litert"], "autoencoder": ["openvino"], "patch-gaussian": ["onnx"]}


@pytest.mark.parametrize(
    ("name", "format"), [(name, one) for name, formats in EXPORTED.items() for one in formats]
)
def test_an_export_says_the_same_without_tensorflow(name, format, tmp_path, monkeypatch):
    inspector = made(name)
    path = tmp_path / f"part{export.FORMATS[format][0]}"
    images = PROBES[:2]
    export.export(inspector, path, format=format, images=images)
    expected = [inspector.inspect(image) for image in images]
    for module in ("tensorflow", "keras", "sklearn"):
        monkeypatch.setitem(sys.modules, module, None)  # whoever imports it fails
    again = exported.load(path)
    for image, (inspection, wanted) in zip(images, expected, strict=True):
        found, anomaly = again.inspect(image)
        assert found.score == pytest.approx(inspection.score, rel=1e-4)
        assert (found.verdict, found.size_class, found.source) == (inspection.verdict, "own", name)
        np.testing.assert_allclose(anomaly, wanted, atol=1e-4 * wanted.max())
    assert again.map_scale() == pytest.approx(inspector.map_scale())
    with pytest.raises(DataError, match="64×64"):
        again.inspect(PROBES[2])


@pytest.mark.parametrize("name", [name for name in TINY if name not in EXPORTED])
def test_other_methods_are_not_exported(name, tmp_path):
    with pytest.raises(DataError, match="cannot be exported"):
        export.export(made(name), tmp_path / "part.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


def test_a_method_is_exported_for_one_size_and_in_full_precision(tmp_path, eager):
    detector = MethodDetector(chosen("autoencoder")).fit([GOOD[0], PROBES[2]])
    inspector = Inspector(detector, calibrate([1.0, 2.0], 0.4))
    with pytest.raises(DataError, match="for one size"):
        export.export(inspector, tmp_path / "a.onnx", format="onnx")
    with pytest.raises(DataError, match="own networks"):
        export.export(made("autoencoder"), tmp_path / "a.onnx", format="onnx", precision="int8")
