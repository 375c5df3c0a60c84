"""Fixtures of the tests with other hosts: a pool-spawner on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.conftest import gate, log, short_directory

from hosts.lan import Spawner, make_credential

__all__ = ["credential", "gate", "log", "short_directory", "spawner"]


@pytest.fixture(scope="session")
def credential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A credential of this run."""
    return make_credential(tmp_path_factory.mktemp("credential"))


@pytest.fixture
def spawner(credential: Path) -> Iterator[Spawner]:
    """A pool-spawner that starts any number of workers."""
    with Spawner(credential, "--max-workers", "1000") as running:
        yield running
