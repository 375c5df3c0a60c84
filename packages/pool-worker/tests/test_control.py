"""pool_worker.control: the connection that never blocks."""

import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from credentials import server_context, tcp_listener
from driver import Peer
from test_channel import Short

from pool_protocol import Connection, DialerHandshake, Identity, Role
from pool_protocol.messages import Lost, Message, Ping, Pong, Start
from pool_worker import tls
from pool_worker.control import ControlLink

LAUNCH, TOKEN = b"launch!!", bytes(range(32))


class Bench:
    """A link, with the client in a thread of its own."""

    def __init__(self, credential: Path | None) -> None:
        self.selector = selectors.DefaultSelector()
        self.received: list[Message | None] = []
        self.thread: Any = None
        self.wrapped: list[socket.socket] = []
        if credential is None:
            near, self.far = socket.socketpair()
        else:
            with tcp_listener() as listener:
                near = socket.create_connection(listener.getsockname())
                self.far = listener.accept()[0]
            far, context = self.far, server_context(credential)
            self.run(lambda: self.wrapped.append(context.wrap_socket(far, server_side=True)))
            near = tls.wrap(tls.context(str(credential)), near)
            self.thread.join()
            (self.far,) = self.wrapped
        handshake = DialerHandshake(Identity(LAUNCH, Role.CONTROL, 0), TOKEN)
        connection = Connection(handshake)
        self.link = ControlLink(self.selector, near, connection, self.received.append)

    def run(self, function: Callable[[], Any]) -> None:
        self.thread = threading.Thread(target=function)
        self.thread.start()

    def turn(self) -> None:
        for key, events in self.selector.select(20):
            key.data(events)

    def until(self, condition: Callable[[], object]) -> None:
        for _ in range(10_000):
            if condition():
                return
            self.turn()
        raise AssertionError

    def open(self) -> Peer:
        peers: list[Peer] = []
        self.run(lambda: peers.append(Peer(self.far, {LAUNCH: TOKEN})))
        self.until(lambda: self.received)
        self.thread.join()
        assert self.received == [None]
        self.received.clear()
        return peers[0]

    def close(self) -> None:
        if self.thread is not None:
            self.thread.join()
        self.link.close()
        self.selector.close()
        self.far.close()


@pytest.fixture(params=["unix", "tls"])
def bench(request: pytest.FixtureRequest, credential: Path) -> Iterator[Bench]:
    bench = Bench(credential if request.param == "tls" else None)
    yield bench
    bench.close()


def test_messages_both_ways(bench: Bench) -> None:
    bench.link.send(Pong(1))  # before it is open: nothing
    peer = bench.open()
    for message in (Ping(1), Start(list(range(20_000))), Ping(2)):
        peer.connection.send(message)
    # In one go, so that over TLS the last message shares a record with the one before.
    data = b"".join(map(bytes, peer.connection.take()))
    bench.run(lambda: peer.socket.sendall(data))
    bench.until(lambda: len(bench.received) == 3)
    assert bench.received == [Ping(1), Start(list(range(20_000))), Ping(2)]
    bench.link.send(Pong(7))
    assert peer.wait(Pong).number == 7
    assert bench.link.idle and "open" in repr(bench.link)


def test_what_is_written_waits_for_its_reader(bench: Bench) -> None:
    peer = bench.open()
    lost = [Lost(n, 1, 0, 0, 0, "", bytes(3_000_000)) for n in range(10)]
    for each in lost:
        bench.link.send(each)
    assert not bench.link.idle
    got: list[Lost] = []
    bench.run(lambda: got.extend(peer.wait(Lost) for _ in lost))
    bench.until(lambda: bench.link.idle)
    bench.thread.join()
    assert got == lost
    assert {key.events for key in bench.selector.get_map().values()} == {selectors.EVENT_READ}


