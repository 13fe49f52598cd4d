"""The service: its answers, its refusals in one shape, its limits, and what an attacker sees."""

import asyncio
import contextlib
import hashlib
import http.client
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import tifffile
import uvicorn
from fastapi.testclient import TestClient

from metricad.cli import serve
from metricad.data import images
from metricad.errors import DataError
from metricad.inspection.inspector import FIELDS, Inspection, Inspector
from metricad.scoring.calibration import Calibration
from metricad.scoring.defect_boxes import DefectBox
from metricad.service import app, http_protocol, judge, middleware, schemas
from metricad.service.limiter import BusyError, WorkerQueue
from tests.service.test_decoding import FILES, encoded, png_bomb, tiff

TOKEN = "a-token-of-some-length"
PNG = {"content-type": "image/png"}


@dataclass
class FakeInspector:
    """The brightest pixel decides; what inspectors of any runtime have in common."""

    threshold: float = 0.5
    work: object = lambda image: None
    asked: list = field(default_factory=list)
    detector = SimpleNamespace(
        grid=SimpleNamespace(smallest=8),
        channels=1,
        on_pixels=lambda distance_map, image: np.full(image.shape, distance_map.max(), np.float32),
        map_value=lambda score: score,
    )
    calibration = Calibration(np.linspace(0, 1, 20), 0.1)
    levels = None
    part, part_sha256 = "file", "f" * 64
    failed = Inspector.failed
    fitted_on = {"fit_images": 21, "held_out_images": 9, "seed": 0}  # noqa: RUF012

    calibrated, check_threshold = Inspector.calibrated, Inspector.check_threshold
    map_scale, picture = Inspector.map_scale, Inspector.picture

    def inspect(self, image, *, path=None, sha256=None):
        self.asked.append(image.shape)
        if len(self.asked) > 1:  # the first warms up
            self.work(image)
        score = float(image.max())
        row, column = np.unravel_index(image.argmax(), image.shape)
        found = {"path": path, "sha256": sha256, "part": self.part, "part_sha256": self.part_sha256}
        found |= {"score": score, "threshold": self.threshold, "percentile": 50.0}
        found |= {"size_class": "max", "source": "light", "false_alarm_rate": 0.1, "rate_basis": "promised"}
        found |= {"verdict": "defect" if score > self.threshold else "good"}
        boxes = [DefectBox(int(row), int(column), 1, 1, 1, 1.4, score)]
        found |= {"defects": boxes if score > self.threshold else []}
        return Inspection(**found, peak_row=int(row), peak_col=int(column)), image[:2, :2]


@contextlib.contextmanager
def running(parts=None, **options):
    """A client of a service of fakes that is ready."""
    with TestClient(app.app(parts or {"part": FakeInspector()}, **options)) as client:
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.01)
        yield client


@pytest.fixture(scope="module")
def client():
    with running({"part": FakeInspector(), "ein Teil": FakeInspector(threshold=2.0)}) as client:
        yield client


def picture(level=100, *, shape=(20, 30), spot=None):
    pixels = np.full(shape, level, np.uint8)
    if spot is not None:
        pixels[3, 5] = spot
    return encoded(pixels, "PNG")


def post(client, content, *, part="part", what="inspect", **headers):
    return client.post(f"/parts/{part}/{what}", content=content, headers=headers or PNG)


def error(answer, status):
    """The one line of a refusal, in the shape that all have; with the record of an image if there was one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) in (["error"], list(FIELDS))
    message = answer.json()["error"]
    assert message
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def metric(client, name):
    """Value of a metric, 0 where it has not been counted yet."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


# Answers


def test_a_verdict_has_all_that_a_line_needs(client):
    found = post(client, picture(spot=250)).json()
    assert list(found) == [*FIELDS, "peak", "version", "milliseconds"]
    assert found.pop("milliseconds") >= 0
    assert datetime.fromisoformat(found.pop("time")).utcoffset() == timedelta(0)
    assert found == {
        "path": None,
        "sha256": hashlib.sha256(picture(spot=250)).hexdigest(),
        "part": "part",
        "part_sha256": "f" * 64,
        "score": pytest.approx(250 / 127.5 - 1),
        "threshold": 0.5,
        "percentile": 50.0,
        "verdict": "defect",
        "peak_row": 3,
        "peak_col": 5,
        "size_class": "max",
        "source": "light",
        "false_alarm_rate": 0.1,
        "rate_basis": "promised",
        "defects": [
            {"row": 3, "col": 5, "height": 1, "width": 1, "area": 1, "length": 1.4, "value": found["score"]}
        ],
        "error": None,
        "peak": {"row": 3, "column": 5},
        "version": client.get("/openapi.json").json()["info"]["version"],
    }


