"""pool_worker.channel: a blocking socket under a connection."""

import errno
import gc
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import PYTHON, Peer, descriptors

from pool_protocol import AuthenticationError, Identity, RemoteProtocolError, Role
from pool_protocol.codec import encode_control
from pool_protocol.messages import Ready, Reply, Retire, Task
from pool_protocol.polling import Polling
from pool_worker import channel as channel_module
from pool_worker.channel import Channel, Closed, of_the_socket
from pool_worker.settings import Settings
from pool_worker.stream import Dialer, dialer

LARGE = 5_000_000
LAUNCH, TOKEN = b"launch!!", bytes(range(32))
IDENTITY = Identity(LAUNCH, Role.TASK, 5)


@pytest.fixture
def listener(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "socket"))
        sock.listen()
        sock.settimeout(20)
        yield sock


def dial(listener: socket.socket) -> Channel:
    return Channel.dial(Dialer(listener.getsockname()), IDENTITY, TOKEN, None)


def connected(listener: socket.socket) -> tuple[Channel, Peer]:
    peers: list[Peer] = []

    def accept() -> None:
        peers.append(Peer(listener.accept()[0], {LAUNCH: TOKEN}))

    thread = threading.Thread(target=accept)
    thread.start()
    channel = dial(listener)
    thread.join()
    return channel, peers[0]


def test_messages_travel_both_ways(listener: socket.socket) -> None:
    channel, peer = connected(listener)
    assert peer.connection.identity == IDENTITY
    channel.send(Ready(3, PYTHON, "1"))
    assert peer.wait(Ready).pid == 3
    peer.send(Retire())
    assert channel.receive() == [Retire()]
    peer.socket.close()
    with pytest.raises(Closed):
        channel.receive()
    channel.close()


def test_many_and_large_buffers_are_written_whole(listener: socket.socket) -> None:
    channel, peer = connected(listener)
    buffers = [os.urandom(3) for _ in range(2000)]
    buffers += [b"", os.urandom(5_000_000), b"x", memoryview(os.urandom(800)).cast("Q")]
    want = b"".join(bytes(buffer) for buffer in buffers)
    thread = threading.Thread(target=channel.write, args=(buffers,))
    thread.start()
    got = bytearray()
    while len(got) < len(want):
        got += peer.socket.recv(1 << 20)
    thread.join()
    assert got == want
    channel.write([])
    channel.close()
    peer.socket.close()


class Short:
    """A socket whose kernel has no memory for every other message, and sends little of the rest."""

    def __init__(self, sock: socket.socket, error: int = errno.ENOBUFS) -> None:
        self._socket = sock
        self._error = error
        self._tries = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def send(self, data: memoryview) -> int:
        self._tries += 1
        if self._tries % 2:
            raise OSError(self._error, os.strerror(self._error))
        return self._socket.send(data[:70_000])

    def sendmsg(self, buffers: list[memoryview]) -> int:
        return self.send(memoryview(b"".join(buffers)))


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_moment_without_memory_is_no_loss(listener: socket.socket, pieces: int) -> None:
    channel, peer = connected(listener)
    real = channel.socket
    channel.socket = Short(real)  # type: ignore[assignment]
    buffers = [os.urandom(300_000) for _ in range(pieces)]
    thread = threading.Thread(target=channel.write, args=(buffers,))
    thread.start()
    got = bytearray()
    while len(got) < 300_000 * pieces:
        got += peer.socket.recv(1 << 20)
    thread.join()
    assert got == b"".join(buffers)
    channel.socket = Short(real, errno.EPIPE)  # type: ignore[assignment]
    with pytest.raises(BrokenPipeError):
        channel.write(buffers)
    channel.close()
    peer.socket.close()


