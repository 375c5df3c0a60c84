"""The command line."""

import pytest

from benchmarks.__main__ import machine, main, parse
from benchmarks.measures import MEASURES


def test_every_measure_can_be_loaded() -> None:
    assert all(callable(measure.load()) for measure in MEASURES.values())


def test_an_unknown_measure_is_refused_and_the_known_ones_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse(["nothing"])
    assert "round-trip" in capsys.readouterr().err


def test_rounds_must_be_one_or_more() -> None:
    with pytest.raises(SystemExit):
        parse(["--rounds", "0"])


def test_options() -> None:
    options = parse(["map", "start", "--quick", "--rounds", "3"])
    assert (options.names, options.quick, options.rounds) == (["map", "start"], True, 3)


def test_help_says_what_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in MEASURES)


def test_the_machine_is_described() -> None:
    assert {"python", "cpus", "distex", "loky"} <= set(machine())
