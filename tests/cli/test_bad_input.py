"""Bad input through the command line: one clear line, the right exit status, nothing half-written."""

import contextlib
import csv
import errno
import gc
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from metricad.data import images
from metricad.errors import DataError
from metricad.inspection.inspector import FIELDS
from tests.helpers import make_run, repack, save, scratched, texture

ENOUGH = ("--false-alarm-rate", "0.1", "--holdout", "0.3")  # for the thirty good images
GRAY = images.to_uint8(texture(np.random.default_rng(99)))
OLD = b"what was here before"


@pytest.fixture(autouse=True)
def nothing_half_written(tmp_path):
    """After every test, whatever went wrong in it."""
    yield
    assert not list(tmp_path.rglob(".partial*"))


@pytest.fixture
def inspect_one(run_metricad, part):
    """Inspect one file that must be inspected; give its JSON line."""

    def run(path):
        done = run_metricad("inspect", part, path, "--format", "jsonl")
        assert (done.status, done.err) == (0, ""), done
        return json.loads(done.out)

    return run


@pytest.fixture
def error_in(run_metricad, part):
    """Inspect one file that must be refused; give the reason."""

    def run(path):
        done = run_metricad("inspect", part, path, "--format", "jsonl")
        assert done.status == 2
        assert done.err == ""
        (row,) = map(json.loads, done.out.splitlines())
        assert list(row) == list(FIELDS)
        assert (row["path"], row["verdict"]) == (str(path), "error")
        assert row["sha256"] == (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None)
        assert (row["part"], row["part_sha256"]) == ("part", hashlib.sha256(part.read_bytes()).hexdigest())
        said = {"time", "path", "sha256", "part", "part_sha256", "verdict", "error"}
        assert {row[name] for name in FIELDS if name not in said} == {None}
        return row["error"]

    return run


@pytest.fixture
def refused_prototype(refused, run_folder, tmp_path):
    """Ask for an inspector that cannot be made; give the line that says why. An old file stays as it is."""

    def run(*good, network=run_folder, options=ENOUGH):
        out = tmp_path / "out" / "part.metricad"
        out.parent.mkdir(exist_ok=True)
        out.write_bytes(OLD)
        message = refused("prototype", *good, "--out", out, "--network", network, *options)
        assert out.read_bytes() == OLD
        assert [path.name for path in out.parent.iterdir()] == ["part.metricad"]
        return message

    return run


def png(path, array, **options):
    """Write pixels as they are."""
    Image.fromarray(array).save(path, **options)
    return path


# Image files that are none, or odd.


def test_a_missing_folder(refused, error_in, refused_prototype, tmp_path):
    missing = tmp_path / "missing"
    assert f"{missing}: no such file or folder" in refused_prototype(missing)
    assert "no such file" in error_in(missing)
    assert "no such folder" in refused("train", "--out", tmp_path / "run", "--source", missing)
    assert not (tmp_path / "run").exists()


def test_an_empty_folder(refused, refused_prototype, part, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty}: no images in this folder; expected files ending in" in refused_prototype(empty)
    assert "no images in this folder" in refused("inspect", part, empty)
    assert "found no folders" in refused("train", "--out", tmp_path / "run", "--source", empty)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["text.png", "text.tif", "text"])
def test_a_file_that_is_no_image(error_in, tmp_path, name):
    path = tmp_path / name
    path.write_text("not an image\n" * 50)
    assert error_in(path).startswith("not a readable image: damaged, or of another kind")


@pytest.mark.parametrize("name", ["i.png", "i.jpg", "i.tif"])
@pytest.mark.parametrize("share", [0, 0.002, 0.5, 0.98])
def test_a_truncated_image(error_in, tmp_path, name, share):
    path = png(tmp_path / name, GRAY)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert error_in(path).startswith(("not a readable image", "expected one gray or color image"))


def test_a_damaged_good_image_ends_the_making(refused_prototype, good_folder, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes((good_folder / "000.png").read_bytes()[:200])
    message = refused_prototype(good_folder, bad)
    assert message.startswith(f"error: {bad}: not a readable image")


def test_levels_that_the_good_images_do_not_have(error_in, tmp_path):
    deep = png(tmp_path / "16.png", GRAY.astype(np.uint16) * 257)
    assert error_in(deep).startswith("16-bit levels, expected 8-bit levels, as the good images have")
    tifffile.imwrite(tmp_path / "i.tif", (GRAY / 255).astype(np.float32))
    assert error_in(tmp_path / "i.tif").startswith("float levels, expected 8-bit levels")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "P"])
