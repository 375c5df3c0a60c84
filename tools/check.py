"""Run every check, and say at the end what was checked, what not, and what failed.

Run it as ``python3 noxfile.py check``, which sets up what it needs.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import groups
from tools.cluster import why_not
from tools.needs import docker_answers, provide, wanted
from tools.pythons import EXPECTED, Python, find
from tools.repeats import describe_unstable, unstable
from tools.reports import (
    PACKAGES,
    REPORTS,
    Counts,
    Failure,
    describe,
    read_failures,
    read_report,
    read_skips,
)

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
    "integration",
    *(f"packages({package})" for package in PACKAGES),
)

NEED_PROGRAMS = frozenset(("integration", "packages(pool-client)"))
"""The sessions for which programs outside Python are installed where that is possible."""

LIMIT = 1800.0
"""Seconds that a session may take: the longest takes a third of that on two cores. What hangs in
spite of all other limits costs that long, and what comes after it is still checked."""


@dataclass(frozen=True)
class Outcome:
    """How one session ended.

    Attributes:
        session: Its name.
        passed: Whether it succeeded.
        seconds: How long it took.
        late: Whether it was ended because it took longer than ``LIMIT``.
    """

    session: str
    passed: bool
    seconds: float = 0.0
    late: bool = False


def images_meanwhile() -> contextlib.AbstractContextManager[object]:
    """Build the cluster's images beside the sessions of the block, of which most use one core.

    The session that uses them waits until they are built; it says so if they cannot be, and it
    builds them itself. A check that is over, or was interrupted, goes on with nothing.
    """
    nothing = subprocess.DEVNULL
    command = [sys.executable, "-m", "tools.cluster", "images"]
    return groups.started(command, stdout=nothing, stderr=nothing)


def run_sessions(sessions: Iterable[str]) -> list[Outcome]:
    """Run sessions of nox one after the other, all of them, whichever fail.

    Args:
        sessions: Their names.

    Returns:
        An outcome for each.
    """
    outcomes: list[Outcome] = []
    for session in sessions:
        start = time.monotonic()
        code = groups.run([sys.executable, "-m", "nox", "--session", session], LIMIT)
        outcomes.append(Outcome(session, code == 0, time.monotonic() - start, late=code is None))
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


def find_unstable(
    outcomes: Sequence[Outcome], failures: Sequence[Failure], found: Sequence[Python]
) -> bool:
    """Run what failed again, if that could excuse all of it.

    Args:
        outcomes: Those of the sessions.
        failures: The tests that failed.
        found: The Pythons that this machine has.

    Returns:
        Whether nothing failed but tests that pass when they run again.
    """
    if any(outcome.late for outcome in outcomes):
        return False
    failed = [outcome.session for outcome in outcomes if not outcome.passed]
    packages = [package for package in PACKAGES if f"packages({package})" in failed]
    # A run that ended before it wrote its report has failed, whatever its tests do.
    complete = len(tested(found, REPORTS, packages)) == len(found)
    return complete and unstable(failures, failed)


def closing(
    outcomes: Sequence[Outcome],
    counts: Counts,
    skips: Counter[str],
    failures: Sequence[Failure] = (),
    *,
    repeat: bool = True,
) -> list[str]:
    """Say how the sessions ended and what failed, and close with a line of counts.

    Args:
        outcomes: Those of the sessions.
        counts: Those of all tests.
        skips: Why tests were skipped.
        failures: The tests that failed.
        repeat: Whether what failed fails again; if not, it counts as passed.

    Returns:
        Lines. The counts of the last one hold each test, and each session as one more, so that a
        session that fails without a failed test shows there too.
    """
    word = "FAILED" if repeat else "UNSTABLE"
    lines = [
        f"  {outcome.session:<26}{'passed' if outcome.passed else word:<10}"
        f"{outcome.seconds:>8.1f} s"
        for outcome in outcomes
    ]
    unsuccessful = [outcome.session for outcome in outcomes if not outcome.passed]
    total = counts.passed + counts.failed + len(outcomes)
    failed = counts.failed + len(unsuccessful) if repeat else 0
    lines.append(f"  {'all':<36}{sum(outcome.seconds for outcome in outcomes):>8.1f} s")
    lines += [
        f"!!! {outcome.session} was ENDED: it took longer than {LIMIT / 60:g} min"
        for outcome in outcomes
        if outcome.late
    ]
    lines += [f"  skipped {number} times: {reason}" for reason, number in skips.most_common()]
    lines += describe(failures, unsuccessful) if repeat else describe_unstable(failures)
    lines.append(f"tests and sessions, each counted as one; tests skipped: {counts.skipped}")
    lines.append(f"{total - failed} passed, {failed} failed")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Run the checks.

    Args:
        arguments: Names of sessions to run in place of all.

    Returns:
        0 if all passed, else 1.
    """
    shutil.rmtree(REPORTS, ignore_errors=True)
    sessions = arguments or SESSIONS
    docker = docker_answers()
    missing = provide(wanted(docker)) if NEED_PROGRAMS.intersection(sessions) else []
    with contextlib.ExitStack() as stack:
        if "integration" in sessions and not why_not():
            stack.enter_context(images_meanwhile())
        outcomes = run_sessions(sessions)
    # Read before anything runs again, and writes its own.
    reports = sorted(REPORTS.glob("*.xml"))
    counts = sum(map(read_report, reports), Counts())
    skips = sum(map(read_skips, reports), Counter[str]())
    failures = [failure for path in reports for failure in read_failures(path)]
    found = find(os.environ["PATH"])
    done = tested(found, REPORTS, PACKAGES)
    repeat = not find_unstable(outcomes, failures, found)
    print("\n" + "=" * 78)
    for line in describe_pythons(found, done):
        print(line)
    if docker:
        print("Docker: answers")
    else:
        print("!!! Docker is MISSING or does not answer: tests that need containers cannot run")
    for line in missing:
        print(line)
    for line in closing(outcomes, counts, skips, failures, repeat=repeat):
        print(line, flush=True)
    return 1 if repeat and not all(outcome.passed for outcome in outcomes) else 0


if __name__ == "__main__":
    groups.tidy_when_ended()
    sys.exit(main(sys.argv[1:]))
