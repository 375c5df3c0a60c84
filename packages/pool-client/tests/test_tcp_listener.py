"""Where other machines connect back to: who gets in, who does not, and under what pressure."""

import asyncio
import socket
import ssl

import pytest
import support
from credentials import make_credential
from loops import greet, holds_in_child, in_thread, until
from tls_model import access, dial

from pool_client.errors import HostError
from pool_client.links import half_open as half_open_module
from pool_client.links import refusals
from pool_client.links.tcp_listener import HALF_OPEN_EACH, TcpListener
from pool_protocol import AuthenticationError, CredentialError, Role
from pool_protocol.handshake import OPEN_LAUNCH, OPEN_TOKEN
from pool_protocol.messages import Kill, Pong
from pool_protocol.testing import LAUNCH, TOKEN


class Expected(dict):
    """How many workers are expected from an address."""

    def __call__(self, address):
        return self.get(address, 0)


@pytest.fixture
def expected():
    return Expected()


@pytest.fixture
def listener(loop, events, credential, expected):
    async def make():
        return TcpListener(access(credential), {LAUNCH: TOKEN}.get, expected, events, None)

    listener = loop.run_until_complete(make())
    yield listener
    for link in events.opened_links:
        link.close()
    listener.close()


@pytest.fixture
def port(loop, listener):
    return loop.run_until_complete(listener.open("127.0.0.1", 0))


# -- where it listens


def test_without_a_credential_nothing_listens(loop, events, tmp_path):
    async def make():
        TcpListener(access(tmp_path / "absent.pem"), {}.get, Expected(), events, None)

    with pytest.raises(CredentialError, match="pool_spawner init"):
        loop.run_until_complete(make())


def test_an_address_is_opened_once(loop, listener):
    async def run():
        first, second = await asyncio.gather(
            listener.open("127.0.0.1", 0), listener.open("127.0.0.1", 0)
        )
        assert first == second == await listener.open("127.0.0.1", first)
        other = await listener.open("127.0.0.2", 0)
        assert len(listener._acceptors) == 2
        return first, other

    for port in loop.run_until_complete(run()):
        assert 0 < port < 65536


def test_by_default_it_listens_everywhere(loop, listener, events, credential):
    port = loop.run_until_complete(listener.open("", 0))
    for host in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
        in_thread(loop, lambda host=host: dial(port, credential, host).close())


def test_a_name_with_several_addresses_has_one_port(loop, listener, monkeypatch):
    async def two(host, port, **settings):
        kind = socket.AF_INET, socket.SOCK_STREAM, 6, ""
        return [(*kind, (f"127.0.0.{number}", port)) for number in (1, 2, 2)]

    if isinstance(loop, asyncio.SelectorEventLoop):
        monkeypatch.setattr(loop, "getaddrinfo", two)
        port = loop.run_until_complete(listener.open("twins", 0))
        assert [a.sock.getsockname() for a in listener._acceptors] == [
            ("127.0.0.1", port),
            ("127.0.0.2", port),
        ]


def test_a_port_that_is_free_on_the_first_address_alone_is_given_back(
    loop, listener, monkeypatch, request
):
    """As that of another program's connection over IPv4, when localhost is ::1 and 127.0.0.1."""
    create = socket.create_server
    taken = []

    async def two(host, port, **settings):
        kind = socket.AF_INET, socket.SOCK_STREAM, 6, ""
        return [(*kind, (f"127.0.0.{number}", port)) for number in (1, 2)]

    @request.addfinalizer
    def give_back():
        for sock in taken:
            sock.close()

    def create_server(address, **settings):
        sock = create(address, **settings)
        if address[1] == 0 and len(taken) < 3:
            taken.append(create(("127.0.0.2", sock.getsockname()[1])))
        return sock

    if isinstance(loop, asyncio.SelectorEventLoop):
        monkeypatch.setattr(loop, "getaddrinfo", two)
        monkeypatch.setattr(socket, "create_server", create_server)
        port = loop.run_until_complete(listener.open("twins", 0))
        ports = [other.getsockname()[1] for other in taken]
        assert len(ports) == 3 and port not in ports
        assert [a.sock.getsockname()[1] for a in listener._acceptors] == [port] * 2
        with pytest.raises(HostError, match=f"cannot listen at twins, port {ports[0]}"):
            loop.run_until_complete(listener.open("twins", ports[0]))


