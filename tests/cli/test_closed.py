"""An inspector that computes NaN, a damaged or replaced part, an unwritable output: never silent."""

import dataclasses
import json
import os
import shutil
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from fastapi.testclient import TestClient

import metricad
from metricad.cli import serve
from metricad.deploy import loading, signature
from metricad.deploy.loading import PartFile
from metricad.errors import BundleError, InspectorError
from metricad.inspection.inspector import FIELDS
from metricad.inspection.interface import Judgement
from metricad.monitoring import watch as watching
from metricad.monitoring.folder import WatchedFolder
from metricad.monitoring.journal import Journal
from metricad.scoring.calibration import Calibration
from metricad.service import app
from tests.helpers import COLLECTING, save, texture

if not COLLECTING:
    from metricad.inspection import bundle, bundle_file

pytestmark = pytest.mark.tf


@pytest.fixture
def image(tmp_path):
    return save(tmp_path / "line" / "a.png", texture(np.random.default_rng(3)))


@pytest.fixture
def broken(part, monkeypatch):
    """Whatever part is loaded, its mean is NaN."""
    inspector = bundle.load(part)
    inspector.detector.densities[0].mean.assign(np.full(4, np.nan))
    monkeypatch.setattr(bundle, "load", lambda path, check: (check(64 * "0"), inspector)[1])
    return inspector


# Numbers that are not finite.


@pytest.mark.parametrize("score", [np.nan, np.inf, 0.0])
def test_no_judgement_is_made_of_numbers_that_are_not_finite(score):
    with pytest.raises(InspectorError):
        Judgement(score, (0, 0), "network", np.array([[0.0, np.nan if score == 0 else 1.0]]))


def test_inspect_and_watch_say_error_and_go_on(broken, part, image, run_metricad, tmp_path):
    save(image.with_name("b.png"), texture(np.random.default_rng(4)))
    done = run_metricad("inspect", part, image.parent, "--format", "jsonl")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert (done.status, [row["verdict"] for row in rows]) == (2, ["error", "error"])
    assert all("not finite" in row["error"] for row in rows)
    out = tmp_path / "line.jsonl"
    arguments = ["watch", part, image.parent, "--out", out, "--stable-seconds", 0, "--once"]
    assert run_metricad(*arguments).out.endswith("0 good, 0 defect, 2 error\n")
    assert [json.loads(line)["verdict"] for line in out.read_text().splitlines()] == ["error", "error"]


def test_the_service_is_not_ready_and_never_says_good(broken, fitted, image, caplog):
    with TestClient(app.app({"part": broken})) as client:
        while "cannot judge" not in client.get("/health/ready").json()["error"]:
            time.sleep(0.01)
    api = app.app({"part": fitted})
    with TestClient(api) as client:
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.01)
        with pytest.raises(InspectorError):
            api.state.judge.replace("part", broken)  # is refused, so what was there stays
        post = {"content": image.read_bytes(), "headers": {"content-type": "image/png"}}
        assert client.post("/parts/part/inspect", **post).json()["verdict"] == "good"
        api.state.judge.parts["part"] = broken
        for what, keys in (("inspect", list(FIELDS)), ("map", ["error"])):
            answer = client.post(f"/parts/part/{what}", **post)
            assert (answer.status_code, list(answer.json())) == (500, keys)
            assert answer.json().get("verdict") in (None, "error")
        assert 'verdicts_total{part="part",verdict="error"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("scores", "rate"),
    [([1, np.nan], 0.5), ([2, 1], 0.5), ([[1]], 0.5), ([1, 2], 0.1), ([1, 2], 0.0), ([1], np.nan)],
)
def test_a_calibration_of_such_numbers_is_none(scores, rate):
    with pytest.raises(ValueError, match=r"scores|rate"):
        Calibration(np.array(scores), rate)


# Damaged and replaced parts.


def test_a_service_goes_on_with_the_old_part_until_it_is_told(part, fitted, tmp_path, capfd, monkeypatch):
    path = tmp_path / "part.metricad"
    shutil.copy(part, path)
    file = PartFile(path)
    api = app.app({"part": file.load()})
    before = api.state.judge.parts["part"]
    assert not file.is_replaced()
    asked = threading.Event()
    monkeypatch.setattr(serve, "_LOOK_SECONDS", 0.01)

    def after(said):
        """What the thread says next."""
        found = ""
        while said not in found:
            time.sleep(0.01)
            found += capfd.readouterr().err
        return found

    threading.Thread(
        target=serve._renew, args=({"part": file}, api.state.judge.replace, asked), daemon=True
    ).start()
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    after("was replaced; the one that was loaded stays")
    asked.set()
    assert "the one before stays" in after("not loaded anew")
    assert api.state.judge.parts["part"] is before
    path.write_bytes(whole)
    asked.set()
    after(f"{path}: loaded anew")
    assert api.state.judge.parts["part"] is not before


