"""Peers in the middle of a handshake: limits of number, place and time."""

import socket
import time

import pytest
from link_model import Peer
from loops import holds_in_child, in_thread, until

from pool_client.links import half_open as half_open_module
from pool_client.links.half_open import HalfOpen
from pool_client.links.link import Link
from pool_client.links.refusals import Refusals
from pool_protocol import Connection, ListenerHandshake, RemoteProtocolError
from pool_protocol.messages import Pong
from pool_protocol.testing import LAUNCH, TOKEN


@pytest.fixture
def half_open(loop, events):
    half_open = HalfOpen(loop, events, Refusals(), most=5, most_each=2)
    yield half_open
    half_open.close()
    for link in events.opened_links:
        link.close()


@pytest.fixture
def come(loop, half_open):
    """Let a peer come from an address; returns our link and the peer."""
    peers = []

    def run(address="10.0.0.7"):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection = Connection(ListenerHandshake({LAUNCH: TOKEN}.get))
        link = Link(loop, ours, connection, half_open)
        half_open.add(link, address)
        peers.append(Peer(theirs))
        return link, peers[-1]

    yield run
    for peer in peers:
        peer.close()


def test_who_proves_himself_is_handed_over(loop, half_open, come, events):
    link, peer = come()
    assert link in half_open
    in_thread(loop, peer.shake_hands)
    until(loop, lambda: events.opened_links)
    assert events.opened_links == [link]
    assert link.events is events
    assert len(half_open) == 0


def test_who_leaves_is_forgotten_without_a_word(loop, half_open, come, caplog):
    _, peer = come()
    peer.close()
    until(loop, lambda: not len(half_open))
    assert "refused" not in caplog.text


def test_who_breaks_the_rules_is_named(loop, half_open, come, caplog, events):
    _, peer = come("192.0.2.9")
    peer.sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
    until(loop, lambda: not len(half_open))
    assert "refused a connection from 192.0.2.9" in caplog.text
    assert not events.opened_links


def test_of_one_address_there_are_only_so_many(half_open, come):
    def nobody(address):
        return 0

    assert not half_open.crowded("10.0.0.7", nobody)
    come()
    assert not half_open.crowded("10.0.0.7", nobody)
    link, _ = come()
    assert half_open.crowded("10.0.0.7", nobody)
    assert not half_open.crowded("10.0.0.8", nobody)
    half_open.remove(link)
    link.close()
    assert not half_open.crowded("10.0.0.7", nobody)


def test_workers_that_are_expected_are_let_in_beside(half_open, come):
    for _ in range(2):
        come()
    assert not half_open.crowded("10.0.0.7", lambda address: 3)
    come()
    come()
    assert not half_open.crowded("10.0.0.7", lambda address: 3)
    come()
    assert half_open.crowded("10.0.0.7", lambda address: 3)


def test_the_oldest_goes_first(half_open, come):
    first, peer = come()
    second, _ = come("10.0.0.8")
    for number in range(3):
        assert not half_open.full
        come(f"10.0.1.{number}")
    assert half_open.full
    half_open.drop_oldest()
    assert first.ended
    assert peer.at_end()
    assert not second.ended
    assert not half_open.full
    assert first not in half_open


def test_a_silent_peer_is_closed_and_named(loop, half_open, come, monkeypatch, caplog):
    monkeypatch.setattr(half_open_module, "HANDSHAKE_SECONDS", 0.05)
    _, peer = come()
    assert in_thread(loop, peer.at_end)
    assert len(half_open) == 0
    assert "refused a connection from 10.0.0.7: no handshake within" in caplog.text


def test_one_byte_now_and_then_does_not_help(half_open, come):
    link, peer = come()
    opening = peer.connection.take()[0]
    assert len(opening) > half_open_module._TICKS
    for index in range(half_open_module._TICKS):
        peer.sock.sendall(opening[index : index + 1])
        link.drain()
        half_open._tick()
        assert link in half_open
    half_open._tick()
    assert len(half_open) == 0
    assert peer.at_end()


def test_time_in_which_our_own_loop_slept_does_not_count(
    loop, half_open, come, events, monkeypatch
):
    monkeypatch.setattr(half_open_module, "HANDSHAKE_SECONDS", 0.2)
    link, peer = come()
    peer.flush()

    async def sleep_on_the_loop():
        time.sleep(0.5)

    loop.run_until_complete(sleep_on_the_loop())
    # From the next look on there is time enough: nobody is to hurry.
    monkeypatch.setattr(half_open_module, "HANDSHAKE_SECONDS", 1000.0)
    until(loop, lambda: half_open._ticks[link])
    in_thread(loop, peer.shake_hands)
    until(loop, lambda: events.opened_links)


def test_messages_before_the_handshake_cannot_be(half_open):
    with pytest.raises(AssertionError):
        half_open.received(None, [Pong(1)])


def test_closing_turns_everybody_away(loop, half_open, come):
    peers = [come()[1] for _ in range(3)]
    half_open.close()
    half_open.close()
    assert len(half_open) == 0
    assert all(peer.at_end() for peer in peers)


def test_a_forked_child_lets_go_and_the_parent_goes_on(loop, half_open, come, events):
    link, peer = come()

    def let_go():
        half_open.abandon()
        return link.ended

    assert holds_in_child(let_go)
    in_thread(loop, peer.shake_hands)
    until(loop, lambda: events.opened_links)


def test_an_error_of_a_kind_that_is_none_of_ours_is_not_told(half_open, come, caplog):
    link, _ = come()
    half_open.ended(link, OSError("reset"))
    assert "refused" not in caplog.text
    other, _ = come()
    half_open.ended(other, RemoteProtocolError("nonsense"))
    assert "refused" in caplog.text
    link.close()
    other.close()