def test_an_address_that_cannot_be_had_is_named(loop, listener):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=rf"cannot listen at 127\.0\.0\.1, port {port}"):
            loop.run_until_complete(listener.open("127.0.0.1", port))
    # A name that is refused without asking anybody: a resolver may take its time.
    with pytest.raises(HostError, match=r"cannot listen at no such name"):
        loop.run_until_complete(listener.open("no such name", 0))
    assert not listener._acceptors


# -- who gets in


def test_a_peer_with_both_proofs_is_handed_over(loop, listener, port, events, credential):
    peer = greet(loop, dial, port, credential, role=Role.CONTROL)
    until(loop, lambda: events.opened_links)
    [link] = events.opened_links
    assert link.connection.identity.launch == LAUNCH
    assert (link.secure, link.peer) == (True, "127.0.0.1")
    assert link._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    peer.connection.send(Pong(1))
    peer.flush()
    until(loop, lambda: events.messages)
    link.connection.send(Kill(7))
    link.flush()
    assert in_thread(loop, lambda: peer.messages(1)) == [Kill(7)]
    peer.close()
    until(loop, lambda: events.ends)


@pytest.mark.parametrize(
    "settings", [{"token": b"x" * 32}, {"launch": b"unknown!"}], ids=["token", "launch"]
)
def test_the_certificate_alone_is_not_enough(loop, listener, port, events, credential, settings):
    with pytest.raises(AuthenticationError):
        greet(loop, dial, port, credential, **settings)
    until(loop, lambda: not len(listener.half_open))
    assert not events.opened_links


@pytest.mark.parametrize("kind", ["none", "wrong"])
def test_the_token_alone_is_not_enough(loop, listener, port, events, kind, tmp_path, caplog):
    other = make_credential(tmp_path / "other.pem") if kind == "wrong" else None
    with pytest.raises((OSError, EOFError)):
        greet(loop, dial, port, other)
    until(loop, lambda: not len(listener.half_open))
    assert not events.opened_links
    if kind == "none":
        assert "refused a connection from 127.0.0.1" in caplog.text


def test_a_peer_that_joins_needs_us_to_listen_for_it(loop, listener, port, events, credential):
    joining = {"role": Role.JOIN, "launch": OPEN_LAUNCH, "token": OPEN_TOKEN}
    with pytest.raises(AuthenticationError):
        greet(loop, dial, port, credential, **joining)
    assert not events.opened_links
    listener.joins = True
    peer = greet(loop, dial, port, credential, **joining)
    until(loop, lambda: events.opened_links)
    assert events.opened_links[0].connection.identity.role is Role.JOIN
    peer.close()


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9.0\r\n", b"\x80\x05pickle.", b"\xff" * 3000],
)
def test_a_stranger_is_refused(loop, listener, port, events, credential, data):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(data)

        def end():
            with_data = b"x"
            try:
                while with_data:
                    with_data = sock.recv(1000)
            except ConnectionResetError:
                pass
            return True

        assert in_thread(loop, end)
    assert not events.opened_links
    greet(loop, dial, port, credential).close()


def test_who_has_gone_before_he_was_greeted_is_nothing(loop, listener, port, monkeypatch):
    def gone(*args, **kwargs):
        raise OSError("not connected")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", gone)
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    assert in_thread(loop, lambda: sock.recv(1)) == b""
    sock.close()
    assert len(listener.half_open) == 0


# -- pressure


def test_silent_peers_of_one_address_are_few(loop, listener, port, caplog, monkeypatch):
    """The rest is closed at once, with one line in the log, and others get in."""
    monkeypatch.setattr(half_open_module, "HANDSHAKE_SECONDS", 1000.0)
    monkeypatch.setattr(refusals, "INTERVAL", 1000.0)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(100)]
    until(loop, lambda: "prove nothing yet" in caplog.text)
    assert in_thread(loop, lambda: silent[-1].recv(1)) == b""
    assert len(listener.half_open) == HALF_OPEN_EACH
    assert caplog.text.count("refused") == 1
    other = socket.socket()
    other.bind(("127.0.0.3", 0))
    other.settimeout(20)
    other.connect(("127.0.0.1", port))
    until(loop, lambda: len(listener.half_open) == HALF_OPEN_EACH + 1)
    for sock in (*silent, other):
        sock.close()
    until(loop, lambda: not len(listener.half_open))


