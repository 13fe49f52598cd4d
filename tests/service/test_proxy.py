"""nginx before two processes of the service, as in docs/nginx.conf: one is killed, and no request is lost."""

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from metricad.data import images
from tests.helpers import ROOT

NGINX = shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NGINX is None, reason="nginx is not installed")]

# The service as the command line runs it, with an inspector that loads at once.
SERVE = """
import sys
from metricad.cli import serve
from metricad.service import app
from metricad.service.judge import RequestLimits
from tests.batch.fakes import FakePart

limits = RequestLimits(
    body_bytes=2**20, pixels=10**6, upload_seconds=5, workers=1, queue=16, wait_seconds=10
)
with serve._bind("127.0.0.1", int(sys.argv[1])) as listener:
    api = app.app({"bright": FakePart().load()}, limits=limits, hosts={"localhost"})
    listener.listen()
    serve._run(api, listener, log_requests=False)
"""

MAIN = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/metricad.conf;
}}
"""


@pytest.fixture
def started():
    """Start processes that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(*command):
            process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def is_ready(port):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        try:
            connection.request("GET", "/health/ready", headers={"Host": "localhost"})
            return connection.getresponse().status == 200
        except OSError:
            return False


def wait_for(*ports):
    until = time.monotonic() + 60
    while not all(map(is_ready, ports)):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_killed_process_loses_no_request(started, tmp_path):
    proxy, *ports = free_ports(3)
    text = (ROOT / "docs" / "nginx.conf").read_text(encoding="utf-8")
    for before, after in zip((8000, 8001, 8002), (proxy, *ports), strict=True):
        assert text.count(f":{before}") == 1
        text = text.replace(f":{before}", f":{after}")
    (tmp_path / "metricad.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(MAIN.format(folder=tmp_path))
    services = [started(sys.executable, "-c", SERVE, port) for port in ports]
    started(NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "errors")
    wait_for(*ports, proxy)
    images.write(tmp_path / "image.png", np.full((8, 8), 200, np.uint8))
    body = (tmp_path / "image.png").read_bytes()
    answers, is_over = [], threading.Event()

    def ask():
        while not is_over.is_set():
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy, timeout=30)) as connection:
                connection.request("POST", "/parts/bright/inspect", body, {"Content-Type": "image/png"})
                answer = connection.getresponse()
                with contextlib.suppress(http.client.IncompleteRead):  # killed amid an answer: ask again
                    answers.append((answer.status, json.loads(answer.read())["verdict"]))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    while len(answers) < 100:
        time.sleep(0.01)
    services[0].send_signal(signal.SIGKILL)
    services[0].wait()
    killed = len(answers)
    while len(answers) < killed + 100:
        time.sleep(0.01)
    is_over.set()
    for client in clients:
        client.join()
    assert set(answers) == {(200, "defect")}
