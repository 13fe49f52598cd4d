"""Send thousands of valid and hostile requests to the service; check every answer, and its memory.

    python scripts/bench_service.py --requests 10000

Fits an inspector to rendered surfaces, starts `metricad serve` in its own process and sends it a mix of
images, damaged files, decompression bombs, wrong types, and slow and broken connections from several client
processes. The expected answers come from the library: the score of `Inspector.inspect` on
`service.decoding.decode`, to the last bit, or the kind of refusal. Writes service.md into results/; exits
with 1 if an answer was wrong, the process has ended, or memory has grown by more than 5 % after the warm-up.
"""

import argparse
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from service_traffic import BODY_MIB, PART, SHARES, SIDES, Answered, Body, bombs, damaged, encoded, send

from data_prep.surfaces import generator
from metricad import files
from metricad.data import images
from metricad.data.picture import TooManyPixelsError
from metricad.deploy import native_output
from metricad.errors import DataError
from metricad.reporting import markdown
from metricad.reporting.document import Cell, Document, Table
from metricad.service import decoding
from metricad.versions import versions

PIXELS, UPLOAD = 1, 5  # the service's limits here, in 10⁶ pixels and seconds
ROUNDS = 20  # the first one warms up; memory is read after each


def main() -> None:
    """Fit the inspector, start the service, send the requests, check the answers, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=4, help="processes, each with one request at a time")
    parser.add_argument("--network", default="fast", help="as of 'metricad prototype'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        part, bodies = prepare(Path(folder), options)
        answered, megabytes, seconds, ended = run(part, bodies, options)
    wrong = [one for one in answered if one.wrong]
    for one in wrong[:20]:
        print(f"wrong: {one.kind}: {one.wrong}", file=sys.stderr)
    growth = max(megabytes[1:]) / megabytes[0] - 1
    page = build(answered, megabytes, seconds, ended, options)
    with files.replacing(options.out / "service.md") as temporary:
        temporary.write_text(markdown.render(page), encoding="utf-8")
    print(f"{len(answered)} requests, {len(wrong)} wrong; memory {growth:+.1%}; the service {ended}")
    sys.exit(bool(wrong) or growth > 0.05 or ended != "ended as asked")


def prepare(folder: Path, options: argparse.Namespace) -> tuple[Path, dict[str, list[Body]]]:
    """Fit an inspector, and make bodies of each kind with their expected answers."""
    native_output.load_tensorflow()
    from metricad.inspection import bundle
    from metricad.inspection import fit as inspector
    from metricad.training import loading

    paths = [folder / f"{i:03}.png" for i in range(40)]
    for i, path in enumerate(paths):
        images.write(path, generator.render(1, i, size=SIDES[i % len(SIDES)])[0])
    model = loading.load_network(options.network)
    made = inspector.fit_inspector(paths, model, false_alarm_rate=0.1, holdout=0.3)
    bundle.save(made, folder / f"{PART}.metricad")

    def judged(content: bytes) -> Body:
        """Compute the expected answer to a body: the same steps as the service's, in this process."""
        try:
            image = decoding.decode(content, smallest=made.detector.grid.smallest, most_pixels=PIXELS * 10**6)
            return Body(content, 200, made.inspect(image)[0].score)
        except TooManyPixelsError:
            return Body(content, 413)
        except DataError:
            return Body(content, 422)

    rng = np.random.default_rng(options.seed)
    whole = [judged(content) for i in range(20) for content in encoded(i)]
    some = [judged(damaged(whole[rng.integers(len(whole))].content, rng)) for _ in range(400)]
    return folder / f"{PART}.metricad", {"image": whole, "damaged": some, "bomb": [*map(judged, bombs())]}


