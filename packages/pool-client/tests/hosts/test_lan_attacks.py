"""Attacks on pools with LAN hosts: in the middle of the line, and at the client's own port."""

import os
import pickle
import socket
import ssl
import time

import pytest
from support import kill, resident_bytes, running_pool, started_script, wait_until

from hosts.lan import Spawner, make_credential
from hosts.ports import free_port
from hosts.relay import Relay, flipping
from pool_client.hosts import perseverance
from pool_client.links import half_open
from pool_client.scheduling import barren
from pool_protocol import Connection, DialerHandshake, Identity, Role
from pool_protocol.security import secure

MB = 1_000_000


@pytest.fixture
def port():
    """A port that is free on loopback."""
    return free_port()


@pytest.fixture
def relay(port):
    """Where the workers think that the client is."""
    with Relay(("127.0.0.2", port), ("127.0.0.1", port)) as relay:
        yield relay


def through(relay, port, spawner, credential, local=0):
    """The arguments of a pool whose workers on the LAN connect back through the relay."""
    return {
        "num_workers": local,
        "hosts": [spawner.host(2)],
        "credential": credential,
        "localhost": "127.0.0.1",
        "localport": port,
        "advertise": "127.0.0.2",
    }


def test_who_listens_in_the_middle_hears_nothing(relay, port, spawner, credential):
    secret = "the secret word"
    with running_pool(**through(relay, port, spawner, credential)) as pool:
        assert pool.run(lambda: 2 * secret) == 2 * secret
    assert relay.connections >= 3, "the supervisor and two workers came this way"
    assert len(relay.heard) > 1000
    for word in (secret.encode(), b"poolwire", pickle.dumps(secret)[2:-1]):
        assert word not in relay.heard


@pytest.mark.parametrize("seed", range(3))
def test_who_spoils_what_passes_ends_connections_and_no_task(
    relay, port, spawner, credential, seed, monkeypatch
):
    """A flipped bit is noticed at once; the tasks run again, and every result is right."""
    # A host whose workers do not come up is given up, and here that is a matter of luck.
    monkeypatch.setattr(perseverance, "MAX_FAILURES", 1000)
    monkeypatch.setattr(barren, "MAX_BARREN", 1000)
    arguments = through(relay, port, spawner, credential, local=1)
    with running_pool(retries=100, **arguments) as pool:
        relay.spoil = flipping(seed, one_in=20)
        deadline = time.monotonic() + 90
        while relay.connections < 10:
            futures = [pool.submit(lambda n: n * n, number) for number in range(200)]
            assert [future.result(50) for future in futures] == [n * n for n in range(200)]
            assert time.monotonic() < deadline, "no connection broke"
        relay.spoil = bytes
        wait_until(lambda: len(pool.workers()) == 3, timeout=30, what="the host to be back")


def test_what_was_recorded_is_of_no_use(relay, port, spawner, credential):
    """Every byte of a whole session is sent to the client again, in one connection and in many."""
    with running_pool(**through(relay, port, spawner, credential)) as pool:
        assert pool.run(abs, -1) == 1
        recorded = bytes(relay.heard)
        for start in (0, 0, len(recorded) // 3):
            with socket.create_connection(("127.0.0.1", port), 20) as sock:
                try:
                    sock.sendall(recorded[start:])
                    while sock.recv(65536):
                        pass
                except ConnectionError:
                    pass
        assert len(pool.workers()) == 2


class Touch:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_at_the_clients_port_is_not_unpickled(port, relay, spawner, credential, tmp_path):
    """From a stranger, and from a member of the group that has no launch's token."""
    evil = pickle.dumps(Touch(str(tmp_path / "touched")))
    with running_pool(**through(relay, port, spawner, credential)):
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            sock.sendall(evil)
            closed(sock)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        secure(context, str(credential))
        for role in (Role.TASK, Role.CONTROL, Role.SERVICE, Role.JOIN, Role.SPAWN):
            connection = Connection(DialerHandshake(Identity(bytes(8), role), bytes(32)))
            raw = socket.create_connection(("127.0.0.1", port), 20)
            with context.wrap_socket(raw) as sock:
                sock.sendall(b"".join(connection.take()) + bytes(32) + evil)
                closed(sock)
    assert not (tmp_path / "touched").exists()


def closed(sock):
    """Wait until the other side closes the connection."""
    try:
        while sock.recv(4096):
            pass
    except (ConnectionError, ssl.SSLError):
        pass


def test_another_groups_member_is_kept_out(port, relay, spawner, credential, tmp_path):
    other = make_credential(tmp_path)
    with running_pool(**through(relay, port, spawner, credential)) as pool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(other)
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20)) as sock:
            closed(sock)
        assert len(pool.workers()) == 2


FLOOD = """
import resource, socket, sys, time
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
opened = []
for number in range(10_000):
    sock = socket.socket()
    sock.settimeout(20)
    sock.bind((f"127.1.{1 + number % 400 // 250}.{1 + number % 400 % 250}", 0))
    try:
        sock.connect(("127.0.0.1", int(sys.argv[1])))
    except OSError:
        pass
    opened.append(sock)
    if number == 2000:
        print("flooding", flush=True)
print("flooded", flush=True)
time.sleep(1000)
"""


def test_ten_thousand_silent_connections_do_not_keep_workers_out(
    port, spawner, credential, monkeypatch
):
    """While they come and when they are there, a worker that died is replaced."""
    monkeypatch.setattr(half_open, "HANDSHAKE_SECONDS", 1000.0)  # they stay to the end
    arguments = {"credential": credential, "localhost": "127.0.0.1", "localport": port}
    with running_pool(0, [spawner.host(2)], **arguments) as pool:
        before = resident_bytes()
        with started_script(FLOOD, port) as flood:
            for word in ("flooding", "flooded"):
                assert flood.stdout.readline() == f"{word}\n", flood.stderr.read()
                victim = pool.workers()[0].pid
                kill(victim)
                wait_until(
                    lambda victim=victim: (
                        len(pool.workers()) == 2
                        and victim not in {worker.pid for worker in pool.workers()}
                    ),
                    timeout=30,
                    what="a replacement",
                )
        assert resident_bytes() - before < 100 * MB


def test_two_clients_do_not_see_each_other(spawner, credential):
    """The same credential, but each launch has a token of its own."""
    with (
        Spawner(credential) as other,
        running_pool(0, [spawner.host(1)], credential=credential) as one,
        running_pool(0, [other.host(1)], credential=credential) as two,
    ):
        assert one.run(os.getpid) != two.run(os.getpid)
        assert len(one.workers()) == len(two.workers()) == 1
