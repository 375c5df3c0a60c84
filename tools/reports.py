"""What pytest's reports say: how many tests ended how, which failed, and how to run these again."""

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tools.bootstrap import ROOT

REPORTS = ROOT / ".reports"
PACKAGES = ("pool-protocol", "pool-worker", "pool-spawner", "pool-client")

_SHOWN = 25
_WIDTH = 160


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


@dataclass(frozen=True)
class Failure:
    """A test that failed.

    Attributes:
        test: What pytest calls it, from the repository's root.
        where: The report that has it; for a package's, the Python too.
        reason: The first line of what went wrong.
        command: Runs it alone.
    """

    test: str
    where: str
    reason: str
    command: str

    def is_of(self, session: str) -> bool:
        """Tell whether a session ran it.

        Args:
            session: Its name, as nox has it.

        Returns:
            Whether the report is one that the session writes.
        """
        name = session.removeprefix("packages(").removesuffix(")")
        return self.where == name or self.where.startswith(f"{name}-")


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


def read_failures(path: Path, root: Path = ROOT) -> list[Failure]:
    """Read which tests failed.

    Args:
        path: A report of pytest in JUnit's format.
        root: The repository's root.

    Returns:
        One for each failure and each error.
    """
    folder, words = _session(path.stem)
    found = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        for fault in (*case.iter("failure"), *case.iter("error")):
            name = _node(root / folder, case.get("classname", ""), case.get("name", ""))
            given = name if words[-1] == "integration" else str(Path(folder, name))
            message = (fault.get("message") or fault.text or "").strip()
            reason = (message.splitlines() or ["no reason given"])[0][:_WIDTH]
            command = shlex.join(["python3", "noxfile.py", *words, given])
            found.append(Failure(str(Path(folder, name)), path.stem, reason, command))
    return found


def _session(report: str) -> tuple[str, list[str]]:
    """Return the folder in which a report's tests lie, and how nox runs some of them."""
    package = next((name for name in PACKAGES if name in report), None)
    if package is None:
        return ("integration" if report == "integration" else ""), [report]
    minor = report.removeprefix(f"{package}-")
    if report.startswith("coverage"):
        minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"packages/{package}", ["-s", f"tests-{minor}", "--"]


def _node(folder: Path, classname: str, name: str) -> str:
    """Return what pytest calls a test, from the names that a report has."""
    parts = classname.split(".") if classname else name.split(".")
    for number in range(len(parts), 0, -1):
        file = Path(*parts[:number]).with_suffix(".py")
        if (folder / file).is_file():
            # Without a class name it is a file that could not be read.
            return "::".join([file.as_posix(), *parts[number:], *([name] if classname else [])])
    return ".".join(filter(None, (classname, name)))


def describe(failures: Sequence[Failure], sessions: Sequence[str]) -> Iterator[str]:
    """Say what failed, and how to run it alone.

    Args:
        failures: The tests.
        sessions: The sessions that failed.

    Yields:
        Lines; none if nothing failed.
    """
    if failures or sessions:
        yield "FAILED, and how to run it alone:"
    for failure in failures[:_SHOWN]:
        yield f"  {failure.test} ({failure.where})"
        yield f"      {failure.reason}"
        yield f"      {failure.command}"
    if len(failures) > _SHOWN:
        yield f"  and {len(failures) - _SHOWN} more tests: see above"
    for session in sessions:
        if not any(failure.is_of(session) for failure in failures):
            yield f"  {session}: no test of it failed; see above"
            yield f"      {shlex.join(['python3', 'noxfile.py', 'check', session])}"