def run(
    part: Path, bodies: dict[str, list[Body]], options: argparse.Namespace
) -> tuple[list[Answered], list[float], float, str]:
    """Run the service and send all requests.

    Returns its memory in MB after each round, the seconds of the later rounds, and how it ended.
    """
    command = [sys.executable, "-m", "metricad", "serve", str(part), "--port", "0", "--upload", str(UPLOAD)]
    command += ["--max-megabytes", str(BODY_MIB), "--max-megapixels", str(PIXELS)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            port = int(re.search(r":(\d+)$", process.stdout.readline().strip())[1])
            while _get(port, "/health/ready")[0] != 200:
                time.sleep(0.1)
            answered, megabytes, began = [], [], 0.0
            with ProcessPoolExecutor(options.clients, get_context("spawn")) as clients:
                each = -(-options.requests // (ROUNDS * options.clients))
                for number in range(ROUNDS):
                    seeds = [(options.seed, number, client) for client in range(options.clients)]
                    calls = [clients.submit(send, port, bodies, each, repr(seed)) for seed in seeds]
                    answered += [one for call in calls for one in call.result()]
                    page = _get(port, "/metrics")[1].decode()
                    megabytes.append(float(re.search(r"resident_memory_bytes (\d\S*)", page)[1]) / 1e6)
                    began = began or time.perf_counter()
                    print(f"{len(answered)} requests, {megabytes[-1]:.0f} MB", file=sys.stderr)
            seconds = time.perf_counter() - began
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        log.seek(0)
        said = log.read()
    ended = "ended as asked" if status == 0 else f"ended with status {status}"
    return answered, megabytes, seconds, ended + (f" and logged: {said[-2000:]}" if said else "")


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def build(
    answered: list[Answered], megabytes: list[float], seconds: float, ended: str, options: argparse.Namespace
) -> Document:
    """Build the page."""
    rows = []
    for kind in [*SHARES, "all"]:
        each = np.array([one.milliseconds for one in answered if kind in (one.kind, "all")])
        wrong = sum(bool(one.wrong) for one in answered if kind in (one.kind, "all"))
        if len(each):
            times = [Cell(f"{time:.1f}") for time in (*np.percentile(each, (50, 90, 99)), each.max())]
            rows.append(
                [Cell(kind), Cell(str(len(each))), Cell(str(wrong), mark="warning" if wrong else ""), *times]
            )
    later = len(answered) * (ROUNDS - 1) / ROUNDS
    growth = [f"{100 * (each / megabytes[0] - 1):+.1f} %" for each in (max(megabytes[1:]), megabytes[-1])]
    found = versions()
    return Document(
        "The service under load",
        [
            f"Made by: python scripts/bench_service.py --requests {options.requests} --clients "
            f"{options.clients} --network {options.network} --seed {options.seed}",
            f"On {datetime.now(UTC):%Y-%m-%d} with {os.cpu_count()} CPU cores, Python {found['python']}, "
            f"TensorFlow {found['tensorflow']}; service and clients on the same computer. Images are "
            f"{SIDES[0]} to {SIDES[-1]} pixels wide and high, in six file formats; its limits are {BODY_MIB} "
            f"MiB, {PIXELS} megapixel "
            f"and {UPLOAD} s for a body.",
            f"{later / seconds:.1f} requests a second after the first round. The service {ended}.",
            f"Its resident memory was {megabytes[0]:.0f} MB after the first of {ROUNDS} rounds, the warm-up; "
            f"the largest change in later rounds was {growth[0]}, at the end {growth[1]}: "
            f"{', '.join(f'{each:.0f}' for each in megabytes)} MB.",
            Table(
                "Milliseconds from the request to its answer, as a client sees them",
                ["request", "sent", "answered wrong", "p50", "p90", "p99", "max"],
                rows[:-1],
                rows[-1:],
            ),
            "The score of an image must equal the library's to the last bit, also of a damaged image that "
            "can still be decoded. A refusal must have its documented status and the common JSON form. "
            "Requests that end early may remain without an answer; abandoned ones always do.",
        ],
    )


if __name__ == "__main__":
    main()
