"""One connection: what is TLS, what is the protocol, and how it ends in every case."""

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from running import PATIENCE, Client, context

from pool_protocol import RemoteProtocolError, Role
from pool_protocol.messages import Message, Spawn, Spawned, SpawnEnded
from pool_spawner.credential import find, server_context
from pool_spawner.peer import MAX_MESSAGE, Peer, Refused, describe


class Events:
    """Records what happens, and closes what has ended."""

    def __init__(self) -> None:
        self.spoken = 0
        self.messages: list[Message] = []
        self.ends: list[Exception | None] = []
        self.close = True

    def spoke(self, peer: Peer) -> None:
        self.spoken += 1

    def received(self, peer: Peer, message: Message) -> None:
        self.messages.append(message)

    def ended(self, peer: Peer, error: Exception | None) -> None:
        self.ends.append(error)
        if self.close:
            peer.close()


Scene = Callable[[Peer, Events, socket.socket], Coroutine[Any, Any, None]]


@pytest.fixture
def play(credential: Path) -> Callable[[Scene], None]:
    """Run a scene with a peer and the other end of its TCP connection."""

    async def run(scene: Scene) -> None:
        events = Events()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname())
            theirs, _ = listening.accept()
        theirs.setblocking(False)
        peer = Peer(theirs, "10.0.0.1", server_context(find(str(credential))), events)
        with ours:
            await scene(peer, events, ours)
        peer.close()

    def start(scene: Scene) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            asyncio.run(asyncio.wait_for(run(scene), 60))
            gc.collect()

    return start


async def until(condition: Callable[[], Any]) -> Any:
    while not (value := condition()):
        await asyncio.sleep(0.001)
    return value


async def aside(function: Callable[[], Any]) -> Any:
    """Run something that blocks."""
    return await asyncio.get_running_loop().run_in_executor(None, function)


def member(ours: socket.socket, credential: Path, **more: Any) -> Client:
    client = Client(context(credential).wrap_socket(ours), **more)
    try:
        client.shake_hands()
    except BaseException:
        client.close()
        raise
    return client


def test_a_member_gets_through_and_messages_go_both_ways(play, credential: Path) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        client = await aside(lambda: member(ours, credential))
        client.send(Spawn(2, b"{}"))
        await until(lambda: events.messages)
        assert events.messages == [Spawn(2, b"{}")] and events.spoken == 1
        peer.send(Spawned(7))
        assert await aside(client.receive) == Spawned(7)
        client.close()
        await until(lambda: events.ends)
        assert events.ends == [None]
        assert "closed" in repr(peer)

    play(scene)


def test_a_member_is_taken_leave_of_as_tls_wants_it(play, credential: Path) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        made = context(credential)
        tls = await aside(lambda: made.wrap_socket(ours, suppress_ragged_eofs=False))
        client = Client(tls)
        await aside(client.shake_hands)
        peer.close()
        assert await aside(lambda: tls.recv(1)) == b"", "not an error: it was no accident"
        client.close()

    play(scene)


STRANGERS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\x00" * 64,
    struct.pack("<Q", 1 << 63) * 8,
    b"\x80\x04cos\nsystem\n(S'touch /tmp/x'\ntR.",
    b"poolwire" + bytes(64),
    b"*1\r\n$4\r\nPING\r\n",
    b"\x15\x03\x01\x00\x02\x02\x28",
]


@pytest.mark.parametrize("data", STRANGERS, ids=lambda data: repr(data[:8]))
def test_who_does_not_speak_tls_is_closed_at_its_first_byte(play, data: bytes) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        ours.sendall(data)
        await until(lambda: events.ends)
        assert isinstance(events.ends[0], Refused) and "TLS" in str(events.ends[0])
        assert await aside(lambda: ours.recv(10)) == b"", "nothing is answered"
        assert not events.spoken

    play(scene)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\xff\xff" + b"\x01" * 100,
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff",
        b"\x16\x03\x01\x00\x10" + b"\x02" * 16,
        b"\x16" + b"\x00" * 100,
    ],
)
def test_broken_tls_is_closed(play, data: bytes) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        await until(lambda: events.ends)
        assert isinstance(events.ends[0], Refused)

    play(scene)


def test_who_says_nothing_and_goes_is_no_news(play) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        ours.close()
        await until(lambda: events.ends)
        assert events.ends == [None]

    play(scene)


def test_who_resets_the_connection_is_no_news(play, credential: Path) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        client = await aside(lambda: member(ours, credential))
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await until(lambda: events.ends)
        assert events.ends == [None]
        peer.send(Spawned(7))

    play(scene)


def refused(play, connect: Callable[[socket.socket], Any]) -> tuple[str, Exception]:
    """How a stranger that speaks TLS is refused, and what it sees of that."""
    seen: list[Any] = []

    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        def run() -> Exception | None:
            try:
                connect(ours)
            except (OSError, EOFError) as error:
                return error
            return None

        seen.append(await aside(run))
        await until(lambda: events.ends)
        seen.append(events.ends[0])
        assert not events.messages

    play(scene)
    assert isinstance(seen[1], Refused)
    return str(seen[1]), seen[0]


