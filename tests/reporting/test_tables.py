"""The tables of a made-up study, against values worked out from its results one by one."""

import dataclasses

import numpy as np
import pytest

from metricad.errors import DataError
from metricad.evaluation.results import Cost, Example, Network, Result, Study
from metricad.metrics import image as metrics
from metricad.reporting import paper_table, tables
from metricad.reporting.summary import Setting, Summary
from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.reporting import report

GOOD, DEFECTS = 20, 10
KNOWN, NOVEL = ("class1", "class2"), ("class7",)
SURFACES = [("dagm2007/all", name) for name in (*KNOWN, *NOVEL)]
METHODS = ("gaussian", "mean manhattan", "mean euclidean")


def result(surface, method="mean euclidean", role="trained", network="run-0", seed=0, shift=1.0, **changes):
    """A result whose defects score higher by `shift`; always the same for its arguments."""
    dataset, name = surface if isinstance(surface, tuple) else ("made", surface)
    rng = np.random.default_rng([*f"{dataset}{name}{method}{role}{network}{seed}".encode("utf-8", "replace")])
    defect = np.arange(GOOD + DEFECTS) >= GOOD
    scores = np.exp(rng.standard_normal(GOOD + DEFECTS) / 2 + shift * defect)
    values = {
        "dataset": dataset,
        "surface": name,
        "method": method,
        "role": role,
        "network": network,
        "units": 16,
        "seed": seed,
        "is_known": False if role == "trained" else None,
        "fit_normals": 30,
        "held_out_normals": 10,
        "test_normals": GOOD,
        "test_defects": DEFECTS,
        "threshold": 1.5,
        "false_alarm_rate": 0.1,
        "auroc": metrics.auroc(defect, scores),
        "average_precision": metrics.average_precision(defect, scores),
        "f1_max": metrics.f1_max(defect, scores),
        "fpr_at_95_tpr": metrics.fpr_at_tpr(defect, scores),
        "pixel_auroc": 0.8,
        "aupro": 0.7,
        "scores": [
            {"name": f"{k:02}.png", "kind": "hole" if defect[k] else "good", "score": float(scores[k])}
            for k in range(len(scores))
        ],
    }
    if role in ("baseline", "bundle"):
        values |= {"network": None, "seed": None, "units": 16 if role == "bundle" else None}
    return Result(**values | changes)


def network(name, units, seed, *, objects=False):
    """A training of three epochs."""
    seen = ["dagm2007/all: 2 classes, 60 images"] + ["cifar100_gray: 100 classes, 500 images"] * objects
    settings = {"rounds": 1, "epochs": 3, "triplets_per_round": 3840}
    return Network(name, units, seed, seen, settings, [0.5, 0.4, 0.3 - seed / 100], [0.5, 0.6, 0.7])


def examples(result, *, masks=True):
    """The four of a result, 24 × 32 pixels."""
    row, column = np.mgrid[:24, :32]
    mask = (row > 9) & (row < 15) & (column > 9) & (column < 20)
    return [
        Example(
            name=f"{k:02}.png",
            kind=kind,
            role=role,
            score=result.scores[k]["score"],
            image=(8 * column).astype(np.uint8),
            anomaly_map=(result.scores[k]["score"] * (0.2 + 0.8 * mask)).astype(np.float32),
            mask=mask if masks and kind != "good" else None,
        )
        for k, kind, role in (
            (20, "hole", "best"),
            (22, "hole", "median"),
            (25, "hole", "worst"),
            (3, "good", "false alarm"),
        )
    ]


