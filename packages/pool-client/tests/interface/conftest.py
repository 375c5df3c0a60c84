"""Fixtures of the interface tests: a pool of two workers, and files that tasks wait for."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))


class Gate:
    """A file that tasks wait for, until the test opens it; pass ``gate.path`` to them."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "gate"
        self.path = str(self._file)
        self.arrived = str(directory / "arrived")

    def open(self) -> None:
        """Let every task that waits go on."""
        self._file.touch()

    def arrivals(self) -> int:
        """Return how many tasks have come to the gate, where they were told to say so."""
        try:
            return Path(self.arrived).read_text().count("\n")
        except FileNotFoundError:
            return 0


@pytest.fixture(scope="session", autouse=True)
def warm_loop() -> None:
    """Run a uvloop once: it keeps a pipe for the life of the process, which is no leak."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.new_event_loop().close()


@pytest.fixture
def pool() -> Iterator[Any]:
    """Yield a pool of two workers, which is shut down after the test."""
    from pool_client import Pool

    with Pool(2) as one:
        yield one


@pytest.fixture(scope="module")
def shared() -> Iterator[Any]:
    """Yield a pool of two workers for all tests of a file, none of which may harm a worker."""
    from pool_client import Pool

    with Pool(2) as one:
        yield one


@pytest.fixture
def single() -> Iterator[Any]:
    """Yield a pool of one worker without prefetch, so that a second task is never sent early."""
    from pool_client import Pool

    with Pool(1, qsize=1) as one:
        yield one


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Yield a closed gate, opened at the end at the latest; ask for it after the pool."""
    directory = tmp_path / "gate-files"
    directory.mkdir()
    one = Gate(directory)
    yield one
    one.open()
