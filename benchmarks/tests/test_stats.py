"""Turns, medians and ratios."""

import pytest

from benchmarks.stats import median_ratio, spread, turns


def test_each_round_starts_one_contestant_later() -> None:
    assert turns("abc", 4) == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


def test_turns_without_contestants_or_rounds() -> None:
    assert turns([], 2) == [[], []]
    assert turns("ab", 0) == []


def test_the_ratio_is_taken_within_each_round() -> None:
    # The machine was ten times slower in the second round, which says nothing about the two.
    assert median_ratio([20.0, 2.0, 20.0], [10.0, 1.0, 10.0]) == 2.0


def test_one_disturbed_round_does_not_count() -> None:
    assert median_ratio([30.0, 30.0, 300.0], [10.0, 10.0, 1.0]) == 3.0


def test_ratio_of_an_even_number_of_rounds() -> None:
    assert median_ratio([1.0, 3.0], [1.0, 1.0]) == 2.0


def test_no_rounds_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        median_ratio([], [])


def test_rounds_must_be_pairs() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        median_ratio([1.0, 2.0], [1.0])


def test_spread() -> None:
    assert spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)
    assert spread([7.0]) == 0.0
    assert spread([0.0, 0.0]) == 0.0
