"""The report of a made-up study: what is written, what it says, and studies that lack this or that."""

import csv
import dataclasses
import io
import json
import re

import numpy as np
import pytest

from metricad.errors import DataError
from metricad.evaluation import results
from metricad.evaluation.results import Cost, Result, Study
from metricad.reporting import paper_table
from metricad.reporting.document import Document, Section
from tests.helpers import COLLECTING
from tests.reporting.test_tables import (
    DEFECTS,
    GOOD,
    KNOWN,
    METHODS,
    SURFACES,
    examples,
    make_study,
    network,
    result,
)

if not COLLECTING:
    from metricad.reporting import report, sections

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study():
    return make_study()


@pytest.fixture(scope="module")
def written(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "report"
    return folder, report.write(study, folder)


@pytest.fixture(scope="module")
def text(written):
    return (written[0] / "report.md").read_text()


def bare(found, **changes):
    """A study of results alone."""
    values = {
        "examples": [[] for _ in found],
        "costs": [None] * len(found),
        "versions": {"metricad": "0.1.0"},
    }
    return Study(found, **values | changes)


def paragraphs(study):
    """A report's plain text, each part's paragraphs below its title."""

    def inside(part: Document | Section):
        own = "\n".join(block for block in part.blocks if isinstance(block, str))
        return {part.title: own} | {k: v for section in part.sections for k, v in inside(section).items()}

    return inside(sections.build(study))


@pytest.fixture(scope="module")
def said(study):
    return paragraphs(study)


# What is written.


def test_report_is_written_whole(written):
    folder, paths = written
    assert [path.name for path in paths] == [
        "report.md", "report.html", "report.json", "report.csv", "roc.png", "precision-recall.png",
        "scores.png", "map-class1.jpg",
        "map-class2.jpg", "map-class7.jpg", "training.png",
    ]  # fmt: skip
    assert sorted(paths) == sorted(folder.iterdir())


def test_markdown_shows_every_picture_and_table(written, text):
    _, paths = written
    shown = set(re.findall(r"\]\(([^)]+)\)", text))
    assert shown == {path.name for path in paths if path.suffix in (".png", ".jpg")}
    for heading in (
        "What was compared", "AUROC per surface", "Intervals", "All metrics", "Densities and distances",
        "Controls", "ROC curves", "Scores and thresholds", "Heat maps", "Training", "Provenance",
    ):  # fmt: skip
        assert f"\n## {heading}\n" in text
    assert "| class1 | 20 / 10 | " in text


def test_page_stands_alone(written):
    folder, _ = written
    page = (folder / "report.html").read_text()
    sources = re.findall(r'src="([^"]{10})', page)
    assert len(sources) == 7
    assert set(sources) == {"data:image"}
    assert "http" not in page.replace("http-equiv", "")
    assert len(page) < 1_000_000


def test_json_has_the_tables_as_data(written, study):
    document = json.loads((written[0] / "report.json").read_text())
    tables = {one["caption"]: one for one in document["tables"]}
    known = tables["Known surfaces: mean euclidean"]
    assert known["section"] == ["AUROC per surface"]
    assert [row[0] for row in known["rows"]] == [{"text": "class1"}, {"text": "class2"}]
    column = known["header"].index("h = 16")
    values = [
        one.auroc
        for one in study.results
        if (one.surface, one.method) == ("class2", "mean euclidean")
        and one.network in ("h16-0", "h16-1", "h16-2")
    ]  # fmt: skip
    assert known["rows"][1][column]["value"] == np.median(values)
    assert known["rows"][1][column]["mark"] == "warning"
    assert known["footer"][0][0] == {"text": "mean"}
    for table in document["tables"]:
        assert all(len(row) == len(table["header"]) for row in (*table["rows"], *table["footer"]))


def test_csv_has_one_line_for_each_result(written, study):
    rows = list(csv.DictReader(io.StringIO((written[0] / "report.csv").read_text())))
    assert len(rows) == len(study.results)
    for row, one, cost in zip(rows, study.results, study.costs, strict=True):
        kept = {name: value for name, value in dataclasses.asdict(one).items() if name != "scores"}
        kept |= dataclasses.asdict(cost)
        assert row == {name: "" if value is None else str(value) for name, value in kept.items()}
        assert float(row["auroc"]) == one.auroc


def test_a_study_that_was_saved_gives_the_same_report(written, study, tmp_path):
    folder, _ = written
    results.save(tmp_path / "study.json", study)
    for path in report.write(results.load(tmp_path / "study.json"), tmp_path / "report"):
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_nothing_is_left_half_written(study, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "to_csv", lambda _: "\ud800")  # cannot be encoded
    with pytest.raises(UnicodeEncodeError):
        report.write(bare(study.results[:1]), tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".png", ".jpg")]