def test_somebody_elses_credential(play, other: Path) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname = False
    stranger.verify_mode = ssl.CERT_NONE
    stranger.load_cert_chain(other)

    for _ in range(20):
        reason, error = refused_once(play, stranger)
        assert "its credential is not one that is accepted here" in reason
        assert "ALERT" in str(error), "it is told so, whatever it has sent meanwhile"


def refused_once(play, stranger: ssl.SSLContext) -> tuple[str, Exception]:
    def connect(ours: socket.socket) -> None:
        with contextlib.closing(stranger.wrap_socket(ours)) as sock:
            sock.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionError):
                sock.sendall(b"poolwire" + bytes(1000))
            assert sock.recv(100) == b""

    return refused(play, connect)


def test_no_credential(play) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname = False
    stranger.verify_mode = ssl.CERT_NONE
    reason, _ = refused_once(play, stranger)
    assert reason == "it has no credential"


def test_a_member_that_does_not_accept_ours(play, other: Path) -> None:
    reason, _ = refused(play, lambda ours: member(ours, other))
    assert reason == "it does not accept the credential of this host"


def test_tls_1_2_is_refused_whoever_speaks_it(play, credential: Path) -> None:
    old = context(credential)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    reason, _ = refused(play, lambda ours: old.wrap_socket(ours))
    assert reason == "it does not speak TLS 1.3"


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SPAWN])
def test_a_member_can_only_ask_for_workers(play, credential: Path, role: Role) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        def run() -> None:
            with pytest.raises((EOFError, OSError)):
                member(ours, credential, role=role)

        await aside(run)
        await until(lambda: events.ends)
        assert isinstance(events.ends[0], RemoteProtocolError)
        assert role.name in str(events.ends[0])

    play(scene)


def test_a_message_that_is_too_large_ends_it_before_it_is_taken(play, credential: Path) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        client = await aside(lambda: member(ours, credential))

        def send() -> None:
            with contextlib.suppress(OSError):  # it is closed before all is sent
                client.send(Spawn(1, bytes(MAX_MESSAGE)))

        sender = threading.Thread(target=send)
        sender.start()
        await until(lambda: events.ends)
        assert "message" in str(events.ends[0]) and not events.messages
        await aside(sender.join)
        client.close()

    play(scene)


def test_bytes_come_one_by_one(play, credential: Path) -> None:
    """TLS through memory, so that each byte is a segment of its own."""

    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context(credential).wrap_bio(incoming, outgoing)
        client = Client(ours)
        [opening] = client.connection.take()

        async def drip() -> None:
            for byte in outgoing.read():
                ours.send(bytes([byte]))
                await asyncio.sleep(0)

        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await drip()
                incoming.write(await loop.sock_recv(ours, 4096))
        tls.write(opening)
        await drip()
        incoming.write(await loop.sock_recv(ours, 4096))
        count = tls.read(1000, client.connection.get_buffer())
        client.connection.received(count)
        client.connection.send(Spawn(1, b"{}"))
        for buffer in client.connection.take():
            tls.write(buffer)
        await drip()
        await until(lambda: events.messages)
        assert events.messages == [Spawn(1, b"{}")]

    play(scene)


def test_what_a_peer_does_not_take_yet_is_sent_when_it_does(play, credential: Path) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        client = await aside(lambda: member(ours, credential))
        loop = asyncio.get_running_loop()
        sent = 0
        # (Registered as a writer: the kernel took no more.)
        while not loop._selector.get_key(peer._fd).data[1]:
            peer.send(SpawnEnded(sent, "x" * 1000, b"y" * 8000))
            sent += 1
        for number in range(sent):
            assert (await aside(client.receive)).exitcode == number
        await until(lambda: not loop._selector.get_key(peer._fd).data[1])
        client.close()

    play(scene)


def test_a_message_may_be_the_reason_to_close(play, credential: Path) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        events.received = lambda peer, message: peer.close()
        client = await aside(lambda: member(ours, credential))
        client.send(Spawn(1, b"{}"))
        with pytest.raises(EOFError):
            await aside(client.receive)
        assert not events.ends
        client.close()

    play(scene)


def test_nothing_is_sent_before_the_connection_is_open_or_after_its_end(play) -> None:
    async def scene(peer: Peer, events: Events, ours: socket.socket) -> None:
        peer.send(Spawned(7))
        peer.close()
        peer.close()
        peer.send(Spawned(7))
        assert await aside(lambda: ours.recv(10)) == b""
        assert not events.ends, "it was our own wish"

    play(scene)


def test_unknown_reasons_are_told_as_openssl_says_them() -> None:
    error = ssl.SSLError(1, "x")
    error.reason = "NO_SHARED_CIPHER"
    assert describe(error) == "no shared cipher"
    assert describe(ssl.SSLError(1, "x")) == "tls failed"
    assert "middle" in describe(ssl.SSLEOFError(8, "x"))
