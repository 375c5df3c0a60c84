"""pool_worker.outbox: gathered in the page, written in one go."""

import socket
from collections.abc import Iterator

import pytest
from driver import frames

from pool_protocol import Connection, DialerHandshake, FrameTooLarge, Identity, Packed, Role
from pool_protocol.messages import Result
from pool_worker.channel import Channel
from pool_worker.outbox import MAX_NANOS, Outbox
from pool_worker.page import END, SIZE, Page, Pages


class Bench:
    """An outbox on one end of a pair of sockets."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.pages = Pages()
        self.slot = self.pages.take()
        self.page = Page(self.pages.fd, self.slot)
        connection = Connection(DialerHandshake(Identity(b"launch!!", Role.TASK), bytes(32)))
        self.channel = Channel(ours, connection)
        self.outbox = Outbox(self.page, self.channel)

    def written(self) -> list[Result]:
        """What the peer can read by now."""
        data = bytearray()
        try:
            while part := self.peer.recv(1 << 20):
                data += part
        except BlockingIOError:
            pass
        return frames(bytes(data))  # type: ignore[return-value]

    def gathered(self) -> list[Result]:
        """What the supervisor would find."""
        words = self.pages.read(self.slot)
        return frames(self.pages.gathered(self.slot, words))  # type: ignore[return-value]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.channel.close()
    bench.peer.close()
    bench.pages.close()


def test_small_results_wait_in_the_page(bench: Bench) -> None:
    bench.outbox.put(1, 1000, 0, b"one")
    bench.outbox.put(2, 10**12, 1, Packed([b"t", b"wo"]))
    assert not bench.written()
    assert [(r.id, r.nanos, r.flags, bytes(r.payload)) for r in bench.gathered()] == [
        (1, 1000, 0, b"one"),
        (2, MAX_NANOS, 1, b"two"),
    ]
    bench.outbox.flush()
    assert [result.id for result in bench.written()] == [1, 2]
    assert not bench.gathered() and bench.page.words[END] == 0
    bench.outbox.flush()
    assert not bench.written()


def test_a_full_page_is_flushed(bench: Bench) -> None:
    body = bytes(40_000)
    for id in range(1, 5):
        bench.outbox.put(id, 0, 0, body)
    assert [r.id for r in bench.written()] == [1, 2, 3]
    assert [r.id for r in bench.gathered()] == [4]


def test_what_is_too_large_for_the_page_follows_at_once(bench: Bench) -> None:
    bench.outbox.put(1, 0, 0, b"one")
    bench.outbox.put(2, 0, 0, bytes(SIZE))
    bench.outbox.put(3, 0, 0, Packed([b"x"], [bytes(10), bytes(20)]))
    bench.outbox.put(4, 0, 0, b"four")
    seen = bench.written()
    assert [(r.id, len(r.payload), len(r.buffers)) for r in seen] == [
        (1, 3, 0),
        (2, SIZE, 0),
        (3, 1, 2),
    ]
    assert [r.id for r in bench.gathered()] == [4]


def test_the_largest_that_fits(bench: Bench) -> None:
    bench.outbox.put(1, 0, 0, bytes(SIZE - 64 - 24))
    assert bench.page.words[END] == SIZE
    assert [len(r.payload) for r in bench.gathered()] == [SIZE - 64 - 24]


def test_the_limit(bench: Bench) -> None:
    bench.outbox.limit = 100
    bench.outbox.put(1, 0, 0, bytes(76))
    with pytest.raises(FrameTooLarge):
        bench.outbox.put(2, 0, 0, bytes(77))
    assert [r.id for r in bench.gathered()] == [1]


def test_past_the_page(bench: Bench) -> None:
    """After what lies in it."""
    bench.outbox.put(1, 0, 0, b"one")
    bench.outbox.write(2, 0, 0, b"two")
    assert [r.id for r in bench.written()] == [1, 2]
    assert not bench.gathered()


def test_the_client_is_gone(bench: Bench) -> None:
    bench.peer.close()
    bench.outbox.put(1, 0, 0, b"one")
    with pytest.raises(OSError, match="Broken pipe"):
        bench.outbox.flush()
    assert [r.id for r in bench.gathered()] == [1]