def test_color_alpha_and_palettes_are_as_good_as_gray(inspect_one, tmp_path, mode):
    gray = Image.fromarray(GRAY)
    picture = gray.convert(mode)
    if mode in ("RGBA", "LA"):
        picture.putalpha(255)
    gray.save(tmp_path / "gray.png")
    picture.save(tmp_path / "other.png")
    assert picture.mode == mode
    expected = inspect_one(tmp_path / "gray.png")["score"]
    assert inspect_one(tmp_path / "other.png")["score"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (31, 31), (31, 200), (200, 31)])
def test_an_image_below_the_receptive_field(error_in, refused_prototype, good_folder, tmp_path, shape):
    path = png(tmp_path / "small.png", np.full(shape, 99, np.uint8))
    words = f"expected at least 32×32 pixels, received {shape[0]}×{shape[1]}"
    assert error_in(path) == words
    assert refused_prototype(good_folder, path).startswith(f"error: {path}: {words}")


def test_the_smallest_image_has_one_feature(inspect_one, tmp_path):
    row = inspect_one(png(tmp_path / "32.png", GRAY[:32, :32]))
    assert (row["peak_row"], row["peak_col"]) == (16, 16)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "holds NaN or infinite values"),
        (np.inf, "holds NaN or infinite values"),
        (-0.5, "float values from -0.5 to 1; expected [0, 1]"),
        (40.0, "to 40; expected [0, 1]: rescale the image"),
    ],
)
def test_floats_that_are_no_gray(error_in, tmp_path, value, words):
    pixels = (GRAY / 255).astype(np.float32)
    pixels[10, 10:12] = value, 1
    tifffile.imwrite(tmp_path / "i.tif", pixels)
    assert words in error_in(tmp_path / "i.tif")


def test_twelve_bits_from_good_images_to_verdicts(run_metricad, run_folder, good_folder, part, tmp_path):
    """As their twins of eight bits, on which the other part was made."""
    deep = {}
    for path in sorted(good_folder.iterdir()):
        levels = np.asarray(Image.open(path)).astype(np.uint16)
        deep[path.name] = tmp_path / "deep" / f"{path.stem}.tif"
        deep[path.name].parent.mkdir(exist_ok=True)
        tifffile.imwrite(deep[path.name], levels << 4 | levels >> 4)
    out = tmp_path / "deep.metricad"
    done = run_metricad("prototype", tmp_path / "deep", "--out", out, "--network", run_folder, *ENOUGH)
    assert done.status == 0, done
    assert "gray images of 12 bits" in done.out
    rows = [
        [json.loads(line) for line in run_metricad("inspect", *given, "--format", "jsonl").out.splitlines()]
        for given in ((part, good_folder / "000.png"), (out, deep["000.png"]))
    ]
    for eight, twelve in zip(*rows, strict=True):
        assert twelve["score"] == pytest.approx(eight["score"], rel=0.01)
        assert twelve["threshold"] == pytest.approx(eight["threshold"], rel=0.01)
    done = run_metricad("inspect", out, good_folder / "000.png", "--format", "jsonl", "--fail-on-defect")
    assert done.status == 2
    assert "expected 12-bit levels in 16-bit files" in json.loads(done.out)["error"]


