"""Run every check, stop at the first that fails, and say at the end what was checked and what not.

Run it as ``python3 noxfile.py check``, which sets up what it needs.
"""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tools.bootstrap import ROOT
from tools.pythons import EXPECTED, Python, find

REPORTS = ROOT / ".reports"
PACKAGES = ("pool-protocol", "pool-worker", "pool-spawner", "pool-client")

# The quick ones first, and the packages in the order in which they depend on each other.
SESSIONS = (
    "lint",
    "measures",
    "layers",
    "types",
    "tools",
    "wheels",
    "coverage",
    "jobs",
    *(f"packages({package})" for package in PACKAGES),
)

ON_ONE_PYTHON = {"pool-client": "tests/faults"}
"""Folders of tests that run on the oldest Python only: on each, a check would take too long."""

_DOCKER_SECONDS = 30


@dataclass(frozen=True)
class Outcome:
    """How one session ended.

    Attributes:
        session: Its name.
        passed: Whether it succeeded; None if it was not run.
        seconds: How long it took.
    """

    session: str
    passed: bool | None
    seconds: float = 0.0


@dataclass(frozen=True)
class Counts:
    """How many tests ended how.

    Attributes:
        passed: Tests that passed.
        failed: Tests that failed or could not be set up.
        skipped: Tests that were skipped or expected to fail.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Add up two counts."""
        return Counts(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )


def read_report(path: Path) -> Counts:
    """Read how many tests ended how.

    Args:
        path: A report of pytest in JUnit's format.

    Returns:
        The counts.
    """
    total = Counts()
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        tests, failures, errors, skipped = (
            int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
        )
        failed = failures + errors
        # A test that passes and then fails to clean up is reported as one test and one error.
        total += Counts(max(tests - failed - skipped, 0), failed, skipped)
    return total


def read_skips(path: Path) -> Counter[str]:
    """Read why tests were skipped.

    Args:
        path: A report of pytest in JUnit's format.

    Returns:
        How many tests were skipped for each reason.
    """
    skips = ElementTree.parse(path).getroot().iter("skipped")
    return Counter(skip.get("message", "no reason given") for skip in skips)


def run_sessions(sessions: Iterable[str]) -> list[Outcome]:
    """Run sessions of nox one after the other, up to the first that fails.

    Args:
        sessions: Their names.

    Returns:
        An outcome for each.
    """
    outcomes: list[Outcome] = []
    for session in sessions:
        if any(outcome.passed is False for outcome in outcomes):
            outcomes.append(Outcome(session, None))
            continue
        start = time.monotonic()
        code = subprocess.call([sys.executable, "-m", "nox", "--session", session], cwd=ROOT)
        outcomes.append(Outcome(session, code == 0, time.monotonic() - start))
    return outcomes


def tested(pythons: Iterable[Python], reports: Path, packages: Sequence[str]) -> list[Python]:
    """Tell on which Pythons the tests of all packages ran.

    Args:
        pythons: Those that were found.
        reports: The folder of pytest's reports.
        packages: The packages that have tests.

    Returns:
        Those for which there is a report of each package.
    """
    return [
        python
        for python in pythons
        if all((reports / f"{package}-{python.minor}.xml").exists() for package in packages)
    ]


def docker_answers() -> bool:
    """Tell whether containers can be started here.

    Returns:
        True if Docker is installed and its server answers.
    """
    if not shutil.which("docker"):
        return False
    try:
        done = subprocess.run(
            ["docker", "info"], capture_output=True, timeout=_DOCKER_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def describe_pythons(found: Sequence[Python], done: Sequence[Python]) -> list[str]:
    """Say which Pythons were tested and which were not.

    Args:
        found: Those that this machine has.
        done: Those on which the tests of all packages ran.

    Returns:
        Lines, each absence in one of its own that stands out.
    """
    names = ", ".join(python.full for python in done) or "NONE"
    lines = [f"Python tested: {names}"]
    if len(done) > 1:
        lines += [
            f"!!! {package}/{folder} ran on Python {done[0].full} ONLY; on every Python: "
            f'python3 noxfile.py -s "packages({package})" -- tests'
            for package, folder in ON_ONE_PYTHON.items()
        ]
    known = {python.minor for python in found}
    lines += [
        f"!!! Python {minor} was NOT TESTED: it is not on this machine"
        for minor in EXPECTED
        if minor not in known
    ]
    lines += [
        f"!!! Python {python.full} was NOT TESTED with every package in this run"
        for python in found
        if python not in done
    ]
    if not any(python.minor not in EXPECTED for python in found):
        lines.append(f"Python newer than {EXPECTED[-1]}: none on this machine")
    return lines


def closing(outcomes: Sequence[Outcome], counts: Counts, skips: Counter[str]) -> list[str]:
    """Say how the sessions ended, and close with a line of counts.

    Args:
        outcomes: Those of the sessions.
        counts: Those of all tests.
        skips: Why tests were skipped.

    Returns:
        Lines. The counts of the last one hold each test, and each session as one more, so that a
        session that fails without a failed test shows there too.
    """
    words = {True: "passed", False: "FAILED", None: "not run"}
    lines = [
        f"  {outcome.session:<26}{words[outcome.passed]:<10}{outcome.seconds:>8.1f} s"
        for outcome in outcomes
    ]
    passed = counts.passed + sum(outcome.passed is True for outcome in outcomes)
    failed = counts.failed + sum(outcome.passed is False for outcome in outcomes)
    total = sum(outcome.seconds for outcome in outcomes)
    lines.append(f"  {'all':<36}{total:>8.1f} s")
    lines += [f"  skipped {number} times: {reason}" for reason, number in skips.most_common()]
    lines.append(f"tests and sessions, each counted as one; tests skipped: {counts.skipped}")
    lines.append(f"{passed} passed, {failed} failed")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Run the checks.

    Args:
        arguments: Names of sessions to run in place of all.

    Returns:
        0 if all passed, else 1.
    """
    shutil.rmtree(REPORTS, ignore_errors=True)
    outcomes = run_sessions(arguments or SESSIONS)
    reports = sorted(REPORTS.glob("*.xml"))
    counts = sum(map(read_report, reports), Counts())
    skips = sum(map(read_skips, reports), Counter[str]())
    found = find(os.environ["PATH"])
    print("\n" + "=" * 78)
    for line in describe_pythons(found, tested(found, REPORTS, PACKAGES)):
        print(line)
    if docker_answers():
        print("Docker: answers")
    else:
        print("!!! Docker is MISSING or does not answer: tests that need containers cannot run")
    for line in closing(outcomes, counts, skips):
        print(line, flush=True)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
