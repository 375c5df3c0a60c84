"""Shared by all tests of pool-spawner: throw-away credentials, servers that are always ended."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import Spawner, silent_pool

from pool_spawner.making import make_credential

# Whoever runs the tests may have a wide umask.
os.umask(0o022)


@pytest.fixture(scope="session")
def credential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A credential."""
    return make_credential(tmp_path_factory.mktemp("credential") / "credential.pem")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody else's."""
    return make_credential(tmp_path_factory.mktemp("other") / "credential.pem")


@pytest.fixture
def serve(credential: Path) -> Iterator[Callable[..., Spawner]]:
    """Start servers; they are ended after the test, and nothing of them is left."""
    started: list[Spawner] = []

    def start(*flags: str, place: Path | str = credential, **more: str) -> Spawner:
        started.append(Spawner(place, *flags, **more))
        return started[-1]

    yield start
    for spawner in started:
        spawner.end()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Where the pool of ``pool`` listens."""
    with silent_pool() as sock:
        yield sock


@pytest.fixture
def pool(listening: socket.socket) -> str:
    """The address of a pool that never answers."""
    address: str = listening.getsockname()
    return address