def test_turned_images_are_told_of(run_metricad, part, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    png(tmp_path / "upright.png", GRAY)
    Image.fromarray(GRAY[::-1, ::-1]).save(tmp_path / "turned.png", exif=exif)
    done = run_metricad("inspect", part, tmp_path, "--format", "jsonl")
    assert (done.status, done.err) == (0, "turned as EXIF or TIFF orientation asks: 1 images\n")
    one, other = (json.loads(line) for line in done.out.splitlines())
    own = dict.fromkeys(("time", "path", "sha256"))
    assert one | own == other | own


def test_a_page_is_named(inspect_one, error_in, run_metricad, part, tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", np.stack([255 - GRAY, GRAY]), photometric="minisblack")
    assert "several pages" in error_in(tmp_path / "i.tif")
    done = run_metricad("inspect", part, tmp_path / "i.tif", "--page", 2, "--format", "jsonl")
    assert json.loads(done.out)["score"] == inspect_one(png(tmp_path / "i.png", GRAY))["score"]


def test_other_image_files_in_a_folder_are_not_judged_and_others_named(run_metricad, part, tmp_path):
    png(tmp_path / "a.png", GRAY)
    png(tmp_path / "b.gif", GRAY)
    (tmp_path / "notes.txt").touch()
    done = run_metricad("inspect", part, tmp_path, "--format", "jsonl", "--fail-on-defect")
    assert done.status == 2
    assert done.err == "left out 1 file: 1 .txt\n"
    assert [Path(json.loads(line)["path"]).name for line in done.out.splitlines()] == ["a.png", "b.gif"]
    assert json.loads(done.out.splitlines()[1])["error"].startswith("a GIF file")


@pytest.mark.parametrize("kind", ["mean", "gaussian"])
def test_good_images_that_never_vary(run_metricad, run_folder, tmp_path, kind):
    flat = tmp_path / "flat"
    for number in range(20):
        save(flat / f"{number}.png", np.full((40, 40), 0.25))
    part = tmp_path / "flat.metricad"
    done = run_metricad(
        "prototype", flat, "--out", part, "--network", run_folder, "--kind", kind,
        "--holdout", 0.5, "--false-alarm-rate", 0.1,
    )  # fmt: skip
    assert (done.status, done.err) == (0, "")
    other = png(tmp_path / "other.png", GRAY)
    done = run_metricad("inspect", part, flat / "0.png", other, "--format", "jsonl", "--maps", tmp_path / "m")
    assert (done.status, done.err) == (0, "")
    same, different = map(json.loads, done.out.splitlines())
    assert (same["verdict"], different["verdict"]) == ("good", "defect")
    assert np.isfinite([same["score"], same["threshold"], different["score"]]).all()
    assert len(list((tmp_path / "m").rglob("*.png"))) == 2


def test_a_flat_image_on_a_textured_part(inspect_one, tmp_path):
    for level in (0, 128, 255):
        row = inspect_one(png(tmp_path / f"{level}.png", np.full((64, 64), level, np.uint8)))
        assert np.isfinite(row["score"])


def test_good_images_of_differing_sizes(run_metricad, run_folder, tmp_path):
    rng = np.random.default_rng(0)
    for number, side in enumerate([32, 64, 33, 100] * 5):
        save(tmp_path / "mixed" / f"{number}.png", texture(rng, side=side))
    part = tmp_path / "mixed.metricad"
    done = run_metricad(
        "prototype", tmp_path / "mixed", "--out", part, "--network", run_folder,
        "--holdout", 0.5, "--false-alarm-rate", 0.1,
    )  # fmt: skip
    assert (done.status, done.err) == (0, "")
    done = run_metricad("inspect", part, tmp_path / "mixed", "--format", "jsonl")
    assert done.status == 0
    assert len(done.out.splitlines()) == 20


def test_too_few_good_images(refused_prototype, good_folder):
    four = sorted(good_folder.iterdir())[:4]
    assert "4 good images are too few" in refused_prototype(*four, options=())
    assert "holds out 0" in refused_prototype(*four, options=("--holdout", "0.1"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--false-alarm-rate", "0"], "false-alarm rate must lie between 0 and 1"),
        (["--false-alarm-rate", "1"], "false-alarm rate must lie between 0 and 1"),
        (["--false-alarm-rate", "nan"], "false-alarm rate must lie between 0 and 1"),
        (["--holdout", "0", "--min-defect", "9"], "without a threshold"),
        (["--holdout", "1.5"], "holdout must lie in [0, 1)"),
        ([*ENOUGH, "--kind", "gaussian", "--metric", "manhattan"], "has its own metric"),
    ],
    ids=" ".join,
)
def test_options_out_of_range(refused_prototype, good_folder, options, words):
    assert words in refused_prototype(good_folder, options=options)


# Runs.


def test_a_network_that_is_not_there(refused, refused_prototype, good_folder, tmp_path):
    missing, empty, file = tmp_path / "missing", tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.touch()
    for network in (missing, empty, file):
        words = f"{network}: no training run here (config.json is missing)"
        assert words in refused_prototype(good_folder, network=network)
        assert words in refused(
            "evaluate", "--network", network, "--data", mvtec(tmp_path / "d"), "--out", tmp_path / "r.json"
        )
        assert not (tmp_path / "r.json").exists()


def test_a_run_without_weights(refused_prototype, good_folder, tmp_path):
    run = make_run(tmp_path / "run")
    (run / "network.npz").unlink()
    message = refused_prototype(good_folder, network=run)
    assert f"{run}: no weights here (network.npz is missing); 0 of 6 rounds are kept" in message
    assert f"metricad train --out {run} --resume" in message


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped", "another network"])
def test_damaged_weights(refused_prototype, good_folder, tmp_path, damage):
    run = make_run(tmp_path / "run")
    weights = run / "network.npz"
    content = weights.read_bytes()
    if damage == "another network":
        shutil.copy(make_run(tmp_path / "other", units=3) / weights.name, weights)
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        damaged = {"truncated": content[:-100], "empty": b"", "text": b"weights", "flipped": flipped}
        weights.write_bytes(damaged[damage])
    assert f"{weights}: damaged, or weights of another network" in refused_prototype(good_folder, network=run)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"settings": {"units": 0}, "data": {}}', '{"settings": 3}', "\xff"]
)
def test_a_damaged_configuration(refused_prototype, good_folder, tmp_path, content):
    run = make_run(tmp_path / "run")
    (run / "config.json").write_text(content, encoding="latin-1")
    assert "config.json: damaged or of another version" in refused_prototype(good_folder, network=run)


