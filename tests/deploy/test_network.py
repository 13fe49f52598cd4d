"""Runtimes that would tell their makers' servers that they are used contact nobody: calls are recorded."""

import shutil
import subprocess
import sys

import pytest

from tests.helpers import load_script

network = load_script("network")


def records_calls():
    """Whether strace is installed, and may watch another process."""
    trace = [*network.STRACE, "/dev/null", "true"]
    return shutil.which("strace") is not None and not subprocess.run(trace, check=False).returncode


pytestmark = pytest.mark.skipif(not records_calls(), reason="needs strace to record calls")


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_inspecting_contacts_nobody(part_export, good_folder, tmp_path, format):
    image = next(good_folder.iterdir())
    is_cut = subprocess.run([*network.CUT, "true"], capture_output=True, check=False).returncode == 0
    command = [*network.METRICAD, "inspect", str(part_export(format)), str(image), "--workers", "1"]
    calls = network.traced(command, tmp_path, is_cut=is_cut)
    assert [call for call in calls if network.is_contact(call)] == []
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]  # no identifier is kept


def test_a_contact_would_be_noticed(tmp_path):
    call = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 53))"
    # Cut off, connecting fails, but it is recorded.
    command = [sys.executable, "-c", f"try:\n    {call}\nexcept OSError:\n    pass"]
    (found,) = network.traced(command, tmp_path, is_cut=False)
    assert network.is_contact(found)
