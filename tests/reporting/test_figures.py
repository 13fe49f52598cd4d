"""The pictures of a made-up study: what is drawn is read back, and what is written is small enough."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from metricad.evaluation.results import Example
from metricad.metrics import image as metrics
from metricad.reporting import tables
from metricad.reporting.summary import Summary, setting_of
from tests.helpers import COLLECTING
from tests.reporting.test_tables import DEFECTS, GOOD, SURFACES, examples, make_study, network, result

if not COLLECTING:
    from matplotlib.colors import to_hex

    from metricad.reporting import figures, heat_maps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study():
    return make_study()


@pytest.fixture(scope="module")
def summary(study):
    return Summary(study.results, study.networks)


def panels(figure):
    """The panels with a title, by its first line."""
    return {panel.get_title().splitlines()[0]: panel for panel in figure.axes if panel.get_title()}


def legend(figure):
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


def pixels(picture):
    """A picture's pixels, as whoever looks at it gets them."""
    return np.asarray(Image.open(io.BytesIO(picture.content)).convert("RGB"))


# ROC curves.


def test_every_seed_has_its_own_curve(study, summary):
    figure = figures.draw_roc(summary)
    assert list(panels(figure)) == [name for _, name in SURFACES]
    lines = [line for line in panels(figure)["class7"].lines if line.get_gid()]
    found = {}
    for line in lines:
        area = np.trapezoid(line.get_ydata(), line.get_xdata())
        found.setdefault(line.get_gid(), []).append(area)
    settings = {"h16": "h = 16", "h16-cifar100": "h = 16 + CIFAR-100", "untrained-h16": "untrained h = 16"}
    expected = {}
    for one in study.results:
        if one.surface == "class7" and one.method in ("mean euclidean", "per-pixel variation"):
            label = settings[one.network.rpartition("-")[0]] if one.network else one.method
            expected.setdefault(label, []).append(one.auroc)
    assert {label: len(areas) for label, areas in found.items()} == {
        "h = 16": 3, "h = 16 + CIFAR-100": 3, "untrained h = 16": 3, "per-pixel variation": 1,
    }  # fmt: skip
    for label, areas in expected.items():
        assert found[label] == pytest.approx(areas)
    assert legend(figure) == list(summary.labels.values())


def test_controls_are_gray_and_every_setting_differs_by_line_and_color(summary):
    look = figures.styles(summary)
    labels = {summary.labels[setting]: style for setting, style in look.items()}
    for name, line in (("untrained h = 16", "--"), ("per-pixel variation", ":")):
        red, green, blue = bytes.fromhex(to_hex(labels[name]["color"])[1:])
        assert red == green == blue
        assert labels[name]["linestyle"] == line
    judged = [look[setting] for setting in summary.judged]
    assert (
        len({style["color"] for style in judged}) == len({str(style["linestyle"]) for style in judged}) == 3
    )


def test_colors_are_told_apart_without_red_and_green():
    # Okabe and Ito's colors seen by a deuteranope (Viénot, Brettel and Mollon 1999), in linear RGB.
    seen = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    colors = np.array([list(bytes.fromhex(color[1:])) for color in figures._COLORS[:4]]) / 255
    shown = (colors**2.2) @ seen.T
    apart = [np.abs(shown[i] - shown[j]).max() for i in range(4) for j in range(i)]
    assert min(apart) > 0.1


# Histograms.


def test_histograms_hold_the_scores_and_the_threshold(summary):
    figure = figures.draw_scores(summary, summary.shown)
    for surface in SURFACES:
        first = summary.of(surface, summary.shown, "mean euclidean")[0]
        panel = panels(figure)[surface[1]]
        good, defect = panel.patches
        assert _counted(good) == GOOD
        assert _counted(defect) == DEFECTS
        assert good.get_edgecolor() != defect.get_edgecolor()
        assert (good.get_hatch(), defect.get_hatch()) == (None, "////")
        (line,) = panel.lines
        assert set(line.get_xdata()) == {first.threshold}
        false_alarms, misses = tables.rates(first)
        assert panel.get_title().splitlines()[1] == (
            f"false alarms {tables.percent(false_alarms)}, misses {tables.percent(misses)}"
        )
        assert [text.get_text() for text in panel.texts] == ["1.5"]
    assert legend(figure) == ["good", "defect", "threshold"]


def _counted(patch):
    """Images in a filled outline: the height of each step, once."""
    x, y = patch.get_xy().T
    tops = {}
    for left, right, low, high in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
        if low == high and left < right:
            tops[left] = low
    return sum(tops.values())


@pytest.mark.parametrize(("held_out", "words"), [(0, "no threshold: none held out"), (5, "no threshold")])
def test_without_threshold_the_panel_says_so(held_out, words):
    summary = Summary([result("tile", threshold=None, held_out_normals=held_out)])
    figure = figures.draw_scores(summary, summary.shown)
    assert panels(figure)["tile"].get_title().splitlines()[1] == words
    assert not panels(figure)["tile"].lines
    assert legend(figure) == ["good", "defect"]


