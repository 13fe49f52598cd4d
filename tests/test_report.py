"""The report: its table against values worked out by hand, its files against what they must show."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from skimage.io import imread

from metricad import report
from metricad.results import Example, Result


def result(surface="tile", method="mean euclidean", role="trained", run=None, seed=0, scores=(0, 1, 2, 3)):
    """Two good images, then two defects, with these scores."""
    kinds = ("good", "good", "hole", "hole")
    from metricad.metrics import auroc

    return Result(
        dataset="made",
        surface=surface,
        method=method,
        role=role,
        network=None if role == "baseline" else run or f"run-{seed}",
        units=None if role == "baseline" else 16,
        seed=None if role == "baseline" else seed,
        threshold=None,
        fit_normals=9,
        test_normals=2,
        test_defects=2,
        auroc=auroc([kind != "good" for kind in kinds], scores),
        seconds_to_fit=1.0,
        milliseconds_per_image=2.0,
        scores=[
            {"name": f"{i}.png", "kind": kind, "score": float(score)}
            for i, (kind, score) in enumerate(zip(kinds, scores, strict=True))
        ],
    )


@pytest.fixture
def results():
    """AUROCs: tile 1 and 0.5 (two seeds), wood 0.25; the controls 0.75 and 0.5 on tile alone."""
    return [
        result(role="baseline", method="per-pixel variation", scores=(1, 1, 1, 1)),
        result(seed=0, scores=(0, 1, 2, 3)),
        result(seed=1, scores=(0, 3, 1, 2)),
        result(role="untrained", scores=(0, 2, 1, 3)),
        result(surface="wood", scores=(1, 3, 0, 2)),
    ]


def test_table_has_medians_deviations_counts_and_means(results):
    header, tile, wood, mean = report.table(results)
    assert header == [
        "surface",
        "normal / defect",
        "mean euclidean, h = 16",
        "untrained mean euclidean, h = 16",
        "per-pixel variation",
    ]
    assert tile == ["tile", "2 / 2", "0.750 ± 0.250", "0.750", "0.500"]
    assert wood == ["wood", "2 / 2", "0.250", "–", "–"]
    assert mean == ["mean", "", "0.500", "0.750", "0.500"]


def test_networks_that_differ_by_more_than_their_seed_are_not_mixed():
    both = [result(run="small", scores=(0, 1, 2, 3)), result(run="large", scores=(2, 3, 0, 1))]
    header, tile, _ = report.table(both)
    assert header[2:] == ["small: mean euclidean, h = 16", "large: mean euclidean, h = 16"]
    assert tile[2:] == ["1.000", "0.000"]


def test_data_sets_are_named_where_there_are_several():
    other = dataclasses.replace(result(), dataset="tfds/tile")
    assert [row[0] for row in report.table([result(), other])] == [
        "surface",
        "made: tile",
        "tfds/tile",
        "mean",
    ]


def test_csv_has_one_line_for_each_result(results):
    rows = list(csv.DictReader(io.StringIO(report.to_csv(results))))
    assert [float(row["auroc"]) for row in rows] == [r.auroc for r in results]
    assert rows[0]["role"] == "baseline"
    assert "scores" not in rows[0]


def test_report_is_written_whole(results, tmp_path):
    row, column = np.mgrid[:40, :50]
    distances = (row * column).astype(np.float32)
    example = Example("test/hole/1.png", (row * 6).astype(np.uint8), distances, row > 20)
    examples = [None, example, example, example, None]
    written = report.write(results, examples, tmp_path / "report")
    assert sorted(path.name for path in written) == [
        "map-made-tile.png",
        "report.csv",
        "report.md",
        "roc.png",
    ]
    assert sorted(written) == sorted((tmp_path / "report").iterdir())
    document = (tmp_path / "report" / "report.md").read_text()
    for row in report.markdown_table(report.table(results)):
        assert row in document
    assert "![tile](map-made-tile.png)" in document
    assert "from 9 other good images" in document
    assert "seeds: 0, 1" in document
    for name in ("roc.png", "map-made-tile.png"):
        pixels = imread(tmp_path / "report" / name)
        assert pixels.shape[0] > 200
        assert pixels[..., :3].std() > 10  # something is drawn


def test_roc_curves_are_those_of_the_scores(results):
    figure = report.draw_roc(results)
    panels = [panel for panel in figure.axes if panel.get_title()]
    assert [panel.get_title() for panel in panels] == ["tile", "wood"]
    curves = {line.get_label(): line for line in panels[0].lines}
    untrained = curves["untrained mean euclidean, h = 16"]
    # Scores 0 and 2 are good, 1 and 3 are defects: up, right, up, right.
    assert np.trapezoid(untrained.get_ydata(), untrained.get_xdata()) == pytest.approx(0.75)
    assert untrained.get_linestyle() == "--"
    assert untrained.get_color() == curves["mean euclidean, h = 16"].get_color()


def test_maps_stand_beside_the_image_that_they_are_of():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    maps = [np.full((3, 4), value, np.float32) for value in (1, 2, 3)]
    figure = report.draw_maps(
        {str(i): (result(), Example("a.png", image, shown, None)) for i, shown in enumerate(maps)}
    )
    shown = [panel.images[0].get_array() for panel in figure.axes if panel.images]
    np.testing.assert_array_equal(shown[0], image)
    np.testing.assert_array_equal([array[0, 0] for array in shown[1:]], [1, 2, 3])
