"""Which failures excuse a check."""

import sys

import pytest

from tools import repeats
from tools.reports import Failure

CLIENT = "packages(pool-client)"
TEST = "packages/pool-client/tests/test_a.py::test_b[a b]"


def failure(where: str = "pool-client-3.12", test: str = TEST, command: str = "") -> Failure:
    """A test that failed."""
    return Failure(test, where, "assert 1 == 2", command)


def test_each_has_to_pass_every_time() -> None:
    ran: list[Failure] = []

    def run(one: Failure) -> bool:
        ran.append(one)
        return True

    failures = [failure(), failure("tools", "tools/test_c.py::test_d")]
    assert repeats.unstable(failures, [CLIENT, "tools"], run)
    assert ran == [one for one in failures for _ in range(repeats.TIMES)]


def test_one_that_fails_and_then_fails_to_clean_up_is_one() -> None:
    ran: list[Failure] = []

    def run(one: Failure) -> bool:
        ran.append(one)
        return True

    both = [failure(), Failure(TEST, "pool-client-3.12", "left behind", "")]
    assert repeats.unstable(both * repeats.MOST, [CLIENT], run)
    assert len(ran) == repeats.TIMES


@pytest.mark.parametrize("good", range(2 * repeats.TIMES))
def test_one_that_fails_again_fails(good: int) -> None:
    answers = iter([*[True] * good, False])
    failures = [failure(), failure(test=f"{TEST}2")]
    assert not repeats.unstable(failures, [CLIENT], lambda _: next(answers))
    assert next(answers, None) is None


@pytest.mark.parametrize(
    ("failures", "sessions"),
    [
        ([], []),
        ([], [CLIENT]),
        ([failure(test=f"{TEST}{n}") for n in range(repeats.MOST + 1)], [CLIENT]),
        ([failure(), failure("pool-client-3.13")], [CLIENT]),
        ([failure(test="packages/pool-client/tests/test_a.py")], [CLIENT]),
        ([failure()], [CLIENT, "lint"]),
        ([failure()], [CLIENT, "packages(pool-worker)"]),
        ([failure("coverage-pool-client")], ["coverage"]),
    ],
    ids=[
        "nothing",
        "no test",
        "too many",
        "on two Pythons",
        "a file",
        "another session",
        "another package",
        "not measured",
    ],
)
def test_what_is_not_explained_is_not_run_again(
    failures: list[Failure], sessions: list[str]
) -> None:
    def run(one: Failure) -> bool:
        raise AssertionError

    assert not repeats.unstable(failures, sessions, run)


@pytest.mark.parametrize("code", [0, 1])
def test_it_runs_alone(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(repeats, "command_alone", lambda _: [sys.executable, "-c", f"exit({code})"])
    assert repeats.run_alone(failure()) is not bool(code)


def test_a_packages_test_runs_in_the_environment_in_which_it_failed() -> None:
    command = repeats.command_alone(failure())
    assert command[:5] == [sys.executable, "-m", "tox", "run", "--quiet"]
    assert command[command.index("-e") + 1] == "py312"
    assert command[command.index("-c") + 1] == "packages/pool-client/tox.ini"
    assert command[-2:] == ["--", TEST.removeprefix("packages/pool-client/")]


def test_others_run_in_that_of_their_session() -> None:
    one = failure("integration", command="python3 noxfile.py integration 'test_a.py::test[a b]'")
    test = "test_a.py::test[a b]"
    command = [sys.executable, "-m", "nox", "-R", "--session", "integration", "--", test]
    assert repeats.command_alone(one) == command


def test_it_is_told_so_that_nobody_overlooks_it() -> None:
    lines = list(repeats.describe_unstable([failure(command="do it")]))
    assert all(line.startswith("!!!") for line in lines)
    assert [line.strip("! ") for line in lines[-2:]] == ["assert 1 == 2", "do it"]
    assert list(repeats.describe_unstable([])) == []
