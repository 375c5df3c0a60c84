"""The summary that closes a check."""

import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import check, repeats
from tools.check import Outcome
from tools.pythons import Python
from tools.reports import Counts, Failure
from tools.tests.test_reports import write_report

OLD, NEW = (Python(minor, f"{minor}.1", Path(f"python{minor}")) for minor in ("3.11", "3.14"))


def test_every_session_runs_whichever_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def run(command: list[str], limit: float) -> int | None:
        assert limit == check.LIMIT
        calls.append(command[-1])
        return {"a": 0, "b": 1, "c": None, "d": 0}[command[-1]]

    monkeypatch.setattr(check.groups, "run", run)
    outcomes = check.run_sessions(["a", "b", "c", "d"])
    assert [outcome.passed for outcome in outcomes] == [True, False, False, True]
    assert [outcome.late for outcome in outcomes] == [False, False, True, False]
    assert calls == ["a", "b", "c", "d"]


def test_a_python_is_tested_when_every_package_has_a_report(tmp_path: Path) -> None:
    for name in ("a-3.11", "b-3.11", "a-3.14"):
        write_report(tmp_path / f"{name}.xml", tests=1)
    assert check.tested([OLD, NEW], tmp_path, ["a", "b"]) == [OLD]


def test_missing_pythons_stand_out() -> None:
    lines = check.describe_pythons([OLD], [OLD])
    assert lines[0] == "Python tested: 3.11.1"
    assert [line for line in lines if line.startswith("!!!")] == [
        "!!! Python 3.12 was NOT TESTED: it is not on this machine",
        "!!! Python 3.13 was NOT TESTED: it is not on this machine",
    ]
    assert "newer" in lines[-1]


def test_a_python_that_was_not_reached_stands_out() -> None:
    lines = check.describe_pythons([OLD, NEW], [OLD])
    assert any(line.startswith("!!! Python 3.14.1 was NOT TESTED") for line in lines)
    assert not any("newer" in line for line in lines)


def test_the_last_line_counts_tests_and_sessions() -> None:
    outcomes = [Outcome("lint", True, 1.5), Outcome("types", False, 2.0)]
    lines = check.closing(outcomes, Counts(passed=10, failed=1, skipped=2), Counter({"no dill": 2}))
    assert lines[-1] == "11 passed, 2 failed"
    assert "skipped: 2" in lines[-2]
    assert [line.split()[1] for line in lines[:2]] == ["passed", "FAILED"]
    assert "3.5 s" in lines[2]
    assert lines[3] == "  skipped 2 times: no dill"


def test_what_failed_is_told_before_the_last_lines() -> None:
    failure = Failure("tests/test_a.py::test_b", "tools", "assert 1 == 2", "python3 noxfile.py …")
    outcomes = [Outcome("tools", False, 1.0)]
    lines = check.closing(outcomes, Counts(failed=1), Counter(), [failure])
    assert [line.strip() for line in lines[-4:-2]] == [failure.reason, failure.command]


def test_what_does_not_repeat_counts_as_passed_and_stands_out() -> None:
    failure = Failure("tests/test_a.py::test_b", "tools", "assert 1 == 2", "python3 noxfile.py …")
    outcomes = [Outcome("lint", True), Outcome("tools", False)]
    counts = Counts(passed=9, failed=1)
    lines = check.closing(outcomes, counts, Counter(), [failure], repeat=False)
    assert [line.split()[1] for line in lines[:2]] == ["passed", "UNSTABLE"]
    assert any(line.startswith("!!!") and failure.test in line for line in lines)
    assert not any("FAILED" in line for line in lines)
    assert lines[-1] == "12 passed, 0 failed"


@pytest.mark.parametrize("reported", [True, False])
def test_a_run_without_a_report_is_not_excused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reported: bool
) -> None:
    monkeypatch.setattr(check, "REPORTS", tmp_path)
    monkeypatch.setattr(check, "unstable", lambda failures, sessions: bool(failures))
    failure = Failure("a", "pool-worker-3.11", "b", "c")
    for python in (OLD, NEW)[: 1 + reported]:
        write_report(tmp_path / f"pool-worker-{python.minor}.xml", tests=1, failures=1)
    outcomes = [Outcome("packages(pool-worker)", False), Outcome("packages(pool-client)", True)]
    assert check.find_unstable(outcomes, [failure], [OLD, NEW]) is reported


