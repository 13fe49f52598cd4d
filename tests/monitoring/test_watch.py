"""A watched folder: each image one line, whatever is written, replaced, damaged, or killed meanwhile."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from metricad.data import images
from metricad.deploy import loading
from metricad.errors import DataError
from metricad.inspection.inspector import FIELDS, Inspection, Inspector
from metricad.monitoring import watch
from metricad.monitoring.folder import TRIES, WatchedFolder
from metricad.monitoring.journal import Journal
from metricad.monitoring.watch import Watch
from metricad.scoring.calibration import Calibration
from tests.helpers import ROOT, save, scratched, texture

EXTRA = ["size", "mtime_ns", "drift", "drift_since", "drift_p"]


class Brightness:
    """An inspector in no time: the score of an image is its mean gray level, 0 to 255."""

    def __init__(self, scores=None, *, on_inspect=lambda path: None):
        scores = np.linspace(90, 110, 60) if scores is None else np.sort(scores)
        self.calibration = Calibration(scores, 0.02)
        self.threshold = self.calibration.threshold
        self.on_inspect = on_inspect
        self.detector = SimpleNamespace(
            grid=SimpleNamespace(smallest=4),
            channels=1,
            on_pixels=lambda distance_map, image: np.broadcast_to(distance_map, image.shape),
            map_value=lambda score: score,
        )

    part, part_sha256 = "part", "f" * 64
    failed = Inspector.failed

    def read(self, path, *, content=None):
        return images.read(path, minimum_size=4, content=content)

    calibrated = Inspector.calibrated
    map_scale, picture = Inspector.map_scale, Inspector.picture

    def inspect(self, image, *, path=None, sha256=None):
        self.on_inspect(path)
        score = float((image.mean(dtype=np.float64) + 1) * 127.5)
        verdict = "defect" if score > self.threshold else "good"
        percentile = self.calibration.percentile(score)
        found = Inspection(
            path, score, self.threshold, percentile, verdict,
            sha256=sha256, part=self.part, part_sha256=self.part_sha256,
        )  # fmt: skip
        return found, np.full((1, 1), score, np.float32)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "line"
    made.mkdir()
    return made


@pytest.fixture
def out(tmp_path):
    return tmp_path / "line.jsonl"


def put(path, level=100):
    """Write an image of one gray level, whole: moved into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(path, np.full((8, 8), level, np.uint8))
    return path


def run(folder, out, inspector=None, *, stable_seconds=0.0, **options):
    """Judge what is there; give the lines that were written."""
    with Journal(out) as journal:
        made = Watch(
            inspector or Brightness(),
            WatchedFolder(folder, stable_seconds=stable_seconds),
            journal,
            **options,
        )
        return list(made.run(once=True))


def lines(out):
    return [json.loads(line) for line in out.read_text().splitlines()]


def paths(records):
    return [record["path"] for record in records]


# What a line says.