def test_a_watch_goes_on_with_a_new_part(fitted, image, tmp_path):
    scores = fitted.calibration.scores
    other = dataclasses.replace(fitted, calibration=Calibration(scores - 1000, 0.1))
    new = iter([None, other])
    with Journal(tmp_path / "line.jsonl") as journal:
        made = watching.Watch(fitted, WatchedFolder(image.parent, stable_seconds=0), journal)
        (record,) = made.run(once=True, renew=lambda: next(new, None))
    assert (record["verdict"], record["threshold"]) == ("defect", other.threshold)
    assert made.drift.threshold == other.threshold


def test_only_signed_parts_are_loaded_with_a_key(part, part_export, image, tmp_path, run_metricad, refused):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    def keys(name):
        key = ed25519.Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (tmp_path / f"{name}.pem").write_bytes(private)
        (tmp_path / f"{name}-public.pem").write_bytes(public)
        return tmp_path / f"{name}.pem", tmp_path / f"{name}-public.pem"

    private, public = keys("one")
    _, other = keys("other")
    path, export = tmp_path / "part.metricad", tmp_path / "openvino"
    shutil.copy(part, path)
    shutil.copytree(part_export("openvino"), export)
    assert "not signed" in refused("inspect", path, image, "--verify", public)
    key = signature.read_private(private)
    signature.write(path, bundle.checksum(path), key)
    from metricad.cli.export import _sign

    _sign(export, key)
    assert loading.load(export / "model.xml", key=public).threshold == loading.load(export).threshold
    assert run_metricad("inspect", path, image, "--verify", public).status == 0
    assert "not of this part and this key" in refused("inspect", path, image, "--verify", other)
    shutil.copy(signature.beside(path), signature.beside(export))
    with pytest.raises(BundleError, match="not of this part and this key"):
        loading.load(export, key=public)
    assert "no public" in refused("inspect", path, image, "--verify", private)
    assert "no private" in refused("prototype", image, "--out", tmp_path / "x.metricad", "--sign", public)


def test_a_bundle_that_unpacks_to_too_much_is_not_unpacked(part, tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.metricad"
    shutil.copy(part, bomb)
    monkeypatch.setattr(bundle_file, "_FREE", 2**20)
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(2**21))
    with pytest.raises(BundleError, match="at most are read"):
        bundle.load(bomb)
    monkeypatch.setattr(bundle_file, "_MOST_DIRECTORY", 500)
    with pytest.raises(BundleError, match="directory"):
        bundle.load(bomb)


# Outputs, and what is contacted.


@pytest.mark.parametrize(
    "arguments",
    [
        ["prototype", "IMAGE", "--out", "FOLDER"],
        ["tune", "PART", "IMAGE", "--out", "FOLDER"],
        ["evaluate", "--data", "FOLDER", "--out", "FOLDER"],
        ["watch", "PART", "FOLDER", "--out", "FOLDER"],
        ["detectability", "PART", "IMAGE", "--out", "IMAGE"],
        ["report", "IMAGE", "--out", "IMAGE"],
        ["train", "--source", "FOLDER", "--out", "IMAGE"],
        ["reproduce", "--out", "IMAGE"],
        ["inspect", "PART", "IMAGE", "--maps", "IMAGE"],
        ["export", "PART", "--out", "IMAGE/a.onnx"],
        ["demo", "--out", "IMAGE"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    arguments, part, image, refused, monkeypatch
):
    monkeypatch.setattr(bundle, "load", lambda path: pytest.fail("the work began"))
    names = {"IMAGE": str(image), "FOLDER": str(image.parent), "PART": str(part)}
    given = [names.get(one, one.replace("IMAGE", str(image))) for one in arguments]
    assert "error: " in refused(*given)
    assert [path.name for path in image.parent.iterdir()] == ["a.png"]


def test_runtimes_tell_nobody_that_they_were_imported():
    from openvino.tools.ovc import telemetry_utils

    assert metricad.__version__
    assert sys.modules["openvino_telemetry"] is None
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert telemetry_utils.tm.__name__.endswith("telemetry_stub")
