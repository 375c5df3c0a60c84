"""Where workers connect back to: who gets in, who does not, and what happens under pressure."""

import logging
import os
import socket
import stat
from pathlib import Path

import pytest
import support
from link_model import Peer
from loops import greet, holds_in_child, in_thread, until

from pool_client.errors import HostError
from pool_client.links import acceptor, half_open, refusals
from pool_client.links.listener import Listener
from pool_protocol import AuthenticationError, Role
from pool_protocol.messages import Kill, Pong
from pool_protocol.testing import LAUNCH, TOKEN


@pytest.fixture
def listener(loop, events):
    listener = Listener(loop, {LAUNCH: TOKEN}.get, events, None)
    yield listener
    for link in events.opened_links:
        link.close()
    listener.close()


# -- who gets in


def test_nobody_else_can_reach_it(listener):
    assert stat.S_IMODE(os.stat(listener.directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(listener.address).st_mode) == 0o600
    assert listener.address.startswith(str(listener.directory))


def test_a_peer_with_the_token_is_handed_over(loop, listener, events):
    peer = greet(loop, Peer.dial, listener.address, role=Role.CONTROL)
    until(loop, lambda: events.opened_links)
    [link] = events.opened_links
    assert link.connection.identity.launch == LAUNCH
    assert link.events is events
    peer.connection.send(Pong(1))
    peer.flush()
    until(loop, lambda: events.messages)
    link.connection.send(Kill(7))
    link.flush()
    assert in_thread(loop, lambda: peer.messages(1)) == [Kill(7)]
    peer.close()
    until(loop, lambda: events.ends)
    assert not listener.half_open


def test_many_at_once_all_get_in(loop, listener, events, monkeypatch):
    monkeypatch.setattr(half_open, "HANDSHAKE_SECONDS", 1000.0)

    def run():
        peers = [Peer.dial(listener.address) for _ in range(300)]
        for peer in peers:
            peer.flush()
        for peer in peers:
            peer.shake_hands()
        return peers

    peers = in_thread(loop, run)
    until(loop, lambda: len(events.opened_links) == 300)
    assert not listener.half_open
    for peer in peers:
        peer.close()
    until(loop, lambda: len(events.ends) == 300)


@pytest.mark.parametrize(
    "settings", [{"token": b"x" * 32}, {"launch": b"unknown!"}], ids=["token", "launch"]
)
def test_a_peer_without_the_token_is_refused(loop, listener, events, caplog, settings):
    with pytest.raises(AuthenticationError):
        greet(loop, Peer.dial, listener.address, **settings)
    until(loop, lambda: not listener.half_open)
    assert not events.opened_links
    assert TOKEN.hex() not in caplog.text


def test_a_stranger_is_refused_with_a_line_in_the_log(loop, listener, events, caplog, monkeypatch):
    monkeypatch.setattr(refusals, "INTERVAL", 1000.0)
    strangers = [b"GET / HTTP/1.1\r\n\r\n", b"\x80\x05pickle", b"\xff" * 100]
    with caplog.at_level(logging.WARNING, "pool_client"):
        for data in strangers:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(20)
                sock.connect(listener.address)
                sock.sendall(data)
                assert in_thread(loop, lambda sock=sock: end_of(sock))
    assert caplog.text.count("refused a connection") == 1, "one line, not one a knock"
    assert not events.opened_links
    assert not listener.half_open


def end_of(sock):
    try:
        return not sock.recv(1000)
    except ConnectionResetError:
        return True


def test_a_peer_that_leaves_at_once_is_forgotten_without_a_word(loop, listener, caplog):
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(listener.address)
    until(loop, lambda: not listener.half_open)
    greet(loop, Peer.dial, listener.address).close()
    assert "refused" not in caplog.text


def test_another_users_peer_is_turned_away(loop, listener, events, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(listener.address)
        assert in_thread(loop, lambda: end_of(sock))
    assert not listener.half_open


def test_where_the_peers_user_is_not_known_the_directory_keeps_others_out(
    loop, listener, events, monkeypatch
):
    monkeypatch.delattr(socket, "SO_PEERCRED")
    greet(loop, Peer.dial, listener.address).close()
    until(loop, lambda: events.opened_links)


# -- silence


def test_a_silent_peer_is_closed_after_a_while(loop, listener, events, monkeypatch):
    monkeypatch.setattr(half_open, "HANDSHAKE_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(listener.address)
        assert in_thread(loop, lambda: end_of(sock))
    assert not listener.half_open


def test_more_silent_peers_than_it_takes_leave_room_for_a_real_one(
    loop, listener, events, monkeypatch
):
    """Some at a time are let in, and sent away when their time is over; the next has his turn."""
    monkeypatch.setattr(half_open, "HANDSHAKE_SECONDS", 1000.0)
    monkeypatch.setattr(listener.half_open, "_most", 5)
    monkeypatch.setattr(acceptor, "PAUSE", 0.01)
    waiting = listener.half_open
    silent = []
    for _ in range(20):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(listener.address)
        silent.append(sock)
    peer = Peer.dial(listener.address)
    for turn in range(4):
        until(loop, lambda: waiting.full)
        assert len(waiting) == 5
        for _ in range(half_open._TICKS + 1):
            waiting._tick()
        assert all(end_of(sock) for sock in silent[5 * turn : 5 * turn + 5])
    in_thread(loop, peer.shake_hands)
    until(loop, lambda: events.opened_links)
    for sock in (*silent, peer):
        sock.close()


def test_without_descriptors_it_waits_and_goes_on(tmp_path):
    script = support.run_script(
        """
        import asyncio, logging, os, resource, socket, sys
        from link_model import Peer, Record
        from pool_client.links import acceptor
        from pool_client.links import listener
        from pool_protocol.testing import LAUNCH, TOKEN

        logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
        acceptor.PAUSE = 0.01

        async def main():
            loop = asyncio.get_running_loop()
            events = Record()
            place = listener.Listener(loop, {LAUNCH: TOKEN}.get, events, None)
            peer = Peer.dial(place.address)
            await loop.run_in_executor(None, peer.shake_hands)
            while not events.opened_links:
                await asyncio.sleep(0.001)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            others = [socket.socket(socket.AF_UNIX) for _ in range(5)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            fillers = []
            try:
                while True:
                    fillers.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                pass
            for other in others:
                other.connect(place.address)
            while not place._acceptor._warned:
                await asyncio.sleep(0.001)
            assert len(place.half_open) == 0, place.half_open
            for filler in fillers:
                os.close(filler)
            while len(place.half_open) < 5:
                await asyncio.sleep(0.01)
            assert len(events.opened_links) == 1
            events.opened_links[0].close()
            place.close()
            print("all got in")

        asyncio.run(asyncio.wait_for(main(), 30))
        """
    )
    assert script.stdout == "all got in\n"
    assert "cannot accept a worker yet" in script.stderr


# -- the end


@pytest.mark.parametrize("step", ["bind", "listen"])
def test_where_no_socket_can_be_made_it_says_what_to_do_and_leaves_nothing(
    loop, events, monkeypatch, step
):
    def full(sock, *where):
        raise OSError(28, "No space left on device")

    def left():
        folders = Path(os.environ["XDG_RUNTIME_DIR"]).glob("pool-client.*")
        return {*folders}, support.open_descriptors()

    before = left()
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, step, full)
        with pytest.raises(HostError, match=r"local: .*No space left.*; set XDG_RUNTIME_DIR"):
            Listener(loop, {LAUNCH: TOKEN}.get, events, None)
    assert left() == before


def test_closing_leaves_nothing(loop, events):
    before = support.open_descriptors()
    place = Listener(loop, {LAUNCH: TOKEN}.get, events, None)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(place.address)
    until(loop, lambda: place.half_open)
    place.close()
    place.close()
    assert not os.path.exists(place.directory)
    sock.settimeout(20)
    assert end_of(sock)
    sock.close()
    assert {name for name in support.open_descriptors() - before if "socket" in name[1]} == set()
    with pytest.raises(OSError, match="No such file"):
        Peer.dial(place.address)


def test_a_forked_child_lets_go_and_the_parent_goes_on(loop, listener, events):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(listener.address)
    until(loop, lambda: listener.half_open)

    def let_go():
        listener.abandon()
        return os.path.exists(listener.address)

    assert holds_in_child(let_go)
    greet(loop, Peer.dial, listener.address).close()
    until(loop, lambda: events.opened_links)
    sock.close()


def test_letting_go_closes_descriptors_and_keeps_the_files(loop, events):
    before = support.open_descriptors()
    place = Listener(loop, {LAUNCH: TOKEN}.get, events, None)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(place.address)
        until(loop, lambda: place.half_open)
        for link in place.half_open:
            loop.remove_reader(link._fd)
        loop.remove_reader(place._acceptor.sock.fileno())
        place.abandon()
    assert {name for name in support.open_descriptors() - before if "socket" in name[1]} == set()
    assert os.path.exists(place.address)
    place.remove_files()
    assert not os.path.exists(place.directory)
