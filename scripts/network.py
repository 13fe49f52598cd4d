"""Run every verb with the network cut off, record all socket calls, and see whether one contacts anything.

    python scripts/network.py

Linux only. Needs strace, and a kernel that lets users make network namespaces (otherwise the network stays as
it is, and the record alone counts). Each verb runs on small made-up surfaces, in a new home folder, so that
nothing is opted out of. `demo` only runs other verbs, and of `reproduce` only the plan is made.

Leaves with 1 when a verb connects or sends to another address than its own computer's, or asks for the
address of a name. Connections through files of this computer (AF_UNIX) are no contact.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CALLS = "connect,sendto,sendmsg,sendmmsg,bind,listen"
STRACE = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-e", "signal=none", "-o"]
CUT = ["unshare", "--map-root-user", "--net"]
# A new network namespace has a loopback interface, which is down.
UP = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sh", b"lo", 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""
# Starts the service, asks it about an image, and stops it.
SERVE = """
import subprocess, sys, time, urllib.request
command = [sys.executable, "-m", "metricad", "serve", *sys.argv[2:], "--port", "0"]
service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
address = service.stdout.readline().split()[-1]
content = open(sys.argv[1], "rb").read()
for part in ("a", "part"):
    for _ in range(600):
        try:
            request = urllib.request.Request(f"{address}/parts/{part}/inspect", content)
            request.add_header("Content-Type", "image/png")
            print(urllib.request.urlopen(request).read())
            break
        except urllib.error.HTTPError as error:
            assert error.code == 503, error
            time.sleep(0.2)
service.terminate()
sys.exit(service.wait())
"""
TRIES, PATIENCE = 3, 300.0  # seconds; OpenVINO's threads wait for ever under strace now and then
_ADDRESS = re.compile(r'inet_addr\("([\d.]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
_OWN = re.compile(r"127\.|::1$|0\.0\.0\.0$|::$")
METRICAD, DATA = [sys.executable, "-m", "metricad"], [sys.executable, "-m", "data_prep"]


def main() -> int:
    """Run all verbs; print what each called."""
    is_cut = subprocess.run([*CUT, "true"], capture_output=True, check=False).returncode == 0
    print("network: cut off" if is_cut else "network: as it is (no namespace can be made)", flush=True)
    contacts = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, command in verbs(Path(folder)):
            calls = traced(command, Path(folder), is_cut=is_cut)
            remote = [call for call in calls if is_contact(call)]
            contacts += len(remote)
            local = sum(not call.startswith(("bind", "listen")) for call in calls) - len(remote)
            listens = sum(call.startswith("listen") for call in calls)
            print(f"{name}: {len(remote)} contacts, {local} calls on this computer, {listens} listening")
            for call in remote:
                print(f"    {call}")
            sys.stdout.flush()
        kept = sorted(
            path.relative_to(folder).as_posix() for path in Path(folder, "home").rglob("*") if path.is_file()
        )
        print(f"left in the home folder: {', '.join(kept)}")  # where an identifier would be
    return 1 if contacts else 0


def verbs(out: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the command of each verb, in an order in which each finds what it needs."""
    good = "parts/surfaces/woven_grid/train/good"
    line = "parts/surfaces/woven_grid/test"
    train = "--units 2 --rounds 1 --epochs 1 --triplets 8 --batch-size 4 --pyramid 64"
    lines = [
        "surfaces --data-dir parts --folders --size 128 --surfaces 1,3 --normals 40 --defects 4",
        "surfaces --data-dir prepared --size 128 --normals 8 --defects 2",
        f"train --out run --source parts/surfaces/woven_grid {train}",
        f"prototype {good} --network fast --holdout 0.5 --false-alarm-rate 0.1 --out part.metricad",
        f"prototype {good} --network joint --holdout 0.5 --false-alarm-rate 0.1 --out joint.metricad",
        f"check {good} --out report-of-check",
        f"calibrate part.metricad {line}/good --out calibrated.metricad",
        f"tune part.metricad {good} --defects-per-image 1 --out tuned.metricad",
        f"detectability part.metricad {good} --kind spots --repeats 1 --out datasheet",
        *(f"export part.metricad --out {name}" for name in ("a.onnx", "a.tflite", "a")),
        "export part.metricad --out saved --format saved-model",
        *(
            f"inspect {name} {line} --workers 1"
            for name in ("part.metricad", "a.onnx", "a.tflite", "a", "saved")
        ),
        f"batch a {line} --out rows",
        f"watch a {line} --out line.jsonl --stable-seconds 0 --once",
        "evaluate --data parts/surfaces --network fast --false-alarm-rate 0.1 --out results.json",
        "report results.json --out report",
        "reproduce --preset quick --data-dir prepared --dry-run --out grid",
    ]
    for each in lines:
        first, *rest = each.split()
        yield each, [*(DATA if first == "surfaces" else METRICAD), first, *rest]
    image = str(next((out / line).rglob("*.png")))
    yield (
        "serve part.metricad a",
        [sys.executable, "-c", SERVE, image, "part.metricad", "a", "--workers", "1"],
    )


def traced(command: list[str], folder: Path, *, is_cut: bool) -> list[str]:
    """Run a command and return its calls that name an address."""
    record = folder / "calls"
    home = folder / "home"
    home.mkdir(exist_ok=True)
    lead = [*CUT, sys.executable, "-c", UP] if is_cut else []
    trace = [*STRACE, str(record)]
    environment = os.environ | {"HOME": str(home), "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    for name in ("CI", "GITHUB_ACTIONS"):  # some ask no questions and send nothing there
        environment.pop(name, None)
    for _ in range(TRIES):
        process = subprocess.Popen(
            [*lead, *trace, *command], cwd=folder, env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            _, said = process.communicate(timeout=PATIENCE)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    else:
        raise SystemExit(f"{' '.join(command)} did not end within {PATIENCE:g} s")
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said[-2000:]}")
    lines = record.read_text(errors="replace").splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if "sa_family=" in line or "listen(" in line]


def is_contact(call: str) -> bool:
    """Whether a call reaches beyond this computer."""
    if call.startswith(("bind", "listen")) or "sa_family=AF_UNIX" in call or "sa_family=AF_NETLINK" in call:
        return False
    found = _ADDRESS.search(call)
    return found is None or not _OWN.match(found[1] or found[2])


if __name__ == "__main__":
    sys.exit(main())