# Training.


def class_folders(folder, *, classes=2, count=3):
    """Write a source of textures."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        for number in range(count):
            save(folder / f"class{label}" / f"{number}.png", texture(rng))
    return folder


def train_options(out, source, *, rounds=1, **options):
    values = {"units": 2, "rounds": rounds, "epochs": 1, "triplets": 32, "batch-size": 16, "pyramid": 64}
    flags = [word for name, value in (values | options).items() for word in (f"--{name}", value)]
    return ["train", "--out", out, "--source", source, *flags]


def test_a_folder_that_holds_something_is_not_trained_into(refused, tmp_path):
    source = class_folders(tmp_path / "source")
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_bytes(OLD)
    assert f"{run}: exists and is not empty" in refused(*train_options(run, source))
    assert [path.name for path in run.iterdir()] == ["notes.txt"]
    assert f"{run / 'notes.txt'}: is a file" in refused(*train_options(run / "notes.txt", source))
    assert (run / "notes.txt").read_bytes() == OLD


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "0.png").write_bytes(b"no image"), "0.png: not a readable image"),
        (lambda folder: save(folder / "0.png", np.zeros((20, 64))), "expected at least 32×32 pixels"),
        (
            lambda folder: [(folder / f"{n}.png").unlink() for n in (0, 1)],
            "has 1 image(s); a triplet needs two",
        ),
        (lambda folder: save(folder / "3.png", np.zeros((32, 32))), "beside larger ones (textures)"),
    ],
    ids=["damaged", "too small", "one image", "mixed"],
)
def test_what_cannot_be_learned_leaves_no_run_behind(refused, tmp_path, spoil, words):
    """So that the same command works once the data are mended."""
    source, run = class_folders(tmp_path / "source"), tmp_path / "run"
    spoil(source / "class1")
    assert words in refused(*train_options(run, source))
    assert not run.exists()


def test_a_pyramid_that_rises(refused, tmp_path):
    source, run = class_folders(tmp_path / "source"), tmp_path / "run"
    assert "sides must be in descending order" in refused(*train_options(run, source, pyramid="48,64"))
    assert not run.exists()


def test_training_that_diverges_makes_no_network(run_metricad, tmp_path):
    """Its network would find every part good."""
    source, run = class_folders(tmp_path / "source"), tmp_path / "run"
    done = run_metricad(*train_options(run, source, **{"learning-rate": 1e12}))
    assert done.status == 2
    assert done.err == f"error: {run}: the loss of round 1 is not finite; train with a lower learning rate\n"
    assert [path.name for path in run.iterdir()] == ["config.json"]


def test_resume_takes_no_other_options(refused, tmp_path):
    message = refused("train", "--out", tmp_path / "run", "--resume", "--units", 3, "--seed", 1)
    assert "--resume uses the stored options of the run; leave out" in message
    assert "units" in message
    assert "seed" in message


def test_resume_needs_a_run_and_its_own_images(refused, tmp_path):
    assert "no training run here" in refused("train", "--out", tmp_path / "run", "--resume")
    from metricad.data import datasets
    from metricad.training import runs
    from metricad.training.settings import Settings

    source = class_folders(tmp_path / "source")
    data = {"sources": [str(source)], "data_dir": None, "normals": None}
    seen = [datasets.describe(datasets.load(source))]
    run = runs.start(tmp_path / "run", Settings(units=2, pyramid=(64,)), data | {"seen": seen})
    save(source / "class1" / "new.png", np.zeros((64, 64)))
    assert "the images of its sources have changed" in refused("train", "--out", run, "--resume")


@pytest.mark.slow
def test_interrupted_training_says_how_to_go_on_and_goes_on(run_metricad, tmp_path):
    """A real Ctrl-C, in a process of its own, once the first round is done."""
    source, run, rounds = class_folders(tmp_path / "source"), tmp_path / "run", 5
    # Rounds of half a second or more: seconds are left when the first line is read, also on a fast machine.
    options = train_options(run, source, rounds=rounds, triplets=800)
    command = [sys.executable, "-m", "metricad", *map(str, options)]
    # A shell that runs the tests in the background has Ctrl-C ignored, and a process begins as its parent is.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, inherited)
    with process:
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert first.startswith(f"round 1/{rounds}")
    assert process.returncode == 2
    assert out == ""
    *others, last = err.splitlines()
    assert all(line.startswith("round ") for line in others)
    (checkpoint,) = run.glob("checkpoint-*.npz")
    done = int(checkpoint.name[11:15])
    assert 1 <= done < rounds
    assert last.startswith(
        f"error: interrupted; {done} of {rounds} rounds are kept: go on with 'metricad train"
    )
    assert f"--out {run} --resume" in last
    assert not (run / "network.npz").exists()
    assert not list(run.glob(".partial*"))

    again = run_metricad("train", "--out", run, "--resume")
    assert again.status == 0, again
    expected = [f"{number}/{rounds}" for number in range(done + 1, rounds + 1)]
    assert [line.split()[1] for line in again.err.splitlines()] == expected
    assert (run / "network.npz").exists()
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["round"] for record in records] == list(range(1, rounds + 1))


# Bundles.


def flipped(source, target, member):
    """Copy a bundle with one bit of one member's data turned round."""
    content = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        entry = archive.getinfo(member)
    content[entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2] ^= 1
    target.write_bytes(content)
    return target


