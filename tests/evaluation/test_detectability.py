"""What an inspector finds: counted defect by defect, and what is said of the counts."""

import math
from collections import Counter

import numpy as np
import pytest

from metricad.errors import DataError
from metricad.evaluation import detectability
from metricad.evaluation.detectability import (
    CONTRASTS,
    MARGIN,
    SIZES,
    Chart,
    Count,
    Measurement,
    Setting,
    measure,
)
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import Judgement
from metricad.inspection.timing import StageTimer
from metricad.networks.feature_grid import FeatureGrid
from metricad.preprocessing.regions import MaskRegion
from metricad.scoring.calibration import calibrate
from metricad.synthetic import defects
from tests.helpers import save, texture


class Plain:
    """A detector whose map is the image: what it finds can be told in advance."""

    grid = FeatureGrid(first=0, stride=1, smallest=8)
    channels = 1
    score_name = "max"

    def __init__(self, region=None):
        self.region = region
        self.timer = StageTimer()
        self.seen = []

    def judge(self, image):
        self.seen.append(image)
        anomaly = np.abs(image)
        peak = np.unravel_index(anomaly.argmax(), anomaly.shape)
        return Judgement(float(anomaly.max()), peak, "image", anomaly)

    def on_pixels(self, anomaly, image):
        return anomaly

    def map_value(self, score):
        return score


def plain_inspector(threshold=0.3, region=None):
    return Inspector(Plain(region), calibrate(np.full(9, threshold), 0.1))