def test_a_line_has_what_inspect_says_and_what_tells_the_file(folder, out):
    file = put(folder / "sub" / "a.png", 100)
    [record] = run(folder, out)
    assert lines(out) == [record]
    assert list(record) == [*FIELDS, *EXTRA]
    assert (record["path"], record["part"], record["part_sha256"]) == ("sub/a.png", "part", "f" * 64)
    assert record["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record["verdict"] == "good"
    assert record["score"] == pytest.approx(100)
    assert (record["size"], record["mtime_ns"]) == (file.stat().st_size, file.stat().st_mtime_ns)
    assert record["time"].endswith("+00:00")
    assert (record["drift"], record["drift_since"]) == (None, None)
    assert 0 < record["drift_p"] <= 1


def test_nothing_of_a_watch_needs_tensorflow():
    heavy = "{'keras', 'tensorflow', 'matplotlib'}"
    code = f"import sys, metricad.monitoring.watch; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_oldest_come_first_and_hidden_and_other_files_not_at_all(folder, out):
    for number, name in enumerate(["c.png", "a/b.png", "a/a.png"]):
        os.utime(put(folder / name), ns=(0, 10**18 + number))
    put(folder / ".hidden.png")
    put(folder / ".folder" / "a.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "folder.png").mkdir()
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    assert paths(run(folder, out)) == ["c.png", "a/b.png", "a/a.png"]


def test_names_that_are_not_utf8(folder, out):
    put(folder / os.fsdecode(b"\xff.png"))
    [record] = run(folder, out)
    assert run(folder, out) == []
    assert lines(out) == [record]


def test_maps_lie_under_the_images_paths_and_are_there_before_their_lines(folder, out, tmp_path):
    put(folder / "sub" / "a.png")
    with Journal(out) as journal:
        made = Watch(Brightness(), WatchedFolder(folder, stable_seconds=0), journal, maps=tmp_path / "maps")
        append = journal.append
        journal.append = lambda record: (
            images.read(tmp_path / "maps" / f"{record['path']}.png"), append(record)
        )  # fmt: skip
        assert len(list(made.run(once=True))) == 1
    assert len(lines(out)) == 1


# Each image once.


def test_each_image_once_also_after_another_start(folder, out):
    put(folder / "a.png")
    assert paths(run(folder, out)) == ["a.png"]
    put(folder / "b.png")
    assert paths(run(folder, out)) == ["b.png"]
    assert run(folder, out) == []
    assert paths(lines(out)) == ["a.png", "b.png"]


def test_a_new_image_of_the_same_name_is_a_new_part(folder, out):
    os.utime(put(folder / "a.png", 100), ns=(0, 10**18))
    run(folder, out)
    os.utime(put(folder / "a.png", 101), ns=(0, 10**18 + 1))
    assert [record["score"] for record in run(folder, out)] == [pytest.approx(101)]
    assert run(folder, out) == []
    os.utime(put(folder / "a.png", 100), ns=(0, 10**18))  # the first once more: the last line counts
    assert paths(run(folder, out)) == ["a.png"]


def test_what_has_left_the_folder_is_forgotten(folder, out):
    names = [put(folder / f"{number}.png") for number in range(20)]
    with Journal(out) as journal:
        made = Watch(Brightness(), watched := WatchedFolder(folder, stable_seconds=0), journal)
        stream = made.run()
        seen = [next(stream) for _ in names]
        assert len(watched.done) == 20
        for name in names[1:]:
            name.unlink()
        put(folder / "new.png")
        seen.append(next(stream))
        assert sorted(watched.done) == ["0.png", "new.png"]
        assert watched.waiting == {}
        stream.close()
    assert paths(lines(out)) == paths(seen)
    with Journal(out) as journal:
        made = Watch(Brightness(), watched := WatchedFolder(folder, stable_seconds=0), journal)
        assert made.before == 21
        assert sorted(watched.done) == ["0.png", "new.png"]


def test_a_listing_that_leaves_out_a_file_does_not_repeat_it(folder):
    put(folder / "a.png")
    watched = WatchedFolder(folder, stable_seconds=0)
    assert watched.ready(watched.scan()) == ["a.png"]
    watched.finish("a.png")
    assert watched.ready({}) == []
    assert watched.ready(watched.scan()) == []


# Complete files only.


class FakeTime:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_file_is_complete_when_it_has_stood_still(folder):
    time = FakeTime()
    watched = WatchedFolder(folder, stable_seconds=1.0, now=time)

    def ready_at(now):
        time.now = now
        return watched.ready(watched.scan())

    file = folder / "a.png"
    file.write_bytes(b"be")
    os.utime(file, ns=(0, 0))  # however old it says it is
    assert ready_at(10) == []
    assert ready_at(10.9) == []
    file.write_bytes(b"begun")
    assert ready_at(11) == []
    assert ready_at(11.9) == []
    os.utime(file, ns=(0, 10**18))  # of the same size
    assert ready_at(12) == []
    assert ready_at(12.9) == []
    assert ready_at(13) == ["a.png"]


def test_a_file_that_changes_while_it_is_read_waits_again(folder, out):
    file = put(folder / "a.png", 90)
    read = images.read

    def slow(path, **options):
        image = read(path, **options)
        if len(scores) == 0:
            put(file, 100)
        scores.append(image)
        return image

    scores = []
    with pytest.MonkeyPatch.context() as patch, Journal(out) as journal:
        patch.setattr(images, "read", slow)
        made = Watch(Brightness(), WatchedFolder(folder, stable_seconds=0), journal)
        record = next(made.run())
    assert record["score"] == pytest.approx(100)
    assert len(lines(out)) == 1
    assert record["mtime_ns"] == file.stat().st_mtime_ns


def test_once_leaves_what_changes_meanwhile(folder, out):
    put(folder / "a.png", 90)

    def replace(path):
        put(folder / "b.png", 95)

    assert paths(run(folder, out, Brightness(on_inspect=replace))) == ["a.png"]
    assert paths(run(folder, out)) == ["b.png"]


def test_images_of_other_kinds_get_a_line_and_links_are_followed(folder, out, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "INTERVAL", 0.001)
    (folder / "a.gif").write_bytes(b"GIF89a")
    put(tmp_path / "drive" / "b.png")
    (folder / "linked").symlink_to(tmp_path / "drive")
    (folder / "loop").symlink_to(folder)
    found = {record["path"]: record["verdict"] for record in run(folder, out)}
    assert found == {"a.gif": "error", "linked/b.png": "good"}


def test_a_bad_file_is_tried_some_times_then_is_a_line(folder, out, monkeypatch):
    (folder / "bad.png").write_bytes(b"no image")
    images.write(folder / "small.png", np.zeros((3, 9), np.uint8))
    put(folder / "good.png")
    tried = []
    read = images.read
    monkeypatch.setattr(
        images, "read", lambda path, **options: (tried.append(path.name), read(path, **options))[1]
    )
    monkeypatch.setattr(watch, "INTERVAL", 0.001)
    found = {record["path"]: record for record in run(folder, out)}
    assert (tried.count("bad.png"), tried.count("good.png")) == (TRIES, 1)
    assert found["bad.png"]["error"].startswith("not a readable image: damaged")
    assert "expected at least 4×4 pixels, received 3×9" in found["small.png"]["error"]
    assert [found[name]["verdict"] for name in ("bad.png", "good.png")] == ["error", "good"]
    assert list(found["bad.png"]) == [*FIELDS, *EXTRA]
    assert run(folder, out) == []
    put(folder / "bad.png")
    assert [record["verdict"] for record in run(folder, out)] == ["good"]


def test_a_file_that_is_written_while_it_is_tried_again_is_no_error(folder, out, monkeypatch):
    file = folder / "a.png"
    whole = put(out.with_suffix(".png")).read_bytes()
    file.write_bytes(whole[:20])
    monkeypatch.setattr(watch, "_pause", lambda *_: file.write_bytes(whole))
    with Journal(out) as journal:
        made = Watch(Brightness(), WatchedFolder(folder, stable_seconds=0), journal)
        assert next(made.run())["verdict"] == "good"


def test_a_file_that_has_gone_before_its_turn_is_nothing(folder, out):
    for name in ("a.png", "b.png"):
        put(folder / name)

    def take_the_other(path):
        (folder / {"a.png": "b.png", "b.png": "a.png"}[path]).unlink()

    assert len(run(folder, out, Brightness(on_inspect=take_the_other))) == 1
    assert len(lines(out)) == 1


def test_an_image_that_the_inspector_refuses_or_that_takes_all_memory_is_a_line(folder, out, monkeypatch):
    monkeypatch.setattr(watch, "INTERVAL", 0.001)

    def refuse(path):
        if path == "a.png":
            raise DataError("a positional prototype needs images of one size")
        if path == "b.png":
            raise MemoryError("Unable to allocate 1 TiB")

    for name in ("a.png", "b.png", "c.png"):
        put(folder / name)
    found = {record["path"]: record["error"] for record in run(folder, out, Brightness(on_inspect=refuse))}
    assert found == {
        "a.png": "a positional prototype needs images of one size",
        "b.png": "too large for this machine's memory: Unable to allocate 1 TiB",
        "c.png": None,
    }


def test_it_stops_after_the_current_image(folder, out):
    for number in range(5):
        put(folder / f"{number}.png")
    with Journal(out) as journal:
        made = Watch(Brightness(), WatchedFolder(folder, stable_seconds=0), journal)
        seen = []
        for record in made.run(stop=lambda: len(seen) == 3):
            seen.append(record)
    assert lines(out) == seen
    assert len(seen) == 3
    assert len(run(folder, out)) == 2


# What goes wrong around it.


def test_a_folder_that_is_missing_or_goes(folder, out):
    with pytest.raises(DataError, match="nowhere: no such folder; expected the one that images arrive in"):
        WatchedFolder(folder / "nowhere", stable_seconds=0)
    put(folder / "a.png")
    with Journal(out) as journal:
        stream = Watch(Brightness(), watched := WatchedFolder(folder, stable_seconds=0), journal).run()
        next(stream)
        folder.rename(folder.with_name("elsewhere"))
        with pytest.raises(DataError, match="the folder disappeared while it was watched; restore it"):
            next(stream)
    folder.with_name("elsewhere").rename(folder)
    watched._device += 1  # as when a share has been unmounted and an empty folder is left
    with pytest.raises(DataError, match="the folder disappeared"):
        watched.scan()
    assert run(folder, out) == []


def test_a_folder_below_that_goes_is_no_trouble(folder, monkeypatch):
    put(folder / "a.png")
    put(folder / "sub" / "b.png")
    scandir = os.scandir

    def taken_away(path):
        if Path(path).name == "sub":
            raise FileNotFoundError
        return scandir(path)

    monkeypatch.setattr(os, "scandir", taken_away)
    assert list(WatchedFolder(folder, stable_seconds=0).scan()) == ["a.png"]


# The journal.


def record(number, **fields):
    known = dict.fromkeys(FIELDS) | {"time": "2026-01-01T00:00:00.000+00:00", "verdict": "error"}
    return known | {"path": f"{number}.png", "size": number, "mtime_ns": number} | fields


def written(out, count):
    with Journal(out) as journal:
        list(journal.records())
        for number in range(count):
            journal.append(record(number))
    return out.read_bytes()


def test_wherever_the_last_line_is_broken_off_it_is_cut_off_and_written_anew(out):
    whole = written(out, 3)
    two = len(b"".join(whole.splitlines(keepends=True)[:2]))
    for end in range(two, len(whole)):
        out.write_bytes(whole[:end])
        with Journal(out) as journal:
            assert [found["size"] for found in journal.records()] == [0, 1]
            assert out.stat().st_size == two
            journal.append(record(2))
        assert out.read_bytes() == whole


def test_a_first_line_that_is_broken_off(out):
    whole = written(out, 1)
    for end in range(len(whole)):
        out.write_bytes(whole[:end])
        with Journal(out) as journal:
            assert list(journal.records()) == []
        assert out.read_bytes() == b""


@pytest.mark.parametrize(
    "content", [b"dear diary", b"x\n", b"{}\n", b'{"time": 1}\n', b'{"time": \n', b"\x00" * 50, b"[1]\n"]
)
def test_a_file_of_something_else_is_left_as_it_is(out, content):
    out.write_bytes(content)
    with pytest.raises(DataError, match=r"line\.jsonl: .*give another --out"), Journal(out) as journal:
        list(journal.records())
    assert out.read_bytes() == content


def test_a_line_of_something_else_among_ours_is_named(out):
    whole = written(out, 2)
    out.write_bytes(whole + b"oops\n" + whole[:10])
    with pytest.raises(DataError, match="line 3 is not from 'metricad watch'"), Journal(out) as journal:
        list(journal.records())
    assert out.read_bytes().endswith(b"oops\n" + whole[:10])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", ["a.png"]),
        ("score", "high"),
        ("score", float("nan")),
        ("threshold", True),
        ("size", None),
        ("size", 1.5),
        ("time", 3),
    ],
)
def test_a_line_with_something_else_in_it_is_named(out, field, value):
    written(out, 1)
    [record] = lines(out)
    out.write_text(json.dumps(record | {field: value}) + "\n")
    with pytest.raises(DataError, match="line 1 is not from 'metricad watch'"), Journal(out) as journal:
        list(journal.records())