# What it says.


def test_it_says_what_was_run_on_what_and_how_to_read_it(said):
    run, data, reading, apart = said["What was compared"].split("\n")
    assert run == (
        "6 trained networks in 2 settings (h = 16; h = 16 + CIFAR-100), seeds 0, 1, 2, with 3 densities: "
        "mean euclidean, mean manhattan, gaussian. 1 bundle: class1: gaussian. Controls: "
        "untrained h = 16; per-pixel variation."
    )
    assert data == (
        "Tested on 3 surfaces of dagm2007/all: 2 known, whose good images networks were trained on, and 1 "
        "novel. Each has 20 good test images and 10 defects. Densities and baselines are fitted to "
        "30 other good images of the surface; 10 more are held out for a threshold."
    )
    assert "warning sign" in reading
    assert "to 500 in the paper" in apart


def test_it_says_for_how_many_defects_there_is_a_mask(study):
    masked = [dataclasses.replace(result, masks=7) for result in study.results]
    document = sections.build(dataclasses.replace(study, results=masked))
    assert "A mask that can be used was found for 21 of 30 defects." in str(document)


def test_it_says_how_far_from_the_paper(study, said):
    apart = said["What was compared"].split("\n")[3]
    for start, label, with_objects in (
        ("h16", "h = 16", False),
        ("h16-cifar100", "h = 16 + CIFAR-100", True),
    ):
        differences = {}
        for _, surface in SURFACES:
            values = [
                one.auroc
                for one in study.results
                if (one.surface, one.method) == (surface, "mean euclidean")
                and (one.network or "-").rpartition("-")[0] == start
            ]
            theirs = paper_table.TABLE_3[int(surface.removeprefix("class"))][16, with_objects][0]
            differences[surface] = np.median(values) - theirs
        mean = f"{np.mean(list(differences.values())):+.3f}".replace("-", "−")
        lowest, highest = min(differences, key=differences.get), max(differences, key=differences.get)
        assert f"{label}: {mean} on average over 3 classes, from " in apart
        assert re.search(rf"{re.escape(label)}: [^:]* \({lowest}\) to [^:]* \({highest}\)\.", apart)


def test_all_ten_classes_have_the_printed_mean_beside():
    found = [result(("dagm2007/all", f"class{number}")) for number in paper_table.TABLE_3]
    study = bare(found, networks=[network("run-0", 16, 0, objects=True)])
    mean = np.mean([one.auroc for one in found])
    assert f"the mean is {mean:.3f}, the paper prints 0.83. " in paragraphs(study)["What was compared"]


def test_other_surfaces_are_not_compared_with_the_paper():
    said = paragraphs(bare([result("tile")]))["What was compared"]
    assert "cannot be compared with the paper's table 3" in said


def test_marks_are_counted(written, said):
    sentence = said["AUROC per surface"]
    document = json.loads((written[0] / "report.json").read_text())
    known, novel = (one for one in document["tables"] if one["section"] == ["AUROC per surface"])
    counts = {}
    for label in ("h = 16", "h = 16 + CIFAR-100", "inspector, gaussian"):
        cells = [row[table["header"].index(label)] for table in (known, novel) for row in table["rows"]]
        cells = [cell for cell in cells if cell["text"] != "–"]
        counts[label] = sum(cell.get("mark") == "warning" for cell in cells), len(cells)
    total = sum(marked for marked, _ in counts.values())
    assert total > 0
    each = ", ".join(f"{marked} of {every} with {label}" for label, (marked, every) in counts.items())
    assert sentence == f"{total} of 7 numbers are marked as not better than both controls: {each}."