@pytest.mark.parametrize(
    ("low", "high", "scale"), [(1, 19, "linear"), (0.1, 300, "log"), (0, 300, "linear"), (-1, 1, "linear")]
)
def test_scores_are_drawn_on_a_log_axis_where_their_range_demands_it(low, high, scale):
    summary = Summary([with_scores("tile", np.linspace(low, high, GOOD + DEFECTS))])
    figure = figures.draw_scores(summary, summary.shown)
    assert panels(figure)["tile"].get_xscale() == scale
    assert sum(map(_counted, panels(figure)["tile"].patches)) == GOOD + DEFECTS


@pytest.mark.parametrize("value", [0.0, 3.0, 1e-9, 1e9])
def test_scores_that_are_all_alike_are_drawn(value):
    summary = Summary([with_scores("tile", np.full(GOOD + DEFECTS, value))])
    assert pixels(figures.scores(summary, summary.shown)).std() > 5


def with_scores(surface, scores):
    one = result(surface)
    rows = [row | {"score": float(score)} for row, score in zip(one.scores, scores, strict=True)]
    return dataclasses.replace(one, scores=rows)


# Heat maps.


def test_maps_stand_below_their_images():
    one = result("tile")
    shown = examples(one)
    figure = heat_maps.draw_maps(one, shown)
    images = [panel for panel in figure.axes if panel.images]
    above, below = images[:4], images[4:]
    for panel, lower, example in zip(above, below, shown, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), example.image)
        np.testing.assert_array_equal(lower.images[0].get_array(), example.anomaly_map)
        assert lower.images[0].cmap.name == "viridis"
        assert lower.get_title().startswith(f"{example.score:.3g}, ")
        assert bool(panel.collections) == (example.mask is not None)
    assert len({panel.images[0].get_clim() for panel in below}) == 1
    assert [panel.get_title() for panel in above][:3] == ["best defect", "median defect", "worst defect"]


@pytest.mark.parametrize(
    ("threshold", "good", "verdicts"),
    [
        (1.0, "false alarm", ["found", "found", "missed", "above"]),
        (2.5, "highest good", ["found", "missed", "missed", "not above"]),
        (None, "highest good", None),
    ],
)
def test_captions_tell_what_the_threshold_makes_of_it(threshold, good, verdicts):
    one = result("tile", threshold=threshold)
    scores = (3.0, 2.0, 0.5, 1.5)
    shown = [
        dataclasses.replace(example, score=score)
        for example, score in zip(examples(one), scores, strict=True)
    ]
    images = [panel for panel in heat_maps.draw_maps(one, shown).axes if panel.images]
    assert images[3].get_title() == good
    below = [panel.get_title() for panel in images[4:]]
    if verdicts is None:
        assert below == ["3", "2", "0.5", "1.5"]
    else:
        assert [text.partition(", ")[2] for text in below] == verdicts


def test_range_of_colors_ends_at_twice_the_threshold():
    one = result("tile", threshold=1.0)
    image = np.zeros((8, 8), np.uint8)
    for highest, expected in ((9.0, 2.0), (1.5, 1.5)):
        anomaly_map = np.linspace(0, highest, 64, dtype=np.float32).reshape(8, 8)
        example = Example("a.png", "hole", "best", highest, image, anomaly_map, None)
        panel = [panel for panel in heat_maps.draw_maps(one, [example]).axes if panel.images][1]
        assert panel.images[0].get_clim() == (0.0, expected)


@pytest.mark.parametrize("mask", [np.zeros((8, 8), bool), np.ones((8, 8), bool)])
def test_masks_without_an_outline_and_flat_maps_are_drawn(mask):
    one = result("tile", threshold=None)
    flat = np.ones((8, 8), np.float32)
    example = Example("a.png", "hole", "best", 1.0, np.zeros((8, 8), np.uint8), flat, mask)
    assert figures.to_jpeg(heat_maps.draw_maps(one, [example]))


def test_maps_are_of_the_shown_setting_where_it_has_examples(study, summary):
    shown = {id(one): found for one, found in zip(study.results, study.examples, strict=True) if found}
    maps = heat_maps.maps(summary, shown)
    assert list(maps) == SURFACES
    assert maps[SURFACES[0]].name == "map-class1.jpg"
    assert maps[SURFACES[0]].caption.startswith(
        "mean euclidean, h = 16 + CIFAR-100, seed 0: best defect 20.png; "
    )
    first = {key: found for key, found in shown.items() if key == id(study.results[2])}
    maps = heat_maps.maps(summary, first)
    assert list(maps) == [SURFACES[0]]
    assert "h = 16, seed 0" in maps[SURFACES[0]].caption
    assert heat_maps.maps(summary, {}) == {}