def test_two_watches_cannot_write_one_file(out):
    with Journal(out), pytest.raises(DataError, match="another watch is writing this file"):
        Journal(out)
    Journal(out).close()


def test_what_is_no_plain_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a plain file"):
        Journal(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        Journal(tmp_path)


def test_a_line_is_written_in_one_go_and_is_on_the_disk(out, monkeypatch):
    calls = []
    write, fsync = os.write, os.fsync
    with Journal(out) as journal:
        list(journal.records())
        monkeypatch.setattr(os, "write", lambda *given: (calls.append("write"), write(*given))[1])
        monkeypatch.setattr(os, "fsync", lambda *given: (calls.append("fsync"), fsync(*given))[1])
        journal.append(record(1))
    assert calls == ["write", "fsync"]


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_leaves_no_half_line(folder, out, monkeypatch, room):
    write, left = os.write, [room]

    def full(file, content):
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write(file, content[: left[0]])
        left[0] -= done
        return done

    put(folder / "a.png")
    run(folder, out)
    whole = out.read_bytes()
    put(folder / "b.png")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left") as raised:
            run(folder, out)
    assert raised.value.filename == str(out)
    assert out.read_bytes() == whole
    assert paths(run(folder, out)) == ["b.png"]


def test_a_journal_that_was_moved_away_is_not_written_on(folder, out):
    put(folder / "a.png")
    with Journal(out) as journal:
        stream = Watch(Brightness(), WatchedFolder(folder, stable_seconds=0), journal).run()
        next(stream)
        put(folder / "b.png")
        out.rename(out.with_suffix(".1"))
        with pytest.raises(DataError, match="was moved or deleted during the watch"):
            next(stream)
    assert paths(lines(out.with_suffix(".1"))) == ["a.png"]


def test_lines_are_appended_only_once_the_end_is_known(out):
    with Journal(out) as journal, pytest.raises(ValueError, match="after its records have been read"):
        journal.append({})


# Drift along the line.


def levels(rng, count, mean):
    return np.clip(np.rint(rng.normal(mean, 6, count)), 0, 255).astype(int)


def deliver(folder, scores, *, first=0):
    for number, level in enumerate(scores, start=first):
        os.utime(put(folder / f"{number:04}.png", level), ns=(0, 10**18 + number))


def test_drift_is_told_from_the_line_that_shows_it_on_and_as_well_after_each_start(folder, tmp_path):
    """Bit for bit, whether the watch ran through or was started anew for every few images."""
    rng = np.random.default_rng(0)
    inspector = Brightness(rng.normal(100, 6, 60))
    scores = [*levels(rng, 40, 100), *[200] * 2, *levels(rng, 80, 90)]
    unbroken, broken = tmp_path / "unbroken.jsonl", tmp_path / "broken.jsonl"
    for first in range(0, len(scores), 7):
        deliver(folder, scores[first : first + 7], first=first)
        run(folder, broken, inspector)
    run(folder, unbroken, inspector)
    said = [[{key: line[key] for key in ("path", "score", "drift", "drift_p")} for line in lines(out)]
            for out in (unbroken, broken)]  # fmt: skip
    assert said[0] == said[1]
    for out in (unbroken, broken):
        drifted = [line for line in lines(out) if line["drift"] is not None]
        assert 0 < len(drifted) < 80
        assert {line["drift"] for line in drifted} == {"lower"}
        assert {line["drift_since"] for line in drifted} == {drifted[0]["time"]}
        assert drifted[0]["drift_p"] < 0.001
        assert drifted == lines(out)[-len(drifted) :]


def test_a_new_inspector_starts_its_drift_test_anew(folder, out):
    deliver(folder, [60] * 60)
    assert run(folder, out)[-1]["drift"] == "lower"
    rng = np.random.default_rng(1)
    with Journal(out) as journal:
        made = Watch(Brightness(rng.normal(60, 6, 60)), WatchedFolder(folder, stable_seconds=0), journal)
        assert made.before == 60
        assert (made.drift.alarm, made.drift.p_value) == (None, 1)
        assert list(made.run(once=True)) == []


def test_errors_are_no_scores(folder, out, monkeypatch):
    monkeypatch.setattr(watch, "INTERVAL", 0.001)
    for number in range(30):
        (folder / f"{number}.png").write_bytes(b"no image")
    assert {line["drift_p"] for line in run(folder, out)} == {1}


# Killed.

KILLS = 20

# One process that imports everything once, and forks a watch for each life that ends with SIGKILL. The kills
# come when a line has been written, or a little later; images are delivered before and after.
LIVES = """
import os, signal, sys, time
from pathlib import Path

import numpy as np

sys.path.insert(0, {tests!r})
from tests.monitoring.test_watch import KILLS, Brightness, put
from metricad.monitoring import watch
from metricad.monitoring.folder import WatchedFolder
from metricad.monitoring.journal import Journal

folder, out = Path({folder!r}), Path({out!r})
watch.INTERVAL = 0.002


def live():
    with Journal(out) as journal:
        for _ in watch.Watch(Brightness(), WatchedFolder(folder, stable_seconds=0.004), journal).run():
            pass


rng = np.random.default_rng(2)
delivered = 0
for life in range(KILLS):
    before = out.stat().st_size if out.exists() else 0
    child = os.fork()
    if not child:
        try:
            live()
        finally:
            os._exit(1)
    images = int(rng.integers(10, 20))
    last = int(rng.integers(0, images - 1))
    for number in range(images):
        put(folder / f"{{delivered}}.png", int(rng.integers(80, 120)))
        delivered += 1
        if number == last:
            while not out.exists() or out.stat().st_size <= before:
                assert os.waitpid(child, os.WNOHANG) == (0, 0)
                time.sleep(0.0005)
            time.sleep(rng.uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    whole = out.read_bytes()
    print(delivered - whole.count(b"\\n"))
    if life % 2:  # in the middle of a line, too, which is over too soon to be met by chance
        last = whole.rstrip(b"\\n").rfind(b"\\n") + 1
        out.write_bytes(whole[: int(rng.integers(last, len(whole)))])
"""


def test_killed_at_random_moments_it_loses_and_repeats_nothing(folder, out):
    code = LIVES.format(tests=str(ROOT), folder=str(folder), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = list(map(int, done.stdout.split()))
    assert len(left) == KILLS
    assert min(left) > 0  # each was killed with work before it
    run(folder, out)
    delivered = [path.name for path in folder.iterdir()]
    assert len(delivered) >= 10 * KILLS
    assert sorted(paths(lines(out))) == sorted(delivered)
    for line in lines(out):
        status = (folder / line["path"]).stat()
        assert (line["size"], line["mtime_ns"]) == (status.st_size, status.st_mtime_ns)


# Through the command line.


def test_watch_through_the_command_line(run_metricad, refused, part, folder, out, tmp_path):
    rng = np.random.default_rng(3)
    for number in range(4):
        save(folder / f"{number}.png", texture(rng))
    save(folder / "scratched.png", scratched(texture(rng), 20, 30))
    (folder / "bad.png").write_bytes(b"no image")
    arguments = ["watch", part, folder, "--out", out, "--stable-seconds", 0, "--once"]
    done = run_metricad(*arguments, "--maps", tmp_path / "maps")
    assert (done.status, done.err) == (0, "")
    inspected = run_metricad("inspect", part, folder, "--format", "jsonl")
    expected = {Path(row["path"]).name: row for row in map(json.loads, inspected.out.splitlines())}
    verdicts = Counter(row["verdict"] for row in expected.values())
    assert (verdicts.total(), verdicts["error"], expected["scratched.png"]["verdict"]) == (6, 1, "defect")
    counts = f"{verdicts['good']} good, {verdicts['defect']} defect, 1 error"
    assert done.out == f"{out}: 6 images judged: {counts}\n"
    for line in lines(out):
        same = expected[line["path"]] | {"path": line["path"], "time": line["time"]}
        assert {field: line[field] for field in FIELDS} == same
    maps = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert maps == sorted(f"{name}.png" for name in expected if name != "bad.png")
    assert run_metricad(*arguments).out == f"{out}: 0 images judged: 0 good, 0 defect, 0 error\n"

    assert "no such folder" in refused("watch", part, folder / "nowhere", "--out", out)
    assert "--maps" in refused(*arguments, "--maps", folder / "maps")
    with Journal(out):
        assert "another watch is writing this file" in refused(*arguments)


def test_drift_is_said_once_on_standard_error(run_metricad, folder, out, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load", lambda path, **options: Brightness())
    arguments = ["watch", "any.metricad", folder, "--out", out, "--stable-seconds", 0, "--once"]
    deliver(folder, [105, 95] * 5)
    assert run_metricad(*arguments).err == ""
    deliver(folder, [70] * 50, first=10)
    done = run_metricad(*arguments, "--drift-level", 0.01)
    since = next(line["time"] for line in lines(out) if line["drift"])
    said = (
        f"drift: scores are lower than when the inspector was made (noticed {since}, level 0.01); look at "
        "light, lens and material, or make the inspector again\n"
    )
    assert (done.status, done.err) == (0, said)
    assert run_metricad(*arguments, "--drift-level", 0.01).err == said  # and at the next start
    assert run_metricad(*arguments, "--drift-level", 0).err == ""


# The command line with an inspector in no time, to end it by signals.
QUICK = """
import sys

sys.path.insert(0, {tests!r})
from tests.monitoring.test_watch import Brightness
from metricad.cli import app
from metricad.deploy import loading

loading.load = lambda path, **options: Brightness()
sys.argv = ["metricad", "watch", "any.metricad", {folder!r}, "--out", {out!r}, "--stable-seconds", "0"]
app.main()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 2)])
def test_signals_end_it_after_the_current_image(folder, out, number, status):
    for name in range(3):
        put(folder / f"{name}.png")
    code = QUICK.format(tests=str(ROOT), folder=str(folder), out=str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not out.exists() or out.read_text().count("\n") < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    printed, complained = process.communicate()
    assert process.returncode == status, complained
    assert complained == ("" if number == signal.SIGTERM else "error: interrupted\n")
    assert printed.splitlines() == [
        f"{folder}: watching; lines go to {out}, which has 0",
        f"{out}: 3 images judged: 3 good, 0 defect, 0 error",
    ]
    assert len(lines(out)) == 3
