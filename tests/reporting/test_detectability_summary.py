"""What is said of a chart: from which size and contrast on a kind of defect is found."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metricad.evaluation.detectability import Chart, Count, Setting
from metricad.reporting.detectability_summary import (
    FOUND,
    NAMES,
    detection_limits,
    percent,
    statements,
    to_csv,
)
from metricad.synthetic import defects

SIZES, CONTRASTS = (1, 2, 3), (0.1, 0.2, 0.4)


def chart(shares, kind="scratch", defects=20):
    """A row for each contrast, falling, and a column for each size, rising: as it is drawn."""
    return Chart(
        {
            Setting(kind, size, contrast): Count(defects, round(share * defects), round(share * defects))
            for contrast, row in zip(reversed(CONTRASTS), shares, strict=True)
            for size, share in zip(SIZES, row, strict=True)
        }
    )


def starts(shares):
    return [(one.start.size, one.start.contrast) for one in detection_limits(chart(shares), "scratch")]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([[1, 1, 1], [1, 1, 1], [1, 1, 1]], [(1, 0.1)]),
        ([[0, 1, 1], [0, 1, 1], [0, 0, 0]], [(2, 0.2)]),
        ([[0.5, 0.95, 1], [0.5, 0.9, 1], [0, 0, 0]], [(2, 0.4), (3, 0.2)]),
        ([[0, 0, 1], [0, 0, 0], [0, 0, 0]], [(3, 0.4)]),
        # Strong and large must be found too: a hole there ends it.
        ([[1, 1, 0.9], [1, 1, 1], [1, 1, 1]], []),
        ([[1, 1, 1], [1, 0.9, 1], [1, 1, 1]], [(1, 0.4), (3, 0.1)]),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], []),
    ],
)
def test_limits_are_the_smallest_and_weakest_from_which_all_is_found(shares, expected):
    assert starts(shares) == expected


@given(st.lists(st.lists(st.sampled_from([0, 0.9, 0.95, 1]), min_size=3, max_size=3), min_size=3, max_size=3))
def test_limits_frame_all_that_is_found_and_nothing_else(shares):
    """A setting lies behind a limit if and only if all that is as large and as strong is found."""
    one = chart(shares)
    found = detection_limits(one, "scratch")
    for setting in one.counts:
        is_behind = any(
            setting.size >= limit.start.size and setting.contrast >= limit.start.contrast for limit in found
        )
        assert is_behind == all(count.share >= FOUND for count in one.from_on(setting).values())
    behind = [len(one.from_on(limit.start)) for limit in found]
    assert behind == sorted(behind, reverse=True)


def test_a_limits_count_is_of_all_behind_it():
    (limit,) = detection_limits(chart([[0, 1, 1], [0, 0.95, 1], [0, 0, 0]]), "scratch")
    assert limit.count == Count(80, 79, 79)


def test_other_kinds_do_not_matter():
    both = Chart({**chart([[1] * 3] * 3).counts, **chart([[0] * 3] * 3, kind="crack").counts})
    assert len(detection_limits(both, "scratch")) == 1
    assert detection_limits(both, "crack") == []


def test_statements():
    lines = [
        *statements(chart([[0, 1, 1], [0, 0.95, 1], [0, 0, 0]])),
        *statements(chart([[0.3] * 3] * 3, kind="gap")),
        *statements(chart([[0] * 3] * 3, kind="blur", defects=0)),
    ]
    assert lines == [
        "scratches at least 2 px wide with a contrast of 20 % or more: 99 % found (95 % interval 93–99.8)",
        "gaps: not found reliably; at 3 px wide with a strength of 40 %, the largest tested: 30 % found "
        "(95 % interval 15–52)",
        "blurred patches: not visible on this surface",
    ]


def test_a_statement_says_where_the_place_is_another():
    counts = {Setting("warp", 8, 1.0): Count(20, 20, 19)}
    assert statements(Chart(counts)) == [
        "warped patches at least 8 px across with a strength of 100 %: 100 % found (95 % interval 84–100), "
        "95 % in the right place"
    ]


def test_of_some_that_cannot_be_seen():
    counts = {Setting("blur", 8, 1.0): Count(20, 2, 2), Setting("blur", 16, 1.0): Count()}
    assert statements(Chart(counts)) == [
        "blurred patches: not found reliably; at 16 px across with a strength of 100 %, the largest tested: "
        "none is visible"
    ]


def test_every_kind_has_a_name():
    assert list(NAMES) == list(defects.KINDS)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.5, "50 %"), (0.996, "99.6 %"), (0.99999, "99.9 %"), (0.004, "0.4 %"),
     (1e-6, "0.1 %"), (0.954, "95 %")],
)  # fmt: skip
def test_only_all_is_all_and_only_none_is_none(share, text):
    assert percent(share) == text


def test_the_csv_has_a_line_for_each_setting():
    made = Chart({Setting("gap", 2.5, 0.25): Count(20, 19, 18), Setting("gap", 4, 0.25): Count()})
    rows = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert rows == [
        {"kind": "gap", "size": "2.5", "contrast": "0.25", "defects": "20", "found": "19", "localised": "18",
         "share": "0.9500", "low": "0.7639", "high": "0.9911"},
        {"kind": "gap", "size": "4", "contrast": "0.25", "defects": "0", "found": "0", "localised": "0",
         "share": "", "low": "", "high": ""},
    ]  # fmt: skip
