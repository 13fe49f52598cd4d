"""Requests for bench_service: send valid and hostile requests, and check the answers.

Nothing here imports TensorFlow: each client is a process, and there are several.
"""

import http.client
import io
import json
import random
import socket
import time
from dataclasses import dataclass

import numpy as np
import PIL.Image
import tifffile

from data_prep.surfaces import generator

PART, SIDES = "woven", (96, 128, 192, 300)
BODY_MIB = 4
"""The service's limit of a body here, in MiB; small, so that larger bodies are sent quickly."""

SHARES = {
    "image": 60, "map": 5, "damaged": 12, "bomb": 4, "too long": 2, "too long, in chunks": 2, "wrong type": 3,
    "unknown part": 2, "wrong method": 1, "ends early": 3, "more than stated": 2, "no HTTP": 2, "slow": 1,
    "abandoned": 1,
}  # fmt: skip
"""Kinds of requests and their shares in percent."""


@dataclass(frozen=True)
class Body:
    """A body and the expected answer: a status, and with 200 a score."""

    content: bytes
    status: int
    score: float | None = None


@dataclass(frozen=True)
class Answered:
    """Kind of a request, its milliseconds, and what was wrong with its answer; empty if nothing."""

    kind: str
    milliseconds: float
    wrong: str = ""


def encoded(number: int) -> list[bytes]:
    """Encode one rendered surface, good or with a defect, in several file formats."""
    pixels = generator.render(1, 100 + number, size=SIDES[number // 2 % len(SIDES)], defect=bool(number % 2))[
        0
    ]
    color = np.stack([pixels, pixels // 2, 255 - pixels], axis=-1)
    deep = pixels.astype(np.uint16) * 257
    found = []
    for array, kind in ((pixels, "PNG"), (deep, "PNG"), (color, "JPEG"), (pixels, "BMP"), (color, "WEBP")):
        file = io.BytesIO()
        PIL.Image.fromarray(array).save(file, kind)
        found.append(file.getvalue())
    file = io.BytesIO()
    tifffile.imwrite(file, deep, compression="zlib")
    return [*found, file.getvalue()]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut a file short, or change some of its bytes."""
    if rng.random() < 0.3:
        return content[: rng.integers(len(content))]
    changed = np.frombuffer(content, np.uint8).copy()
    reach = len(changed) if rng.random() < 0.5 else min(200, len(changed))  # headers are where it hurts
    places = rng.integers(0, reach, rng.integers(1, 20))
    changed[places] = rng.integers(0, 256, len(places))
    return changed.tobytes()


def bombs() -> list[bytes]:
    """Make small files of large images, and files that only claim to be."""
    zeros = PIL.Image.new("L", (5000, 5000))
    found = []
    for kind in ("PNG", "TIFF", "WEBP", "JPEG"):
        file = io.BytesIO()
        zeros.save(file, kind, **({"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}))
        found.append(file.getvalue())
    return [*found, b"P5 100000 100000 255\n"]


def send(port: int, bodies: dict[str, list[Body]], count: int, seed: str) -> list[Answered]:
    """Send `count` requests of random kinds, one after the other, and check each answer."""
    rng = random.Random(seed)
    client = Client(port, bodies, rng)
    answered = []
    for kind in rng.choices([*SHARES], [*SHARES.values()], k=count):
        began = time.perf_counter()
        try:
            wrong = client.send(kind)
        except Exception as error:  # whatever a client meets is an answer that was not right
            wrong = repr(error)
            client.close()
        answered.append(Answered(kind, 1000 * (time.perf_counter() - began), wrong))
    client.close()
    return answered


class Client:
    """A client that reuses its connection until the service closes it."""

    def __init__(self, port: int, bodies: dict[str, list[Body]], rng: random.Random) -> None:
        self.address, self.bodies, self.rng = ("127.0.0.1", port), bodies, rng
        self.connection = http.client.HTTPConnection(*self.address, timeout=60)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self.connection.close()

    def send(self, kind: str) -> str:
        """Send a request of this kind; return what was wrong with the answer."""
        rng, inspect = self.rng, f"/parts/{PART}/inspect"
        body = rng.choice(self.bodies[kind if kind in self.bodies else "image"])
        content = body.content
        match kind:
            case "image" | "damaged" | "bomb":
                return self._ask(inspect, content, body.status, score=body.score)
            case "map":
                return self._ask(f"/parts/{PART}/map", content, 200)
            case "too long":
                return self._ask(inspect, bytes(BODY_MIB * 2**20 + 1), 413)
            case "too long, in chunks":
                return self._ask(inspect, iter([bytes(2**20)] * (BODY_MIB + 1)), 413)
            case "wrong type":
                return self._ask(
                    inspect, content, 415, media_type=rng.choice(["", "text/plain", "application/json"])
                )
            case "unknown part":
                return self._ask(f"/parts/x{rng.random()}/inspect", content, 404)
            case "wrong method":
                return self._ask(inspect, content, 405, method="PUT")
            case "ends early":
                return self._raw(content[:-10], len(content), b"HTTP/1.1 400 |", ends=True)
            case "more than stated":
                return self._raw(content + b"\0\0\r\n\r\n", len(content), b"HTTP/1.1 200 ")
            case "no HTTP":
                return self._raw(rng.randbytes(50) + b"\r\n\r\n", None, b"HTTP/1.1 400 ")
            case "slow":
                return self._raw(content[:10], len(content), b"HTTP/1.1 408 ")
            case "abandoned":
                with socket.create_connection(self.address, timeout=60) as connection:
                    connection.sendall(self._head(len(content)) + content)
                return ""
        raise ValueError(f"no kind {kind!r}")

    def _ask(
        self,
        path: str,
        content: object,
        status: int,
        *,
        score: float | None = None,
        method: str = "POST",
        media_type: str = "image/png",
    ) -> str:
        headers = {"Content-Type": media_type} if media_type else {}
        self.connection.request(method, path, content, headers)
        answer = self.connection.getresponse()
        received = answer.read()
        if answer.status != status:
            return f"expected {status}, received {answer.status}: {received[:200]!r}"
        if answer.headers["Content-Type"] == "image/png":
            return "" if received.startswith(b"\x89PNG") else "no PNG"
        found = json.loads(received)
        if status != 200:
            return "" if list(found) == ["error"] else f"another shape: {found}"
        return "" if found["score"] == score else f"expected score {score}, received {found['score']}"

    def _head(self, length: int) -> bytes:
        lines = [f"POST /parts/{PART}/inspect HTTP/1.1", "Host: 127.0.0.1", "Content-Type: image/png"]
        return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()

    def _raw(self, content: bytes, length: int | None, begins: bytes, *, ends: bool = False) -> str:
        """Send bytes over their own connection; check how the answer starts; b'|' expects none."""
        with socket.create_connection(self.address, timeout=60) as connection:
            connection.sendall((b"" if length is None else self._head(length)) + content)
            if ends:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while b"\r\n\r\n" not in received and (piece := connection.recv(2**16)):
                received += piece
        expected, or_nothing, _ = begins.partition(b"|")
        is_right = received.startswith(expected) or (bool(or_nothing) and received == b"")
        return "" if is_right else f"expected {expected!r}, received {received[:200]!r}"