def test_workers_that_are_expected_get_in_beside_silent_peers(
    loop, listener, port, credential, expected, monkeypatch
):
    monkeypatch.setattr(half_open_module, "HANDSHAKE_SECONDS", 1000.0)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(16)]
    until(loop, lambda: len(listener.half_open) == 16)
    with pytest.raises((OSError, EOFError)):
        greet(loop, dial, port, credential)
    expected["127.0.0.1"] = 1
    greet(loop, dial, port, credential).close()
    for sock in silent:
        sock.close()


def test_when_there_are_too_many_in_all_the_oldest_goes(
    loop, listener, port, credential, expected, monkeypatch, caplog
):
    monkeypatch.setattr(half_open_module, "HANDSHAKE_SECONDS", 1000.0)
    monkeypatch.setattr(listener.half_open, "_most", 5)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(5)]
    until(loop, lambda: len(listener.half_open) == 5)
    peer = greet(loop, dial, port, credential)
    assert in_thread(loop, lambda: silent[0].recv(1)) == b""
    assert "no handshake" not in caplog.text, "its time was not over"
    for sock in (*silent, peer):
        sock.close()


def test_a_silent_peer_is_closed_after_a_while(loop, listener, port, monkeypatch):
    monkeypatch.setattr(half_open_module, "HANDSHAKE_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        assert in_thread(loop, lambda: sock.recv(1)) == b""


def test_many_workers_at_once_all_get_in(
    loop, listener, port, events, credential, expected, monkeypatch
):
    monkeypatch.setattr(half_open_module, "HANDSHAKE_SECONDS", 1000.0)
    expected["127.0.0.1"] = 60

    def run():
        peers = [dial(port, credential) for _ in range(60)]
        for peer in peers:
            peer.shake_hands()
        return peers

    peers = in_thread(loop, run)
    until(loop, lambda: len(events.opened_links) == 60)
    for peer in peers:
        peer.close()
    until(loop, lambda: len(events.ends) == 60)


# -- the end


def test_it_is_closed_while_it_looks_for_an_address(loop, events, credential, monkeypatch):
    bind = TcpListener._bind

    async def bind_later(self, host, port):
        await asyncio.sleep(0)
        return await bind(self, host, port)

    async def run():
        listener = TcpListener(access(credential), {}.get, Expected(), events, None)
        opening = asyncio.create_task(listener.open("127.0.0.1", 0))
        await asyncio.sleep(0)
        listener.close()
        with pytest.raises(HostError, match="the pool has ended"):
            await opening

    monkeypatch.setattr(TcpListener, "_bind", bind_later)
    before = support.open_descriptors()
    loop.run_until_complete(run())
    assert {name for name in support.open_descriptors() - before if "socket" in name[1]} == set()


def test_closing_leaves_nothing(loop, events, credential):
    async def make():
        listener = TcpListener(access(credential), {}.get, Expected(), events, None)
        return listener, await listener.open("127.0.0.1", 0)

    before = support.open_descriptors()
    listener, port = loop.run_until_complete(make())
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    until(loop, lambda: len(listener.half_open))
    listener.close()
    listener.close()
    assert sock.recv(1) == b""
    sock.close()
    assert {name for name in support.open_descriptors() - before if "socket" in name[1]} == set()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=20)


def test_a_forked_child_lets_go_and_the_parent_goes_on(loop, listener, port, events, credential):
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    until(loop, lambda: len(listener.half_open))
    links = list(listener.half_open)

    def let_go():
        listener.abandon()
        return all(link.ended for link in links)

    assert holds_in_child(let_go)
    greet(loop, dial, port, credential).close()
    until(loop, lambda: events.opened_links)
    sock.close()