def make_study():
    """Two settings of three seeds by three prototypes, the controls, and an inspector of class1."""
    found, shown, costs, networks = [], [], [], []

    def add(one, pictures=()):
        found.append(one)
        shown.append(list(pictures))
        costs.append(Cost(1.0 + len(found), 20.0))

    for base, shift in (("h16", 1.0), ("h16-cifar100", 1.6)):
        for seed in (0, 1, 2):
            name = f"{base}-{seed}"
            networks.append(network(name, 16, seed, objects="cifar" in base))
            for surface in SURFACES:
                for method in METHODS:
                    # Nobody sees anything on class2.
                    one = result(
                        surface, method, "trained", name, seed, 0.0 if surface[1] == "class2" else shift,
                        is_known=surface[1] in KNOWN,
                    )  # fmt: skip
                    add(one, examples(one) if seed == 0 and method == "mean euclidean" else ())
    for surface in SURFACES:
        for seed in (0, 1, 2):
            for method in METHODS:
                add(result(surface, method, "untrained", f"untrained-h16-{seed}", seed, 0.2))
        add(result(surface, "per-pixel variation", "baseline", shift=0.1))
    add(result(SURFACES[0], "class1: gaussian", "bundle", shift=4.0, fit_normals=0, held_out_normals=0))
    seconds = {one.name: 61.0 + one.seed for one in networks}
    return Study(found, shown, costs, networks, seconds, {"python": "3.11", "metricad": "0.1.0"})


@pytest.fixture(scope="module")
def study():
    return make_study()


@pytest.fixture(scope="module")
def summary(study):
    return Summary(study.results, study.networks)


def aurocs(study, surface, method, start):
    """The AUROCs of the networks whose name starts so, straight from the results."""
    return [
        one.auroc
        for one in study.results
        if (one.surface, one.method) == (surface, method) and (one.network or "-").rpartition("-")[0] == start
    ]


def texts(table):
    """A table's texts by row and column; the footer's as well."""
    assert all(len(row) == len(table.header) for row in (*table.rows, *table.footer))
    return {
        row[0].text: dict(zip(table.header[1:], (cell.text for cell in row[1:]), strict=True))
        for row in (*table.rows, *table.footer)
    }


def cell(table, row, column):
    (found,) = (cells for cells in (*table.rows, *table.footer) if cells[0].text == row)
    return found[list(table.header).index(column)]


# The summary.


def test_settings_are_named_as_the_grid_names_them(summary):
    assert list(summary.labels.values()) == [
        "h = 16",
        "h = 16 + CIFAR-100",
        "inspector, gaussian",
        "untrained h = 16",
        "per-pixel variation",
    ]
    assert summary.methods == ["mean euclidean", "mean manhattan", "gaussian"]
    assert summary.method == "mean euclidean"
    assert summary.labels[summary.shown] == "h = 16 + CIFAR-100"
    assert [name for _, name in summary.known] == list(KNOWN)
    assert [name for _, name in summary.novel] == list(NOVEL)


@pytest.mark.parametrize(
    ("networks", "labels"),
    [
        ([("run", 16, 0)], ["h = 16"]),
        ([("run-0", 16, 0), ("run-1", 16, 1)], ["h = 16"]),
        ([("run-0", 16, 0), ("run-1", 32, 1)], ["h = 16", "h = 32"]),
        ([("small", 16, 0), ("large", 32, 0)], ["small", "large"]),
        ([("a", 16, 0), ("a", 32, 0), ("b", 32, 0)], ["a, h = 16", "a, h = 32", "b, h = 32"]),
        ([("h16-0", 16, 0), ("h16-things-0", 16, 0)], ["h = 16", "h = 16 + things"]),
        ([("h16-0", 16, 0), ("other-0", 16, 0)], ["h16", "other"]),
        ([("one\nline-0", 16, 0), ("\udcff-0", 16, 0)], ["one line", "\\udcff"]),
    ],
)
def test_labels_of_other_networks(networks, labels):
    found = [result("tile", network=name, units=units, seed=seed) for name, units, seed in networks]
    assert list(Summary(found).labels.values()) == labels


def test_one_network_that_saw_objects_says_so():
    labels = Summary([result("tile")], [network("run-0", 16, 0, objects=True)]).labels
    assert list(labels.values()) == ["h = 16 + CIFAR-100"]


