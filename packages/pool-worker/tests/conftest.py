"""Fixtures: the real program, with the driver as its client."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from credentials import closed_port, make_credential
from driver import Client, Worker
from hypothesis import HealthCheck, settings

# Other work may slow the machine down at any moment.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Whoever runs the tests may have a wide umask, or may have started them with nohup.
os.umask(0o022)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


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


@pytest.fixture(scope="session")
def credential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A credential that both sides have."""
    return make_credential(tmp_path_factory.mktemp("credential") / "credential.pem")


@pytest.fixture
def nobodys_port() -> Iterator[int]:
    """A port at which nobody listens."""
    with closed_port() as port:
        yield port


@pytest.fixture
def lan_client(folder: Path, credential: Path) -> Iterator[Client]:
    """As ``client``, over TLS."""
    with Client(folder, credential=str(credential)) as client:
        yield client