def test_file_names_are_safe_and_apart():
    names = ["a/b|c<script>", "a b c script", "A-B-C-SCRIPT", "..", "旋", "x" * 300]
    found = [result(name) for name in names]
    maps = heat_maps.maps(Summary(found), {id(one): examples(one) for one in found})
    files = [picture.name for picture in maps.values()]
    assert files == [
        "map-a-b-c-script.jpg",
        "map-a-b-c-script-2.jpg",
        "map-a-b-c-script-3.jpg",
        "map-surface.jpg",
        "map-surface-2.jpg",
        f"map-{'x' * 80}.jpg",
    ]


# Training curves.


def test_each_network_has_a_line_in_the_color_of_its_setting(study, summary):
    figure = figures.draw_training(summary, study.networks)
    look = figures.styles(summary)
    for title, name in (("loss", "epoch_loss"), ("triplet accuracy", "epoch_accuracy")):
        lines = {line.get_gid(): line for line in panels(figure)[title].lines}
        assert list(lines) == [one.name for one in study.networks]
        for one in study.networks:
            np.testing.assert_array_equal(lines[one.name].get_xdata(), [1, 2, 3])
            np.testing.assert_array_equal(lines[one.name].get_ydata(), getattr(one, name))
            setting = setting_of(one.name, one.seed, one.units)
            assert lines[one.name].get_color() == look[setting]["color"]
    assert legend(figure) == ["h = 16", "h = 16 + CIFAR-100"]


def test_a_network_without_results_is_drawn_as_well():
    summary = Summary([result("tile")])
    figure = figures.draw_training(summary, [network("run-0", 16, 0), network("spare", 16, 0)])
    assert legend(figure) == ["h = 16", "spare"]


# What all have in common.


def test_pictures_are_seen_and_small(study, summary):
    for picture in (
        figures.roc(summary),
        figures.scores(summary, summary.shown),
        figures.training(summary, study.networks),
    ):
        assert picture.content.startswith(b"\x89PNG")
        height, width, _ = pixels(picture).shape
        assert 600 < width < 1000
        assert height < 2 * width
        assert pixels(picture).std() > 10
        assert len(picture.content) < 100_000
        assert picture.alt


def test_maps_of_noise_are_no_larger_than_others():
    rng = np.random.default_rng(0)
    one = result("tile")
    noise = rng.integers(60, 190, (4, 200, 200)).astype(np.uint8)
    maps = rng.random((4, 200, 200)).astype(np.float32)
    smooth = examples(one)
    noisy = [dataclasses.replace(smooth[k], image=noise[k], anomaly_map=maps[k], mask=None) for k in range(4)]
    for shown in (smooth, noisy):
        content = figures.to_jpeg(heat_maps.draw_maps(one, shown))
        assert content.startswith(b"\xff\xd8")
        # Base64 makes four bytes of three; the other pictures and the tables have 0.4 MB.
        assert 12 * len(content) * 4 / 3 < 1_400_000


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_any_number_of_surfaces_is_drawn(count):
    summary = Summary([result(f"surface {number}") for number in range(count)])
    for figure in (figures.draw_roc(summary), figures.draw_scores(summary, summary.shown)):
        assert len(panels(figure)) == count
        image = Image.open(io.BytesIO(figures.to_png(figure))).convert("L")
        # Nothing is cut off: the border is blank.
        edges = np.asarray(image)
        assert min(edges[0].min(), edges[-1].min(), edges[:, 0].min(), edges[:, -1].min()) > 250


def test_hostile_names_are_drawn_as_they_are():
    names = ["$\\frac{1}$", "_hidden", "a/b|c<script>", "旋盤", "x" * 200, "two\nlines", "\udcff"]
    found = [result(name, network=network) for name in names for network in ("_base-0", "$y_{$-0", "n" * 80)]
    summary = Summary(found)
    figure = figures.draw_roc(summary)
    assert "$\\frac{1}$" in panels(figure)
    assert legend(figure)[1] == "$y_{$"
    assert legend(figure)[0] == "_base"
    assert legend(figure)[2] == "n" * 35 + "…"
    assert figures.to_png(figure)
    assert figures.to_png(figures.draw_scores(summary, summary.shown))
    assert figures.to_png(
        figures.draw_training(summary, [network("_base-0", 16, 0), network("$y_{$-0", 16, 0)])
    )


def test_a_curve_is_that_of_its_scores():
    one = with_scores("tile", [*range(GOOD), *range(5, 5 + DEFECTS)])
    (line,) = [line for line in panels(figures.draw_roc(Summary([one])))["tile"].lines if line.get_gid()]
    expected = metrics.roc_curve(one.defect, one.score_values)
    np.testing.assert_array_equal(line.get_xdata(), expected[0])
    np.testing.assert_array_equal(line.get_ydata(), expected[1])