def test_data_sets_are_named_where_names_are_not_enough():
    found = [result(("a", "tile")), result(("b", "tile")), result(("b", "wood"))]
    assert list(Summary(found).titles.values()) == ["a: tile", "b: tile", "wood"]


def test_untrained_controls_of_a_size_are_one_however_they_are_called():
    names = ("untrained-h16-0", "run-0")
    found = [result("tile", role="untrained", network=name) for name in names]
    found[1] = dataclasses.replace(found[0], network="run-0")
    summary = Summary([result("tile"), *found])
    assert summary.values(("made", "tile"), Setting("untrained", None, 16), "mean euclidean") == [
        found[0].auroc
    ]


def test_results_that_stand_in_two_files_count_once(study):
    table = tables.auroc(Summary([*study.results, *study.results], study.networks))
    assert table == tables.auroc(Summary(study.results, study.networks))


def test_two_networks_of_one_name_are_refused():
    one = result("tile")
    other = dataclasses.replace(one, scores=[row | {"score": 2 * row["score"]} for row in one.scores])
    with pytest.raises(DataError, match="two results on tile differ, both of mean euclidean with run-0"):
        Summary([one, other])


def test_different_test_images_are_refused():
    one = result("tile")
    other = dataclasses.replace(one, network="run-1", seed=1, scores=one.scores[1:])
    with pytest.raises(DataError, match="results on tile have different test images"):
        Summary([one, other])


def test_several_bundles_of_a_surface_have_columns_of_their_own():
    bundles = [result("tile", f"{name}: gaussian", "bundle") for name in "ab"]
    summary = Summary([*bundles, result("tile", "per-pixel variation", "baseline")])
    assert list(summary.labels.values()) == ["a: gaussian", "b: gaussian", "per-pixel variation"]
    assert [summary.median(("made", "tile"), s, summary.method) for s in summary.judged] == [
        bundle.auroc for bundle in bundles
    ]


# The headline.


def test_known_and_novel_surfaces_stand_apart(summary):
    known, novel = tables.auroc(summary)
    assert known.caption.startswith("Known surfaces")
    assert novel.caption.startswith("Novel surfaces")
    assert [row[0].text for row in known.rows] == list(KNOWN)
    assert [row[0].text for row in novel.rows] == list(NOVEL)


def test_one_table_where_nothing_is_known():
    (table,) = tables.auroc(Summary([result("tile"), result("wood")]))
    assert table.caption == "AUROC: mean euclidean"


def test_cells_are_medians_with_deviations_counts_and_means(study, summary):
    known, _ = tables.auroc(summary)
    assert list(known.header) == [
        "surface", "good / defect", "h = 16", "paper", "difference", "h = 16 + CIFAR-100", "paper",
        "difference", "inspector, gaussian", "untrained h = 16", "per-pixel variation",
    ]  # fmt: skip
    for column, start in (
        ("h = 16", "h16"),
        ("h = 16 + CIFAR-100", "h16-cifar100"),
        ("untrained h = 16", "untrained-h16"),
    ):
        medians = []
        for surface in KNOWN:
            values = sorted(aurocs(study, surface, "mean euclidean", start))
            assert len(values) == 3
            deviation = (sum((v - sum(values) / 3) ** 2 for v in values) / 3) ** 0.5
            assert cell(known, surface, column).text == f"{values[1]:.3f} ± {deviation:.3f}"
            assert cell(known, surface, column).value == values[1]
            medians.append(values[1])
        assert cell(known, "mean", column).text == f"{sum(medians) / 2:.3f}"
    assert cell(known, "class1", "good / defect").text == "20 / 10"
    baseline = {one.surface: one.auroc for one in study.results if one.role == "baseline"}
    assert cell(known, "class2", "per-pixel variation").text == f"{baseline['class2']:.3f}"
    # The inspector is of class1 alone: its mean over one surface compares with no other.
    assert cell(known, "class2", "inspector, gaussian").text == "–"
    assert cell(known, "mean", "inspector, gaussian").text.endswith(" (1 of 2)")