def test_missing_controls_are_told(said):
    found = [result("tile"), result("tile", "per-pixel variation", "baseline")]
    assert "For 1 a control is missing" in paragraphs(bare(found))["AUROC per surface"]
    assert "missing" not in said["AUROC per surface"]


def test_the_open_question_is_answered_over_all_settings_and_seeds(study, said):
    by = {
        method: {
            (one.surface, one.network): one.auroc
            for one in study.results
            if one.role == "trained" and one.method == method
        }
        for method in METHODS
    }
    apart = {key: by["mean manhattan"][key] - auroc for key, auroc in by["mean euclidean"].items()}
    assert len(apart) == 18
    by_surface = {s: np.mean([v for (where, _), v in apart.items() if where == s]) for _, s in SURFACES}
    values = np.array(list(apart.values()))
    answer = said["Densities and distances"]
    assert "18 pairs (3 surfaces, 2 settings, 3 seeds)" in answer
    assert f"is {values.mean():+.3f} on average".replace("-", "−") in answer
    assert (
        f"better in {sum(values > 0)}, equal in {sum(values == 0)} and worse in {sum(values < 0)}. " in answer
    )
    assert f"better on {sum(mean > 0 for mean in by_surface.values())} of 3, from " in answer
    assert f"({min(by_surface, key=by_surface.get)}) to " in answer


def test_the_setting_that_is_shown_is_told(said):
    assert "shows the setting h = 16 + CIFAR-100: the first whose networks saw objects" in said["All metrics"]
    assert "This shows" not in paragraphs(bare([result("tile")]))["All metrics"]


def test_provenance_names_versions_networks_data_and_times(text):
    assert "| metricad | 0.1.0 |" in text
    assert (
        "| h = 16 + CIFAR-100 | 0, 1, 2 | dagm2007/all: 2 classes, 60 images; cifar100_gray: 100 classes, "
        "500 images | 3,840 | 1 × 3 | 1 min 2 s |" in text
    )
    assert "| class7 | dagm2007/all | novel | 30 | 10 | 20 | 10 |" in text
    assert re.search(r"\| h = 16 \| gaussian \| [\d.]+ \| 20 \|", text)
    assert re.search(r"\| per-pixel variation \| – \| [\d.]+ \| 20 \|", text)


def test_times_are_medians():
    found = [result("tile"), result("wood"), result("star")]
    costs = [Cost(1.0, 30.0), Cost(5.0, 10.0), None]
    document = json.loads(report.to_json(sections.build(bare(found, costs=costs))))
    (table,) = (one for one in document["tables"] if one["caption"].startswith("Times"))
    assert [cell["text"] for cell in table["rows"][0]] == ["h = 16", "mean euclidean", "3", "20"]


# Studies that lack something.


def test_one_seed_and_nothing_else(tmp_path):
    report.write(bare([result("tile")]), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "precision-recall.png", "report.csv", "report.html", "report.json", "report.md", "roc.png",
        "scores.png",
    ]  # fmt: skip
    assert text.startswith("# Anomaly detection on tile\n")
    assert "1 trained network in 1 setting (h = 16), seed 0, with 1 density: mean euclidean." in text
    assert "Controls: none." in text
    for heading in ("## Controls", "## Heat maps", "## Training", "*Times"):
        assert heading not in text


