"""What the kernel is asked to do about silent peers."""

import socket

import pytest

from pool_client.links import keepalive
from pool_client.links.keepalive import keep_alive, limit_silence


@pytest.fixture
def sock():
    with socket.socket() as sock:
        yield sock


def option(sock, name):
    return sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))


def test_a_silent_peer_is_probed(sock):
    keep_alive(sock)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert option(sock, "TCP_KEEPINTVL") == 5
    assert option(sock, "TCP_KEEPCNT") == 3
    if hasattr(socket, "TCP_KEEPIDLE"):
        assert option(sock, "TCP_KEEPIDLE") == 5


def test_a_busy_peer_may_be_silent_for_ever(sock):
    keep_alive(sock)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        assert option(sock, "TCP_USER_TIMEOUT") == 0
        limit_silence(sock)
        assert option(sock, "TCP_USER_TIMEOUT") == 20_000


def test_a_system_without_an_option_does_without(sock, monkeypatch):
    for name in ("TCP_KEEPIDLE", "TCP_USER_TIMEOUT"):
        monkeypatch.delattr(socket, name, raising=False)
    keep_alive(sock)
    limit_silence(sock)
    assert keepalive.PROBES == 3