def test_the_paper_stands_beside_with_the_difference(study, summary):
    known, novel = tables.auroc(summary)
    for table, surface, number in ((known, "class1", 1), (known, "class2", 2), (novel, "class7", 7)):
        (row,) = (row for row in table.rows if row[0].text == surface)
        for column, start, with_objects in ((2, "h16", False), (5, "h16-cifar100", True)):
            median, deviation = paper_table.TABLE_3[number][16, with_objects]
            ours = np.median(aurocs(study, surface, "mean euclidean", start))
            assert row[column + 1].text == f"{median} ± {deviation}"
            assert row[column + 2].value == pytest.approx(ours - median)
            assert row[column + 2].text == f"{ours - median:+.3f}".replace("-", "−")
    means = known.footer[0]
    assert means[3].text == f"{(0.99 + 0.48) / 2:.3f}"
    assert means[4].value == pytest.approx(np.mean([row[4].value for row in known.rows]))


def test_no_paper_without_its_setting(study):
    blind = Summary(study.results)  # nobody tells what the networks saw
    assert "paper" not in tables.auroc(blind)[0].header
    other = Summary([result(SURFACES[0], "gaussian")], [network("run-0", 16, 0)])
    assert "paper" not in tables.auroc(other)[0].header


def test_what_is_not_better_than_both_controls_is_marked(study, summary):
    marks = {}
    for table in tables.auroc(summary):
        for surface in (row[0].text for row in table.rows):
            rivals = [
                np.median(aurocs(study, surface, "mean euclidean", "untrained-h16")),
                *(one.auroc for one in study.results if (one.role, one.surface) == ("baseline", surface)),
            ]
            medians = {
                column: np.median(aurocs(study, surface, "mean euclidean", start))
                for column, start in (("h = 16", "h16"), ("h = 16 + CIFAR-100", "h16-cifar100"))
            }
            for column, median in medians.items():
                is_beaten = median <= max(rivals)
                marks[surface, column] = cell(table, surface, column).mark
                assert (marks[surface, column] == "warning") == is_beaten
    assert marks["class2", "h = 16"] == "warning"
    assert marks["class7", "h = 16"] != "warning"
    known, novel = tables.auroc(summary)
    assert cell(known, "class1", "inspector, gaussian").mark == "strong"
    assert cell(novel, "class7", "h = 16 + CIFAR-100").mark == "strong"
    assert cell(novel, "class7", "untrained h = 16").mark == ""


@pytest.mark.parametrize(
    ("auroc", "untrained", "baseline", "is_beaten"),
    [
        (0.9, 0.8, 0.7, False),
        (0.9, 0.9, 0.7, True),
        (0.9, 0.8, 0.95, True),
        (1.0, 1.0, 0.5, True),
        (0.9, None, 0.8, False),
        (0.9, 0.95, None, True),
        (0.9, None, None, False),
    ],
)
def test_a_tie_with_a_control_is_no_win(auroc, untrained, baseline, is_beaten):
    found = [result("tile", auroc=auroc)]
    if untrained is not None:
        found.append(result("tile", role="untrained", auroc=untrained))
    if baseline is not None:
        found.append(result("tile", "per-pixel variation", "baseline", auroc=baseline))
    # Another size and another prototype are no controls of this one.
    found.append(result("tile", role="untrained", network="large", units=32, auroc=1.0))
    found.append(result("tile", "gaussian", "untrained", auroc=1.0))
    (table,) = tables.auroc(Summary(found))
    assert (cell(table, "tile", "h = 16").mark == "warning") == is_beaten


def test_one_trained_column_is_not_the_best_of_many():
    (table,) = tables.auroc(Summary([result("tile", auroc=1.0)]))
    assert cell(table, "tile", "h = 16").mark == ""


def test_a_single_seed_has_no_deviation():
    (table,) = tables.auroc(Summary([result("tile", auroc=0.75)]))
    assert texts(table) == {"tile": {"good / defect": "20 / 10", "h = 16": "0.750"}}


