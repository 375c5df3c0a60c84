"""Figures, targets and the table."""

import json

import pytest

from benchmarks.report import Figure, Report, Target, number


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert Figure("map", "Pool", "items/s", (1.0, 9.0, 2.0)).value == 2.0


@pytest.mark.parametrize(
    ("value", "at_most", "met"),
    [
        (5.0, False, True),
        (4.99, False, False),
        (4.9999, False, True),
        (5.0, True, True),
        (5.01, True, False),
        (5.004, True, True),
    ],
)
def test_a_target_is_judged_by_what_is_printed(value: float, at_most: bool, met: bool) -> None:
    target = Target("faster", value, 5, at_most=at_most)
    assert target.met is met
    assert target.line().startswith("OK" if met else "MISSED")


def test_targets_are_median_ratios() -> None:
    report = Report()
    report.at_least("throughput", [10.0, 30.0], [5.0, 10.0], 2.5)
    report.at_most("time", [1.0], [2.0], 0.4)
    report.limit("cost", [3.0, 4.0, 50.0], 5, "µs")
    assert [(t.value, t.met) for t in report.targets] == [(2.5, True), (0.5, False), (4.0, True)]


def test_json_and_back() -> None:
    report = Report()
    report.record("map", "items/s", {"Pool": [2.0, 3.0], "loky": [1.0], "absent": []})
    report.at_least("map: Pool / loky", [3.0], [1.0], 2)
    again = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert again == report
    assert [figure.contestant for figure in again.figures] == ["Pool", "loky"]


def test_reports_add_up() -> None:
    one, two = Report(), Report()
    one.record("map", "items/s", {"Pool": [1.0]})
    two.record("start", "ms", {"Pool": [1.0]})
    two.limit("start", [1.0], 5, "ms")
    one.extend(two)
    assert (len(one.figures), len(one.targets)) == (2, 1)


def test_the_table_has_a_row_for_each_measure_and_a_column_for_each_contestant() -> None:
    report = Report()
    report.record("map", "items/s", {"loky": [1500.0], "Pool": [2e6], "Pool, other": [1.0]})
    report.record("start", "ms", {"Pool": [1.0]})
    report.record("left out", "ms", {"Pool, other": [1.0]})
    assert report.table(["loky", "Pool"]) == [
        "|              |   loky |   Pool |",
        "| ------------ | -----: | -----: |",
        "| map, items/s | 1.50 k | 2.00 M |",
        "| start, ms    |        |   1.00 |",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123, "0.012"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (999.4, "999"),
        (999.7, "1.00 k"),
        (12_345, "12.3 k"),
        (999_800, "1.00 M"),
        (9_500_000, "9.50 M"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text
