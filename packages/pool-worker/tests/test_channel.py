"""pool_worker.channel: a blocking socket under a connection."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from driver import PYTHON, Peer

from pool_protocol import AuthenticationError, Identity, RemoteProtocolError, Role
from pool_protocol.messages import Ready, Retire
from pool_worker.channel import Channel, Closed

LAUNCH, TOKEN = b"launch!!", bytes(range(32))
IDENTITY = Identity(LAUNCH, Role.TASK, 5)


@pytest.fixture
def listener(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "socket"))
        sock.listen()
        sock.settimeout(20)
        yield sock


def connected(listener: socket.socket) -> tuple[Channel, Peer]:
    peers: list[Peer] = []

    def accept() -> None:
        peers.append(Peer(listener.accept()[0], {LAUNCH: TOKEN}))

    thread = threading.Thread(target=accept)
    thread.start()
    channel = Channel.connect(listener.getsockname(), IDENTITY, TOKEN, None)
    thread.join()
    return channel, peers[0]


def test_messages_travel_both_ways(listener: socket.socket) -> None:
    channel, peer = connected(listener)
    assert peer.connection.identity == IDENTITY
    channel.send(Ready(3, PYTHON, "1"))
    assert peer.wait(Ready).pid == 3
    peer.send(Retire())
    assert channel.receive() == [Retire()]
    peer.socket.close()
    with pytest.raises(Closed):
        channel.receive()
    channel.close()


def test_many_and_large_buffers_are_written_whole(listener: socket.socket) -> None:
    channel, peer = connected(listener)
    buffers = [os.urandom(3) for _ in range(2000)]
    buffers += [b"", os.urandom(5_000_000), b"x", memoryview(os.urandom(800)).cast("Q")]
    want = b"".join(bytes(buffer) for buffer in buffers)
    thread = threading.Thread(target=channel.write, args=(buffers,))
    thread.start()
    got = bytearray()
    while len(got) < len(want):
        got += peer.socket.recv(1 << 20)
    thread.join()
    assert got == want
    channel.write([])
    channel.close()
    peer.socket.close()


def test_a_listener_without_the_token(listener: socket.socket) -> None:
    def accept() -> None:
        with listener.accept()[0] as sock:
            sock.recv(1000)
            sock.sendall(b"poolwire\1\0\2" + bytes(65))

    thread = threading.Thread(target=accept)
    thread.start()
    with pytest.raises(AuthenticationError):
        Channel.connect(listener.getsockname(), IDENTITY, TOKEN, None)
    thread.join()


@pytest.mark.parametrize(("answer", "error"), [(b"", Closed), (b"HTTP", RemoteProtocolError)])
def test_a_stranger_listens(listener: socket.socket, answer: bytes, error: type[Exception]) -> None:
    def accept() -> None:
        with listener.accept()[0] as sock:
            sock.recv(1000)
            sock.sendall(answer)

    thread = threading.Thread(target=accept)
    thread.start()
    with pytest.raises(error):
        Channel.connect(listener.getsockname(), IDENTITY, TOKEN, None)
    thread.join()


def test_nobody_listens(folder: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Channel.connect(str(folder / "nothing"), IDENTITY, TOKEN, None)
