"""Damage 1,000 image files at random, decode each in a process of its own, and report what became of them.

    python scripts/fuzz_images.py --out results/fuzz-images.md

The files are made here, in every format that metricad reads, and damaged in one of `DAMAGES`. Each is
decoded as `images.read` does, in a child process without TensorFlow, with limits of 5 s and 1 GiB. What
may happen:

- *read right*: a damage that leaves pixels alone (something appended, a comment, a cut-off end), and the
  pixels are those of the file before it;
- *read, not checked*: another damage, and the file was decoded. Formats without checksums cannot tell it.
- *refused* in one line;
- *wrong*: a damage that leaves pixels alone, but other pixels; *crashed*, *hung*: none of the above.

The script leaves with 1 if there is any of the last three.
"""

import argparse
import hashlib
import importlib
import io
import os
import pickle
import re
import resource
import select
import signal
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from metricad import files
from metricad.data import decoding, images
from metricad.errors import DataError

SECONDS, BYTES = 5.0, 2**30
SHAPE = (48, 64)


@dataclass(frozen=True)
class Outcome:
    """What became of one damaged file."""

    kind: str
    reason: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


def seeds(rng: np.random.Generator) -> dict[str, bytes]:
    """Make a file of every format and layout."""
    gray = rng.integers(0, 256, SHAPE, dtype=np.uint8)
    color = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    deep = rng.integers(0, 2**16, SHAPE, dtype=np.uint16)
    smooth = np.add.outer(np.arange(SHAPE[0]), 2 * np.arange(SHAPE[1])).astype(np.uint8)
    picture, other = Image.fromarray(color), Image.fromarray(255 - color)
    planes = np.moveaxis(color, -1, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "gray.png": _pillow(gray, "PNG"),
        "smooth.png": _pillow(smooth, "PNG", exif=exif),
        "color.png": _pillow(color, "PNG"),
        "deep.png": _pillow(deep, "PNG"),
        "palette.png": _pillow(picture.quantize(32), "PNG"),
        "bilevel.png": _pillow(gray > 127, "PNG"),
        "gray.jpg": _pillow(gray, "JPEG"),
        "color.jpg": _pillow(color, "JPEG", exif=exif),
        "progressive.jpg": _pillow(color, "JPEG", progressive=True),
        "cmyk.jpg": _pillow(picture.convert("CMYK"), "JPEG"),
        "gray.bmp": _pillow(gray, "BMP"),
        "color.bmp": _pillow(color, "BMP"),
        "palette.bmp": _pillow(picture.quantize(32), "BMP"),
        "lossy.webp": _pillow(color, "WEBP"),
        "lossless.webp": _pillow(color, "WEBP", lossless=True, exif=exif),
        "gray.pgm": _pillow(gray, "PPM"),
        "color.ppm": _pillow(color, "PPM"),
        "deep.pgm": b"P5 %d %d 4095\n" % SHAPE[::-1] + (deep >> 4).astype(">u2").tobytes(),
        "text.pgm": b"P2 %d %d 255\n" % SHAPE[::-1] + " ".join(map(str, gray.ravel())).encode(),
        "gray.tif": _tiff(gray),
        "deep.tif": _tiff(deep, byteorder=">"),
        "big.tif": _tiff(color, bigtiff=True),
        "float.tif": _tiff((gray / 255).astype(np.float32)),
        "deflate.tif": _tiff(deep, compression="zlib", predictor=2, rowsperstrip=8),
        "tiles.tif": _tiff(color, tile=(16, 16), compression="zlib"),
        "planes.tif": _tiff(planes, photometric="rgb", planarconfig="separate"),
        "lzw.tif": _pillow(color, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": _pillow(color, "TIFF", compression="jpeg"),
        "zstd.tif": _pillow(gray, "TIFF", compression="zstd"),
        "packbits.tif": _pillow(gray, "TIFF", compression="packbits"),
        "g4.tif": _pillow(gray > 127, "TIFF", compression="group4"),
        "palette.tif": _pillow(picture.quantize(32), "TIFF"),
        "cmyk.tif": _pillow(picture.convert("CMYK"), "TIFF"),
        "pages.tif": _pillow(picture, "TIFF", save_all=True, append_images=[other]),
    }


def _pillow(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).save(file, kind, **options)
    return file.getvalue()


def _tiff(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut off the end."""
    return content[: int(rng.integers(len(content)))]


def append(content: bytes, rng: np.random.Generator) -> bytes:
    """Append bytes that no picture begins with."""
    return content + bytes(int(rng.integers(1, 5000)))


def comment(content: bytes, rng: np.random.Generator) -> bytes:
    """Insert a comment, where the format has one; else append zeros."""
    text = rng.bytes(int(rng.integers(1, 200)))
    if content.startswith(b"\x89PNG"):
        body = b"tEXtcomment\0" + text
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        return content[:33] + chunk + content[33:]
    if content.startswith(b"\xff\xd8"):
        return content[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + content[2:]
    return append(content, rng)


def head(content: bytes, rng: np.random.Generator) -> bytes:
    """Replace one to eight bytes of the first 200."""
    return _replaced(content, rng, min(200, len(content)))


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip one to eight bits anywhere."""
    damaged = bytearray(content)
    for place in rng.integers(len(content), size=int(rng.integers(1, 9))):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def sector(content: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite up to 512 bytes with zeros or ones, as a bad sector reads."""
    start = int(rng.integers(len(content)))
    size = min(int(rng.integers(1, 513)), len(content) - start)
    return content[:start] + size * (b"\0", b"\xff")[int(rng.integers(2))] + content[start + size :]


def swap(content: bytes, rng: np.random.Generator) -> bytes:
    """Exchange two tags of a TIFF, or the numbers of two; in other formats, two stretches of bytes."""
    damaged = bytearray(content)
    if content[:2] in (b"II", b"MM") and content[2:4] in (b"*\0", b"\0*"):
        order = "<" if content[:2] == b"II" else ">"
        table = struct.unpack_from(f"{order}I", content, 4)[0]
        count = struct.unpack_from(f"{order}H", content, table)[0]
        one, other = (table + 2 + 12 * int(k) for k in rng.integers(count, size=2))
        first, size = ((0, 12), (0, 2), (8, 4))[int(rng.integers(3))]
    else:
        size, first = int(rng.integers(1, 16)), 0
        one, other = rng.integers(min(400, len(content) - size), size=2)
    one, other = int(one) + first, int(other) + first
    damaged[one : one + size], damaged[other : other + size] = (
        content[other : other + size],
        content[one : one + size],
    )
    return bytes(damaged[: len(content)])


def _replaced(content: bytes, rng: np.random.Generator, among: int) -> bytes:
    damaged = bytearray(content)
    for place in rng.integers(among, size=int(rng.integers(1, 9))):
        damaged[place] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
    return bytes(damaged)


DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    one.__name__: one for one in (cut, append, comment, head, flip, sector, swap)
}
HARMLESS = ("cut", "append", "comment")
"""Damages after which a file has its old pixels or cannot be read."""


def decoded(content: bytes) -> tuple[str, str]:
    """Decode a file; return ``read`` and a checksum of its pixels, or ``refused`` and why."""
    try:
        found = images.to_image(decoding.decode(content), color=True)
    except DataError as error:
        message = str(error)
        return ("refused" if "\n" not in message else "crashed"), message
    return "read", hashlib.sha256(repr(found.shape).encode() + found.tobytes()).hexdigest()


def isolated(content: bytes) -> Outcome:
    """Decode a file in a child process with limits of time and memory."""
    reader, writer = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        answer = ("crashed", "nothing was written")
        try:
            now = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
            resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, now + BYTES))
            answer = decoded(content)
        except BaseException as error:
            answer = ("crashed", repr(error))
        finally:
            os.write(writer, pickle.dumps(answer))
            os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], SECONDS)
    received = os.read(reader, 2**16) if ready else b""
    os.close(reader)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    taken, peak = time.perf_counter() - began, usage.ru_maxrss / 1024
    if not ready:
        return Outcome("hung", seconds=taken, megabytes=peak)
    if not received:
        return Outcome("crashed", f"exit status {status}", taken, peak)
    kind, reason = pickle.loads(received)
    return Outcome(kind, reason, taken, peak)


def judged(damage: str, outcome: Outcome, before: Outcome) -> str:
    """Say what an outcome amounts to."""
    if outcome.megabytes > BYTES / 2**20:
        return "crashed"
    if outcome.kind != "read":
        return outcome.kind
    if damage not in HARMLESS:
        return "read, not checked"
    return "read right" if outcome == replace(outcome, kind=before.kind, reason=before.reason) else "wrong"


def run(count: int, seed: int) -> tuple[Counter[tuple[str, str]], Counter[str], list[str], dict[str, float]]:
    """Damage and decode; return counts by damage and outcome, refusals, what failed, and the extremes."""
    rng = np.random.default_rng(seed)
    made = seeds(rng)
    names = list(made)
    before = {name: isolated(content) for name, content in made.items()}
    counts: Counter[tuple[str, str]] = Counter()
    refusals: Counter[str] = Counter()
    failures: list[str] = []
    most = {"seconds": 0.0, "megabytes": 0.0}
    for number in range(count):
        name, damage = names[number % len(names)], list(DAMAGES)[number // len(names) % len(DAMAGES)]
        outcome = isolated(DAMAGES[damage](made[name], rng))
        verdict = judged(damage, outcome, before[name])
        counts[damage, verdict] += 1
        if verdict == "refused":
            refusals[re.sub(r"\d+", "N", re.sub(r" \(.*", "", outcome.reason)).split(";")[0]] += 1
        if verdict in ("wrong", "crashed", "hung"):
            failures.append(f"{number}: {name}, {damage}: {verdict} {outcome.reason}")
        most = {key: max(value, getattr(outcome, key)) for key, value in most.items()}
    return counts, refusals, failures, most


def report(count: int, seed: int) -> tuple[str, list[str]]:
    """Run, and write the counts as Markdown."""
    counts, refusals, failures, most = run(count, seed)
    kinds = ["read right", "read, not checked", "refused", "wrong", "crashed", "hung"]
    lines = [
        "# Damaged image files",
        "",
        f"    python scripts/fuzz_images.py --count {count} --seed {seed} --out results/fuzz-images.md",
        "",
        f"{count} files: {len(seeds(np.random.default_rng(0)))} made in every format and layout, damaged at "
        "random, each decoded in a process of its own without TensorFlow. *Read right*: the pixels are those "
        "before the damage; this is checked for damages that cannot change pixels (cut, append, comment). "
        "*Read, not checked*: decoded, and whether its pixels are the old ones is not asked: most formats "
        "have no checksums, and another header makes another, valid file.",
        "",
        f"Longest {most['seconds']:.2f} s (limit {SECONDS:g} s), most memory {most['megabytes']:.0f} MiB "
        f"(limit {BYTES / 2**20:.0f} MiB).",
        "",
        f"| damage | {' | '.join(kinds)} |",
        f"| --- |{' ---: |' * len(kinds)}",
    ]
    for damage in [*DAMAGES, "all"]:
        row = [sum(n for (d, k), n in counts.items() if k == kind and damage in (d, "all")) for kind in kinds]
        lines.append(f"| {damage} | {' | '.join(map(str, row))} |")
    lines += ["", "Refused for:", "", "| reason | files |", "| --- | ---: |"]
    lines += [f"| {reason} | {number} |" for reason, number in refusals.most_common()]
    return "\n".join(lines) + "\n", failures


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="number of damaged files (1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of files and damages (0)")
    parser.add_argument("--out", type=Path, help="Markdown file to write; standard output by default")
    options = parser.parse_args()
    importlib.import_module("metricad.data.tiff")  # once, not in each child
    assert "tensorflow" not in sys.modules
    text, failures = report(options.count, options.seed)
    if options.out:
        files.write_text(options.out, text)
    else:
        print(text)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