@pytest.fixture
def refused_bundle(refused, good_folder, tmp_path):
    """Inspect with a bundle that must be refused; give the line that says why."""

    def run(path):
        message = refused("inspect", path, good_folder / "000.png", "--maps", tmp_path / "maps")
        assert message.startswith(f"error: {path}: ")
        assert not (tmp_path / "maps").exists()
        return message

    return run


def test_a_bundle_that_is_none(refused_bundle, tmp_path):
    assert "no such file; make a bundle with 'metricad prototype'" in refused_bundle(tmp_path / "missing")
    text = tmp_path / "text.metricad"
    text.write_text("no zip")
    assert "no metricad bundle, or a damaged one" in refused_bundle(text)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("hello", "world")
    assert "no metricad bundle" in refused_bundle(tmp_path / "other.zip")
    assert "no such file" in refused_bundle(tmp_path)


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_truncated_bundle(refused_bundle, part, tmp_path, share):
    path = tmp_path / "a.metricad"
    path.write_bytes(part.read_bytes()[: int(share * part.stat().st_size)])
    assert "no metricad bundle, or a damaged one" in refused_bundle(path)


def test_a_flipped_bit_in_each_member(refused_bundle, part, tmp_path):
    with zipfile.ZipFile(part) as archive:
        members = archive.namelist()
    assert "manifest.json" in members
    for member in members:
        assert "damaged" in refused_bundle(flipped(part, tmp_path / "a.metricad", member))


def test_a_wrong_checksum(refused_bundle, part, tmp_path):
    from metricad.inspection import bundle

    sums = bundle.read_manifest(part)["sha256"] | {"density0/00.npy": "0" * 64}
    path = repack(part, tmp_path / "a.metricad", manifest={"sha256": sums})
    assert "damaged: the checksum of density0/00.npy is wrong" in refused_bundle(path)


