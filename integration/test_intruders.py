"""Somebody on the network who has no key, a wrong one, a recording, or ten thousand sockets."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.agent import Agent
from harness.containers import HOME, REMOTE, Container, Containers
from harness.hosts import create_pool, wait_for

PORT = 9000
"""Of the client, where workers connect back; the spawner's is 8899."""

MEGABYTE = 2**20


@pytest.fixture
def cluster(containers: Callable[..., Containers]) -> Containers:
    """Make a LAN host, and an intruder with the programs but without the keys."""
    cluster = containers("lan1", "ssh2")
    command = ["sleep", "infinity"]
    intruder = cluster.add("intruder", "lan1", volumes_from=None, command=command)
    del cluster.hosts["intruder"]  # no host of any pool
    intruder.put(REMOTE, HOME)
    intruder.run("pool-spawner", "init", "--credential", "/tmp/wrong.pem")
    intruder.run("mkdir", "/tmp/records")
    cluster.intruder = intruder
    return cluster


def act(intruder: Container, action: str, host: str, port: int, argument: str) -> dict[str, str]:
    """Let the intruder try something, and return how it went."""
    words = ["python3", f"{HOME}/remote/intruder.py", action, host, str(port), argument]
    result: dict[str, str] = json.loads(intruder.run(*words))
    return result


@contextlib.contextmanager
def acting(
    intruder: Container, action: str, host: str, port: int, argument: str
) -> Iterator[dict[str, int]]:
    """Let the intruder do something meanwhile; gives what it said when it had begun."""
    words = ["python3", f"{HOME}/remote/intruder.py", action, host, str(port), argument]
    command = ["docker", "exec", "--interactive", intruder.inner.id, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.kill()


def listening_pool(agent: Agent, cluster: Containers, **more: Any) -> None:
    """Make a pool with workers on the LAN host, reached at a known port."""
    spec = cluster.hosts["lan1"].spec(2)
    create_pool(agent, cluster, spec, localport=PORT, **more)


def test_strangers_are_shown_the_door(cluster: Containers) -> None:
    """Bytes, TLS without or with a wrong certificate: closed, nothing unpickled, the pool works."""
    host = cluster.hosts["lan1"]
    with cluster.agent() as agent:
        listening_pool(agent, cluster)
        for target, port in (("lan1", 8899), ("client", PORT)):
            found = act(cluster.intruder, "strangers", target, port, "/tmp/wrong.pem")
            assert len(found) == 7
            assert set(found.values()) == {"closed"}, found
        assert agent.submit("pow", 2, 10).result() == 1024
        assert agent.call("stats")["workers_lost"] == 0
    for machine in (host, cluster.client):
        assert "unpickled" not in machine.run("ls", "/tmp")


def test_a_recording_is_worth_nothing(cluster: Containers) -> None:
    """A pool works through a relay, which learns nothing that it could use again."""
    intruder = cluster.intruder
    to_spawner = acting(intruder, "relay", "lan1", 8899, "/tmp/records")
    to_client = acting(intruder, "relay", "client", PORT, "/tmp/records")
    with to_spawner, to_client, cluster.agent() as agent:
        create_pool(agent, cluster, "intruder/2", localport=PORT, advertise="intruder")
        assert agent.submit("pow", 2, 10).result() == 1024
        before = processes(cluster)
        for target, port in (("lan1", 8899), ("client", PORT)):
            found = act(intruder, "replay", target, port, "/tmp/records")
            assert found
            assert set(found.values()) == {"closed"}, found
        assert processes(cluster) == before
        assert agent.call("total_workers") == 2
        assert agent.submit("pow", 2, 11).result() == 2048


def processes(cluster: Containers) -> int:
    """Count the processes of the LAN host."""
    return len(cluster.hosts["lan1"].processes())


@pytest.mark.long
@pytest.mark.parametrize(("target", "port"), [("lan1", 8899), ("client", PORT)])
def test_ten_thousand_silent_connections(cluster: Containers, target: str, port: int) -> None:
    """A pool still starts, a worker that dies is replaced, and memory stays below 100 MB more."""
    machine = {**cluster.hosts, "client": cluster.client}[target]
    with cluster.agent() as agent:
        if target == "client":
            listening_pool(agent, cluster)
        before = memory(machine)
        with acting(cluster.intruder, "silent", target, port, "10000") as begun:
            assert begun["opened"] + begun["refused"] == 10_000
            if target == "lan1":
                listening_pool(agent, cluster)
            error = agent.submit("os._exit", 1, retries=0).error()
            assert error.names[0] == "WorkerLost"
            wait_for("it is replaced", lambda: agent.call("stats")["workers_lost"] == 1)
            wait_for("all are there", lambda: len(agent.call("workers")) == 2)
            assert agent.submit("pow", 2, 10).result() == 1024
            assert memory(machine) - before < 100 * MEGABYTE


def memory(machine: Container) -> int:
    """Return how much memory a container uses, without what the kernel caches for it."""
    usage = machine.inner.stats(stream=False, one_shot=True)["memory_stats"]
    details = usage["stats"]  # whose names differ between the versions of control groups
    return int(usage["usage"]) - int(details.get("total_cache", details.get("file", 0)))


def test_ssh_lets_no_stranger_in(cluster: Containers) -> None:
    """Without a key, or with another, the ssh host refuses."""
    intruder = cluster.intruder
    intruder.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/tmp/key")
    for options in ("", "-i /tmp/key"):
        command = f"ssh {options} -o BatchMode=yes -o StrictHostKeyChecking=no ssh2 pool-worker"
        code, output = intruder.inner.exec_run(["sh", "-c", command])
        assert code == 255
        assert b"Permission denied" in output