def test_means_of_known_novel_and_all(study, summary):
    found = texts(tables.means(summary))
    medians = [np.median(aurocs(study, surface, "mean euclidean", "h16")) for _, surface in SURFACES]
    assert found["h = 16"] == {
        "known (2)": f"{np.mean(medians[:2]):.3f}",
        "novel (1)": f"{medians[2]:.3f}",
        "all (3)": f"{np.mean(medians):.3f}",
    }
    assert list(found) == list(summary.labels.values())
    assert found["inspector, gaussian"]["novel (1)"] == "–"


# The other tables.


def test_intervals_are_those_of_the_scores(study, summary):
    table = tables.intervals(summary)
    group = [
        one
        for one in study.results
        if (one.surface, one.method) == ("class7", "mean euclidean")
        and (one.network or "").startswith("h16-cifar")
    ]
    low, high = metrics.auroc_interval(
        group[0].defect, [one.score_values for one in group], rng=np.random.default_rng(0)
    )
    assert cell(table, "class7", "h = 16 + CIFAR-100").text == f"[{low:.2f}, {high:.2f}]"
    assert cell(table, "class2", "inspector, gaussian").text == "–"
    assert list(table.header) == ["surface", "h = 16", "h = 16 + CIFAR-100", "inspector, gaussian"]
    assert not table.footer


def test_all_metrics_are_medians_over_the_seeds(study, summary):
    table = tables.all_metrics(summary, summary.shown)
    assert table.caption.endswith("h = 16 + CIFAR-100")
    group = [
        one
        for one in study.results
        if (one.surface, one.method) == ("class1", "mean euclidean")
        and (one.network or "").startswith("h16-cifar")
    ]
    above = [[row["score"] > 1.5 for row in one.scores] for one in group]
    areas = [metrics.pr_auc(one.defect, one.score_values) for one in group]
    expected = {
        "AUROC": f"{np.median([one.auroc for one in group]):.3f}",
        "AP": f"{np.median([one.average_precision for one in group]):.3f}",
        "PR AUC by trapezoid": f"{np.median(areas):.3f}",
        "F1-max": f"{np.median([one.f1_max for one in group]):.3f}",
        "FPR at 95 % TPR": f"{np.median([one.fpr_at_95_tpr for one in group]):.3f}",
        "pixel AUROC": "0.800",
        "AUPRO": "0.700",
        "false alarms promised": "10.0 %",
        "false alarms": tables.percent(np.median([sum(marks[:GOOD]) / GOOD for marks in above])),
        "misses": tables.percent(np.median([1 - sum(marks[GOOD:]) / DEFECTS for marks in above])),
    }
    assert texts(table)["class1"] == expected


def test_missing_masks_and_thresholds_are_blanks():
    found = [
        result("tile", pixel_auroc=None, aupro=None, threshold=None, false_alarm_rate=None),
        result("wood", pixel_auroc=0.5),
    ]
    summary = Summary(found)
    table = tables.all_metrics(summary, summary.shown)
    blank = ("pixel AUROC", "AUPRO", "false alarms promised", "false alarms", "misses")
    assert {name for name, text in texts(table)["tile"].items() if text == "–"} == set(blank)
    assert cell(table, "mean", "pixel AUROC").text == "0.500 (1 of 2)"


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, (1.0, 0.0)), (2.0, (0.5, 0.5)), (9.0, (0.0, 1.0))])
def test_rates_count_what_lies_above_the_threshold(threshold, expected):
    scores = [("good", 1), ("good", 3), ("hole", 2), ("hole", 4)]
    rows = [{"name": str(k), "kind": kind, "score": score} for k, (kind, score) in enumerate(scores)]
    assert tables.rates(result("tile", scores=rows, threshold=threshold)) == expected