def test_the_last_words(bench: Bench) -> None:
    """They arrive whole, though the client talks meanwhile."""
    peer = bench.open()
    lost = Lost(1, 1, 0, 0, 0, "", bytes(3_000_000))
    bench.link.send(lost)
    got: list[Message] = []

    def client() -> None:
        peer.send(Ping(1))
        got.append(peer.wait(Lost))
        with suppress(OSError):
            peer.send(Ping(2))
        got.extend(peer.drain())
        peer.socket.close()

    bench.run(client)
    bench.link.finish(1000)
    bench.link.close()
    bench.thread.join()
    assert got == [lost]


def test_the_last_words_to_one_who_does_not_listen(bench: Bench) -> None:
    bench.open()
    bench.link.finish(0.01)
    bench.link.send(Lost(1, 1, 0, 0, 0, "", bytes(3_000_000)))
    bench.link.finish(0.01)


def test_the_end(bench: Bench) -> None:
    bench.open()
    bench.far.close()
    bench.until(lambda: bench.link.ended)
    assert bench.link.error == ""
    bench.link.send(Pong(1))
    bench.link.finish(20)
    assert "ended" in repr(bench.link)


def test_an_end_that_is_found_in_writing(bench: Bench) -> None:
    bench.open()
    bench.far.close()
    deadline = time.monotonic() + 20
    while not bench.link.ended:  # the kernel may take some before it knows
        assert time.monotonic() < deadline
        bench.link.send(Pong(1))
    assert bench.link.error == ""


def test_an_early_end(bench: Bench) -> None:
    bench.far.close()
    bench.until(lambda: bench.link.ended)
    assert "handshake" in bench.link.error or "reset" in bench.link.error.lower()


def test_a_broken_message(bench: Bench) -> None:
    bench.open()
    bench.far.sendall(b"\xff" * 100)
    bench.until(lambda: bench.link.ended)
    assert "claims" in bench.link.error


def test_a_machine_that_is_gone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.open()
    bench.link.look()
    assert not bench.link.ended
    monkeypatch.setattr("pool_worker.control.has_vanished", lambda sock: True)
    bench.link.look()
    assert bench.link.ended and "does not answer" in bench.link.error


def test_a_moment_without_memory_is_no_loss(bench: Bench) -> None:
    peer = bench.open()
    real = bench.link._socket
    bench.link._socket = Short(real)  # type: ignore[assignment]
    lost = [Lost(n, 1, 0, 0, 0, "", bytes(200_000)) for n in range(3)]
    for each in lost:
        bench.link.send(each)
    assert not bench.link.idle
    got: list[Lost] = []
    bench.run(lambda: got.extend(peer.wait(Lost) for _ in lost))
    bench.until(lambda: bench.link.idle or bench.link.ended)
    bench.thread.join()
    assert got == lost and not bench.link.ended
    bench.link._socket = real


class Refusing(Short):
    """A socket that takes nothing, though it looks writable; ``error`` says why."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.error: OSError = OSError(errno.ENOBUFS, "no memory")

    def send(self, data: memoryview) -> int:
        raise self.error


def test_the_last_words_end_in_time_where_memory_lacks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool_worker.shortage._LASTS", 1e9)
    bench.open()
    real = bench.link._socket
    bench.link._socket = Refusing(real)  # type: ignore[assignment]
    bench.link.send(Pong(1))
    bench.link.finish(0.05)
    assert not bench.link.idle and not bench.link.ended
    bench.link._socket = real


def test_a_client_that_is_slow_after_a_moment_without_memory(bench: Bench) -> None:
    """What went before does not count when memory lacks again, perhaps a minute later."""
    bench.open()
    real = bench.link._socket
    refusing = Refusing(real)
    bench.link._socket = refusing  # type: ignore[assignment]
    bench.link.send(Pong(1))
    assert bench.link._shortage._since is not None
    refusing.error = BlockingIOError()
    bench.link.send(Pong(2))
    assert bench.link._shortage._since is None
    assert not bench.link.idle and not bench.link.ended
    bench.link._socket = real
