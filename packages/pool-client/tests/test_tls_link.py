"""A link over TLS: what lies decrypted where no loop sees it, large data, and the end."""

import asyncio
import os
import socket

import pytest
import support
from link_model import Peer
from loops import in_thread, until
from tls_model import access, dialling

from pool_client.links import link as link_module
from pool_client.links.keepalive import UNANSWERED
from pool_client.links.tls import server_context
from pool_client.links.tls_link import TlsLink
from pool_protocol import AuthenticationError, Connection, ListenerHandshake, Packed, Role
from pool_protocol.messages import Ready
from pool_protocol.testing import LAUNCH, TOKEN


@pytest.fixture
def ends(loop, events, credential):
    """Our link on a real TCP connection, and a function that connects the peer."""
    server = socket.create_server(("127.0.0.1", 0))
    theirs = socket.create_connection(server.getsockname(), timeout=20)
    ours, _ = server.accept()
    server.close()
    ours.setblocking(False)
    secured = server_context(access(credential)).wrap_socket(
        ours, server_side=True, do_handshake_on_connect=False
    )
    connection = Connection(ListenerHandshake({LAUNCH: TOKEN}.get))
    link = TlsLink(loop, secured, connection, events, "127.0.0.1")
    peers = []

    def connect():
        peer = Peer(dialling(credential).wrap_socket(theirs), Role.TASK)
        peers.append(peer)
        peer.shake_hands()
        return peer

    yield link, connect, theirs
    link.close()
    theirs.close()
    for peer in peers:
        peer.close()


@pytest.fixture
def pair(loop, ends, events):
    """A link and its peer, after the handshake."""
    link, connect, _ = ends
    peer = in_thread(loop, connect)
    until(loop, lambda: events.opened_links)
    return link, peer


def test_a_peer_is_announced_with_its_address(pair, events):
    link, _ = pair
    assert events.opened_links == [link]
    assert link.secure
    assert link.peer == "127.0.0.1"


def test_many_small_messages_in_one_write_all_arrive(loop, pair, events):
    """They come in one record, of which a read takes a part."""
    _, peer = pair
    peer.connection.send(Ready(pid=1, python="3", version="1"))
    for id in range(1, 2001):
        peer.connection.send_result(id, 1, 0, b"x")
    in_thread(loop, peer.flush)
    until(loop, lambda: len(events.messages) == 2001)
    assert [message.id for message in events.messages[1:]] == list(range(1, 2001))


def test_the_last_of_a_record_does_not_wait_for_the_next(loop, pair, events):
    """More than the link reads at a time, and then silence: the loop alone would sleep on it."""
    _, peer = pair
    peer.connection.send(Ready(pid=1, python="3", version="1"))
    peer.flush()
    large = os.urandom(3_000_000)
    for id in (1, 2, 3):
        peer.connection.send_result(id, 1, 0, large)
    in_thread(loop, peer.flush)
    until(loop, lambda: len(events.messages) == 4)
    assert all(bytes(message.payload) == large for message in events.messages[1:])


def test_what_tls_has_read_ahead_does_not_wait_for_more(loop, pair, events, monkeypatch):
    """One read a turn, and a record that holds more than that: the loop would sleep on the rest."""
    monkeypatch.setattr(link_module, "_READS", 1)
    _, peer = pair
    peer.connection.send(Ready(pid=1, python="3", version="1"))
    for id, size in ((1, 100_000), (2, 70_001), (3, 10)):
        peer.connection.send_result(id, 1, 0, bytes(size))
    peer.sock.sendall(b"".join(bytes(buffer) for buffer in peer.connection.take()))
    until(loop, lambda: len(events.messages) == 4)


def test_large_tasks_of_many_pieces_arrive(loop, pair):
    link, peer = pair
    pieces = [os.urandom(size) for size in (10, 300_000, 70_000, 1, 5_000_000)]
    buffer = memoryview(bytearray(os.urandom(1_000_000)))
    for id in range(1, 4):
        link.connection.send_task(id, 1, 0, Packed(pieces, [buffer]))
        link.flush()
    tasks = in_thread(loop, lambda: peer.messages(3))
    for task in tasks:
        assert bytes(task.payload) == b"".join(pieces)
        assert bytes(task.buffers[0]) == bytes(buffer)


def test_a_slow_reader_gets_everything_in_order(loop, pair):
    link, peer = pair
    for id in range(1, 20_001):
        link.connection.send_task(id, 1, 0, b"x" * 500)
        link.flush()
    assert link._writing
    tasks = in_thread(loop, lambda: peer.messages(20_000))
    assert [task.id for task in tasks] == list(range(1, 20_001))
    until(loop, lambda: not link._writing)


def test_draining_reads_what_there_is(loop, pair, events):
    link, peer = pair
    peer.connection.send(Ready(pid=1, python="3", version="1"))
    for id in range(1, 101):
        peer.connection.send_result(id, 1, 0, b"x" * 5000)
    peer.flush()
    peer.close()

    def drained():
        # The kernel may still be on its way with the last of it.
        link.drain()
        return link.ended

    support.wait_until(drained)
    assert len(events.messages) == 101
    assert events.ends == [None]


def test_the_end_is_seen(loop, pair, events):
    _, peer = pair
    peer.close()
    until(loop, lambda: events.ends)
    assert events.ends == [None]


def test_who_does_not_speak_tls_is_refused(loop, ends, events):
    link, _, theirs = ends
    theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
    until(loop, lambda: events.ends)
    assert isinstance(events.ends[0], AuthenticationError)
    assert not events.opened_links
    assert link.ended


def test_closing_while_there_is_more_to_read(loop, pair, events):
    link, peer = pair
    peer.connection.send(Ready(pid=1, python="3", version="1"))
    peer.connection.send_result(1, 1, 0, bytes(2_000_000))
    sending = loop.run_in_executor(None, peer.flush)
    until(loop, lambda: events.messages)
    link.close()
    link._again()
    # Only then is the peer's end closed: its number may be somebody else's at once.
    loop.run_until_complete(asyncio.wait([sending]))
    sending.exception()  # it may have got rid of everything in time
    peer.close()
    assert events.ends == []


def test_the_kernel_gives_a_silent_peer_up_on_demand(pair):
    link, _ = pair
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        option = socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT
        assert link._sock.getsockopt(*option) == 0
        link.limit_silence()
        assert link._sock.getsockopt(*option) == UNANSWERED
