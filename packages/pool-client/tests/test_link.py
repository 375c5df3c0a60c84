"""One connection on a real socket pair: a peer that reads slowly, dies, or talks nonsense."""

import contextlib
import errno
import os
import socket
import struct

import pytest
from link_model import Peer
from loops import holds_in_child, in_thread, until

from pool_client.links.link import Link
from pool_protocol import (
    AuthenticationError,
    Connection,
    ListenerHandshake,
    Packed,
    RemoteProtocolError,
    Role,
)
from pool_protocol.frames import LARGE
from pool_protocol.messages import Kill, Pong, Ready, Retire
from pool_protocol.testing import LAUNCH, TOKEN

READY = Ready(pid=1, python="3", version="1")


@pytest.fixture
def role():
    """What the peer connects for."""
    return Role.TASK


@pytest.fixture
def ends(loop, events, role):
    """A link and its peer, before the handshake."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    link = Link(loop, ours, Connection(ListenerHandshake({LAUNCH: TOKEN}.get)), events)
    peer = Peer(theirs, role)
    yield link, peer
    link.close()
    peer.close()


@pytest.fixture
def pair(loop, ends, events):
    """A link and its peer, after the handshake."""
    link, peer = ends
    in_thread(loop, peer.shake_hands)
    until(loop, lambda: events.opened_links)
    return link, peer


# -- the handshake


def test_a_peer_that_proves_itself_is_announced_once(loop, ends, events):
    link, peer = ends
    assert not events.opened_links
    in_thread(loop, peer.shake_hands)
    until(loop, lambda: events.opened_links)
    peer.connection.send(READY)
    peer.flush()
    until(loop, lambda: events.messages)
    assert events.opened_links == [link]
    assert events.messages == [READY]
    assert "open" in repr(link)


def test_what_comes_right_behind_the_handshake_is_not_lost(loop, ends, events):
    link, peer = ends

    def dial():
        peer.flush()
        while peer.connection.state.value == "handshake":
            peer.receive()
        peer.connection.send(READY)
        peer.connection.send_result(5, 1, 0, b"early")
        peer.flush()
        peer.close()

    in_thread(loop, dial)
    until(loop, lambda: events.ends)
    assert events.opened_links == [link]
    assert [type(message).__name__ for message in events.messages] == ["Ready", "Result"]
    assert events.ends == [None]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"SSH-2.0-x", b"\0"])
def test_a_stranger_is_refused_at_once(loop, ends, events, data):
    link, peer = ends
    peer.sock.sendall(data)
    until(loop, lambda: events.ends)
    [error] = events.ends
    assert isinstance(error, RemoteProtocolError)
    assert not events.opened_links
    assert link.ended
    assert peer.at_end()


def test_a_wrong_token_is_refused_and_both_sides_know(loop, ends, events):
    _, peer = ends
    wrong = Peer(peer.sock, token=b"x" * 32)
    with pytest.raises(AuthenticationError):
        in_thread(loop, wrong.shake_hands)


def test_an_unknown_launch_is_told_so(loop, ends, events):
    _, peer = ends
    unknown = Peer(peer.sock, launch=b"unknown!")
    with pytest.raises(AuthenticationError, match="does not know this launch"):
        in_thread(loop, unknown.shake_hands)
    until(loop, lambda: events.ends)
    assert isinstance(events.ends[0], AuthenticationError)


def test_a_peer_that_leaves_in_the_middle_of_the_handshake(loop, ends, events):
    link, peer = ends
    peer.sock.sendall(peer.connection.take()[0][:20])
    peer.close()
    until(loop, lambda: events.ends)
    assert events.ends == [None]
    assert not events.opened_links
    assert link.ended


# -- writing


def test_small_messages_arrive_in_order(loop, pair):
    link, peer = pair
    for id in range(1, 1001):
        link.connection.send_task(id, 1, 0, b"payload")
        if id % 7 == 0:
            link.flush()
    link.flush()
    tasks = in_thread(loop, lambda: peer.messages(1000))
    assert [task.id for task in tasks] == list(range(1, 1001))


def test_more_than_the_socket_holds_is_written_as_it_goes(loop, pair):
    link, peer = pair
    large = os.urandom(20_000_000)
    link.connection.send_task(1, 1, 0, large)
    link.flush()
    for id in range(2, 3000):
        link.connection.send_task(id, 1, 0, b"behind it")
        link.flush()
    tasks = in_thread(loop, lambda: peer.messages(2999))
    assert bytes(tasks[0].payload) == large
    assert [task.id for task in tasks] == list(range(1, 3000))
    until(loop, lambda: not link._unsent)
    link.connection.send_task(3000, 1, 0, b"and then")
    link.flush()
    assert in_thread(loop, lambda: peer.messages(1))[0].id == 3000


def test_one_buffer_that_the_socket_takes_in_part(loop, pair):
    link, peer = pair
    for id in range(1, 3001):
        link.connection.send_task(id, 1, 0, b"x" * 1000)
    link.flush()
    assert link._writing
    tasks = in_thread(loop, lambda: peer.messages(3000))
    assert [task.id for task in tasks] == list(range(1, 3001))


def test_one_buffer_that_the_socket_does_not_take_at_all(loop, pair):
    link, peer = pair
    stuffing = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            stuffing += link._sock.send(bytes(1000))
    link.connection.send(Retire())
    link.flush()
    assert link._writing

    def read():
        rest = stuffing
        while rest:
            rest -= len(peer.sock.recv(min(rest, 65536)))
        return peer.messages(1)

    assert in_thread(loop, read) == [Retire()]


class Short:
    """A socket whose kernel has no memory to send with: every other time, or for good."""

    def __init__(self, sock, for_good=False):
        self.sock = sock
        self.for_good = for_good
        self.tries = 0

    def send(self, data):
        self.tries += 1
        if self.tries % 2 or self.for_good:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return self.sock.send(data[:70_000])

    def sendmsg(self, buffers):
        return self.send(b"".join(buffers))

    def __getattr__(self, name):
        return getattr(self.sock, name)


def test_a_peer_that_is_slow_after_a_moment_without_memory(loop, pair):
    """What went before does not count when memory lacks again, perhaps a minute later."""
    link, _ = pair
    real = link._sock
    link._sock = Short(real, for_good=True)
    link.connection.send(Retire())
    link.flush()
    assert link._short_since is not None
    with contextlib.suppress(BlockingIOError):
        while True:
            real.send(bytes(1000))
    link._sock = real
    link._write()
    assert link._writing and link._short_since is None


@pytest.mark.parametrize("size", [100, 1_000_000])
def test_a_moment_without_memory_breaks_nothing(loop, pair, events, size):
    link, peer = pair
    real = link._sock
    link._sock = Short(real)
    payloads = [os.urandom(size) for _ in range(3)]
    for id, payload in enumerate(payloads):
        link.connection.send_task(id, 1, 0, payload)
        link.flush()
    tasks = in_thread(loop, lambda: peer.messages(3))
    assert [bytes(task.payload) for task in tasks] == payloads
    until(loop, lambda: not link._unsent)
    assert not link._writing and link._retry is None and link._short_since is None
    assert events.ends == []
    link._sock = real


def test_memory_that_lacks_for_good_breaks_the_writing(loop, pair, events, monkeypatch):
    link, peer = pair
    monkeypatch.setattr("pool_client.links.link._SHORT_LASTS", 0.05)
    real = link._sock
    link._sock = Short(real, for_good=True)
    peer.connection.send(READY)
    peer.flush()
    link.connection.send(Retire())
    link.flush()
    until(loop, lambda: link._broken_pipe and events.messages)
    assert link._sock.tries > 2
    assert events.messages == [READY] and link._retry is None
    link._sock = real


def test_closing_while_memory_lacks(loop, pair, events):
    link, peer = pair
    real = link._sock
    link._sock = Short(real, for_good=True)
    link.connection.send(Retire())
    link.flush()
    assert link._retry is not None and not link._writing
    link.close()
    assert link._retry.cancelled()
    assert in_thread(loop, peer.at_end)
    assert events.ends == []


def test_pieces_and_buffers_of_any_shape_arrive(loop, pair):
    link, peer = pair
    shaped = memoryview(bytearray(range(240)) * 1000).cast("I", [100, 600])
    pieces = [b"abc", b"", b"x" * (3 * LARGE), b"d"]
    link.connection.send_task(1, 1, 0, Packed(pieces, [shaped, memoryview(b"")]))
    link.flush()
    [task] = in_thread(loop, lambda: peer.messages(1))
    assert bytes(task.payload) == b"".join(pieces)
    assert [bytes(buffer) for buffer in task.buffers] == [shaped.tobytes(), b""]


def test_hundreds_of_pieces_take_several_calls(loop, pair):
    link, peer = pair
    for id in range(1, 1500):
        link.connection.send_task(id, 1, 0, Packed([bytes([id % 256]) * (LARGE + 1)]))
    link.flush()
    tasks = in_thread(loop, lambda: peer.messages(1499))
    assert all(bytes(task.payload[:1])[0] == task.id % 256 for task in tasks)


def test_a_flush_with_nothing_to_write_writes_nothing(loop, pair):
    link, peer = pair
    link.flush()
    link.connection.send(Retire())
    link.flush()
    link.flush()
    assert in_thread(loop, lambda: peer.messages(1)) == [Retire()]


# -- reading


def test_messages_arrive_however_they_are_cut(loop, pair, events):
    _, peer = pair
    for id in range(1, 200):
        peer.connection.send_result(id, 1, 0, b"x" * id)
    data = b"".join(peer.connection.take())

    def drip():
        for start in range(0, len(data), 97):
            peer.sock.sendall(data[start : start + 97])

    in_thread(loop, drip)
    until(loop, lambda: len(events.messages) == 199)
    assert [bytes(message.payload) for message in events.messages] == [
        b"x" * id for id in range(1, 200)
    ]


def test_large_results_arrive(loop, pair, events):
    _, peer = pair
    large = os.urandom(30_000_000)
    peer.connection.send_result(1, 1, 0, large)
    peer.connection.send_result(2, 1, 0, b"behind it")
    in_thread(loop, peer.flush)
    until(loop, lambda: len(events.messages) == 2)
    assert bytes(events.messages[0].payload) == large


class Endless:
    """A socket that always has as much as there is room for."""

    def __init__(self, sock):
        self.sock = sock
        self.frames = b"".join(frame(id) for id in range(1, 10_000))
        self.reads = 0

    def recv_into(self, buffer):
        self.reads += 1
        start = (self.reads - 1) * len(buffer)
        buffer[:] = self.frames[start : start + len(buffer)]
        return len(buffer)

    def __getattr__(self, name):
        return getattr(self.sock, name)


def frame(id):
    """A result of 256 bytes, header and all."""
    return struct.pack("<QBBHIQ", 232, 2, 0, 0, 0, id) + bytes(232)


def test_a_link_that_always_has_something_leaves_others_their_turn(loop, pair, events):
    link, _ = pair
    endless = link._sock = Endless(link._sock)
    link._readable()
    assert 1 < endless.reads < 100
    ids = [message.id for message in events.messages]
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) > 1000
    link._sock = endless.sock


def test_a_frame_that_cannot_be_ends_the_link_with_an_error(loop, pair, events):
    link, peer = pair
    peer.connection.send_result(1, 1, 0, b"good")
    peer.flush()
    until(loop, lambda: events.messages)
    peer.sock.sendall(struct.pack("<QBBHIQ", 0, 99, 0, 0, 0, 0))
    until(loop, lambda: events.ends)
    assert isinstance(events.ends[0], RemoteProtocolError)
    assert [message.id for message in events.messages] == [1]
    assert link.ended
    assert peer.at_end()


def test_a_message_that_only_the_client_may_send_ends_the_link(loop, pair, events):
    _, peer = pair
    peer.sock.sendall(struct.pack("<QBBHIQ", 0, 1, 0, 0, 0, 0))
    until(loop, lambda: events.ends)
    assert isinstance(events.ends[0], RemoteProtocolError)


# -- the end


def test_the_end_of_the_stream_comes_once_and_after_everything(loop, pair, events):
    link, peer = pair
    for id in range(1, 101):
        peer.connection.send_result(id, 1, 0, b"x" * 1000)
    peer.flush()
    peer.close()
    until(loop, lambda: events.ends)
    assert events.ends == [None]
    assert len(events.messages) == 100
    assert link.ended
    assert "ended" in repr(link)
    link.close()
    link.flush()


def test_a_frame_that_was_cut_off_is_dropped(loop, pair, events):
    _, peer = pair
    peer.connection.send_result(1, 1, 0, b"whole")
    peer.connection.send_result(2, 1, 0, b"x" * 1000)
    data = b"".join(peer.connection.take())
    peer.sock.sendall(data[:-10])
    peer.close()
    until(loop, lambda: events.ends)
    assert [message.id for message in events.messages] == [1]


@pytest.mark.parametrize("size", [10, 50_000_000], ids=["at once", "while it waits to write"])
def test_what_a_dead_peer_had_written_is_read_although_writing_fails(loop, pair, events, size):
    link, peer = pair
    if size > 10:
        link.connection.send_task(1, 1, 0, bytes(size))
        link.flush()
    for id in range(1, 101):
        peer.connection.send_result(id, 1, 0, b"x" * 1000)
    peer.flush()
    peer.close()
    for id in range(2, 5):
        link.connection.send_task(id, 1, 0, bytes(size))
        link.flush()
    assert not events.ends
    until(loop, lambda: events.ends)
    assert [message.id for message in events.messages] == list(range(1, 101))
    assert events.ends == [None]


@pytest.mark.parametrize("role", [Role.CONTROL])
def test_the_end_of_a_supervisor_is_seen_even_if_it_left_something_unread(loop, pair, events):
    """The socket then reports an error, after which libuv watches it no longer."""
    link, peer = pair
    link.connection.send(Kill(7))
    link.flush()
    peer.connection.send(Pong(1))
    peer.flush()
    peer.close()
    until(loop, lambda: events.ends)
    assert events.messages == [Pong(1)]
    assert events.ends == [None]


def test_a_worker_that_left_something_unread_is_read_to_its_end_by_draining(loop, pair, events):
    link, peer = pair
    link.connection.send_task(1, 1, 0, b"unread")
    link.flush()
    peer.connection.send_result(1, 1, 0, b"read")
    peer.flush()
    peer.close()
    until(loop, lambda: events.messages)
    link.drain()
    assert [message.id for message in events.messages] == [1]
    assert events.ends == [None]


def test_a_peer_that_dies_while_we_wait_to_write(loop, pair, events):
    link, peer = pair
    link.connection.send_task(1, 1, 0, bytes(50_000_000))
    link.flush()
    until(loop, lambda: link._writing)
    peer.sock.recv(1000)
    peer.close()
    until(loop, lambda: events.ends)
    assert events.ends == [None]


def test_draining_reads_everything_now(loop, pair, events):
    link, peer = pair
    for id in range(1, 1001):
        peer.connection.send_result(id, 1, 0, b"x" * 100)
    peer.flush()
    link.drain()
    assert len(events.messages) == 1000
    assert not link.ended
    link.drain()
    peer.connection.send_result(1001, 1, 0, b"last")
    peer.flush()
    peer.close()
    link.drain()
    assert events.messages[-1].id == 1001
    assert events.ends == [None]
    link.drain()


def test_draining_ends_at_a_broken_frame(loop, pair, events):
    link, peer = pair
    peer.sock.sendall(struct.pack("<QBBHIQ", 0, 99, 0, 0, 0, 0) * 100)
    link.drain()
    assert len(events.ends) == 1
    assert link.ended


def test_a_reset_counts_as_the_end(loop, events):
    """Over TCP, where a reset can be had."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    link = Link(loop, ours, Connection(ListenerHandshake({LAUNCH: TOKEN}.get)), events)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    link.drain()
    until(loop, lambda: events.ends)
    assert events.ends == [None]