def test_each_part_has_its_own_verdict(client):
    assert post(client, picture(spot=250), part="part").json()["verdict"] == "defect"
    assert post(client, picture(spot=250), part="ein%20Teil").json()["verdict"] == "good"


@pytest.mark.parametrize("name", FILES)
def test_the_score_is_that_of_the_file(client, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    assert post(client, FILES[name]).json()["score"] == float(images.read(path).max())


def test_parts_are_listed_with_what_they_promise(client):
    found = client.get("/parts").json()
    assert [part["name"] for part in found["parts"]] == ["part", "ein Teil"]
    assert found["parts"][0] == {
        "name": "part",
        "threshold": 0.5,
        "false_alarm_rate": 0.1,
        "rate_basis": "promised",
        "rate_interval": [0, pytest.approx(FakeInspector.calibration.interval[1])],
        "statement": FakeInspector.calibration.describe(),
        "smallest": 8,
        "fitted_on": FakeInspector.fitted_on,
    }
    assert (found["most_bytes"], found["most_pixels"]) == (32 * 2**20, 8_000_000)


def test_the_map_is_that_of_the_library(client):
    content = picture(spot=250)
    answer = post(client, content, what="map")
    assert answer.headers["content-type"] == "image/png"
    inspector, image = FakeInspector(), np.full((20, 30), 100 / 127.5 - 1, np.float32)
    image[3, 5] = 250 / 127.5 - 1
    anomaly_map = inspector.detector.on_pixels(image[:2, :2], image)
    expected = images.overlay(image, anomaly_map, **inspector.map_scale(), boxes=[(3, 5, 1, 1)])
    found = np.asarray(PIL.Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal(found, expected)


def test_metrics_count_verdicts_refusals_and_memory():
    with running() as client:
        post(client, picture())
        post(client, picture(spot=255))
        post(client, b"nothing")
        post(client, picture(), part="unknown")
        assert metric(client, 'metricad_verdicts_total{part="part",verdict="good"}') == 1
        assert metric(client, 'metricad_verdicts_total{part="part",verdict="defect"}') == 1
        assert metric(client, 'metricad_requests_total{part="part",status="200"}') == 2
        assert metric(client, 'metricad_requests_total{part="part",status="422"}') == 1
        assert metric(client, 'metricad_requests_total{part="",status="404"}') == 1
        assert metric(client, 'metricad_rejected_total{reason="unreadable"}') == 1
        assert metric(client, 'metricad_rejected_total{reason="part"}') == 1
        assert metric(client, 'metricad_request_seconds_count{part="part"}') == 3
        assert metric(client, "metricad_in_flight") == 1  # this one
        assert metric(client, "process_resident_memory_bytes") > 1e7


def test_the_number_of_metrics_does_not_grow_with_what_is_asked():
    def labels():
        return len(re.findall(r"^metricad_requests_total", client.get("/metrics").text, re.MULTILINE))

    with running() as client:
        post(client, picture(), part="unknown-0")
        client.get("/no-such-page-0")
        labels()
        before = labels()
        for number in range(1, 20):
            post(client, picture(), part=f"unknown-{number}")
            client.get(f"/no-such-page-{number}")
        assert labels() == before


# Refusals


@pytest.mark.parametrize("what", ["inspect", "map"])
@pytest.mark.parametrize(
    ("content", "headers", "status", "says"),
    [
        (b"nothing", PNG, 422, "not a readable image"),
        (b"", PNG, 422, "not a readable image"),
        (picture()[:50], PNG, 422, "truncated"),
        (picture(shape=(5, 30)), PNG, 422, "expected at least 8×8 pixels, received 5×30"),
        (png_bomb(3000), PNG, 413, "3000×3000 pixels are 9000000; expected 8000000 at most"),
        (picture(), {}, 415, "Content-Type: expected image/png"),
        (picture(), {"content-type": "text/plain"}, 415, "received 'text/plain'"),
        (picture(), {"content-type": "multipart/form-data; boundary=x"}, 415, "expected image/png"),
        (picture(), PNG | {"content-encoding": "gzip"}, 415, "Content-Encoding: expected none"),
        (picture(), PNG | {"content-length": "9" * 5000}, 413, "expected 33554432 bytes at most"),
    ],
    ids=["no image", "empty", "truncated", "small", "bomb", "untyped", "text", "form", "compressed", "long"],
)
def test_what_is_no_image_is_refused(client, what, content, headers, status, says):
    answer = client.post(f"/parts/part/{what}", content=content, headers=headers)
    assert says in error(answer, status)


def test_an_unknown_part_is_refused_with_those_there_are(client):
    assert error(post(client, picture(), part="other"), 404) == "no part 'other'; expected part, ein Teil"


def test_other_paths_and_methods_are_refused_in_the_same_shape(client):
    assert "/parts" in error(client.get("/nothing"), 404)
    assert "/parts" in error(client.get("/parts/"), 404)
    assert "/parts" in error(client.get("/docs"), 404)
    answer = client.put("/parts/part/inspect", content=b"")
    assert "expected POST" in error(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_an_image_that_does_not_suit_the_part_is_refused():
    def refuse(image):
        raise DataError("a mask needs images of its own size")

    with running({"part": FakeInspector(work=refuse)}) as client:
        answer = post(client, picture())
        assert error(answer, 422) == "a mask needs images of its own size"
        assert error(post(client, picture(), what="map"), 422) == "a mask needs images of its own size"
    found = answer.json()
    expected = {"sha256": hashlib.sha256(picture()).hexdigest(), "part": "part", "part_sha256": "f" * 64}
    expected |= {"verdict": "error", "error": "a mask needs images of its own size", "time": found["time"]}
    assert found == dict.fromkeys(FIELDS) | expected


def test_a_fault_of_ours_tells_the_client_nothing_and_the_log_everything(caplog):
    def fail(image):
        raise RuntimeError("secret of the house")

    with running({"part": FakeInspector(work=fail)}) as client:
        answer = post(client, picture())
        message = error(answer, 500)
        assert "secret" not in message
        assert answer.headers["x-request-id"] in message
        assert f"request {answer.headers['x-request-id']} failed" in caplog.text
        assert "secret of the house" in caplog.text
        assert metric(client, 'metricad_rejected_total{reason="fault"}') == 1
        assert client.get("/health/live").status_code == 200


def test_all_answers_carry_the_security_headers(client):
    for answer in (client.get("/"), client.get("/parts"), client.get("/nothing"), post(client, b"")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "access-control-allow-origin" not in answer.headers
    preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    assert error(client.options("/parts/part/inspect", headers=preflight), 405)


# The token and the host


@pytest.fixture(scope="module")
def guarded():
    with running(token=TOKEN) as client:
        yield client


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff\xfe é", TOKEN]
)
def test_without_the_token_there_is_nothing_to_see(guarded, given):
    headers = PNG | ({} if given is None else {"authorization": given.encode("latin-1")})
    for answer in (
        guarded.get("/parts", headers=headers),
        guarded.get("/metrics", headers=headers),
        guarded.get("/openapi.json", headers=headers),
        post(guarded, picture(), **headers),
        post(guarded, picture(), part="unknown", **headers),
    ):
        assert "Authorization: Bearer" in error(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


def test_with_the_token_all_is_there(guarded):
    headers = PNG | {"authorization": f"Bearer {TOKEN}"}
    assert post(guarded, picture(), **headers).json()["verdict"] == "good"
    assert guarded.get("/metrics", headers=headers).status_code == 200
    described = guarded.get("/openapi.json", headers=headers).json()
    assert described["paths"]["/parts"]["get"]["security"] == [{"HTTPBearer": []}]


def test_health_and_the_page_need_no_token(guarded):
    for path in ("/health/live", "/health/ready", "/", "/service.js", "/service.css"):
        assert guarded.get(path).status_code == 200


def test_a_name_that_was_pointed_to_this_computer_is_refused():
    with running(hosts={"localhost", "127.0.0.1", "[::1]", "testserver"}) as client:
        for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]"):
            assert client.get("/parts", headers={"host": host}).status_code == 200, host
        for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "::1", ""):
            assert "own computer only" in error(client.get("/parts", headers={"host": host}), 421), host


# Readiness


def test_ready_only_after_every_part_has_judged_an_image():
    go = threading.Event()
    slow, quick = FakeInspector(), FakeInspector()
    slow.inspect = lambda image: (go.wait(30), FakeInspector.inspect(slow, image))[1]
    with TestClient(app.app({"quick": quick, "slow": slow})) as client:
        try:
            assert client.get("/health/live").status_code == 200
            answer = client.get("/health/ready")
            assert "starting" in error(answer, 503)
            assert answer.headers["retry-after"] == "1"
            assert "starting" in error(post(client, picture(), part="quick"), 503)
        finally:
            go.set()
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.01)
        assert quick.asked == slow.asked == [(8, 8)]


def test_never_ready_when_a_part_cannot_judge(caplog):
    broken = FakeInspector()
    broken.inspect = lambda image: 1 / 0
    with TestClient(app.app({"broken": broken})) as client:
        while "part broken cannot judge images" not in error(client.get("/health/ready"), 503):
            time.sleep(0.01)
        assert "ZeroDivisionError" in caplog.text
        assert "ZeroDivisionError" not in error(client.get("/health/ready"), 503)


# RequestLimits, over real connections


class Server:
    """A service behind uvicorn, in a thread."""

    def __init__(self, parts=None, *, token=None, **limits):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        api = app.app(parts or {"part": FakeInspector()}, token=token, limits=judge.RequestLimits(**limits))
        config = uvicorn.Config(api, http=http_protocol.Protocol, ws="none", log_config=None)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def __enter__(self):
        self.thread.start()
        while self.ask("GET", "/health/ready")[0] != 200:
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()

    def ask(self, method, path, body=None, **headers):
        """Status, headers and the JSON of an answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            connection.request(method, path, body, PNG | headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, json.loads(answer.read())
        finally:
            connection.close()

    def inspect(self, body, **headers):
        return self.ask("POST", "/parts/part/inspect", body, **headers)

    def raw(self, *pieces, pause=0.0):
        """All that comes back for these bytes, until the connection ends."""
        with socket.create_connection(self.address, timeout=30) as connection:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause)
            received = b""
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(2**16):
                    received += piece
            return received


def head(*lines, path="/parts/part/inspect"):
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


IMAGE = "Content-Type: image/png"


@pytest.fixture(scope="module")
def small():
    """A service that takes little and does not wait long."""
    with Server(body_bytes=2000, upload_seconds=0.3) as server:
        yield server


def test_a_body_that_is_said_to_be_too_long_is_not_waited_for(small):
    answer = small.raw(head(IMAGE, "Content-Length: 1000000000", "Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"expected 2000 bytes at most" in answer
    assert b"connection: close" in answer


def test_a_long_body_is_refused_and_the_answer_can_be_read(small):
    status, headers, found = small.inspect(bytes(3_000_000))
    assert status == 413
    assert "expected 2000 bytes at most" in found["error"]
    assert headers["connection"] == "close"


def test_a_long_body_in_chunks_is_refused(small):
    status, _, found = small.inspect(iter([bytes(1000)] * 50))
    assert status == 413
    assert "expected 2000 bytes at most" in found["error"]


def test_an_image_in_chunks_is_judged(small):
    content = picture()
    status, _, found = small.inspect(iter([content[:30], content[30:]]))
    assert (status, found["verdict"]) == (200, "good")


def test_a_slow_sender_is_cut_off(small):
    answer = small.raw(head(IMAGE, "Content-Length: 1000"), b"a")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not come within 0.3 s" in answer


def test_a_drip_is_cut_off_as_well(small, monkeypatch):
    monkeypatch.setattr(middleware, "_LINGER", 0.1)
    answer = small.raw(head(IMAGE, "Content-Length: 1000"), *[b"a"] * 40, pause=0.05)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_head_that_does_not_come_ends_the_connection(monkeypatch):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    with Server() as server:
        assert server.raw() == b""
        assert server.raw(b"POST /parts HT") == b""
        again = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        assert server.raw(again, b"GET /hea", pause=0.05).startswith(b"HTTP/1.1 200 ")


def test_a_connection_that_ends_in_a_body_is_counted(small):
    with socket.create_connection(small.address) as connection:
        connection.sendall(head(IMAGE, "Content-Length: 1000") + b"abc")
    expected = 'metricad_rejected_total{reason="disconnected"} 1.0'
    for _ in range(1000):
        if expected in small.raw(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").decode():
            break
        time.sleep(0.01)
    else:
        pytest.fail("never counted")


@pytest.mark.parametrize(
    "request_bytes",
    [b"GARBAGE\r\n\r\n", head("Content-Length: x"), head("Transfer-Encoding: chunked") + b"zz\r\nabc"],
)
def test_what_is_no_http_is_refused_in_the_same_shape(small, request_bytes):
    answer = small.raw(request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 ") or b" 415 " in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_two_ways_to_say_the_length_are_refused_and_end_the_connection(small):
    both = head(IMAGE, "Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n"
    answer = small.raw(both + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.lower().count(b"connection: close") == 1
    assert answer.count(b"HTTP/1.1") == 1


def test_bytes_after_the_stated_length_do_not_spoil_the_answer(small):
    content = picture()
    answer = small.raw(head(IMAGE, f"Content-Length: {len(content)}") + content + b"\0\0\0\r\n\r\n")
    first, _, rest = answer.partition(b"HTTP/1.1 400 ")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert b"not a valid HTTP/1.1 request" in rest


class Blocking(FakeInspector):
    """Judges when it is let go."""

    def __init__(self):
        super().__init__(work=lambda image: (self.begun.release(), self.go.wait(30)))
        self.begun, self.go = threading.Semaphore(0), threading.Event()


def in_thread(work, *arguments):
    """Start work and give the function that waits for its result."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work(*arguments)))
    thread.start()
    return lambda: (thread.join(), found[0])[1]


def test_beyond_the_queue_one_is_told_to_come_back():
    part = Blocking()
    with Server({"part": part}, workers=1, queue=1, wait_seconds=60) as server:
        with futures.ThreadPoolExecutor(3) as pool:
            try:
                first = pool.submit(server.inspect, picture())
                part.begun.acquire()
                # Whichever is first waits, the other finds no place.
                others = [pool.submit(server.inspect, picture()) for _ in range(2)]
                answered, _ = futures.wait(others, return_when=futures.FIRST_COMPLETED)
                status, headers, found = answered.pop().result()
                assert (status, headers["retry-after"]) == (503, "1")
                assert "all 2 places are taken" in found["error"]
                assert server.ask("GET", "/health/live")[0] == 200  # the loop is free meanwhile
            finally:
                part.go.set()
        assert first.result()[0] == 200
        assert sorted(other.result()[0] for other in others) == [200, 503]
        assert server.inspect(picture())[0] == 200


def test_who_waits_too_long_for_a_worker_is_told_to_come_back():
    part = Blocking()
    with Server({"part": part}, workers=1, queue=5, wait_seconds=0.1) as server:
        try:
            first = in_thread(server.inspect, picture())
            part.begun.acquire()
            status, headers, found = server.inspect(picture())
            assert (status, headers["retry-after"]) == (503, "1")
            assert "no worker was free within 0.1 s" in found["error"]
        finally:
            part.go.set()
        assert first()[0] == 200


def test_one_part_is_asked_by_as_many_threads_as_there_are_workers():
    inside, most = [], []
    both = threading.Barrier(2)

    def work(image):
        inside.append(1)
        most.append(len(inside))
        both.wait(timeout=60)  # nobody gets past it alone
        inside.pop()

    with Server({"part": FakeInspector(work=work)}, workers=2) as server:
        waiting = [in_thread(server.inspect, picture()) for _ in range(8)]
        assert [wait()[0] for wait in waiting] == [200] * 8
    assert max(most) == 2


def test_what_has_begun_is_finished_at_the_end():
    part = Blocking()
    with Server({"part": part}) as server:
        first = in_thread(server.inspect, picture())
        part.begun.acquire()
        server.server.should_exit = True
        time.sleep(0.2)
        part.go.set()
        assert first()[0] == 200


def test_requests_are_logged_on_one_line_each(caplog):
    with caplog.at_level(logging.INFO, "metricad"), running() as client:
        client.get("/a%0Ab")
    (line,) = [record.getMessage() for record in caplog.records if "/a" in record.getMessage()]
    assert re.fullmatch(r"[0-9a-f]{12} GET /a%0Ab 404 \d+ ms", line)


def test_a_refusal_is_one_line():
    assert json.loads(schemas.problem(422, "a\n  b").body) == {"error": "a b"}


# The gate alone


def test_work_that_was_given_up_still_holds_its_worker():
    go = threading.Event()

    async def scenario():
        gate = WorkerQueue(workers=1, queue=0, patience=0.05)
        given_up = asyncio.create_task(gate.run(lambda: go.wait(30)))
        await asyncio.sleep(0.02)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        with pytest.raises(BusyError, match="no worker was free"):
            await gate.run(lambda: 1)
        go.set()
        while True:
            with contextlib.suppress(BusyError):
                assert await gate.run(lambda: 2) == 2
                break
        gate.close()

    asyncio.run(scenario())


# The verb, with a real part


@pytest.fixture(scope="module")
def served(part, tmp_path_factory):
    """A process of its own: its address, and how it ended."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "token").chmod(0o600)
    command = [sys.executable, "-m", "metricad", "serve", str(part), "--port", "0"]
    command += ["--token-file", str(folder / "token")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"serving part at http://127\.0\.0\.1:(\d+), with a token\n", line)
        assert found, (line, process.stderr.read())
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


def test_the_verb_serves_the_scores_of_inspect_and_ends_when_asked(served, fitted, good_folder, tmp_path):
    process, port = served
    deep = tmp_path / "deep.png"
    deep.write_bytes(encoded(np.random.default_rng(1).integers(0, 65536, (64, 80), dtype=np.uint16), "PNG"))
    color = tmp_path / "color.png"
    color.write_bytes(encoded(np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8), "PNG"))
    gray = tmp_path / "gray.tif"
    tifffile.imwrite(gray, np.random.default_rng(3).integers(0, 256, (70, 64), dtype=np.uint8))
    paths = [images.find([good_folder])[0], color, gray]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = PNG | {"authorization": f"Bearer {TOKEN}"}

    def ask(method, path, body=None):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    while ask("GET", "/health/ready")[0] != 200:
        time.sleep(0.05)
    for path, (expected, _, _) in zip(paths, fitted.inspect_files(paths), strict=True):
        status, content = ask("POST", "/parts/part/inspect", path.read_bytes())
        found = json.loads(content)
        assert status == 200, found
        assert found["score"] == expected.score
        assert found["verdict"] == expected.verdict
        assert found["peak"] == {"row": expected.peak_row, "column": expected.peak_col}
    status, content = ask("POST", "/parts/part/inspect", deep.read_bytes())
    assert (status, "16-bit levels, expected 8-bit" in json.loads(content)["error"]) == (422, True)
    assert ask("POST", "/parts/part/map", paths[0].read_bytes())[1].startswith(b"\x89PNG")
    connection.close()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_two_parts_of_one_name_are_refused(refused):
    assert "two parts are called 'part': a/part.metricad and b/part.metricad" in refused(
        "serve", "a/part.metricad", "b/part.metricad"
    )


def test_other_computers_are_let_in_with_a_token_only(refused, part, tmp_path):
    assert "give --token-file or METRICAD_TOKEN, or --insecure" in refused("serve", part, "--host", "0.0.0.0")


@pytest.mark.parametrize("token", ["", "short", "a token with spaces in it", "ein-schönes-langes-Token"])
def test_a_bad_token_is_refused(refused, part, tmp_path, monkeypatch, token):
    (tmp_path / "token").write_text(token)
    assert "expected 16 or more ASCII" in refused("serve", part, "--token-file", tmp_path / "token")
    monkeypatch.setenv("METRICAD_TOKEN", token)
    assert "METRICAD_TOKEN: no valid token" in refused("serve", part)


def test_a_token_that_others_can_read_is_warned_of(tmp_path, capfd):
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o640)
    assert serve._token(tmp_path / "token") == TOKEN
    assert "chmod 600" in capfd.readouterr().err
    (tmp_path / "token").chmod(0o600)
    serve._token(tmp_path / "token")
    assert capfd.readouterr().err == ""


def test_a_missing_token_file_is_named(refused, part, tmp_path):
    assert "nowhere: No such file" in refused("serve", part, "--token-file", tmp_path / "nowhere")


def test_an_address_in_use_is_named(refused, part):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1, port {port}" in refused("serve", part, "--port", port)


def test_a_missing_part_is_named(refused, tmp_path):
    assert "no such file; make a bundle with" in refused("serve", tmp_path / "no.metricad", "--port", "0")


def test_without_the_extra_it_says_how_to_get_it(tmp_path):
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'uvicorn' else find(name, *rest)\n"
        "from metricad.cli.app import main; sys.argv = ['metricad', 'serve', 'x.metricad']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'metricad[serve]'" in done.stderr


def test_bodies_are_never_written_to_disk(client, monkeypatch):
    opened = []
    real = os.open

    def spy(path, flags, *rest, **more):
        if flags & (os.O_WRONLY | os.O_RDWR):
            opened.append(path)
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", spy)
    monkeypatch.setattr("builtins.open", lambda *arguments, **more: opened.append(arguments))
    large = np.zeros((1500, 2000), np.uint8)
    for content in (encoded(large, "BMP"), tiff(large), picture()):
        assert post(client, content).status_code == 200
        assert post(client, content, what="map").status_code == 200
    assert post(client, b"x" * 2_000_000).status_code == 422
    assert opened == []
