"""TCP connections to hosts: the addresses of a name, and why there is none."""

import asyncio
import errno
import socket

import pytest
from hosts.ports import free_port

from pool_client.launchers import dialling
from pool_client.launchers.dialling import DialError, describe_dial, dial, place


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def resolve(monkeypatch):
    """Let a name have these addresses."""

    def to(*addresses):
        async def getaddrinfo(loop, host, port, **more):
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                if isinstance(address, str)
                else (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
                for address in addresses
            ]

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)

    return to


def test_a_connection_is_not_blocking_and_watched_by_the_kernel(listening):
    sock = run(dial(*listening.getsockname()))
    with sock:
        assert not sock.getblocking()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getpeername() == listening.getsockname()


def test_a_refusal_names_the_command_that_mends_it():
    port = free_port()
    with pytest.raises(DialError, match=rf"nothing listens at 127\.0\.0\.1:{port}.*--host"):
        run(dial("127.0.0.1", port))


def test_an_unknown_name(monkeypatch):
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")  # the name servers may be away
    with pytest.raises(DialError, match=r"no-such-host\.invalid"):
        run(dial("no-such-host.invalid", 1))


def test_the_next_address_is_tried_after_a_refusal(listening, resolve):
    port = listening.getsockname()[1]
    resolve("127.0.0.77", "127.0.0.1")
    with run(dial("somewhere", port)) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"


def test_the_next_address_is_tried_after_silence(listening, resolve, monkeypatch):
    monkeypatch.setattr(dialling, "NEXT_ADDRESS", 0.2)
    with silent() as address:
        resolve(address, listening.getsockname())
        with run(dial("somewhere", 1)) as sock:
            assert sock.getpeername() == listening.getsockname()


def test_of_several_failures_a_refusal_is_told(resolve, monkeypatch):
    monkeypatch.setattr(dialling, "NEXT_ADDRESS", 0.2)
    with silent() as address:
        resolve(address, "127.0.0.77")
        with pytest.raises(DialError, match="nothing listens"):
            run(dial("somewhere", free_port()))


class silent:
    """An address that answers nobody: a listener whose backlog is full."""

    def __enter__(self):
        self.sockets = [socket.create_server(("127.0.0.1", 0), backlog=0)]
        address = self.sockets[0].getsockname()
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(address)
            self.sockets.append(sock)
        return address

    def __exit__(self, *error):
        for sock in self.sockets:
            sock.close()


def test_giving_up_leaves_no_socket(all_closed):
    async def body():
        with silent() as address:
            task = asyncio.ensure_future(dial(*address))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(body())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(errno.ETIMEDOUT, "timed out"), "no answer at nas:8899"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no way there at nas:8899"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "firewall"),
        (OSError(errno.EACCES, "Permission denied"), "Permission denied at nas:8899"),
        (OSError("odd"), "odd at nas:8899"),
    ],
)
def test_why_nobody_can_be_reached(error, text):
    assert text in describe_dial(error, "nas:8899")


def test_places():
    assert place("nas", 1) == "nas:1"
    assert place("::1", 1) == "[::1]:1"
