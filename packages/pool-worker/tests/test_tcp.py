"""pool_worker.tcp: connections that notice when the other machine is gone."""

import socket
import sys
from typing import Any

import pytest
from credentials import tcp_listener
from driver import descriptors

from pool_worker import tcp


@pytest.mark.parametrize("control", [False, True])
def test_options(control: bool) -> None:
    level = socket.IPPROTO_TCP
    with tcp_listener() as listener, tcp.connect(listener.getsockname()) as ours:
        tcp.tune(ours, control)
        assert ours.getsockopt(level, socket.TCP_NODELAY)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
            assert [ours.getsockopt(level, getattr(socket, name)) for name in names] == [5, 5, 3]
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            limit = ours.getsockopt(level, socket.TCP_NOTSENT_LOWAT)
            assert limit == (16384 if control else 0)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # It would end a connection whose reader is busy.
            assert ours.getsockopt(level, socket.TCP_USER_TIMEOUT) == 0
        assert not tcp.has_vanished(ours)


class FakeTcp:
    """What the kernel tells of a connection."""

    family = socket.AF_INET

    def __init__(self, probes: int, unacked: int, last_ack: int) -> None:
        self.info = bytearray(232)
        self.info[3] = probes
        for offset, value in ((24, unacked), (44, 10**6), (52, 10**6), (56, last_ack)):
            self.info[offset : offset + 4] = value.to_bytes(4, sys.byteorder)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if self.info[0]:
            raise OSError
        return bytes(self.info[:size])


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="needs TCP_INFO")
@pytest.mark.parametrize(
    ("probes", "unacked", "last_ack", "gone"),
    [
        (0, 0, 10**6, False),  # nothing to acknowledge: the keep-alive's affair
        (0, 3, 19_000, False),
        (0, 3, 20_000, True),
        (2, 0, 60_000, False),  # a client that does not read, and probes that wait for an answer
        (3, 0, 60_000, True),
        (3, 0, 10_000, False),
    ],
)
def test_a_machine_that_is_gone(probes: int, unacked: int, last_ack: int, gone: bool) -> None:
    sock: Any = FakeTcp(probes, unacked, last_ack)
    assert tcp.has_vanished(sock) is gone
    sock.info[0] = 1
    assert not tcp.has_vanished(sock)
    sock.info = b"\0"
    assert not tcp.has_vanished(sock)
    sock.family = socket.AF_UNIX
    assert not tcp.has_vanished(sock)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="needs TCP_INFO")
def test_what_the_kernel_really_tells() -> None:
    """A peer that does not read acknowledges all the same."""
    with (
        tcp_listener() as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0],
    ):
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                ours.send(bytes(65536))
        info = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
        fields = tcp._TCP_INFO.unpack(info[: tcp._TCP_INFO.size])
        assert fields[0] <= 1 and fields[2] < 10_000
        assert not tcp.has_vanished(ours)


def test_the_kernel_may_connect_us_to_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that nobody listens on may be the very one that we are given."""

    def itself(target: tuple[str, int], timeout: float) -> socket.socket:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        return sock

    monkeypatch.setattr(socket, "create_connection", itself)
    before = descriptors()
    with pytest.raises(ConnectionRefusedError, match="refused"):
        tcp.connect(("127.0.0.1", 9))
    assert descriptors() == before