def test_a_newer_bundle(refused_bundle, part, tmp_path):
    path = repack(part, tmp_path / "a.metricad", manifest={"format_version": 99})
    assert "another metricad made it" in refused_bundle(path)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_bundle_with_a_pickle(refused_bundle, part, tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    path = repack(part, tmp_path / "a.metricad", prototype__mean=buffer.getvalue())
    assert "no plain array" in refused_bundle(path)
    assert not (tmp_path / "sprung").exists()
    np.load(io.BytesIO(buffer.getvalue()), allow_pickle=True)
    assert (tmp_path / "sprung").exists()  # the trap does work


# Many files, odd names.


@pytest.fixture
def line(tmp_path):
    """A good part, a file that is no image, a part with a scratch."""
    plain = texture(np.random.default_rng(99))
    save(tmp_path / "line" / "a.png", plain)
    (tmp_path / "line" / "b.png").write_bytes(b"no image")
    save(tmp_path / "line" / "c.png", scratched(plain, 20, 30))
    return tmp_path / "line"


def test_one_bad_file_among_many_as_json(run_metricad, part, line, tmp_path):
    done = run_metricad(
        "inspect", part, line, "--format", "jsonl", "--fail-on-defect", "--maps", tmp_path / "m"
    )
    assert (done.status, done.err) == (2, "")
    rows = [json.loads(text, parse_constant=pytest.fail) for text in done.out.splitlines()]
    assert all(list(row) == list(FIELDS) for row in rows)
    assert [row["verdict"] for row in rows] == ["good", "error", "defect"]
    assert rows[1]["error"].startswith("not a readable image: damaged, or of another kind")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["a.png.png", "c.png.png"]


def test_one_bad_file_among_many_as_csv(run_metricad, part, line):
    done = run_metricad("inspect", part, line, "--format", "csv")
    assert (done.status, done.err) == (2, "")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert list(rows[0]) == list(FIELDS)
    assert [row["verdict"] for row in rows] == ["good", "error", "defect"]
    assert rows[1]["error"].startswith("not a readable image")
    assert rows[1]["score"] == ""


def test_one_bad_file_among_many_as_a_table(run_metricad, part, line):
    done = run_metricad("inspect", part, line)
    assert (done.status, done.err) == (2, "")
    shown = [text.split() for text in done.out.splitlines()]
    assert [cells[0] for cells in shown if cells and cells[0] in ("good", "error", "defect")] == [
        "good",
        "error",
        "defect",
    ]
    assert "not a readable image" in done.out


@pytest.mark.parametrize("format", ["table", "csv", "jsonl"])
def test_odd_file_names(run_metricad, part, tmp_path, format):
    folder = tmp_path / "odd"
    names = [
        os.fsdecode(b"caf\xe9.png"),  # Latin-1, no UTF-8
        *("søm σ.png", "with space.png", "[bold]x[/].png", "back\\[red].png", "new\nline.png"),
        *('quo"te,.png', "-dash.png", "%s{x}.png"),
    ]
    for name in names:
        save(folder / name, texture(np.random.default_rng(99)))
    done = run_metricad("inspect", part, folder, "--format", format, "--maps", tmp_path / "maps")
    assert (done.status, done.err) == (0, "")
    maps = {str(path.relative_to(tmp_path / "maps")) for path in (tmp_path / "maps").rglob("*.png")}
    assert maps == {f"{name}.png" for name in names}
    printed = [name.replace("\udce9", "\\udce9") for name in names]
    if format == "jsonl":
        found = [json.loads(text)["path"] for text in done.out.splitlines()]
        assert found == [str(path) for path in images.find([folder])]
    elif format == "csv":
        rows = csv.DictReader(io.StringIO(done.out))
        assert {row["path"] for row in rows} == {str(folder / name) for name in printed}
    else:
        for name in printed:
            assert all(piece in done.out for piece in name.split("\n"))


def test_odd_names_among_the_good_images(run_metricad, run_folder, good_folder, tmp_path):
    folder = tmp_path / os.fsdecode(b"g\xfct")
    shutil.copytree(good_folder, folder)
    out = tmp_path / "part.metricad"
    done = run_metricad("prototype", folder, "--out", out, "--network", run_folder, *ENOUGH)
    assert (done.status, done.err) == (0, "")
    missing = tmp_path / os.fsdecode(b"\xff.png")
    done = run_metricad("prototype", missing, "--out", out, "--network", run_folder, *ENOUGH)
    assert done.status == 2
    assert ".png: no such file or folder" in done.err
    assert done.err.count("\n") == 1


# Evaluation and report.


def mvtec(folder, *, kinds=("good", "scratch")):
    """Write a small labelled surface, `stripes`, below this folder."""
    rng = np.random.default_rng(0)
    for number in range(4):
        save(folder / "stripes" / "train" / "good" / f"{number}.png", texture(rng))
    for kind in kinds:
        for number in range(2):
            plain = texture(rng)
            image = plain if kind == "good" else scratched(plain, 20, 30)
            save(folder / "stripes" / "test" / kind / f"{number}.png", image)
    return folder


@pytest.fixture
def refused_evaluation(refused, tmp_path):
    """Evaluate what must be refused; give the line that says why. Old results stay as they are."""

    def run(*arguments):
        out = tmp_path / "out" / "results.json"
        out.parent.mkdir(exist_ok=True)
        out.write_bytes(OLD)
        message = refused("evaluate", *arguments, "--out", out)
        assert out.read_bytes() == OLD
        assert [path.name for path in out.parent.iterdir()] == ["results.json"]
        return message

    return run


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["good"], "has 2 good and 0 defective images to test on; an AUROC needs both"),
        (["scratch"], "has 0 good and 2 defective images"),
        ([], "has 0 good and 0 defective images"),
    ],
)
def test_a_surface_without_both_kinds(refused_evaluation, part, tmp_path, kinds, words):
    data = mvtec(tmp_path / "data", kinds=kinds)
    assert f"data: surface stripes {words}" in refused_evaluation(part, "--data", data)


