"""The size of a run, and the taking of turns."""

from collections.abc import Callable

from benchmarks.plan import Plan, interleave, rate


def contestant(name: str, log: list[str]) -> Callable[[], float]:
    def run() -> float:
        log.append(name)
        return float(len(log))

    return run


def test_contestants_take_turns() -> None:
    log: list[str] = []
    figures = interleave({"a": contestant("a", log), "b": contestant("b", log)}, 2)
    assert log == ["a", "b", "b", "a"]
    assert figures == {"a": [1.0, 4.0], "b": [2.0, 3.0]}


def test_no_round_is_begun_after_the_time_is_up() -> None:
    log: list[str] = []
    interleave({"a": contestant("a", log), "b": contestant("b", log)}, 100, seconds=0)
    assert log == ["a", "b"]


def test_a_user_who_gives_the_rounds_gets_them() -> None:
    assert Plan(quick=True, given_rounds=9).rounds(5) == 9
    assert Plan(quick=True).rounds(5) == 3
    assert Plan().rounds(5) == 5


def test_a_quick_run_does_less() -> None:
    assert (Plan(quick=True).count(100, 10), Plan().count(100, 10)) == (10, 100)


def test_rate_calls_the_work_once() -> None:
    log: list[str] = []
    assert rate(10, contestant("a", log)) > 0
    assert log == ["a"]
