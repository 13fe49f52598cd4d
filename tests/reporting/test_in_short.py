"""The first screen of a report, against values worked out by hand."""

import dataclasses

import pytest

from metricad.metrics import image as metrics
from metricad.reporting.in_short import in_short
from metricad.reporting.summary import Summary
from tests.reporting.test_tables import DEFECTS, GOOD, result


def kinds(found, *names):
    """The same result with these kinds of defects in turn."""
    scores = [
        row | {"kind": names[(k - GOOD) % len(names)]} if k >= GOOD else row
        for k, row in enumerate(found.scores)
    ]
    return dataclasses.replace(found, scores=scores)


def test_the_best_of_each_surface_and_of_all():
    strong, weak = "mixture", "gaussian"
    results = [
        result("felt", strong, shift=1.5),
        result("felt", weak, shift=0.1),
        result("wood", strong, shift=0.5),
        result("wood", weak, shift=1.4),
        result("felt", "variation", role="baseline", shift=0),
        result("wood", "variation", role="baseline", shift=0),
    ]
    said, table = in_short(Summary(results))
    aurocs = {(one.surface, one.method): one.auroc for one in results}
    mean = {name: (aurocs["felt", name] + aurocs["wood", name]) / 2 for name in (strong, weak, "variation")}
    best = max((strong, weak), key=mean.get)
    assert best in said
    assert f"{mean[best]:.3f}" in said
    assert f"{mean['variation']:.3f}" in said
    rows = {row[0].text: row for row in table.rows}
    for surface in ("felt", "wood"):
        first = max((strong, weak), key=lambda name: aurocs[surface, name])
        assert rows[surface][1].text.endswith(first)
        assert rows[surface][2].value == pytest.approx(aurocs[surface, first])


def test_the_hardest_kind_of_defect_is_named():
    found = kinds(result("felt", shift=1.0), "hole", "crack")
    _, table = in_short(Summary([found]))
    scores = found.score_values
    expected = {}
    for offset, kind in enumerate(("hole", "crack")):
        chosen = [*range(GOOD), *range(GOOD + offset, GOOD + DEFECTS, 2)]
        expected[kind] = metrics.auroc([found.defect[k] for k in chosen], [scores[k] for k in chosen])
    hardest = min(expected, key=expected.get)
    assert table.rows[0][-1].text == f"{hardest} (5): {expected[hardest]:.3f}"


def test_columns_without_anything_to_say_are_left_out():
    _, table = in_short(Summary([result("felt")]))
    assert table.header == ["surface", "best", "AUROC", "95 % interval"]
