"""The summary that closes a check."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tools import check
from tools.check import Counts, Outcome
from tools.pythons import Python

OLD, NEW = (Python(minor, f"{minor}.1", Path(f"python{minor}")) for minor in ("3.11", "3.14"))


def write_report(
    path: Path, *, tests: int, failures: int = 0, errors: int = 0, skipped: int = 0
) -> None:
    """Write a report as pytest does."""
    path.write_text(
        f'<testsuites><testsuite tests="{tests}" failures="{failures}" errors="{errors}" '
        f'skipped="{skipped}"/></testsuites>',
        encoding="utf-8",
    )


def test_a_report_is_counted(tmp_path: Path) -> None:
    write_report(tmp_path / "a.xml", tests=10, failures=2, errors=1, skipped=3)
    assert check.read_report(tmp_path / "a.xml") == Counts(passed=4, failed=3, skipped=3)


def test_the_reasons_of_skips_are_counted(tmp_path: Path) -> None:
    skipped = '<testcase><skipped message="no dill"/></testcase>'
    text = f"<testsuite>{2 * skipped}<testcase/><testcase><skipped/></testcase></testsuite>"
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    assert check.read_skips(tmp_path / "a.xml") == {"no dill": 2, "no reason given": 1}


def test_counts_add_up() -> None:
    assert Counts(1, 2, 3) + Counts(10, 20, 30) == Counts(11, 22, 33)


def test_the_first_failure_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def call(command: list[str], **_: object) -> int:
        calls.append(command[-1])
        return int(command[-1] == "b")

    monkeypatch.setattr(check.subprocess, "call", call)
    outcomes = check.run_sessions(["a", "b", "c"])
    assert [outcome.passed for outcome in outcomes] == [True, False, None]
    assert calls == ["a", "b"]


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


def test_what_ran_on_one_python_only_stands_out() -> None:
    marked = [line for line in check.describe_pythons([OLD, NEW], [OLD, NEW]) if "ONLY" in line]
    assert len(marked) == len(check.ON_ONE_PYTHON)
    assert marked[0].startswith("!!! pool-client/tests/faults ran on Python 3.11.1 ONLY")


def test_the_last_line_counts_tests_and_sessions() -> None:
    outcomes = [Outcome("lint", True, 1.5), Outcome("types", False, 2.0), Outcome("rest", None)]
    lines = check.closing(outcomes, Counts(passed=10, failed=1, skipped=2), Counter({"no dill": 2}))
    assert lines[-1] == "11 passed, 2 failed"
    assert "skipped: 2" in lines[-2]
    assert lines[-3] == "  skipped 2 times: no dill"
    assert "3.5 s" in lines[-4]
    assert [line.split()[1] for line in lines[:2]] == ["passed", "FAILED"]


@pytest.mark.parametrize("fault", ["missing", "failing", "hanging", None])
def test_docker_answers_or_not(monkeypatch: pytest.MonkeyPatch, fault: str | None) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        if fault == "hanging":
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, int(fault == "failing"))

    found = None if fault == "missing" else "docker"
    monkeypatch.setattr(check.shutil, "which", lambda _: found)
    monkeypatch.setattr(check.subprocess, "run", run)
    assert check.docker_answers() is (fault is None)


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
    assert out.splitlines()[-1] == ("21 passed, 0 failed" if docker else "20 passed, 1 failed")
    assert ("!!! Docker is MISSING" in out) is not docker


def test_each_package_and_the_quick_sessions_first() -> None:
    assert check.SESSIONS[0] == "lint"
    assert check.SESSIONS[-1] == "packages(pool-client)"
    assert {f"packages({package})" for package in check.PACKAGES} < set(check.SESSIONS)