def test_bundles_alone(tmp_path):
    found = [result(name, f"{name}: gaussian", "bundle", fit_normals=0) for name in ("tile", "wood")]
    found += [result(name, "per-pixel variation", "baseline") for name in ("tile", "wood")]
    report.write(bare(found, examples=[examples(one) for one in found[:2]] + [[], []]), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "2 bundles: tile: gaussian, wood: gaussian. Controls: per-pixel" in text
    assert "| surface | good / defect | inspector, gaussian | per-pixel variation |" in text
    assert (tmp_path / "map-wood.jpg").is_file()
    assert "gaussian, inspector, gaussian" not in text


@pytest.mark.parametrize("role", ["untrained", "baseline"])
def test_controls_alone(role, tmp_path):
    method = "gaussian" if role == "untrained" else "per-pixel variation"
    report.write(bare([result("tile", method, role)]), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "## Controls" in text
    assert "numbers are marked" not in text
    assert "## Intervals" not in text


def test_prototypes_other_than_the_papers(tmp_path):
    found = [result("tile", "gaussian", network=name, seed=seed) for name, seed in (("a-0", 0), ("b-0", 0))]
    found.append(result("tile", "mean manhattan", network="b-0"))
    report.write(bare(found), tmp_path)
    assert "*AUROC: mean manhattan*" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_hostile_names(tmp_path):
    names = ["a/b|c<script>", "*bold* `code` $x$", "旋盤", "two\nlines", "\udcff", "../up"]
    found = [result(("d<b>|\udcfe", name), network=f"{name}-0") for name in names]
    shown = [[dataclasses.replace(one, name=names[0]) for one in examples(each)] for each in found]
    paths = report.write(bare(found, examples=shown), tmp_path / "report")
    assert {path.parent for path in paths} == {tmp_path / "report"}
    assert len(set(paths)) == 7 + len(names)
    text, page = ((tmp_path / "report" / name).read_text() for name in ("report.md", "report.html"))
    assert "<script>\n" in page  # its own
    assert "c<script>" not in page
    assert "a/b|c&lt;script&gt;" in page
    assert r"a/b\|c\<script>" in text
    assert list(tmp_path.iterdir()) == [tmp_path / "report"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report" / "report.csv").read_text())))
    assert [row["surface"] for row in rows] == [*names[:3], "two lines", "\\udcff", "../up"]


def test_results_that_do_not_belong_together_are_refused(tmp_path):
    one = result("tile")
    other = dataclasses.replace(one, network="run-1", seed=1, scores=one.scores[1:])
    with pytest.raises(DataError, match="different test images"):
        report.write(bare([one, other]), tmp_path / "report")
    assert not (tmp_path / "report").exists()


# The terminal's table.


def test_terminal_table_has_medians_counts_and_means(study):
    found = [one for one in study.results if one.method == "mean euclidean" or one.role == "baseline"]
    header, *rows, mean = report.table(found)
    assert header == [
        "surface",
        "good / defect",
        "mean euclidean, h = 16",
        "mean euclidean, h = 16 + CIFAR-100",
        "mean euclidean, untrained h = 16",
        "per-pixel variation",
    ]
    assert [row[:2] for row in rows] == [[name, f"{GOOD} / {DEFECTS}"] for _, name in SURFACES]
    medians = [
        np.median(
            [one.auroc for one in found if one.surface == name and one.network in ("h16-0", "h16-1", "h16-2")]
        )
        for _, name in SURFACES
    ]
    assert [row[2].partition(" ± ")[0] for row in rows] == [f"{median:.3f}" for median in medians]
    assert mean[:3] == ["mean", "", f"{np.mean(medians):.3f}"]


def test_terminal_table_stays_narrow(study):
    header, *_ = report.table(study.results)
    assert header[2:] == [
        "mean euclidean, h = 16",
        "mean euclidean, h = 16 + CIFAR-100",
        "inspector, gaussian",
        "mean euclidean, untrained h = 16",
        "per-pixel variation",
    ]
    few = [one for one in study.results if one.network == "h16-0"]
    assert report.table(few)[0][2:] == [
        "mean euclidean, h = 16",
        "mean manhattan, h = 16",
        "gaussian, h = 16",
    ]


def test_terminal_table_has_blanks_where_nothing_is():
    rows = report.table([result("tile", auroc=0.5), result("wood", "gaussian", auroc=0.75)])
    assert rows[1:] == [
        ["tile", "20 / 10", "0.500", "–"],
        ["wood", "20 / 10", "–", "0.750"],
        ["mean", "", "0.500", "0.750"],
    ]


def test_csv_columns_are_those_of_a_result():
    header = report.to_csv(bare([result("tile")])).splitlines()[0].split(",")
    assert [*header, "scores"][: len(header) - 2] == [
        name for name in Result.__dataclass_fields__ if name != "scores"
    ]
    assert header[-2:] == ["seconds_to_fit", "milliseconds_per_image"]
    assert KNOWN == ("class1", "class2")
