"""A network that goes away, in a namespace of its own: by hand as root, it takes minutes."""

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from credentials import server_context
from driver import Client
from test_children import gone

from pool_protocol.messages import Output, Ping, Pong, Result

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        os.getuid() != 0 or not (shutil.which("ip") and shutil.which("iptables")),
        reason="needs root, ip and iptables",
    ),
]

SPACE, NEAR, FAR = "pool-worker-test", "pwtest0", "pwtest1"


def run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, timeout=20)


def inside(command: str) -> None:
    run(f"ip netns exec {SPACE} {command}")


@pytest.fixture
def network() -> Iterator[None]:
    run(f"ip netns add {SPACE}")
    try:
        run(f"ip link add {NEAR} type veth peer name {FAR} netns {SPACE}")
        run(f"ip addr add 10.213.7.1/30 dev {NEAR}")
        run(f"ip link set {NEAR} up")
        inside(f"ip addr add 10.213.7.2/30 dev {FAR}")
        inside(f"ip link set {FAR} up")
        yield
    finally:
        subprocess.run(["ip", "link", "del", NEAR], capture_output=True, timeout=20)
        run(f"ip netns del {SPACE}")


class Host(Client):
    """A client here, whose supervisor is on the other side of the network."""

    def __init__(self, credential: Path) -> None:
        self.token, self.launch = os.urandom(32), os.urandom(8)
        self.context = server_context(credential)
        self.listener = socket.create_server(("10.213.7.1", 0))
        self.listener.settimeout(20)
        self.address = f"tls://10.213.7.1:{self.listener.getsockname()[1]}"
        self.workers = {}
        self.errors = ""
        self._pings = 1 << 32
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", SPACE, sys.executable, "-P", "-m", "pool_worker", "--launch"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        settings = {"address": self.address, "credential": str(credential), "sys_path": sys.path}
        settings |= {"launch": self.launch.hex(), "token": self.token.hex()}
        self.say(json.dumps(settings).encode() + b"\n")
        self.control = self.accept()


@pytest.fixture
def host(network: None, credential: Path) -> Iterator[Host]:
    with Host(credential) as host:
        yield host
        host.process.kill()
        host.control.socket.close()


def cut() -> None:
    for chain in ("INPUT", "OUTPUT"):
        inside(f"iptables -A {chain} -p tcp -j DROP")


def heal() -> None:
    inside("iptables -F")


def seconds_until(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 60
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.parametrize("talking", [False, True])
def test_the_clients_host_vanishes(host: Host, talking: bool) -> None:
    (worker,) = host.start(1)
    worker.post(worker.function(time.sleep), pickle.dumps((1000,)))
    worker.write()
    if talking:
        host.control.send(Ping(1))
    cut()
    assert seconds_until(lambda: host.process.poll() is not None) < 25
    assert gone(worker.pid)


@pytest.mark.parametrize("size", [100, 1000, 60_000])
def test_a_client_that_does_not_read(folder: Path, credential: Path, size: int) -> None:
    """It is blocked for a minute while tasks print and die: it is not gone."""
    with Client(folder, output=True, credential=str(credential)) as client:
        workers = client.start(*range(1, 6))
        for worker in workers[1:]:
            worker.post(worker.function(prints), pickle.dumps((size, worker is workers[2])))
            worker.write()
        time.sleep(60)
        assert client.process.poll() is None
        assert workers[0].call(lambda: 1) == 1
        client.control.wait(Output)
        assert client.lost().exitcode == 3


def prints(size: int, dies: bool) -> None:
    for _ in range(2_000_000 // size):
        os.write(1, b"x" * (size - 1) + b"\n")
    if dies:
        os._exit(3)
    time.sleep(1000)


def test_a_partition_that_heals(host: Host) -> None:
    (worker,) = host.start(1)
    id = worker.post(worker.function(time.sleep), pickle.dumps((5,)))
    worker.write()
    cut()
    time.sleep(10)
    heal()
    result: Result = worker.wait(Result)
    assert result.id == id
    host.control.send(Ping(1))
    assert host.control.wait(Pong)


def test_a_busy_worker_with_megabytes_queued(host: Host) -> None:
    (worker,) = host.start(1)
    worker.socket.settimeout(90)
    worker.post(worker.function(time.sleep), pickle.dumps((40,)))
    worker.write()
    f = worker.function(len)
    ids = [worker.post(f, pickle.dumps((bytes(1_000_000),))) for _ in range(10)]
    worker.write()
    host.control.send(Ping(1))
    assert host.control.wait(Pong)
    worker.wait(Result, 60)
    assert [worker.wait(Result).id for _ in ids] == ids
