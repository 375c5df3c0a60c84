"""What is read from pytest's reports, made for each test."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import reports
from tools.reports import Counts, Failure

TEST = """
import pytest

@pytest.mark.parametrize("text", ["a b", "c"])
def test_one(text):
    assert text == "c", "the text\\nis another"

class TestThem:
    def test_two(self):
        raise ValueError

@pytest.fixture
def broken():
    yield
    raise OSError("at the end")

def test_three(broken):
    pass

def test_four():
    pass
"""


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
    assert reports.read_report(tmp_path / "a.xml") == Counts(passed=4, failed=3, skipped=3)


def test_the_reasons_of_skips_are_counted(tmp_path: Path) -> None:
    skipped = '<testcase><skipped message="no dill"/></testcase>'
    text = f"<testsuite>{2 * skipped}<testcase/><testcase><skipped/></testcase></testsuite>"
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    assert reports.read_skips(tmp_path / "a.xml") == {"no dill": 2, "no reason given": 1}


def test_counts_add_up() -> None:
    assert Counts(1, 2, 3) + Counts(10, 20, 30) == Counts(11, 22, 33)


@pytest.mark.parametrize(
    ("report", "folder", "start"),
    [
        ("tools", "", "noxfile.py tools tools/test_some.py"),
        ("integration", "integration", "noxfile.py integration test_some.py"),
        ("pool-client-3.13", "packages/pool-client", "noxfile.py -s tests-3.13 -- packages/pool-"),
        ("coverage-pool-client", "packages/pool-client", "noxfile.py -s tests-3."),
    ],
)
def test_failures_of_a_real_report(tmp_path: Path, report: str, folder: str, start: str) -> None:
    place = tmp_path / folder
    below = "tools" if report == "tools" else "." if report == "integration" else "tests/deep"
    (place / below).mkdir(parents=True, exist_ok=True)
    (place / below / "test_some.py").write_text(TEST, encoding="utf-8")
    (place / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    path = tmp_path / f"{report}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={path}"]
    subprocess.run([*command, below], cwd=place, capture_output=True, timeout=60, check=False)
    found = reports.read_failures(path, tmp_path)
    file = Path(folder, below, "test_some.py").as_posix()
    assert [failure.test for failure in found] == [
        f"{file}::test_one[a b]",
        f"{file}::TestThem::test_two",
        f"{file}::test_three",
    ]
    assert found[0].reason == "AssertionError: the text"
    assert "at the end" in found[2].reason
    assert all(failure.where == report for failure in found)
    assert start in found[0].command.replace("'", "")
    assert found[0].command.endswith("test_some.py::test_one[a b]'")


def test_a_file_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "test_some.py").touch()
    case = '<testcase classname="" name="tools.test_some"><error>SyntaxError</error></testcase>'
    path = tmp_path / "tools.xml"
    path.write_text(f"<testsuite>{case}</testsuite>", encoding="utf-8")
    (failure,) = reports.read_failures(path, tmp_path)
    assert (failure.test, failure.reason) == ("tools/test_some.py", "SyntaxError")


def test_a_test_that_is_nowhere_keeps_its_names(tmp_path: Path) -> None:
    path = tmp_path / "jobs.xml"
    case = '<testcase classname="gone.test_it" name="test"><failure/></testcase>'
    path.write_text(f"<testsuite>{case}</testsuite>", encoding="utf-8")
    (failure,) = reports.read_failures(path, tmp_path)
    assert (failure.test, failure.reason) == ("gone.test_it.test", "no reason given")


def test_what_failed_is_told_with_its_command() -> None:
    failure = Failure("tests/test_a.py::test_b", "pool-client-3.12", "assert 1 == 2", "do it")
    lines = list(reports.describe([failure], ["packages(pool-client)"]))
    assert "tests/test_a.py::test_b (pool-client-3.12)" in lines[1]
    assert [line.strip() for line in lines[2:]] == ["assert 1 == 2", "do it"]


@pytest.mark.parametrize("session", ["lint", "packages(pool-worker)"])
def test_a_session_without_a_failed_test_is_told_too(session: str) -> None:
    failure = Failure("test", "pool-client-3.12", "reason", "command")
    lines = list(reports.describe([failure], [session, "packages(pool-client)"]))
    assert session in lines[-2]
    assert f"python3 noxfile.py check {session[:5]}" in lines[-1].replace("'", "")
    assert not any("packages(pool-client)" in line for line in lines)


def test_a_flood_is_cut() -> None:
    failure = Failure("test", "tools", "reason", "command")
    lines = list(reports.describe([failure] * 100, ["tools"]))
    assert len(lines) < 100
    assert "75 more" in lines[-1]


def test_nothing_is_told_where_nothing_failed() -> None:
    assert list(reports.describe([], [])) == []
