"""Strangers: whatever they do, nothing of theirs is read as more than bytes, and members get in."""

import contextlib
import os
import pickle
import random
import resource
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from running import PATIENCE, Client, answers, context, wait_until

from pool_protocol import AuthenticationError, VersionMismatch
from pool_protocol.handshake import PROTOCOL_VERSION
from pool_protocol.messages import Spawn, Spawned, SpawnEnded, Stop
from pool_spawner.logs import BURST

MEBIBYTE = 1 << 20


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_never_unpickled(serve, credential: Path, tmp_path: Path) -> None:
    evil = pickle.dumps(Touch(tmp_path / "touched"))
    spawner = serve()
    with socket.create_connection(("127.0.0.1", spawner.port)) as raw:
        raw.sendall(evil)
        with contextlib.suppress(ConnectionError):
            assert raw.recv(1) == b""
    # Even a member's is not: its settings are JSON.
    with Client.dial(spawner.port, credential) as client:
        client.send(Spawn(1, evil))
        assert "settings" in client.receive().reason
    assert not (tmp_path / "touched").exists()
    assert pickle.loads(evil) is None and (tmp_path / "touched").exists(), "it would have done it"


def test_a_recorded_session_is_worth_nothing(serve, credential: Path) -> None:
    """Every byte that a member sent is sent again."""
    spawner = serve()
    recorded: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as middle:
        relay = threading.Thread(target=record, args=(middle, spawner.port, recorded))
        relay.start()
        with Client.dial(middle.getsockname()[1], credential) as client:
            client.ask(10**6, "")
            assert isinstance(client.receive(), SpawnEnded)
        relay.join()
    with (
        socket.create_connection(("127.0.0.1", spawner.port), PATIENCE) as raw,
        contextlib.suppress(ConnectionError),
    ):
        for piece in recorded:
            raw.sendall(piece)
        while raw.recv(4096):
            pass
    assert len(recorded) > 1
    spawner.logged("refused a connection of 127.0.0.1")
    assert sum("1000000 workers" in record["message"] for record in spawner.records) == 1


def record(middle: socket.socket, port: int, recorded: list[bytes]) -> None:
    """Stand between a client and the spawner, and keep what the client sends."""
    client, _ = middle.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as server:

        def back() -> None:
            with contextlib.suppress(OSError):
                while data := server.recv(65536):
                    client.sendall(data)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

        answer = threading.Thread(target=back)
        answer.start()
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                recorded.append(data)
                server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        answer.join()


def test_who_reflects_our_own_bytes_gets_nowhere(serve, credential: Path) -> None:
    spawner = serve()
    with socket.create_connection(("127.0.0.1", spawner.port), PATIENCE) as raw:
        tls = context(credential).wrap_socket(raw)
        with tls:
            client = Client(tls)
            [hello] = client.connection.take()
            tls.sendall(hello)
            challenge = tls.recv(4096)
            with contextlib.suppress(ConnectionError):
                tls.sendall(challenge[-32:])
                assert tls.recv(4096) == b""
    assert "token" in spawner.logged("refused a connection")["message"]


def test_another_version_is_told_both(serve, credential: Path) -> None:
    spawner = serve()
    with pytest.raises(VersionMismatch, match=f"{PROTOCOL_VERSION + 1}.*{PROTOCOL_VERSION}"):
        Client.dial(spawner.port, credential, version=PROTOCOL_VERSION + 1)
    assert "version" in spawner.logged("refused a connection")["message"]


def test_a_wrong_launch_is_refused(serve, credential: Path) -> None:
    from pool_protocol import Connection, DialerHandshake, Identity, Role

    spawner = serve()
    with socket.create_connection(("127.0.0.1", spawner.port), PATIENCE) as raw:
        client = Client(context(credential).wrap_socket(raw))
        identity = Identity(b"12345678", Role.SPAWN)
        client.connection = Connection(DialerHandshake(identity, bytes(32)))
        with client, pytest.raises(AuthenticationError):
            client.shake_hands()


@pytest.mark.parametrize("seed", range(3))
def test_noise_never_hurts(serve, credential: Path, seed: int) -> None:
    # On a slow machine there would be time for more lines.
    slowly = "from pool_spawner.logs import BURST, RateLimit as R"
    spawner = serve(before=f"{slowly}; R.__init__.__defaults__ = (BURST, 1000.0)")
    choose = random.Random(seed)
    for _ in range(60):
        data = choose.randbytes(choose.randint(1, 2000))
        if choose.random() < 0.7:
            data = b"\x16\x03\x01" + data
        with (
            socket.create_connection(("127.0.0.1", spawner.port), PATIENCE) as raw,
            contextlib.suppress(ConnectionError),
        ):
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass
    assert answers(spawner, credential)
    spawner.logged("refused a connection")
    told = [one for one in spawner.records if "refused a connection" in one["message"]]
    assert 0 < len(told) <= BURST, "strangers do not fill the log"