def test_a_bad_image_and_a_bad_mask_cost_themselves_and_not_the_run(run_metricad, part, tmp_path):
    data, out = mvtec(tmp_path / "data") / "stripes", tmp_path / "out" / "results.json"
    for name in ("train/good/0.png", "train/good/notes.txt"):
        (data / name).write_bytes(b"no image")
    save(data / "ground_truth" / "scratch" / "1_mask.png", np.zeros((9, 9), np.float32))
    done = run_metricad("evaluate", part, "--data", data, "--out", out)
    left_out, warning, image, mask = done.err.splitlines()
    assert (done.status, left_out) == (2, "left out 1 file: 1 .txt")
    assert warning.startswith("warning: stripes: test/scratch/1.png: ")
    assert image.startswith("stripes: train/good/0.png: not a readable image")
    assert mask.startswith("stripes: test/scratch/1.png: ")
    records = json.loads(out.read_text())["results"]
    assert [(one["fit_normals"], one["test_defects"], one["masks"]) for one in records] == [
        (3, 2, 0),
        (0, 2, 0),
    ]
    for one in records:
        found = [(each["name"], each["what"]) for each in one["left_out"]]
        assert found == [("train/good/0.png", "image"), ("test/scratch/1.png", "mask")]
        assert str(tmp_path) not in json.dumps(one["left_out"])
    assert "Left out, as the results say: 2 images" in report_of(run_metricad, out)


def report_of(run_metricad, results):
    """Write the report of results; give its Markdown."""
    assert run_metricad("report", results, "--out", results.parent / "report").status == 0
    return (results.parent / "report" / "report.md").read_text()


def test_many_bad_images_are_an_error_of_their_surface_only(run_metricad, part, refused_evaluation, tmp_path):
    data, out = mvtec(tmp_path / "data"), tmp_path / "out" / "results.json"
    shutil.copytree(data / "stripes", data / "other")
    for number in (0, 1):
        png(data / "other" / "train" / "good" / f"{number}.png", np.zeros((31, 64), np.uint8))
    named = shutil.copy(part, tmp_path / "stripes.metricad")
    done = run_metricad("evaluate", named, "--data", data, "--out", out)
    assert done.status == 2
    assert "not evaluated: data: other: 2 of 8 images cannot be used" in done.err
    document = json.loads(out.read_text())
    assert {one["surface"] for one in document["results"]} == {"stripes"}
    assert [one["surface"] for one in document["failed"]] == ["other"]
    assert (out.parent / "results.training").is_dir()  # what is done is kept until the other is mended
    shutil.rmtree(out.parent)
    message = refused_evaluation(part, "--data", data / "other")
    assert "the first: train/good/0.png: expected at least 32×32 pixels" in message


def test_a_network_is_not_tested_on_what_it_was_trained_on(refused_evaluation, tmp_path):
    run = make_run(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["data"]["seen"] = [{"dataset": "data", "labelled": {"stripes": ["test/good/1.png"]}}]
    (run / "config.json").write_text(json.dumps(config))
    message = refused_evaluation("--network", run, "--data", mvtec(tmp_path / "data"))
    assert "data: 1 test images of stripes were trained on (test/good/1.png" in message
    assert "--normals" in message


def test_more_normals_than_there_are(refused_evaluation, part, tmp_path):
    message = refused_evaluation(part, "--data", mvtec(tmp_path / "data"), "--normals", 5)
    assert "stripes: asked for 5 good images to fit to, found 4" in message


@pytest.fixture(scope="module")
def results(tmp_path_factory, part):
    """Results of one bundle on one surface, with their pictures beside them."""
    from metricad.data import datasets
    from metricad.evaluation import comparison
    from metricad.evaluation import results as records

    folder = tmp_path_factory.mktemp("results")
    surfaces = datasets.load(mvtec(folder / "data"))
    records.save(folder / "results.json", comparison.run(comparison.plan(surfaces, [part], [])))
    return folder / "results.json"


@pytest.fixture
def copied(results, tmp_path):
    """A copy to spoil."""
    for path in results.parent.glob("results.*"):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / "results.json"


def test_results_are_whole_to_begin_with(run_metricad, copied, tmp_path):
    done = run_metricad("report", copied, "--out", tmp_path / "report")
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"format_version": 2', '"format_version": 3'),
        lambda text: text.replace("metricad-results", "other"),
        lambda text: text.replace('"auroc"', '"other"'),
        lambda text: "[]",
        lambda text: "{}",
        lambda text: '{"format": "metricad-results", "format_version": 2, "results": [3]}',
        lambda text: text.partition('"results":')[0] + '"results": []}',
        lambda text: "\xff",
    ],
    ids=["empty", "half", "version", "format", "field", "list", "object", "row", "no rows", "encoding"],
)
def test_damaged_results(refused, copied, tmp_path, change):
    copied.write_text(change(copied.read_text()), encoding="latin-1")
    message = refused("report", copied, "--out", tmp_path / "report")
    assert message.startswith(f"error: {copied}: ")
    assert "evaluate again" in message
    assert not (tmp_path / "report").exists()


