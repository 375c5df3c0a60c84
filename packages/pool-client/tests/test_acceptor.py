"""A listening socket on the loop: rushes, shortages, and errors of the network."""

import errno
import os
import socket

import pytest
from loops import holds_in_child, until

from pool_client.links import acceptor as acceptor_module
from pool_client.links.acceptor import Acceptor


class Door:
    """An acceptor with a record of who came. Who has connected to it can be accepted at once."""

    def __init__(self, loop, folder):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(str(folder / "door"))
        self.sock.listen(200)
        self.came = []
        self.full = False
        self.acceptor = Acceptor(loop, self.sock, self.greet, lambda: self.full)

    def greet(self, sock, address):
        self.came.append(address)
        sock.close()

    def knock(self):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(20)
        peer.connect(self.sock.getsockname())
        return peer


@pytest.fixture
def door(loop, short_folder):
    door = Door(loop, short_folder)
    yield door
    door.acceptor.close()


def test_each_peer_is_greeted(loop, door):
    peers = [door.knock() for _ in range(3)]
    until(loop, lambda: len(door.came) == 3)
    assert door.came == [""] * 3, "from here"
    for peer in peers:
        peer.close()


def test_a_peer_from_elsewhere_is_greeted_with_its_address(loop):
    came = []

    def greet(sock, address):
        came.append(address)
        sock.close()

    acceptor = Acceptor(loop, socket.create_server(("127.0.0.1", 0)), greet, lambda: False)
    with socket.create_connection(acceptor.sock.getsockname(), timeout=20):
        until(loop, lambda: came)
    acceptor.close()
    assert came == ["127.0.0.1"]


def test_a_rush_leaves_the_loop_to_others_between_its_turns(loop, door):
    peers = [door.knock() for _ in range(100)]
    door.acceptor._accept()
    assert len(door.came) == acceptor_module._AT_ONCE < 100
    door.acceptor._accept()
    assert len(door.came) == 100
    for peer in peers:
        peer.close()


def test_while_it_is_full_peers_wait(loop, door, monkeypatch):
    monkeypatch.setattr(acceptor_module, "PAUSE", 0.01)
    door.full = True
    peer = door.knock()
    until(loop, lambda: door.acceptor._paused)
    assert not door.came
    door.full = False
    until(loop, lambda: door.came)
    peer.close()


class Unlucky:
    """A socket on which accepting fails some times."""

    def __init__(self, sock, number, times):
        self.sock = sock
        self.number = number
        self.times = times

    def accept(self):
        if self.times:
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number))
        return self.sock.accept()

    def fileno(self):
        return self.sock.fileno()

    def close(self):
        self.sock.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_what_is_short_for_now_is_waited_for(loop, door, monkeypatch, caplog, number):
    monkeypatch.setattr(acceptor_module, "PAUSE", 0.01)
    door.acceptor.sock = Unlucky(door.sock, number, 2)
    peer = door.knock()
    door.acceptor._accept()
    assert door.acceptor._paused
    door.acceptor._accept()
    assert caplog.text.count("cannot accept a worker yet") == 1, "one line, not one a turn"
    until(loop, lambda: door.came)
    peer.close()


@pytest.mark.parametrize(
    "number", [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH, errno.EPERM]
)
def test_one_peers_network_does_not_stop_the_others(loop, door, number):
    door.acceptor.sock = Unlucky(door.sock, number, 1)
    peer = door.knock()
    door.acceptor._accept()
    assert door.came
    assert not door.acceptor._paused
    peer.close()


def test_an_error_that_nobody_expects_is_not_hidden(loop, door, monkeypatch):
    monkeypatch.setattr(acceptor_module, "PAUSE", 0.01)
    door.acceptor.sock = Unlucky(door.sock, errno.EIO, 1)
    peer = door.knock()
    with pytest.raises(OSError, match=r"nput/output error"):
        door.acceptor._accept()
    assert door.acceptor._paused, "the loop would call it at once"
    until(loop, lambda: door.came)
    peer.close()


def test_errors_without_end_leave_the_loop_in_peace(loop, door, monkeypatch):
    monkeypatch.setattr(acceptor_module, "PAUSE", 0.01)
    door.acceptor.sock = Unlucky(door.sock, errno.EPERM, acceptor_module._AT_ONCE)
    peer = door.knock()
    door.acceptor._accept()
    assert door.acceptor._paused
    until(loop, lambda: door.came)
    peer.close()


def test_closing_while_it_pauses(loop, door, monkeypatch):
    monkeypatch.setattr(acceptor_module, "PAUSE", 0.02)
    door.full = True
    peer = door.knock()
    until(loop, lambda: door.acceptor._paused)
    door.acceptor._pause()
    door.acceptor.close()
    door.acceptor.close()
    until(loop, lambda: not door.acceptor._paused)
    peer.close()


def test_a_forked_child_lets_go_and_the_parent_goes_on(loop, door):
    def let_go():
        door.acceptor.abandon()
        return door.sock.fileno() < 0

    assert holds_in_child(let_go)
    peer = door.knock()
    until(loop, lambda: door.came)
    peer.close()
