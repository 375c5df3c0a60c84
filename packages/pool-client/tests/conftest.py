"""Shared by all tests of pool-client: a leak check after every test, and common fixtures."""

import asyncio
import contextlib
import gc
import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import support
from credentials import make_credential
from hypothesis import HealthCheck, settings
from link_model import Record

from pool_client.loop_thread import new_loop

# Other work may slow the machine down at any moment.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

#: Seconds that processes, threads and descriptors have to disappear after a test.
SETTLE_SECONDS = 30.0


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and give the run a temporary directory that nobody else writes to."""
    config.addinivalue_line("markers", "soak: takes minutes or gigabytes; -m soak runs these")
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


@pytest.fixture(autouse=True, scope="session")
def made_once() -> None:
    """Let uvloop make what it keeps for the rest of the process: the pipe of its signals."""
    with contextlib.suppress(ImportError):
        importlib.import_module("uvloop").new_event_loop().close()


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


# -- for the tests of links and listeners


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """Yield a loop, of both kinds; it is not running."""
    made = asyncio.SelectorEventLoop() if request.param == "asyncio" else new_loop()
    yield made
    made.run_until_complete(made.shutdown_default_executor())
    made.close()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Yield a folder whose path is short enough for that of a Unix socket in it."""
    with tempfile.TemporaryDirectory(prefix="s") as folder:
        yield Path(folder)


@pytest.fixture
def events() -> Record:
    """Return a record of what happens on links."""
    return Record()


@pytest.fixture(scope="module")
def credential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a credential that the tests of a file share; none may change it."""
    return make_credential(tmp_path_factory.mktemp("tls") / "credential.pem")