def test_closing_from_within_an_event(loop, pair, events):
    link, peer = pair
    events.on_message = lambda link, messages: link.close()
    for id in range(1, 10_000):
        peer.connection.send_result(id, 1, 0, b"x" * 100)
    in_thread(loop, lambda: write_what_goes(peer))
    until(loop, lambda: link.ended)
    assert events.ends == [], "our own wish is no event"
    assert peer.at_end()


def write_what_goes(peer):
    with contextlib.suppress(OSError):
        peer.flush()


def test_closing_while_something_waits_to_be_written(loop, pair, events):
    link, peer = pair
    link.connection.send_task(1, 1, 0, bytes(50_000_000))
    link.flush()
    assert link._writing
    link.close()
    link.close()
    link._readable()  # as a call that was due already
    assert in_thread(loop, peer.at_end)
    assert events.ends == []


def test_a_forked_child_lets_go_and_the_parent_goes_on(loop, pair, events):
    link, peer = pair

    def let_go():
        link.abandon()
        try:
            link._sock.send(b"x")
        except OSError as error:
            return link.ended and error.errno == errno.EBADF
        return False

    assert holds_in_child(let_go)
    peer.connection.send(READY)
    peer.flush()
    until(loop, lambda: events.messages)
    link.connection.send(Retire())
    link.flush()
    assert in_thread(loop, lambda: peer.messages(1)) == [Retire()]


def test_letting_go_leaves_the_loop_alone(events):
    class Loop:
        def add_reader(self, *args):
            pass

    ours, theirs = socket.socketpair()
    link = Link(Loop(), ours, Connection(ListenerHandshake({LAUNCH: TOKEN}.get)), events)
    link.abandon()
    assert link.ended
    assert ours.fileno() == -1
    assert theirs.recv(1000) == b""
    theirs.close()
