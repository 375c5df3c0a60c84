"""Hosts with another Python, or another version of the protocol, than the client."""

from collections.abc import Callable

import pytest
from harness.agent import RemoteError
from harness.containers import Container, Containers
from harness.hosts import create_pool

OTHER = 999
PATCH = f"""
import pathlib, re, pool_protocol.handshake as module
path = pathlib.Path(module.__file__)
text, number = re.subn(r"(?m)^(PROTOCOL_VERSION.*= )\\d+$", r"\\g<1>{OTHER}", path.read_text())
assert number == 1
path.write_text(text)
"""


def patch(host: Container) -> None:
    """Make a host speak another version of the protocol."""
    host.run("/opt/pool/bin/python", "-c", PATCH, user="root")


def test_another_python(containers: Callable[..., Containers]) -> None:
    """What goes by reference runs; a lambda fails its own future, and names both versions."""
    cluster = containers("ssh1")
    with cluster.agent() as agent:
        create_pool(agent, cluster, workers=1)
        assert agent.submit("where").result()[2] == [3, 11]
        assert agent.submit("pow", 2, 10).result() == 1024
        error = agent.submit("lambda x: x + 1", 1).error()
        assert error.names[0] == "VersionMismatch"
        assert "3.11" in error.text
        assert "3.13" in error.text
        assert agent.submit("pow", 2, 11).result() == 2048


def test_a_spawner_of_another_protocol_version(containers: Callable[..., Containers]) -> None:
    """The pool is refused with both versions and what to install, before anything is unpickled."""
    cluster = containers("lan1")
    host = cluster.hosts["lan1"]
    patch(host)
    host.inner.restart(timeout=0)
    cluster.wait_until_ready()
    with cluster.agent() as agent:
        with pytest.raises(RemoteError) as caught:
            create_pool(agent, cluster, workers=1)
        text = caught.value.text
        assert "lan1" in text
        assert f"version {OTHER}" in text
        assert "install" in text


def test_an_ssh_host_with_another_protocol_version(
    containers: Callable[..., Containers],
) -> None:
    """What is installed there is passed over: the client's own worker is sent and used."""
    cluster = containers("ssh1")
    patch(cluster.hosts["ssh1"])
    with cluster.agent() as agent:
        create_pool(agent, cluster, workers=1)
        assert agent.submit("pow", 2, 10).result() == 1024