def test_a_session_that_took_too_long_is_not_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of it that failed, and would pass alone, says nothing of those that did not run."""
    monkeypatch.setattr(check, "unstable", lambda failures, sessions: True)
    outcomes = [Outcome("lint", True), Outcome("tools", False, 1800.0, late=True)]
    failure = Failure("a", "tools", "b", "c")
    assert not check.find_unstable(outcomes, [failure], [])
    lines = check.closing(outcomes, Counts(failed=1), Counter(), [failure])
    assert "!!! tools was ENDED: it took longer than 30 min" in lines


@pytest.mark.parametrize("again", [0, 1])
def test_main_runs_what_failed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], again: int
) -> None:
    case = '<testcase classname="tools.tests.test_check" name="test_it"><failure message="no"/>'
    suite = (
        f'<testsuite tests="7" failures="1" errors="0" skipped="0">{case}</testcase></testsuite>'
    )

    def run_sessions(names: list[str]) -> list[Outcome]:
        check.REPORTS.mkdir()
        (check.REPORTS / "tools.xml").write_text(suite, encoding="utf-8")
        return [Outcome(name, False, 1.0) for name in names]

    commands: list[list[str]] = []

    def run(command: list[str], limit: float) -> int:
        assert limit == repeats.LIMIT
        commands.append(command)
        (check.REPORTS / "tools.xml").unlink(missing_ok=True)  # as a run would replace it
        return again

    monkeypatch.setattr(check, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(check, "run_sessions", run_sessions)
    monkeypatch.setattr(check, "find", lambda _: [OLD])
    monkeypatch.setattr(check, "docker_answers", lambda: True)
    monkeypatch.setattr(repeats.groups, "run", run)
    assert check.main(["tools"]) == again
    test = "tools/tests/test_check.py::test_it"
    assert commands[0][1:] == ["-m", "nox", "-R", "--session", "tools", "--", test]
    assert len(commands) == (1 if again else repeats.TIMES)
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == ("6 passed, 2 failed" if again else "8 passed, 0 failed")
    assert ("UNSTABLE" in out) is not bool(again)


@pytest.mark.parametrize("docker", [True, False])
def test_main_reports_and_returns_the_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    docker: bool,
) -> None:
    def run_sessions(names: list[str]) -> list[Outcome]:
        check.REPORTS.mkdir()
        for package in check.PACKAGES:
            write_report(check.REPORTS / f"{package}-3.11.xml", tests=5)
        return [Outcome(name, docker, 1.0) for name in names]

    monkeypatch.setattr(check, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(check, "run_sessions", run_sessions)
    monkeypatch.setattr(check, "find", lambda _: [OLD])
    monkeypatch.setattr(check, "docker_answers", lambda: docker)
    assert check.main(["lint"]) == (0 if docker else 1)
    out = capsys.readouterr().out
    assert ("python3 noxfile.py check lint" in out) is not docker
    assert out.splitlines()[-1] == ("21 passed, 0 failed" if docker else "20 passed, 1 failed")
    assert ("!!! Docker is MISSING" in out) is not docker


def test_each_package_and_the_quick_sessions_first() -> None:
    assert check.SESSIONS[0] == "lint"
    assert check.SESSIONS[-1] == "packages(pool-client)"
    assert {f"packages({package})" for package in check.PACKAGES} < set(check.SESSIONS)


@pytest.mark.parametrize(("session", "asked"), [("integration", True), ("lint", False)])
def test_programs_are_provided_where_they_are_needed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    session: str,
    asked: bool,
) -> None:
    monkeypatch.setattr(check, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(
        check, "run_sessions", lambda names: [Outcome(name, True) for name in names]
    )
    monkeypatch.setattr(check, "find", lambda _: [OLD])
    monkeypatch.setattr(check, "docker_answers", lambda: True)
    monkeypatch.setattr(check, "wanted", lambda docker: [f"docker: {docker}"])
    monkeypatch.setattr(check, "provide", lambda needs: [f"!!! MISSING for {needs}"])
    monkeypatch.setattr(check, "why_not", lambda: "no Compose")
    assert check.main([session]) == 0
    assert ("!!! MISSING for ['docker: True']" in capsys.readouterr().out) is asked


@pytest.mark.parametrize(
    ("session", "obstacle", "built"),
    [("integration", "", True), ("integration", "no Docker", False), ("lint", "", False)],
)
def test_the_images_are_built_beside_the_first_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str, obstacle: str, built: bool
) -> None:
    during: list[bool] = []
    building = threading.Event()

    @contextlib.contextmanager
    def meanwhile() -> Iterator[None]:
        building.set()
        yield
        building.clear()

    def run_sessions(names: list[str]) -> list[Outcome]:
        during.append(building.is_set())
        return [Outcome(name, True) for name in names]

    monkeypatch.setattr(check, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(check, "run_sessions", run_sessions)
    monkeypatch.setattr(check, "images_meanwhile", meanwhile)
    monkeypatch.setattr(check, "find", lambda _: [OLD])
    monkeypatch.setattr(check, "docker_answers", lambda: False)
    monkeypatch.setattr(check, "provide", lambda _: [])
    monkeypatch.setattr(check, "why_not", lambda: obstacle)
    assert check.main([session]) == 0
    assert during == [built]
    assert not building.is_set()


def test_a_build_that_nobody_waits_for_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def started(command: list[str], **options: object) -> contextlib.AbstractContextManager[None]:
        given.append(command)
        assert options == {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return contextlib.nullcontext()

    monkeypatch.setattr(check.groups, "started", started)
    with check.images_meanwhile():
        assert given == [[sys.executable, "-m", "tools.cluster", "images"]]
