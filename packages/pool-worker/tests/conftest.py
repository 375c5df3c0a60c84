"""Fixtures: the real program, with the driver as its client."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from driver import Client, Worker


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="pw") as name:
        yield Path(name)


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    """A supervisor without workers."""
    with Client(folder) as client:
        yield client


@pytest.fixture
def worker(client: Client) -> Worker:
    """A worker that is set up."""
    return client.start(1)[0]
