"""Fixtures of the fault tests: files that tasks write to and wait for."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def log(tmp_path: Path) -> str:
    """Return the path of a file in which tasks note what they do."""
    return str(tmp_path / "log")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Return a file that tasks may wait for; it is there when the test ends."""
    path = tmp_path / "gate"
    yield path
    path.touch()


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """Return a directory with a path that is short enough for a Unix socket below it."""
    path = tempfile.mkdtemp(prefix="s")
    yield Path(path)
    shutil.rmtree(path, ignore_errors=True)