def test_noise_from_a_member_ends_that_connection_alone(serve, credential: Path) -> None:
    spawner = serve()
    with Client.dial(spawner.port, credential) as client:
        client.sock.sendall(random.Random(1).randbytes(5000))
        with contextlib.suppress(ConnectionError, ssl.SSLError), pytest.raises(EOFError):
            client.receive()
    assert answers(spawner, credential)


def test_a_second_request_on_one_connection_ends_both(serve, credential: Path, pool: str) -> None:
    spawner = serve()
    with Client.dial(spawner.port, credential) as client:
        client.ask(1, pool)
        assert isinstance(client.receive(), Spawned)
        client.ask(1, pool)
        with pytest.raises((EOFError, OSError)):
            while True:
                client.receive()
    assert "the one Spawn" in spawner.logged("is over")["message"]
    wait_until(lambda: not spawner.workers())


def test_an_end_before_a_request_ends_the_connection(serve, credential: Path) -> None:
    spawner = serve()
    with Client.dial(spawner.port, credential) as client:
        client.send(Stop())
        with pytest.raises((EOFError, OSError)):
            client.receive()
    spawner.logged("the one Spawn")


def raise_limit(number: int) -> None:
    """Have room for so many descriptors here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        pytest.skip(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))


def flood(port: int, number: int, sources: int, stop: threading.Event) -> list[socket.socket]:
    """So many connections that say nothing, from so many addresses."""
    opened: list[socket.socket] = []
    while len(opened) < number and not stop.is_set():
        sock = socket.socket()
        opened.append(sock)
        sock.settimeout(20)
        sock.bind(
            (f"127.0.{1 + len(opened) % sources // 250}.{1 + len(opened) % sources % 250}", 0)
        )
        with contextlib.suppress(OSError):
            sock.connect(("127.0.0.1", port))
    return opened


@pytest.mark.parametrize("sources", [1, 400], ids=["one-address", "many-addresses"])
def test_ten_thousand_silent_connections_keep_nobody_out(
    serve, credential: Path, sources: int
) -> None:
    raise_limit(12_000)
    # Whoever waited for the strangers' deadline would wait for too long.
    spawner = serve(before="from pool_spawner import admission; admission.DEADLINE = 1000.0")
    assert answers(spawner, credential)
    before = spawner.resident()
    stop = threading.Event()
    opened: list[socket.socket] = []
    thread = threading.Thread(
        target=lambda: opened.extend(flood(spawner.port, 10_000, sources, stop))
    )
    thread.start()
    members = 0
    try:
        while thread.is_alive() or members < 5:
            # From the attackers' own address, and from another one.
            source = "127.0.1.1" if members % 2 else "127.9.9.9"
            assert retry(lambda source=source: answers(spawner, credential, source))
            members += 1
    finally:
        stop.set()
        thread.join(60)
        for sock in opened:
            sock.close()
    assert len(opened) == 10_000
    assert spawner.resident() - before < 100 * MEBIBYTE
    assert len(os.listdir(f"/proc/{spawner.pid}/fd")) < 200


def retry(action) -> bool:
    """As a client does that is closed without a word."""
    for _ in range(50):
        with contextlib.suppress(ConnectionError, EOFError, ssl.SSLEOFError):
            return action()
        time.sleep(0.02)
    return False


def test_a_readable_credential_is_nowhere_to_be_seen(serve, credential: Path) -> None:
    spawner = serve("--log-level", "debug")
    key = "".join(credential.read_text().splitlines()[1:3])
    assert answers(spawner, credential)
    seen = Path(f"/proc/{spawner.pid}/cmdline").read_bytes()
    seen += Path(f"/proc/{spawner.pid}/environ").read_bytes()
    assert spawner.stop() == 0
    assert key[:32].encode() not in seen and key[:32] not in "".join(spawner.lines)


def test_fewer_clients_than_the_limit_are_never_turned_away(serve, credential: Path) -> None:
    spawner = serve()
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(retry(lambda: answers(spawner, credential))))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [True] * 12
    wait_until(lambda: len(os.listdir(f"/proc/{spawner.pid}/fd")) < 40)