def test_densities_stand_side_by_side(study, summary):
    table = tables.densities(summary, summary.shown)
    assert list(table.header) == ["surface", "mean euclidean", "mean manhattan", "gaussian"]
    wins = dict.fromkeys(METHODS, 0)
    for _, surface in SURFACES:
        for start in ("h16", "h16-cifar100"):
            medians = {method: np.median(aurocs(study, surface, method, start)) for method in METHODS}
            for method in METHODS:
                wins[method] += medians[method] > medians["mean euclidean"]
        for method in METHODS:
            assert cell(table, surface, method).value == medians[method]
    row = "better than mean euclidean, all settings"
    assert texts(table)[row] == {
        "mean euclidean": "–",
        "mean manhattan": f"{wins['mean manhattan']} of 6",
        "gaussian": f"{wins['gaussian']} of 6",
    }


def test_positional_stands_where_it_is():
    found = [result(name) for name in ("tile", "star")] + [result("star", "positional")]
    summary = Summary(found)
    table = tables.densities(summary, summary.shown)
    assert cell(table, "tile", "positional").text == "–"
    assert cell(table, "mean", "positional").text.endswith("(1 of 2)")
    assert texts(table)["better than mean euclidean, all settings"]["positional"].endswith("of 1")


def test_controls_by_every_prototype(study, summary):
    table = tables.controls(summary)
    assert list(table.header) == [
        "surface",
        "untrained h = 16, mean euclidean",
        "untrained h = 16, mean manhattan",
        "untrained h = 16, gaussian",
        "per-pixel variation",
    ]
    median = np.median(aurocs(study, "class7", "gaussian", "untrained-h16"))
    assert cell(table, "class7", "untrained h = 16, gaussian").value == median
    assert not any(one.mark for row in table.rows for one in row)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0051, "+0.005"), (-0.02, "−0.020"), (0.0, "0.000"), (-0.0001, "0.000")]
)
def test_differences_have_a_sign(value, text):
    assert tables.signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (0.05, "5.0 %"), (1.0, "100.0 %"), (0.00667, "0.67 %"), (0.1267, "12.7 %")],
)
def test_rates_are_percent(value, text):
    assert tables.percent(value) == text


# A network that ships, beside the paper's of the same size.


def mixed():
    """Both of 16 units, each with its own control and its own prototype, on one surface."""
    shipped = {"network": "fast", "architecture": "hypercolumn"}
    return [
        result("wood", role="trained", network="run-0", shift=3.0),
        result("wood", role="untrained", network="run-0", shift=0.0),
        result("wood", "auto", role="trained", shift=1.0, **shipped),
        result("wood", "auto", role="untrained", shift=6.0, **shipped),
    ]


def test_shapes_of_one_size_keep_their_controls_apart():
    summary = Summary(mixed())
    surface = ("made", "wood")
    paper_like, fast = summary.judged
    assert [summary.labels[one] for one in summary.labels] == [
        "h = 16", "fast", "untrained h = 16", "fast, untrained"
    ]  # fmt: skip
    assert not summary.is_beaten(surface, paper_like, summary.method_of(paper_like))
    assert summary.is_beaten(surface, fast, summary.method_of(fast))
    assert list(summary.rivals(surface, fast, "auto")) == [Setting("untrained", "hypercolumn", 16)]


def test_a_setting_without_the_headlines_method_shows_its_own():
    summary = Summary(mixed())
    (table,) = tables.auroc(summary)
    assert summary.method == "mean euclidean"
    assert table.header == [
        "surface", "good / defect", "h = 16", "fast, auto", "untrained h = 16",
        "fast, untrained, auto",
    ]  # fmt: skip
    (row,) = table.rows
    expected = [mixed()[k].auroc for k in (0, 2, 1, 3)]
    assert [cell.value for cell in row[2:]] == pytest.approx(expected)
    assert row[3].mark == "warning"
    assert report.table(mixed())[0][2:] == [
        "mean euclidean, h = 16", "auto, fast", "mean euclidean, untrained h = 16",
        "auto, fast, untrained",
    ]  # fmt: skip


def test_a_network_that_ships_goes_by_its_name_also_alone():
    (fast, _) = Summary(mixed()[2:]).labels.values()
    assert fast == "fast"