def even(count=1, side=64):
    return np.zeros((count, side, side), np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


# The counts.


@pytest.mark.parametrize(
    ("found", "all", "low", "high"), [(0, 20, 0.0, 0.1611), (19, 20, 0.7639, 0.9911), (20, 20, 0.8389, 1.0)]
)
def test_intervals_are_wilsons(found, all, low, high):
    z = 1.959964
    middle = (found + z**2 / 2) / (all + z**2)
    half = z / (all + z**2) * math.sqrt(found * (all - found) / all + z**2 / 4)
    interval = Count(all, found).interval()
    assert interval == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert interval == pytest.approx((low, high), abs=1e-4)


def test_nothing_tried_is_nothing_known():
    assert math.isnan(Count().share)
    assert math.isnan(Count().localised_share)
    assert Count().interval() == (0, 1)


def test_counts_add_up():
    assert Count(20, 18, 17) + Count(10, 5, 1) == Count(30, 23, 18)


# What is tried.


def test_every_size_with_every_contrast_is_tried():
    tried = detectability.settings()
    assert len(tried) == len(set(tried)) == sum(len(SIZES[kind]) * len(CONTRASTS[kind]) for kind in SIZES)
    assert list(dict.fromkeys(one.kind for one in tried)) == list(SIZES) == list(defects.KINDS)
    assert all(len(SIZES[kind]) == len(CONTRASTS[kind]) == 4 for kind in SIZES)
    two = detectability.settings(("gap", "crack", "gap"), sizes={"gap": [2], "crack": [1, 3]})
    assert {(one.kind, one.size) for one in two} == {("gap", 2), ("crack", 1), ("crack", 3)}
    assert len(two) == 12


@pytest.mark.parametrize("kinds", [(), ("dent",), ("gap", "dent")])
def test_unknown_kinds_are_refused(kinds):
    with pytest.raises(ValueError, match=r"kinds must be among scratch, .*, received"):
        detectability.settings(kinds)


# What is counted.


def test_what_is_above_the_threshold_is_found():
    """A contrast changes gray by twice as much: 0.1 lies below the threshold of 0.3, 0.4 above."""
    tried = [Setting("crack", 5, 0.1), Setting("crack", 5, 0.4)]
    chart = measure(plain_inspector(), even(3), rng=rng(), tried=tried, each=8)
    assert chart.counts == {tried[0]: Count(8, 0, 0), tried[1]: Count(8, 8, 8)}
    assert (chart.good_images, chart.false_alarms) == (3, 0)


def test_a_defect_found_elsewhere_is_not_in_the_right_place():
    """A brighter pixel far from every defect: each image is called defective, as is the good one."""
    images = even(2, side=200)
    images[:, 0, 0] = 1
    inside = np.zeros((200, 200), bool)
    inside[60:, 60:] = True
    setting = Setting("spots", 4, 0.2)
    inspector = plain_inspector(region=MaskRegion(inside))
    chart = measure(inspector, images, rng=rng(), tried=[setting], each=6)
    assert chart.counts[setting] == Count(6, 6, 0)
    assert chart.false_alarms == 2
    assert chart.examples["spots"].verdict == "found elsewhere"


@pytest.mark.parametrize(
    ("at", "is_near"),
    [
        ((50, 50), True),
        ((50 + MARGIN, 50 - MARGIN), True),
        ((50, 51 + MARGIN), False),
        ((49 - MARGIN, 50), False),
        ((0, 0), False),
    ],
)
def test_the_right_place_is_a_square_around_the_defect(at, is_near):
    mask = np.zeros((100, 100), bool)
    mask[50, 50] = True
    assert detectability._is_near(mask, at) == is_near


def test_at_the_border_the_square_is_cut():
    mask = np.zeros((100, 100), bool)
    mask[0, 99] = True
    assert detectability._is_near(mask, (MARGIN, 99 - MARGIN))
    assert not detectability._is_near(mask, (MARGIN + 1, 99))
    assert not detectability._is_near(mask, (MARGIN, 98 - MARGIN))


@pytest.mark.parametrize(("images", "each"), [(1, 5), (3, 5), (7, 5), (40, 5)])
def test_every_setting_has_its_defects_and_every_image_its_share(images, each):
    tried = detectability.settings(("crack",))
    inspector = plain_inspector()
    steps = []
    measurement = Measurement(
        inspector, images, tried=tried, each=each, rng=rng(), on_defect=lambda: steps.append(1)
    )
    shares = []
    for image in even(images):
        before = len(inspector.detector.seen)
        measurement.add(image)
        shares.append(len(inspector.detector.seen) - before - 1)  # the good image itself is judged once
    assert len(steps) == sum(shares) == each * len(tried)
    assert max(shares) - min(shares) <= 1
    assert {count.defects for count in measurement.chart.counts.values()} == {each}


def test_what_the_surface_cannot_show_is_not_counted():
    tried = [Setting("blur", 16, 1.0), Setting("crack", 3, 0.5)]
    chart = measure(plain_inspector(), even(2), rng=rng(), tried=tried, each=4)
    assert chart.counts[tried[0]] == Count()
    assert chart.counts[tried[1]].defects == 4


def test_defects_lie_where_the_part_is_judged():
    inside = np.zeros((64, 64), bool)
    inside[:, 44:] = True
    inspector = plain_inspector(region=MaskRegion(inside))
    measure(inspector, even(2), rng=rng(), tried=detectability.settings(("stain",)), each=2)
    changed = [np.abs(image) >= defects.VISIBLE for image in inspector.detector.seen]
    changed = [mask for mask in changed if mask.any()]
    assert len(changed) == 32
    assert all(mask[inside].sum() >= mask[~inside].sum() for mask in changed)


def test_the_examples_are_of_middling_size_and_contrast():
    chart = measure(plain_inspector(), even(2), rng=rng(), tried=detectability.settings(("stain",)), each=2)
    example = chart.examples["stain"]
    assert example.setting == Setting("stain", 32, 0.25)
    assert example.verdict == "found"
    np.testing.assert_array_equal(example.mask, np.abs(example.image) >= defects.VISIBLE)


def test_the_seed_makes_the_chart_again(fitted):
    images = [texture(rng(seed)) for seed in (80, 81)]
    tried = detectability.settings(("scratch", "foreign"))
    one, same, other = (measure(fitted, images, rng=rng(seed), tried=tried, each=2) for seed in (5, 5, 6))
    assert one.counts == same.counts
    assert one.counts != other.counts


def test_a_network_finds_bold_defects_and_not_faint_ones(fitted):
    images = [texture(rng(seed)) for seed in range(80, 86)]
    before = [image.copy() for image in images]
    faint, bold = Setting("foreign", 4, 0.1), Setting("spots", 8, 0.7)
    chart = measure(fitted, images, rng=rng(), tried=[faint, bold], each=20)
    assert chart.counts[faint].share <= 0.3
    assert chart.counts[bold].share >= 0.6
    assert chart.counts[bold].localised_share >= 0.6
    np.testing.assert_array_equal(images, before)


def test_the_threshold_decides(fitted):
    """Against the verdicts one by one."""
    image = texture(rng(80))
    chart = measure(fitted, [image], rng=rng(3), tried=[Setting("stain", 16, 0.2)], each=10)
    again = rng(3)
    verdicts = Counter()
    for _ in range(10):
        changed, _ = defects.add(image, kind="stain", size=16, contrast=0.2, rng=again)
        verdicts[fitted.inspect(changed)[0].verdict] += 1
    assert chart.counts[Setting("stain", 16, 0.2)].found == verdicts["defect"]


def test_no_images_and_no_defects_are_refused():
    with pytest.raises(DataError, match="no good images"):
        measure(plain_inspector(), [], rng=rng())
    with pytest.raises(ValueError, match="each must be 1 or more, received 0"):
        measure(plain_inspector(), even(), rng=rng(), each=0)


def test_what_is_as_large_and_as_strong():
    counts = {Setting("gap", size, contrast): Count(1) for size in (2, 4) for contrast in (0.5, 1.0)}
    chart = Chart({**counts, Setting("crack", 9, 1.0): Count(1)})
    assert set(chart.from_on(Setting("gap", 4, 0.5))) == {Setting("gap", 4, 0.5), Setting("gap", 4, 1.0)}
    assert (chart.defect_kinds, chart.sizes("gap"), chart.contrasts("gap")) == (
        ["gap", "crack"],
        [2, 4],
        [0.5, 1],
    )


# The command line.


@pytest.fixture(scope="module")
def more_good(tmp_path_factory):
    """Good images that no inspector was fitted on."""
    folder = tmp_path_factory.mktemp("more")
    for number in range(4):
        save(folder / f"{number:02}.png", texture(rng(77 + number)))
    return folder


def test_detectability_writes_the_datasheet_and_says_what_it_found(run_metricad, part, more_good, tmp_path):
    out = tmp_path / "sheet"
    options = ["--kind", "stain", "--kind", "spots", "--repeats", 3]
    done = run_metricad("detectability", part, more_good, "--out", out, *options)
    assert (done.status, done.err) == (0, "")
    names = {
        "detectability.md",
        "detectability.html",
        "detectability.csv",
        "detectability.png",
        "defects.jpg",
    }
    assert {path.name for path in out.iterdir()} == names
    stains, spots, alarms, last = done.out.splitlines()
    assert stains.startswith("stains")
    assert spots.startswith("spots")
    assert "% found (95 % interval " in spots
    assert alarms.endswith(" of 4 good images are called defective as they are")
    assert last == f"{out}: written; look at {out / 'detectability.html'}"
    rows = (out / "detectability.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 16
    assert all(row.split(",")[3] == "3" for row in rows[1:])
    assert "What part finds" in (out / "detectability.html").read_text()

    again = tmp_path / "again"
    run_metricad("detectability", part, more_good, "--out", again, *options)
    assert (again / "detectability.csv").read_text() == (out / "detectability.csv").read_text()


def test_detectability_refuses_what_it_does_not_know(refused, part, more_good, tmp_path):
    arguments = ["detectability", part, more_good, "--out", tmp_path / "sheet"]
    assert "'dent' is not one of 'scratch', 'crack'" in refused(*arguments, "--kind", "dent")
    assert "greater than or equal to 1" in refused(*arguments, "--repeats", 0)
    assert not (tmp_path / "sheet").exists()


def test_detectability_names_a_bad_image(refused, part, more_good, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    options = ["--out", tmp_path / "sheet", "--kind", "stain", "--repeats", 1]
    assert f"error: {bad}: " in refused("detectability", part, more_good, bad, *options)
    assert not (tmp_path / "sheet").exists()
