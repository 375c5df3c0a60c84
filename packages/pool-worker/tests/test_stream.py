"""pool_worker.stream: sockets to the client."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from credentials import server_context, tcp_listener

from pool_protocol import CredentialError
from pool_worker import stream
from pool_worker.stream import AddressError, Dialer, dialer, host_and_port, parse, patiently


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("/run/socket", "/run/socket"),
        ("tls://host:80", ("host", 80)),
        ("tls://10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("tls://[::1]:8899", ("::1", 8899)),
        ("tls://[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_addresses(text: str, target: object) -> None:
    assert parse(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "host",
        "host:",
        "host:x",
        "host:0",
        "host:65536",
        "::1:80",
        "[]:80",
        "host:\u0663",
    ],
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(AddressError):
        host_and_port(text)
    with pytest.raises(AddressError):
        parse("tls://" + text)


def test_an_empty_address() -> None:
    with pytest.raises(AddressError):
        Dialer("")


def test_a_unix_socket(folder: Path) -> None:
    path = str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with Dialer(path).connect() as ours, listener.accept()[0] as theirs:
            assert ours.gettimeout() is None
            theirs.sendall(b"x")
            assert ours.recv(10) == b"x"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("control", [False, True])
def test_tls(credential: Path, host: str, control: bool) -> None:
    try:
        listener = tcp_listener(host)
    except OSError:
        pytest.skip("no IPv6 here")
    accepted: list[socket.socket] = []

    def accept() -> None:
        context = server_context(credential)
        accepted.append(context.wrap_socket(listener.accept()[0], server_side=True))

    thread = threading.Thread(target=accept)
    thread.start()
    name = f"[{host}]" if ":" in host else host
    dial = Dialer(f"tls://{name}:{listener.getsockname()[1]}", str(credential))
    assert host in repr(dial)
    with listener, dial.connect(control) as ours:
        thread.join()
        assert ours.gettimeout() is None
        accepted[0].sendall(b"x")
        assert ours.recv(10) == b"x"
        accepted[0].close()
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            limit = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
            assert limit == (16384 if control else 0)


def test_a_silent_listener(credential: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TLS_SECONDS", 0.05)
    with tcp_listener() as listener, pytest.raises(TimeoutError):
        Dialer(f"tls://127.0.0.1:{listener.getsockname()[1]}", str(credential)).connect()


def test_a_full_backlog_that_clears(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at first, taken in later."""
    monkeypatch.setattr(stream, "REFUSED_SECONDS", 20.0)
    path = str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        timer = threading.Timer(0.1, listener.listen)
        timer.start()
        Dialer(path).connect().close()
        timer.join()


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    tries: list[float] = []

    def refuse() -> None:
        tries.append(clock[0])
        raise ConnectionRefusedError

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    with pytest.raises(ConnectionRefusedError):
        patiently(1.0, refuse)
    gaps = [after - before for before, after in itertools.pairwise(tries)]
    assert 5 <= len(gaps) <= 6 and gaps == pytest.approx([gaps[0] * 2**n for n in range(len(gaps))])
    assert 100.5 < tries[-1] <= 101.0
    del tries[:]
    with pytest.raises(ConnectionRefusedError):
        patiently(1.0, refuse, (KeyError,))
    assert len(tries) == 1


def test_patience_of_a_machine_that_stands_still() -> None:
    """As a busy one does, or one that was suspended."""
    tries: list[None] = []

    def refuse() -> None:
        tries.append(None)
        time.sleep(0.2)  # longer than all the patience
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        patiently(0.1, refuse)
    assert len(tries) > 2


@pytest.fixture
def uncached() -> Iterator[None]:
    yield
    dialer.cache_clear()


def test_one_dialer_for_all(credential: Path, folder: Path, uncached: None) -> None:
    address = "tls://127.0.0.1:9"
    assert dialer(address, str(credential)) is dialer(address, str(credential))
    with pytest.raises(CredentialError, match="no credential"):
        dialer(address, str(folder / "nothing"))