def test_missing_results(refused, tmp_path):
    message = refused("report", tmp_path / "missing.json", "--out", tmp_path / "report")
    assert "missing.json: no such file; make it with 'metricad evaluate'" in message


def test_damaged_pictures(refused, copied, tmp_path):
    from metricad.evaluation import results as records

    pictures = tmp_path / "results.examples.npz"
    content = pictures.read_bytes()
    # Bytes in the middle of compressed data fail in the zip's, in NumPy's and in zlib's own ways.
    spoiled = [content[:100], b"", content[:-30], b"text"]
    for position in np.linspace(40, len(content) - 60, 40).astype(int):
        spoiled.append(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
    refusals = []
    for damaged in spoiled:
        pictures.write_bytes(damaged)
        try:
            records.load(copied)
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) >= 36
    assert all(refusal.startswith(f"{pictures}: damaged") for refusal in refusals)
    pictures.write_bytes(content[:100])
    assert "results.examples.npz: damaged" in refused("report", copied, "--out", tmp_path / "report")


# A full disk.


@contextlib.contextmanager
def full_disk(after):
    """Let no file grow beyond so many bytes: the closest to a full disk that needs no disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_under_a_bundle(refused_prototype, good_folder, tmp_path):
    with full_disk(3000):
        message = refused_prototype(good_folder)
    assert message == f"error: {tmp_path / 'out' / 'part.metricad'}: File too large\n"


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # by imageio, when it cannot write
def test_a_full_disk_under_maps(run_metricad, part, line, tmp_path):
    with full_disk(2000):
        done = run_metricad("inspect", part, line, "--format", "jsonl", "--maps", tmp_path / "maps")
    assert done.status == 2
    assert done.err == f"error: {tmp_path / 'maps' / 'a.png.png'}: File too large\n"
    assert not list((tmp_path / "maps").iterdir())
    gc.collect()


@pytest.mark.parametrize("after", [500, 9000])
def test_a_full_disk_under_results(refused_evaluation, part, tmp_path, after):
    data = mvtec(tmp_path / "data")
    with full_disk(after):
        message = refused_evaluation(part, "--data", data)
    assert message.endswith(": File too large\n")
    assert "results" in message


def test_results_and_their_pictures_are_replaced_together_or_not_at_all(
    run_metricad, part, tmp_path, monkeypatch
):
    data, out = mvtec(tmp_path / "data"), tmp_path / "out" / "results.json"
    arguments = ["evaluate", part, "--data", data, "--out", out]
    assert run_metricad(*arguments).status == 0
    before = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    assert sorted(before) == ["results.costs.json", "results.examples.npz", "results.json"]

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    save(data / "stripes" / "test" / "good" / "0.png", np.zeros((64, 64)))
    message = run_metricad(*arguments).err
    assert message.startswith(f"error: {out.parent / 'results'}")
    assert "no space left on the device" in message
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == before


def test_a_full_disk_under_a_report(refused, results, tmp_path):
    with full_disk(300):
        message = refused("report", results, "--out", tmp_path / "report")
    assert message.endswith("File too large\n")


def test_no_space_is_said_in_plain_words(refused_prototype, good_folder, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    message = refused_prototype(good_folder)
    assert "part.metricad: no space left on the device; nothing was half-written" in message


LIMITED = """
import resource, sys
from metricad.cli import app, console
from metricad.deploy import native_output

native_output.load_tensorflow()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), hard))
console.run(app.app, prog="metricad")
"""


@pytest.mark.slow
def test_a_full_disk_under_a_checkpoint(tmp_path):
    """In a process of its own, whose files may have 5,000 bytes."""
    source, run = class_folders(tmp_path / "source"), tmp_path / "run"
    command = [sys.executable, "-c", LIMITED, "5000", *map(str, train_options(run, source))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"error: {run / 'checkpoint-0001.npz'}: File too large\n"
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "log.jsonl"]


def test_a_folder_where_a_file_should_be(refused, good_folder, run_folder, tmp_path):
    out = tmp_path / "folder"
    out.mkdir()
    message = refused("prototype", good_folder, "--out", out, "--network", run_folder, *ENOUGH)
    assert message.startswith(f"error: {out}: is a folder")
    assert not list(out.iterdir())
