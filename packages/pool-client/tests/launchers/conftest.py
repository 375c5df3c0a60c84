"""Hosts for the launchers' tests."""

import gc
import os
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import support
from hosts import sshd as loopback
from hosts.bare import bare_python, path_with

from pool_client.launchers import ssh


def server(
    folder: Path, lines: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> loopback.Sshd:
    """A server that is not started yet; skips the test where there is no sshd."""
    if loopback.find() is None:
        pytest.skip(loopback.MISSING)
    # By the mark, what a session leaves behind is found.
    mark = {support.MARK: os.environ[support.MARK]}
    return loopback.Sshd(folder, lines, {**mark, **(environment or {})})


@pytest.fixture(scope="session", autouse=True)
def no_tunnel_stays() -> Iterator[None]:
    """Remove the sockets of tunnels to a server that does not run what it is told, or was killed.

    sshd leaves them, and such a host is the one that could not remove them.
    """
    made: list[str] = []

    def token_hex(size: int) -> str:
        made.append(secrets.token_hex(size))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssh, "secrets", SimpleNamespace(token_hex=token_hex))
        yield
    for name in made:
        Path(f"/tmp/pool-{name}.sock").unlink(missing_ok=True)


@pytest.fixture
def all_closed() -> Iterator[None]:
    """Fail a test that drops something open, such as a socket, for the collector to close."""
    gc.collect()  # what others have dropped is not this test's
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(warning.message) for warning in seen] == []


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[loopback.Sshd]:
    """An sshd on loopback; commands there find this Python, and pool-worker."""
    with server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="session")
def bare_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[loopback.Sshd]:
    """An sshd on a host with a Python of this version and nothing of ours."""
    python = bare_python(tmp_path_factory.mktemp("bare"))
    environment = {"PATH": path_with(python.parent)}
    with server(tmp_path_factory.mktemp("sshd"), environment=environment) as running:
        yield running


@pytest.fixture
def make_sshd(tmp_path: Path) -> Iterator[object]:
    """A function that starts an sshd of the test's own: lines of sshd_config, environment."""
    running: list[loopback.Sshd] = []

    def make(*lines: str, **environment: str) -> loopback.Sshd:
        one = server(tmp_path / f"sshd{len(running)}", lines, environment)
        running.append(one)
        return one.__enter__()

    yield make
    for one in running:
        one.stop()