def test_memory_is_kept_for_a_while(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large messages share memory; idle for long enough, the worker has none."""
    monkeypatch.setattr(channel_module, "KEEP_MEMORY", 1000.0)
    channel, peer = connected(listener)

    def post(letter: bytes) -> threading.Thread:
        peer.connection.send_task(1, 1, 0, letter * LARGE)
        thread = threading.Thread(target=peer.write)
        thread.start()
        return thread

    owners = []
    for letter in (b"a", b"b"):
        thread = post(letter)
        while not (messages := channel.receive()):
            pass
        thread.join()
        [task] = messages
        assert isinstance(task, Task) and isinstance(task.payload, memoryview)
        assert task.payload == letter * LARGE
        owners.append(task.payload.obj)
        del task, messages
    assert owners[0] is owners[1]
    del owners
    monkeypatch.setattr(channel_module, "KEEP_MEMORY", 0.05)
    while channel.memory.kept:
        assert channel.receive() == []
    thread = threading.Timer(0.2, peer.send, [Retire()])  # four times the limit
    thread.start()
    assert channel.receive() == [Retire()]
    thread.join()
    channel.close()
    peer.socket.close()


def test_what_tls_has_decrypted_is_not_waited_for(listener: socket.socket) -> None:
    """It shows in no look at the descriptor."""
    channel, peer = connected(listener)
    channel.memory.reserve(LARGE)

    class Decrypted(socket.socket):
        def pending(self) -> int:
            return 24

        def recv_into(self, buffer: Any, *args: Any) -> int:
            [frame] = encode_control(Retire())
            buffer[: len(frame)] = frame
            return len(frame)

    sock = channel.socket
    channel.socket = Decrypted()
    assert channel.receive() == [Retire()]
    channel.socket.close()
    sock.close()
    peer.socket.close()


def test_what_is_expected_soon_is_polled_for(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for before the core is offered to others, and after each time."""
    channel, peer = connected(listener)
    given = []

    def give_way() -> None:
        given.append(None)
        if len(given) == 3:
            peer.send(Retire())

    monkeypatch.setattr(os, "sched_yield", give_way)
    monkeypatch.setattr(channel_module, "POLL_NS", 60_000_000_000)
    monkeypatch.setattr(Polling, "wanted", lambda self, nanos: False)
    for times in (0, 3):
        channel._polling.answered(0)
        if not times:
            peer.send(Retire())
        assert channel.receive() == [Retire()]
        assert len(given) == times
    channel._polling.answered(10**9)
    peer.send(Retire())
    assert channel.receive() == [Retire()]
    assert len(given) == 3
    peer.socket.close()
    channel._polling.answered(0)
    with pytest.raises(Closed):
        channel.receive()
    channel.close()


@pytest.mark.parametrize("wanted", [True, False])
def test_polling_ends_and_the_worker_blocks(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    """After a while, or at once when somebody else wants the core."""
    if wanted:
        monkeypatch.setattr(channel_module, "POLL_NS", 60_000_000_000)
        monkeypatch.setattr(os, "sched_yield", lambda: time.sleep(0.001))
    else:
        monkeypatch.setattr(Polling, "wanted", lambda self, nanos: False)
    channel, peer = connected(listener)
    channel._polling.answered(0)
    thread = threading.Thread(target=channel.receive, daemon=True)
    thread.start()
    while channel._polling._rest == 0:
        time.sleep(0.001)
    peer.send(Retire())
    thread.join(20)
    assert not thread.is_alive()
    channel.close()
    peer.socket.close()


def test_a_listener_without_the_token(listener: socket.socket) -> None:
    def accept() -> None:
        with listener.accept()[0] as sock:
            sock.recv(1000)
            sock.sendall(b"poolwire\1\0\2" + bytes(65))

    thread = threading.Thread(target=accept)
    thread.start()
    with pytest.raises(AuthenticationError):
        dial(listener)
    thread.join()


@pytest.mark.parametrize(("answer", "error"), [(b"", Closed), (b"HTTP", RemoteProtocolError)])
def test_a_stranger_listens(listener: socket.socket, answer: bytes, error: type[Exception]) -> None:
    def accept() -> None:
        with listener.accept()[0] as sock:
            sock.recv(1000)
            sock.sendall(answer)

    thread = threading.Thread(target=accept)
    thread.start()
    with pytest.raises(error):
        dial(listener)
    thread.join()


def test_nobody_listens(folder: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Channel.dial(Dialer(str(folder / "nothing")), IDENTITY, TOKEN, None)


def settings(listener: socket.socket) -> Settings:
    return Settings(listener.getsockname(), LAUNCH, TOKEN)


@pytest.fixture(autouse=True)
def uncached() -> Iterator[None]:
    yield
    dialer.cache_clear()


def test_a_tunnel_whose_end_is_overrun(listener: socket.socket) -> None:
    """It is closed in the handshake, and tried again."""
    peers: list[Peer] = []

    def accept() -> None:
        for _ in range(2):
            listener.accept()[0].close()
        peers.append(Peer(listener.accept()[0], {LAUNCH: TOKEN}))

    thread = threading.Thread(target=accept)
    thread.start()
    channel = Channel.connect(settings(listener), Role.SERVICE, 5)
    thread.join()
    assert peers[0].connection.identity == Identity(LAUNCH, Role.SERVICE, 5)
    channel.close()
    peers[0].socket.close()


def test_a_client_that_does_not_want_us(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool_worker.channel.CLOSED_SECONDS", 0.05)

    over = threading.Event()

    def accept() -> None:
        while not over.is_set():
            listener.accept()[0].close()

    thread = threading.Thread(target=accept)
    thread.start()
    before = len(descriptors())
    with pytest.raises((Closed, ConnectionError)):
        Channel.connect(settings(listener), Role.TASK, 5)
    over.set()
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(listener.getsockname())
        thread.join()
    assert len(descriptors()) == before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_lets_go_of_it(listener: socket.socket) -> None:
    peers: list[Peer] = []
    thread = threading.Thread(
        target=lambda: peers.append(Peer(listener.accept()[0], {LAUNCH: TOKEN}))
    )
    thread.start()
    channel = Channel.connect(settings(listener), Role.SERVICE, 5)
    thread.join()
    pid = os.fork()
    if not pid:
        os._exit(channel.socket.fileno() != -1)
    assert os.waitpid(pid, 0)[1] == 0
    peers[0].send(Reply(1, "", b"x"))
    assert channel.receive() == [Reply(1, "", b"x")]
    channel.close()
    peers[0].socket.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_reconnecting_leaves_nothing_behind_for_forks(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What forked children are to call is called for ever, and so is what it refers to."""
    hooks: list[dict[str, Any]] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hook: hooks.append(hook))
    peers: list[Peer] = []

    def accept() -> None:
        for _ in range(5):
            peers.append(Peer(listener.accept()[0], {LAUNCH: TOKEN}))

    thread = threading.Thread(target=accept)
    thread.start()
    channels = [Channel.connect(settings(listener), Role.SERVICE, 5) for _ in range(5)]
    thread.join()
    assert hooks == []
    for channel in channels[:3]:
        channel.close()
    gone = weakref.ref(channels[0])
    del channels[:2], channel
    gc.collect()
    assert gone() is None
    pid = os.fork()
    if not pid:
        os._exit(any(channel.socket.fileno() != -1 for channel in channels))
    assert os.waitpid(pid, 0)[1] == 0
    assert [channel.socket.fileno() != -1 for channel in channels] == [False, True, True]
    for channel in channels:
        channel.close()
    for peer in peers:
        peer.socket.close()


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (BrokenPipeError(errno.EPIPE, "broken"), True),
        (ConnectionError("the TLS connection failed"), True),
        (TimeoutError(errno.ETIMEDOUT, "no answer"), True),
        (OSError(errno.ENOBUFS, "full"), True),
        (TimeoutError("enough"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_a_handler_raises_is_no_loss(error: BaseException, lost: bool) -> None:
    assert of_the_socket(error) is lost
