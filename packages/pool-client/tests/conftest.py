"""Shared by all tests of pool-client: a hard timeout, soak tests apart, and a leak check after every test."""

import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

import support  # found through the line above, whatever the import mode

#: Seconds that one test may take before the whole run is ended with the stacks of all threads.
TEST_TIMEOUT = 60.0
#: Seconds that processes, threads and descriptors have to disappear after a test.
SETTLE_SECONDS = 10.0


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and give the run a temporary directory that nobody else writes to."""
    config.addinivalue_line("markers", "soak: takes minutes or gigabytes; only with POOL_SOAK=1")
    config.addinivalue_line("markers", "leaks(reason): the leak check after the test is left out")
    # A Unix socket's path has 107 bytes at most, so the directory's own path is kept short.
    directory = tempfile.mkdtemp(prefix="pt-", dir="/tmp" if os.path.isdir("/tmp") else None)
    config.stash[_directory] = directory
    config.stash[_saved] = {name: os.environ.get(name) for name in ("TMPDIR", "XDG_RUNTIME_DIR")}
    os.environ["TMPDIR"] = os.environ["XDG_RUNTIME_DIR"] = directory
    tempfile.tempdir = None
    # Inherited by every process that a test starts, so that orphans are found as well.
    os.environ[support.MARK] = f"{os.getpid()}-{time.time_ns()}"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's temporary directory."""
    directory = config.stash.get(_directory, None)
    if directory is None:
        return
    for name, value in config.stash[_saved].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    tempfile.tempdir = None
    shutil.rmtree(directory, ignore_errors=True)


_directory = pytest.StashKey[str]()
_saved = pytest.StashKey[dict[str, str | None]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test a time limit, and skip soak tests outside a soak session."""
    soaking = bool(os.environ.get("POOL_SOAK")) or "soak" in (config.option.markexpr or "")
    chosen = getattr(config.option, "timeout", None) is not None
    method = getattr(config.option, "timeout_method", None) or "thread"
    for item in items:
        if TESTS not in item.path.parents:
            continue
        if not soaking and item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="a soak test: set POOL_SOAK=1 to run it"))
        if not chosen and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT, method=method))


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, a thread, a descriptor or a temporary file behind."""
    before = support.Snapshot.take()
    yield
    if request.node.get_closest_marker("leaks"):
        return
    deadline = time.monotonic() + SETTLE_SECONDS
    while left := support.Snapshot.take().beyond(before):
        gc.collect()
        if time.monotonic() > deadline:
            support.end_leftovers(before)
            pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
        time.sleep(0.02)
