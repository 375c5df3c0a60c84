"""Failures that do not repeat.

One of thousands of tests that start processes, kill them and cut connections may meet a moment of
this machine that nobody thought of. Such a failure is a fault, and the check says so at its end;
but it does not tell whoever changed something that the change is to blame. So what failed runs
again, alone, as in CPython's own test suite (``regrtest --rerun``).
"""

import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Sequence

from tools import groups
from tools.reports import PACKAGES, Failure

TIMES = 5
"""How many times a test that failed has to pass: one that fails at every second try gets that far
once in 32."""

MOST = 3
"""With more failures than this, nothing is run again: the tests are not to blame."""

LIMIT = 600.0
"""Seconds that one test may take alone: far more than any is given by pytest."""

ONLY_TESTS = frozenset(
    ("tools", "jobs", "integration", *(f"packages({name})" for name in PACKAGES))
)
"""The sessions that pass if their tests do. Where tests are measured, a failure ends that."""


def command_alone(failure: Failure) -> list[str]:
    """Return what runs a test once more, in the environment in which it failed.

    Args:
        failure: The test.

    Returns:
        A command for the repository's root. Nothing is installed anew by it: what a package's own
        environment lacks, another may have.
    """
    package, _, minor = failure.where.rpartition("-")
    if package not in PACKAGES:
        session, *tests = shlex.split(failure.command)[2:]  # without "python3 noxfile.py"
        return [sys.executable, "-m", "nox", "-R", "--session", session, "--", *tests]
    tox = [sys.executable, "-m", "tox", "run", "--quiet", "-e", f"py{minor.replace('.', '')}"]
    reuse = ["--skip-pkg-install", "-x", "testenv.recreate=false"]
    test = failure.test.removeprefix(f"packages/{package}/")
    return [*tox, "-c", f"packages/{package}/tox.ini", *reuse, "--", test]


def run_alone(failure: Failure) -> bool:
    """Run a test once more.

    Args:
        failure: The test.

    Returns:
        Whether it passed.
    """
    return groups.run(command_alone(failure), LIMIT) == 0


def unstable(
    failures: Sequence[Failure],
    sessions: Collection[str],
    run: Callable[[Failure], bool] = run_alone,
) -> bool:
    """Tell whether nothing failed but tests that pass when they run again, alone.

    Args:
        failures: All tests that failed.
        sessions: The sessions that failed.
        run: Runs one of the tests alone and tells whether it passed.

    Returns:
        Whether there are at most ``MOST`` failures, they explain each session that failed, none
        failed on two Pythons, and each passed ``TIMES`` times. A file that cannot be read is none.
    """
    explained = all(any(one.is_of(session) for one in failures) for session in sessions)
    # One test may fail and then fail to clean up as well.
    places = {(failure.test, failure.where): failure for failure in failures}
    tests = {failure.test for failure in failures if "::" in failure.test}
    if not (explained and ONLY_TESTS.issuperset(sessions)):
        return False
    if not 0 < len(places) <= MOST or len(tests) < len(places):
        return False
    return all(run(failure) for failure in places.values() for _ in range(TIMES))


def describe_unstable(failures: Sequence[Failure]) -> Iterator[str]:
    """Say which failures did not repeat.

    Args:
        failures: The tests.

    Yields:
        Lines that stand out; none without such tests.
    """
    if failures:
        yield f"!!! UNSTABLE: failed once, then passed {TIMES} times alone. The check passes;"
        yield "!!! there is a fault of the product or of the test, shown above, to be mended."
    for failure in failures:
        yield f"!!!   {failure.test} ({failure.where})"
        yield f"!!!       {failure.reason}"
        yield f"!!!       {failure.command}"
